//! Counting rejections exactly, and reporting some of them.

use aya_ebpf::{bindings::BPF_NOEXIST, maps::HashMap};
use tracer_common::{
    counter::Counter,
    rejection::{Event, Folded, Key, NamespaceTally, Packet, RejectionRecord, Tally},
};

use crate::{
    filter::{Filter, Filters},
    maps::{
        NAMESPACES, REJECTIONS, REJECTIONS_BY_EVENT, REJECTIONS_BY_LISTENER, SCRATCH, Scratch, add, count, emit,
        generation, is_known_port, is_tracing,
    },
};

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

/// Counts the event in `scratch`, and reports it if it is one of the first of its kind, or the first for a while.
#[inline(always)]
pub fn reject(scratch: &mut Scratch, now: u64) {
    if !is_tracing() {
        return;
    }
    let Scratch { record, key, tally: first, .. } = scratch;
    record.generation = generation();
    record.folded = if is_for_no_listener(record) { Folded::PORT } else { 0 };
    *first = Tally { first: now, ..Tally::default() };
    *key = record.counted_by();
    let mut tally = tally_of(&REJECTIONS, key, first);
    if tally.is_none() {
        // No room for another network: those that come now are counted together, and in the end those of all ports.
        record.folded |= Folded::NETWORK;
        key.fold(record.generation, record.folded);
        tally = tally_of(&REJECTIONS_BY_LISTENER, key, first);
    }
    if tally.is_none() {
        record.folded |= Folded::LOCAL;
        key.fold(record.generation, record.folded);
        tally = tally_of(&REJECTIONS_BY_EVENT, key, first);
    }
    let Some(tally) = tally else {
        count(Counter::RejectionsUncounted);
        return;
    };
    // SAFETY: the value of a map, which stays valid while the program runs.
    let tally = unsafe { &mut *tally };
    add(&raw mut tally.count, u64::from(record.repeats) + 1);
    let counted = tally.count;
    if tally.note(record, counted, now) {
        pass_on(record, now);
    }
}

/// Whether it is a SYN for a port on which nothing listens, and nobody asked for that port or that peer.
#[inline(always)]
fn is_for_no_listener(record: &RejectionRecord) -> bool {
    record.key.event == Event::Dropped as u8
        && record.key.packet == Packet::Syn as u8
        && !Filters.asks_for_ends()
        && !is_known_port(record.key.local.port)
}

/// Passes a record on to user space.
#[inline(always)]
pub fn pass_on(record: &mut RejectionRecord, now: u64) {
    record.reported = now;
    // SAFETY: the slot is the ring buffer's, reserved for this record.
    emit::<RejectionRecord>(Counter::RejectionRecordsLost, now, |slot| unsafe { *slot = *record });
}

#[inline(always)]
fn tally_of(map: &HashMap<Key, Tally>, key: &Key, first: &Tally) -> Option<*mut Tally> {
    if let Some(tally) = map.get_ptr_mut(key) {
        return Some(tally);
    }
    // Another CPU may be faster.
    let _ = map.insert(key, first, BPF_NOEXIST.into());
    map.get_ptr_mut(key)
}

/// Counts one more of what is held against the kernel's own counters.
#[inline(always)]
pub fn in_namespace(netns: u32, field: impl FnOnce(&mut NamespaceTally) -> &mut u64) {
    if !is_tracing() || !Filters.wants_all_of(netns) {
        return;
    }
    let tally = NAMESPACES.get_ptr_mut(netns).or_else(|| {
        // Another CPU may be faster.
        let _ = NAMESPACES.insert(netns, NamespaceTally::default(), BPF_NOEXIST.into());
        NAMESPACES.get_ptr_mut(netns)
    });
    let Some(tally) = tally else {
        count(Counter::NamespacesUncounted);
        return;
    };
    // SAFETY: the value of a map, which stays valid while the program runs.
    add(field(unsafe { &mut *tally }), 1);
}
