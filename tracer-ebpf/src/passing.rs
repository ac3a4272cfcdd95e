//! SYNs for an end of this host at which nothing listens: its port is mapped to another one, or the packet is forwarded.
//!
//! Neither changes the sequence number, and the SYN-ACK has it as well: that is how the two ends of a mapping are found.

use tracer_common::{
    counter::Counter,
    endpoint::{Endpoint, Tuple},
    passing::{Passing, may_be_answered},
    rejection::{ArrivalTally, SharedArrivalTally, Stray},
    settings::Settings,
};

use crate::{
    filter::{Filter, Filters},
    maps::{ARRIVALS, PASSING, add, count, is_tracing, latest_stray, note_stray, value_of, value_or},
};

/// Notes a SYN for which nothing listens.
#[inline(always)]
pub fn arrived(tuple: &Tuple, sequence: u32, now: u64) {
    if !is_tracing() {
        return;
    }
    let key = Passing::key(sequence);
    let is_again = if let Some(passing) = PASSING.find(&key) {
        if !passing.comes_again(now) {
            return;
        }
        true
    } else {
        let forgotten = PASSING.put(&key, |passing| passing.waits_since(now), |passing| passing.begin(tuple, now));
        if may_be_answered(forgotten, now) {
            note_stray(Stray::Forgotten, now);
        }
        note_stray(Stray::Nobody, now);
        false
    };
    // Only of ports that were asked for user space says what came for them and whither it went.
    if Filters.has(Settings::PORT_FILTER) {
        let begun = || ArrivalTally { first: now, last: now, ..ArrivalTally::default() };
        match value_or(&ARRIVALS, &tuple.local, begun) {
            Some(tally) => {
                add(if is_again { &tally.again } else { &tally.syns }, 1);
                tally.last.set(now);
            }
            None => count(Counter::ArrivalsUncounted),
        }
    }
}

/// A SYN leaves that came through another interface.
#[inline(always)]
pub fn forwarded(sequence: u32, to: &Endpoint, now: u64) {
    if let Some(passing) = find(sequence, now)
        && passing.leaves()
        && let Some(tally) = tally_of(&passing.asked())
    {
        add(&tally.forwarded, 1);
        tally.to.set(*to);
    }
}

/// A socket of this host answers the SYN with that sequence number: returns when it came and what it asked for.
#[inline(always)]
pub fn answered(sequence: u32, now: u64) -> Option<(u64, Endpoint)> {
    let passing = find(sequence, now)?;
    passing.settled();
    let asked = passing.asked();
    if let Some(tally) = tally_of(&asked) {
        add(&tally.answered, 1);
    }
    Some((passing.seen(), asked))
}

/// This host drops the SYN with that sequence number, as it does with each one that it refuses.
#[inline(always)]
pub fn dropped(sequence: u32, now: u64) {
    if let Some(passing) = find(sequence, now) {
        passing.settled();
    }
}

/// A socket of this host answers a SYN that was not seen: it may be one that was forgotten. That a SYN is forgotten is no loss by
/// itself, because this host does not answer those that it forwards.
#[inline(always)]
pub fn answered_unseen(now: u64) {
    if may_be_answered(latest_stray(Stray::Forgotten), now) {
        count(Counter::SynsForgotten);
    }
}

#[inline(always)]
fn find<'a>(sequence: u32, now: u64) -> Option<&'a Passing> {
    PASSING.find(&Passing::key(sequence)).filter(|passing| passing.is_current(now))
}

/// Whether there may be one in [`PASSING`] that matters, for a look that costs little.
#[inline(always)]
pub fn are_any() -> bool {
    latest_stray(Stray::Nobody) != 0
}

/// The tally of the SYNs for that end; `None` without the port filter.
#[inline(always)]
fn tally_of<'a>(local: &Endpoint) -> Option<&'a SharedArrivalTally> {
    if Filters.has(Settings::PORT_FILTER) { value_of(&ARRIVALS, local) } else { None }
}
