//! SYNs for an end of this host at which nothing listens, remembered until they are answered or leave.

use crate::{
    endpoint::{Endpoint, Tuple},
    shared::Shared,
};

/// A handshake takes no longer, in nanoseconds. Later the sequence number may belong to another one.
const LONGEST_NS: u64 = 10_000_000_000;
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
    /// It was seen to leave through another interface: 0 or 1.
    forwarded: Shared<u64>,
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
        self.forwarded.set(0);
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
        let is_first = self.forwarded.get() == 0;
        if is_first {
            self.forwarded.set(1);
        }
        is_first
    }

    /// When the first one came.
    #[inline(always)]
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen.get()
    }

    /// When the latest one came.
    #[inline(always)]
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last.get()
    }

    /// The end of this host that it was for.
    #[inline(always)]
    #[must_use]
    pub fn asked(&self) -> Endpoint {
        self.tuple.get().local
    }
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
        assert_eq!((passing.seen(), passing.last(), passing.asked()), (100, 100 + SAME_NS, tuple.local));
        assert!(passing.leaves() && !passing.leaves());
    }

    #[test]
    fn a_sequence_number_belongs_to_it_for_as_long_as_a_handshake_takes() {
        let passing = Passing::default();
        passing.begin(&Tuple::default(), 1);
        assert!(passing.is_current(LONGEST_NS) && !passing.is_current(1 + LONGEST_NS));
        assert!([0, 1, u32::MAX].iter().all(|&sequence| Passing::key(sequence) != 0));
    }
}
