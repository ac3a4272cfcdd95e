//! Counting rejections exactly, and reporting some of them.

use tracer_common::{
    counter::Counter,
    handshake::TakenBack,
    rejection::{Event, Folded, Key, NamespaceTally, PacketKind, RejectionRecord, SharedNamespaceTally, Tally},
    shared::Shared,
};

use crate::{
    filter::{Filter, Filters},
    maps::{
        NAMESPACES, REJECTIONS, REJECTIONS_BY_EVENT, REJECTIONS_BY_LISTENER, SCRATCH, Scratch, add, count, emit,
        generation, is_known_port, is_tracing, value_of, value_or,
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
pub fn begin(scratch: &mut Scratch, event: Event, kind: PacketKind) -> &mut RejectionRecord {
    let record = &mut scratch.record;
    *record = RejectionRecord::EMPTY;
    record.key.event = event as u8;
    record.key.packet = kind as u8;
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
    let is_unheard = record.key.is_for_no_listener(|| Filters.asks_for_ends(), is_known_port);
    record.folded = if is_unheard { Folded::PORT } else { 0 };
    *first = Tally { first: now, ..Tally::default() };
    *key = record.counted_by();
    let mut tally = value_or(&REJECTIONS, key, || &*first);
    if tally.is_none() {
        // No room for another network: those that come now are counted together, and in the end those of all ports.
        record.folded |= Folded::STEPS[0];
        key.fold(record.generation, record.folded);
        tally = value_or(&REJECTIONS_BY_LISTENER, key, || &*first);
    }
    if tally.is_none() {
        record.folded |= Folded::STEPS[1];
        key.fold(record.generation, record.folded);
        tally = value_or(&REJECTIONS_BY_EVENT, key, || &*first);
    }
    let Some(tally) = tally else {
        count(Counter::RejectionsUncounted);
        return;
    };
    add(&tally.count, u64::from(record.repeats) + 1);
    if tally.note(record, tally.count.get(), now) {
        pass_on(record, Counter::RejectionRecordsLost, now);
    }
}

/// Takes back what was counted for the SYN of `record`, which is dropped now, and its report. `key` is overwritten.
#[inline(never)]
pub fn take_back(record: &mut RejectionRecord, key: &mut Key, taken_back: TakenBack, now: u64) {
    let (netns, local, network) = (record.key.netns, record.key.local, record.key.network);
    let (event, packet, generation) = (taken_back.event, PacketKind::Syn as u8, generation());
    *key = Key { location: 0, netns, reason: 0, event, packet, flags: 0, local, network };
    key.fold(generation, 0);
    let mut tally = value_of(&REJECTIONS, key);
    if tally.is_none() {
        key.fold(generation, Folded::STEPS[0]);
        tally = value_of(&REJECTIONS_BY_LISTENER, key);
    }
    if tally.is_none() {
        key.fold(generation, Folded::STEPS[0] | Folded::STEPS[1]);
        tally = value_of(&REJECTIONS_BY_EVENT, key);
    }
    if let Some(tally) = tally {
        add(&tally.taken_back, 1);
    }
    // Without a tally nothing was counted, or the generation has ended since.
    if tally.is_some_and(|tally| tally.recorded.get() >= taken_back.since) {
        let event = record.key.event;
        record.key.event = Event::TakenBack as u8;
        pass_on(record, Counter::RejectionRecordsLost, now);
        record.key.event = event;
    }
}

/// Passes a record on to user space. Counts `lost` where there is no room.
#[inline(always)]
pub fn pass_on(record: &mut RejectionRecord, lost: Counter, now: u64) {
    record.reported = now;
    // SAFETY: the slot is the ring buffer's, reserved for this record.
    emit::<RejectionRecord>(lost, now, |slot| unsafe { *slot = *record });
}

/// Counts one more of what is held against the kernel's own counters.
#[inline(always)]
pub fn in_namespace(netns: u32, field: impl FnOnce(&SharedNamespaceTally) -> &Shared<u64>) {
    if !is_tracing() || !Filters.wants_all_of(netns) {
        return;
    }
    match value_or(&NAMESPACES, &netns, NamespaceTally::default) {
        Some(tally) => add(field(tally), 1),
        None => count(Counter::NamespacesUncounted),
    }
}
