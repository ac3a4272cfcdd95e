//! The maps, and the two ways out of the kernel: counters and records.

use core::arch::asm;

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_F_NO_PREALLOC, BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    btf_maps::SkStorage,
    helpers::generated::bpf_ringbuf_query,
    macros::{btf_map, map},
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf},
};
use tracer_common::{connection::Connection, counter::Counter, endpoint::Tuple, settings::PORT_WORDS};

/// The state of each traced connection; it lives and dies with the socket.
#[btf_map]
pub static CONNECTIONS: SkStorage<Connection> = SkStorage::new();

/// Records for user space.
#[map]
pub static RECORDS: RingBuf = RingBuf::with_byte_size(8 << 20, 0);

/// Indexed by [`Counter`].
#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Counter::COUNT, 0);

/// Nanoseconds from `CLOCK_MONOTONIC` to `CLOCK_REALTIME`, kept by user space; 0: not every hook is attached yet.
#[map]
static REALTIME_OFFSET: Array<u64> = Array::with_max_entries(1, 0);

/// A bit a local port: with the port filter the ports to trace, otherwise those on which something listened when
/// tracing began. An unknown connection on such a port was accepted before that, and is adopted.
#[map]
static PORTS: Array<u64> = Array::with_max_entries(PORT_WORDS, 0);

/// The peer prefixes to trace, addresses as in [`tracer_common::endpoint::Endpoint`].
#[map]
static PEERS: LpmTrie<[u8; 16], u32> = LpmTrie::with_max_entries(1024, BPF_F_NO_PREALLOC);

/// When a handshake's packets passed. LRU, because a SYN flood leaves entries that no connection takes out.
#[map]
pub static HANDSHAKES: LruHashMap<Tuple, Handshake> = LruHashMap::with_max_entries(16_384, 0);

/// When `accept()` returned a socket, by its address: for hooks to which the kernel gives no typed socket.
#[map]
pub static ACCEPTS: HashMap<u64, u64> = HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);

/// The moments before there is a socket.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Handshake {
    /// The first SYN arrived.
    pub syn: u64,
    /// The first SYN-ACK was given to the device.
    pub synack: u64,
    /// The SYN's sequence number: one that is sent again has the same, another attempt from the same port has not.
    pub sequence: u32,
    /// Always 0.
    pub padding: u32,
}

/// Counts one more.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter as u32) {
        // An atomic addition, because a program in a softirq may interrupt another one on its CPU. In assembler, because
        // core offers none for a target without compare-and-swap.
        // SAFETY: the value is valid and aligned, and nothing else is touched.
        unsafe { asm!("lock *(u64 *)({value} + 0) += {one}", value = in(reg) value, one = in(reg) 1_u64) };
    }
}

/// Hands the record that `write` writes to user space; counts `lost` where there is no room.
#[inline(always)]
pub fn emit<T: 'static>(lost: Counter, write: impl FnOnce(*mut T)) {
    let Some(mut entry) = RECORDS.reserve::<T>(0) else {
        count(lost);
        return;
    };
    write(entry.as_mut_ptr());
    entry.submit(wake_up());
}

/// User space looks for records several times a second: it is woken early only when they pile up.
#[inline(always)]
fn wake_up() -> u64 {
    const PILE: u64 = 1 << 20;
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

/// Whether `peer` lies in a wanted prefix.
#[inline(always)]
pub fn is_wanted_peer(peer: [u8; 16]) -> bool {
    PEERS.get(aya_ebpf::maps::lpm_trie::Key::new(128, peer)).is_some()
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
