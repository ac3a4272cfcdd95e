//! The maps, and the two ways out of the kernel: counters and records.
//!
//! What is in them is shared with other CPUs: nothing is borrowed as `&mut` ([`tracer_common::shared`]).

use core::{arch::asm, borrow::Borrow};

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_F_NO_PREALLOC, BPF_NOEXIST, BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    btf_maps::SkStorage,
    helpers::generated::bpf_ringbuf_query,
    macros::{btf_map, map},
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf},
};
use tracer_common::{
    at_limit::AtLimit,
    connection::Connection,
    counter::Counter,
    drop::Answer,
    endpoint::{Address, Endpoint, Tuple},
    handshake::SharedHandshake,
    passing::Passing,
    rejection::{
        ArrivalTally, Key, ListenerKey, ListenerTally, NamespaceTally, RejectionRecord, SharedEnded, Stray, Tally,
    },
    settings::PORT_WORDS,
    shared::{Plain, Shared},
    slot::{ACCEPTS_BITS, ACCEPTS_WAYS},
};

use crate::slots::Slots;

/// The state of each traced connection; it lives and dies with the socket.
#[btf_map]
pub static CONNECTIONS: SkStorage<Connection> = SkStorage::new();

/// Records for user space.
#[map]
pub static RECORDS: RingBuf = RingBuf::with_byte_size(4 << 20, 0);

/// Indexed by [`Counter`].
#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Counter::COUNT, 0);

/// What passes on a CPU while `state_changed_by_process` runs on it.
#[map]
static BY_PROCESS: PerCpuArray<ByProcess> = PerCpuArray::with_max_entries(1, 0);

/// Nanoseconds from `CLOCK_MONOTONIC` to `CLOCK_REALTIME`, kept by user space; 0: not every hook is attached yet.
#[map]
static REALTIME_OFFSET: Array<u64> = Array::with_max_entries(1, 0);

/// A bit a local port: with the port filter the ports to trace, otherwise those on which something listened when
/// tracing began. An unknown connection on such a port was accepted before that, and is adopted.
#[map]
static PORTS: Array<u64> = Array::with_max_entries(PORT_WORDS, 0);

/// With the port filter: the ports that were asked for. [`PORTS`] also has those that they are mapped to.
#[map]
static WANTED_PORTS: Array<u64> = Array::with_max_entries(PORT_WORDS, 0);

/// With the port filter: those of [`WANTED_PORTS`] for which a packet with payload has come.
#[map]
static ARRIVED_PORTS: Array<u64> = Array::with_max_entries(PORT_WORDS, 0);

/// The peer prefixes to trace.
#[map]
pub static PEERS: LpmTrie<Address, u32> = LpmTrie::with_max_entries(1024, BPF_F_NO_PREALLOC);

/// The interfaces of which the packets are to be traced, by index in their network namespace. The value says nothing.
#[map]
pub static INTERFACES: HashMap<u32, u32> = HashMap::with_max_entries(64, BPF_F_NO_PREALLOC);

/// When a handshake's packets passed. A SYN flood leaves entries that no connection takes out.
#[map]
pub static HANDSHAKES: Slots<Tuple, SharedHandshake, 15, 4> = Slots::new();

/// SYNs for an end at which nothing listens, by sequence number. The SYN-ACK has the same sequence number, whatever
/// the addresses have become until then.
#[map]
pub static PASSING: Slots<u64, Passing, 11, 4> = Slots::new();

/// When a SYN last came that no listener got, by [`Stray`]; 0: none came.
#[map]
static STRAY_SYNS: Array<u64> = Array::with_max_entries(Stray::COUNT, 0);

/// With the port filter: the same SYNs, counted by the end that they are for.
#[map]
pub static ARRIVALS: HashMap<Endpoint, ArrivalTally> = HashMap::with_max_entries(256, BPF_F_NO_PREALLOC);

/// When `accept()` returned a socket, by its address: for hooks to which the kernel gives no typed socket. Many may wait
/// for their first request; those for which no slot is free are in [`ACCEPTS_MORE`].
#[map]
pub static ACCEPTS: Slots<u64, Shared<u64>, ACCEPTS_BITS, ACCEPTS_WAYS> = Slots::new();

/// The same, as [`ACCEPTS`] fills up.
#[map]
pub static ACCEPTS_MORE: HashMap<u64, u64> = HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);

/// What became of a packet that was dropped for the reason with that number: a set of [`class::ALWAYS`] and the like.
#[map]
pub static REASONS: Array<u8> = Array::with_max_entries(256, 0);

/// Rejections, counted: those of a generation that is being counted, and of one that user space takes out.
#[map]
pub static REJECTIONS: HashMap<Key, Tally> = HashMap::with_max_entries(4096, BPF_F_NO_PREALLOC);

/// Rejections from networks for which [`REJECTIONS`] had no room, counted by listener.
#[map]
pub static REJECTIONS_BY_LISTENER: HashMap<Key, Tally> = HashMap::with_max_entries(1024, BPF_F_NO_PREALLOC);

/// Rejections for which even that had no room, counted by what happened and where in the kernel.
#[map]
pub static REJECTIONS_BY_EVENT: HashMap<Key, Tally> = HashMap::with_max_entries(256, BPF_F_NO_PREALLOC);

/// The generation in which rejections are counted now. User space begins the next one, waits until no program counts in
/// the one before any more, and takes that out of the maps: no count is lost between reading and deleting.
#[map]
static GENERATION: Array<u32> = Array::with_max_entries(1, 0);

/// What is known of SYN queues that are as long as they may be, by the address of the listener.
#[map]
pub static AT_LIMIT: LruHashMap<u64, AtLimit> = LruHashMap::with_max_entries(256, 0);

/// Where records of rejections are built, by builder: the stack is too small for them.
#[map]
pub static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(3, 0);

/// What is known of an event so far.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Scratch {
    /// Both ends, as a key of other maps.
    pub tuple: Tuple,
    /// The record.
    pub record: RejectionRecord,
    /// What it is counted by.
    pub key: Key,
    /// A tally to begin with.
    pub tally: Tally,
}

/// The accept queues.
#[map]
pub static LISTENERS: HashMap<ListenerKey, ListenerTally> = HashMap::with_max_entries(1024, BPF_F_NO_PREALLOC);

/// What is held against the kernel's own counters, by network namespace.
#[map]
pub static NAMESPACES: HashMap<u32, NamespaceTally> = HashMap::with_max_entries(1024, BPF_F_NO_PREALLOC);

/// Connections that this host closed while no request waited for its response: the next one may be on its way already.
#[map]
pub static CLOSED: Slots<Tuple, SharedEnded, 13, 2> = Slots::new();

/// When one was last put into [`CLOSED`].
#[map]
pub static CLOSED_LATEST: Array<u64> = Array::with_max_entries(1, 0);

/// When, and with what, netfilter or a listener answered a packet that it drops just after.
#[map]
pub static ANSWERED: LruHashMap<Tuple, Answer> = LruHashMap::with_max_entries(1024, 0);

/// The kernel counts each event that it keeps from an interrupted program, also those that the program would have left
/// alone. With this state the latter are taken off again.
#[repr(C)]
#[derive(Clone, Copy)]
struct ByProcess {
    /// Whether the program runs: 0 or 1.
    runs: u64,
    /// Events that the kernel counted as missed by this program, and that another program is there for.
    passed: u64,
}

/// `state_changed_by_process` begins with its work, or ends it.
#[inline(always)]
pub fn by_process(runs: bool) {
    if let Some(state) = BY_PROCESS.get_ptr_mut(0) {
        // SAFETY: the value of a per-CPU map, and this program is not entered again while it runs on the same CPU.
        unsafe { (*state).runs = u64::from(runs) };
    }
}

/// An event came that is not for `state_changed_by_process`.
#[inline(always)]
pub fn not_by_process() {
    if let Some(state) = BY_PROCESS.get_ptr_mut(0) {
        // SAFETY: the value of a per-CPU map; nothing on this CPU interrupts a softirq to write it.
        unsafe { (*state).passed += (*state).runs };
    }
}

/// The value of `key` in a hash map.
#[inline(always)]
pub fn value_of<'a, K, V: Plain>(map: &'a HashMap<K, V>, key: &K) -> Option<&'a V::Shared> {
    // SAFETY: the value of a map, which stays valid while the program runs; it consists of cells.
    map.get_ptr_mut(key).map(|value| unsafe { &*value.cast() })
}

/// The same; a key that is not there gets the value that `first` returns. `None` if there is no room for it.
#[inline(always)]
pub fn value_or<'a, K, V: Plain, B: Borrow<V>>(
    map: &'a HashMap<K, V>,
    key: &K,
    first: impl FnOnce() -> B,
) -> Option<&'a V::Shared> {
    if let Some(value) = value_of(map, key) {
        return Some(value);
    }
    // Another CPU may be faster.
    let _ = map.insert(key, first(), BPF_NOEXIST.into());
    value_of(map, key)
}

/// The generation in which rejections are counted.
#[inline(always)]
pub fn generation() -> u8 {
    GENERATION.get(0).copied().unwrap_or(0) as u8
}

/// Counts one more.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter as u32) {
        add_at(value, 1);
    }
}

/// Adds `number` to a value in a map. Atomically, because another CPU, or a program in a softirq above this one, may do
/// the same.
#[inline(always)]
pub fn add(value: &Shared<u64>, number: u64) {
    add_at(value.as_ptr(), number);
}

#[inline(always)]
fn add_at(value: *mut u64, number: u64) {
    // In assembler, because core offers no such addition for a target without compare-and-swap.
    // SAFETY: the value of a map: valid and aligned; nothing else is touched.
    unsafe { asm!("lock *(u64 *)({value} + 0) += {number}", value = in(reg) value, number = in(reg) number) };
}

/// Hands the record that `write` writes to user space, `now`; counts `lost` where there is no room.
#[inline(always)]
pub fn emit<T: 'static>(lost: Counter, now: u64, write: impl FnOnce(*mut T)) {
    let Some(mut entry) = RECORDS.reserve::<T>(0) else {
        count(lost);
        return;
    };
    write(entry.as_mut_ptr());
    entry.submit(wake_up(now));
}

/// User space looks for records several times a second: it is woken early only when they pile up. Whether they do is asked
/// at one record of eight or so, as the clock happens to stand: the ring holds eight piles.
#[inline(always)]
fn wake_up(now: u64) -> u64 {
    const PILE: u64 = 512 << 10;
    if now >> 10 & 7 != 0 {
        return BPF_RB_NO_WAKEUP.into();
    }
    // SAFETY: a ring buffer map.
    let waiting = unsafe { bpf_ringbuf_query((&raw const RECORDS).cast_mut().cast(), BPF_RB_AVAIL_DATA.into()) };
    (if waiting > PILE { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP }).into()
}

/// Whether `port` is in the set.
#[inline(always)]
pub fn is_known_port(port: u16) -> bool {
    let (word, bit) = tracer_common::settings::port_bit(port);
    PORTS.get(word).is_some_and(|bits| bits & bit != 0)
}

/// Adds `port` to the set.
#[inline(always)]
pub fn add_port(port: u16) {
    add_to(&PORTS, port);
}

/// Whether `port` is one that was asked for; with the port filter.
#[inline(always)]
pub fn is_wanted_port(port: u16) -> bool {
    let (word, bit) = tracer_common::settings::port_bit(port);
    WANTED_PORTS.get(word).is_some_and(|bits| bits & bit != 0)
}

/// A packet with payload came for `port`; with the port filter.
#[inline(always)]
pub fn note_arrival(port: u16) {
    let (word, bit) = tracer_common::settings::port_bit(port);
    if is_wanted_port(port) && ARRIVED_PORTS.get(word).is_some_and(|bits| bits & bit == 0) {
        add_to(&ARRIVED_PORTS, port);
    }
}

/// Notes that a SYN came that no listener got.
#[inline(always)]
pub fn note_stray(stray: Stray, now: u64) {
    if is_tracing() {
        // An element of an array: it cannot fail.
        let _ = STRAY_SYNS.set(stray as u32, now, ANY);
    }
}

/// When such a SYN last came; 0: none came.
#[inline(always)]
pub fn latest_stray(stray: Stray) -> u64 {
    STRAY_SYNS.get(stray as u32).copied().unwrap_or(0)
}

#[inline(always)]
fn add_to(set: &Array<u64>, port: u16) {
    let (word, bit) = tracer_common::settings::port_bit(port);
    if let Some(bits) = set.get_ptr_mut(word) {
        // SAFETY: the value of a map: valid and aligned; nothing else is touched.
        unsafe { asm!("lock *(u64 *)({bits} + 0) |= {bit}", bits = in(reg) bits, bit = in(reg) bit) };
    }
}

/// Whether every hook is attached. Before that only a part of what happens to a connection is seen.
#[inline(always)]
pub fn is_tracing() -> bool {
    realtime_offset() != 0
}

#[inline(always)]
fn realtime_offset() -> u64 {
    REALTIME_OFFSET.get(0).copied().unwrap_or(0)
}

/// More than any packet waits between device and socket.
const LONGEST_NS: u64 = 2_000_000_000;

/// A packet's stamp (`CLOCK_REALTIME`) as a moment of `CLOCK_MONOTONIC`; 0 if there is none, or none that can be: no
/// packet waits for seconds below the socket, nor comes from the future. The clock was set since.
#[inline(always)]
pub fn monotonic(stamp: u64, now: u64) -> u64 {
    if stamp == 0 {
        return 0;
    }
    let moment = stamp.wrapping_sub(realtime_offset());
    if now.wrapping_sub(moment) > LONGEST_NS { 0 } else { moment }
}

/// Stores a value that may be there already.
pub const ANY: u64 = BPF_ANY as u64;
