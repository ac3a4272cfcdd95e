//! SYNs for an end of this host at which nothing listens, remembered until they are answered or leave.

use crate::{
    endpoint::{Endpoint, Tuple},
    shared::Shared,
};

/// A handshake takes no longer, in nanoseconds. Later the sequence number may belong to another one.
const LONGEST_NS: u64 = 10_000_000_000;
/// The SYN was seen to leave through another interface.
const FORWARDED: u64 = 1;
/// The SYN was answered or dropped: no packet is expected that needs the entry.
const SETTLED: u64 = 2;
/// A SYN that comes again within this many nanoseconds is the same packet: no SYN is sent again so soon.
const SAME_NS: u64 = 10_000_000;

/// A SYN for an end at which nothing listens.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Passing {
    /// Both ends, as in the packet.
    tuple: Shared<Tuple>,
    /// When the first one came.
    seen: Shared<u64>,
    /// When the latest one came.
    last: Shared<u64>,
    /// What became of it: a set of [`FORWARDED`] and [`SETTLED`].
    fate: Shared<u64>,
}

impl Passing {
    /// The key of a SYN with that sequence number: never 0.
    #[inline(always)]
    #[must_use]
    pub const fn key(sequence: u32) -> u64 {
        1 << 32 | sequence as u64
    }

    /// Begins with the SYN between these ends that came `now`.
    #[inline(always)]
    pub fn begin(&self, tuple: &Tuple, now: u64) {
        self.tuple.set(*tuple);
        self.seen.set(now);
        self.last.set(now);
        self.fate.set(0);
    }

    /// The SYN came once more. True if it was sent again: a bridge's port and the bridge pass on the same packet.
    #[inline(always)]
    pub fn comes_again(&self, now: u64) -> bool {
        let is_again = now.wrapping_sub(self.last.get()) >= SAME_NS;
        if is_again {
            self.last.set(now);
        }
        is_again
    }

    /// Whether a packet that is seen `now` may belong to its handshake.
    #[inline(always)]
    #[must_use]
    pub fn is_current(&self, now: u64) -> bool {
        now.wrapping_sub(self.last.get()) < LONGEST_NS
    }

    /// The SYN leaves through another interface. True for the first time.
    #[inline(always)]
    pub fn leaves(&self) -> bool {
        let fate = self.fate.get();
        self.fate.set(fate | FORWARDED);
        fate & FORWARDED == 0
    }

    /// The SYN is answered or dropped.
    #[inline(always)]
    pub fn settled(&self) {
        self.fate.set(self.fate.get() | SETTLED);
    }

    /// When the first one came.
    #[inline(always)]
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen.get()
    }

    /// Since when the SYN waits for an answer of this host: when the latest one came. 0 once no such answer can come: the SYN was
    /// answered or dropped, or it left a while ago. A container of this host answers at once.
    #[inline(always)]
    #[must_use]
    pub fn waits_since(&self, now: u64) -> u64 {
        let (fate, last) = (self.fate.get(), self.last.get());
        let has_left = fate & FORWARDED != 0 && now.wrapping_sub(last) >= SAME_NS;
        if fate & SETTLED != 0 || has_left { 0 } else { last }
    }

    /// The end of this host that it was for.
    #[inline(always)]
    #[must_use]
    pub fn asked(&self) -> Endpoint {
        self.tuple.get().local
    }
}

/// Whether an answer that comes `now` may be to a SYN that is forgotten and that waited since `waits_since`; 0: it did not wait.
#[inline(always)]
#[must_use]
pub const fn may_be_answered(waits_since: u64, now: u64) -> bool {
    waits_since != 0 && now.wrapping_sub(waits_since) < LONGEST_NS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_packet_at_two_interfaces_is_one() {
        let passing = Passing::default();
        let tuple = Tuple { local: Endpoint::v4([10, 0, 0, 1], 80), ..Tuple::default() };
        passing.begin(&tuple, 100);
        assert!(!passing.comes_again(99 + SAME_NS) && passing.comes_again(100 + SAME_NS));
        assert_eq!(
            (passing.seen(), passing.waits_since(101 + SAME_NS), passing.asked()),
            (100, 100 + SAME_NS, tuple.local)
        );
        assert!(passing.leaves() && !passing.leaves());
    }

    #[test]
    fn an_entry_that_nothing_can_need_is_no_loss() {
        let passing = Passing::default();
        passing.begin(&Tuple::default(), 5);
        assert_eq!(passing.waits_since(4 + LONGEST_NS), 5);
        assert!(passing.leaves());
        assert_eq!((passing.waits_since(4 + SAME_NS), passing.waits_since(5 + SAME_NS)), (5, 0), "it left long ago");
        assert!(may_be_answered(5, 4 + LONGEST_NS) && !may_be_answered(5, 5 + LONGEST_NS));
        passing.settled();
        assert_eq!(passing.waits_since(6), 0);
        assert!(!passing.leaves() && !may_be_answered(0, 6));
        passing.begin(&Tuple::default(), 7);
        assert_eq!(passing.waits_since(7), 7);
    }

    #[test]
    fn a_sequence_number_belongs_to_it_for_as_long_as_a_handshake_takes() {
        let passing = Passing::default();
        passing.begin(&Tuple::default(), 1);
        assert!(passing.is_current(LONGEST_NS) && !passing.is_current(1 + LONGEST_NS));
        assert!([0, 1, u32::MAX].iter().all(|&sequence| Passing::key(sequence) != 0));
    }
}
