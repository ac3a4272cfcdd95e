//! SYNs for an end of this host at which nothing listens: its port is mapped to another one, or the packet is forwarded.
//!
//! Neither changes the sequence number, and the SYN-ACK has it as well: that is how the two ends of a mapping are found.

use aya_ebpf::bindings::BPF_NOEXIST;
use tracer_common::{
    counter::Counter,
    endpoint::{Endpoint, Tuple},
    rejection::{ArrivalTally, Stray},
    settings::Settings,
};

use crate::{
    filter::{Filter, Filters},
    maps::{ARRIVALS, PASSING, Passing, add, count, has_stray, is_tracing, note_stray},
};

/// A handshake takes no longer; by then the sequence number may belong to another one.
const LONGEST_NS: u64 = 10_000_000_000;
/// No SYN is sent again so soon.
const SAME_NS: u64 = 10_000_000;

/// The key of a SYN with that sequence number in [`PASSING`].
#[inline(always)]
fn key(sequence: u32) -> u64 {
    // Never 0.
    1 << 32 | u64::from(sequence)
}

/// Notes a SYN for which nothing listens.
#[inline(always)]
pub fn arrived(tuple: &Tuple, sequence: u32, now: u64) {
    if !is_tracing() {
        return;
    }
    let is_again = if let Some(passing) = PASSING.find(&key(sequence)) {
        // A bridge's port and the bridge: the same packet passes both.
        if now.wrapping_sub(passing.last) < SAME_NS {
            return;
        }
        passing.last = now;
        true
    } else {
        let passing = |place: &mut Passing| *place = Passing { tuple: *tuple, seen: now, last: now, forwarded: 0 };
        PASSING.put(&key(sequence), |passing| passing.last, passing);
        note_stray(Stray::Nobody, now);
        false
    };
    // Only of ports that were asked for user space says what came for them and whither it went.
    if Filters.has(Settings::PORT_FILTER) {
        match begun_tally(&tuple.local, now) {
            Some(tally) => {
                add(if is_again { &raw mut tally.again } else { &raw mut tally.syns }, 1);
                tally.last = now;
            }
            None => count(Counter::ArrivalsUncounted),
        }
    }
}

/// A SYN leaves that came through another interface.
#[inline(always)]
pub fn forwarded(sequence: u32, to: &Endpoint, now: u64) {
    if let Some(passing) = find(sequence, now)
        && passing.forwarded == 0
    {
        passing.forwarded = 1;
        if let Some(tally) = tally_of(&passing.tuple.local) {
            add(&raw mut tally.forwarded, 1);
            tally.to = *to;
        }
    }
}

/// A socket of this host answers the SYN with that sequence number: returns when it came and what it asked for.
#[inline(always)]
pub fn answered(sequence: u32, now: u64) -> Option<(u64, Endpoint)> {
    let passing = find(sequence, now)?;
    if let Some(tally) = tally_of(&passing.tuple.local) {
        add(&raw mut tally.answered, 1);
    }
    Some((passing.seen, passing.tuple.local))
}

#[inline(always)]
fn find<'a>(sequence: u32, now: u64) -> Option<&'a mut Passing> {
    PASSING.find(&key(sequence)).filter(|passing| now.wrapping_sub(passing.last) < LONGEST_NS)
}

/// Whether there may be one in [`PASSING`] that matters, for a look that costs little.
#[inline(always)]
pub fn are_any() -> bool {
    has_stray(Stray::Nobody)
}

/// The tally of the SYNs for that end; `None` without the port filter.
#[inline(always)]
fn tally_of<'a>(local: &Endpoint) -> Option<&'a mut ArrivalTally> {
    if !Filters.has(Settings::PORT_FILTER) {
        return None;
    }
    // SAFETY: the value of a map, which stays valid while the program runs. Counts are added to atomically.
    ARRIVALS.get_ptr_mut(local).map(|tally| unsafe { &mut *tally })
}

/// The same, begun at the first SYN.
#[inline(always)]
fn begun_tally<'a>(local: &Endpoint, now: u64) -> Option<&'a mut ArrivalTally> {
    tally_of(local).or_else(|| {
        let first = ArrivalTally {
            syns: 0,
            again: 0,
            answered: 0,
            forwarded: 0,
            first: now,
            last: now,
            to: Endpoint::NONE,
            padding: 0,
        };
        // Another CPU may be faster.
        let _ = ARRIVALS.insert(local, first, BPF_NOEXIST.into());
        tally_of(local)
    })
}
