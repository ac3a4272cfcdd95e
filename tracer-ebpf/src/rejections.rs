//! Counting rejections exactly, and reporting some of them.

use aya_ebpf::{bindings::BPF_NOEXIST, maps::HashMap};
use tracer_common::{
    counter::Counter,
    endpoint::{Address, Endpoint},
    rejection::{Event, Key, NamespaceTally, Packet, RejectionRecord, Tally},
};

use crate::maps::{
    NAMESPACES, REJECTIONS, REJECTIONS_BY_EVENT, REJECTIONS_BY_LISTENER, SCRATCH, Scratch, add, count, emit, is_tracing,
};

/// So many of a kind are reported at once, the rest once in [`INTERVAL_NS`].
const AT_ONCE: u64 = 3;
/// Nanoseconds between two reports of a kind.
const INTERVAL_NS: u64 = 1_000_000_000;

/// Who builds a record: each has its own place for it, because one may interrupt another.
#[derive(Clone, Copy)]
pub enum Builder {
    /// `kfree_skb`.
    Drop,
    /// The `tcx` or `clsact` ingress program.
    Syn,
    /// `tcp_retransmit_synack`.
    SynAck,
}

/// A place for a record.
#[inline(always)]
pub fn scratch<'a>(builder: Builder) -> Option<&'a mut Scratch> {
    // SAFETY: the value of a per-CPU map, and no program is entered again while it runs on the same CPU.
    SCRATCH.get_ptr_mut(builder as u32).map(|scratch| unsafe { &mut *scratch })
}

/// Begins the record of an event between the ends in `scratch`.
#[inline(always)]
pub fn begin(scratch: &mut Scratch, event: Event, packet: Packet) -> &mut RejectionRecord {
    let record = &mut scratch.record;
    *record = RejectionRecord::EMPTY;
    record.key.event = event as u8;
    record.key.packet = packet as u8;
    record.key.local = scratch.tuple.local;
    record.key.network = Key::network_of(&scratch.tuple.peer);
    record.peer = scratch.tuple.peer;
    record
}

/// Counts an event, and reports it if it is one of the first of its kind, or the first for a while.
#[inline(always)]
pub fn reject(record: &mut RejectionRecord, now: u64) {
    if !is_tracing() {
        return;
    }
    let mut tally = tally_of(&REJECTIONS, &record.key, now);
    if tally.is_none() {
        // No room for another network: those that come now are counted together, and in the end those of all ports.
        record.key.network = Address::NONE;
        tally = tally_of(&REJECTIONS_BY_LISTENER, &record.key, now);
    }
    if tally.is_none() {
        record.key.local = Endpoint::NONE;
        tally = tally_of(&REJECTIONS_BY_EVENT, &record.key, now);
    }
    let Some(tally) = tally else {
        count(Counter::RejectionsUncounted);
        return;
    };
    // SAFETY: the value of a map, which stays valid while the program runs. The fields besides the count are not exact
    // where several CPUs count at once: then there is a report more or less.
    let tally = unsafe { &mut *tally };
    add(&raw mut tally.count, u64::from(record.repeats) + 1);
    tally.last = now;
    record.count = tally.count;
    // Each of these belongs to a connection of its own, of which the end is reported, too: there are no more of them.
    let is_each_reported = record.key.event == Event::DataAfterClose as u8;
    if !is_each_reported && record.count > AT_ONCE && now.wrapping_sub(tally.recorded) < INTERVAL_NS {
        return;
    }
    tally.recorded = now;
    pass_on(record, now);
}

/// Passes a record on to user space.
#[inline(always)]
pub fn pass_on(record: &mut RejectionRecord, now: u64) {
    record.reported = now;
    // SAFETY: the slot is the ring buffer's, reserved for this record.
    emit::<RejectionRecord>(Counter::RejectionRecordsLost, now, |slot| unsafe { *slot = *record });
}

#[inline(always)]
fn tally_of(map: &HashMap<Key, Tally>, key: &Key, now: u64) -> Option<*mut Tally> {
    if let Some(tally) = map.get_ptr_mut(key) {
        return Some(tally);
    }
    // Another CPU may be faster.
    let _ = map.insert(key, Tally { count: 0, first: now, last: now, recorded: 0 }, BPF_NOEXIST.into());
    map.get_ptr_mut(key)
}

/// Counts one more of what is held against the kernel's own counters.
#[inline(always)]
pub fn in_namespace(netns: u32, field: impl FnOnce(&mut NamespaceTally) -> &mut u64) {
    if !is_tracing() {
        return;
    }
    let tally = NAMESPACES.get_ptr_mut(netns).or_else(|| {
        // Another CPU may be faster.
        let _ = NAMESPACES.insert(netns, NamespaceTally::default(), BPF_NOEXIST.into());
        NAMESPACES.get_ptr_mut(netns)
    });
    if let Some(tally) = tally {
        // SAFETY: the value of a map, which stays valid while the program runs.
        add(field(unsafe { &mut *tally }), 1);
    }
}
