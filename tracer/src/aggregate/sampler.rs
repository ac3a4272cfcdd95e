//! Rejections, sampled: of each kind the first few are handed on at once, the rest once a second with their count, so
//! that a flood costs bounded output and no count is lost. Time is that of the rejections or of the caller.

use crate::{
    enrich::peer::Network,
    rejection::{Cause, Rejection},
};
use foldhash::fast::FixedState;
use std::{collections::HashMap, net::SocketAddr};

/// So many of a kind are handed on at once.
const AT_ONCE: u64 = 3;
/// Nanoseconds between two that are handed on after that.
const INTERVAL: u64 = 1_000_000_000;
/// Kinds told apart; beyond, those of a cause on a port are one kind.
const CAPACITY: usize = 4096;

/// What makes two rejections the same kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Kind {
    cause: Cause,
    local: SocketAddr,
    netns: u32,
    network: Option<Network>,
}

/// A kind.
#[derive(Debug, Default)]
struct Entry {
    handed_on: u64,
    /// When one was handed on last.
    at: u64,
    /// Those since then, in the latest of them.
    held: Option<Rejection>,
}

/// The sampler.
#[derive(Debug, Default)]
pub struct Sampler {
    kinds: HashMap<Kind, Entry, FixedState>,
}

impl Sampler {
    /// Takes a rejection, which may stand for several; `on` is called for what is to be shown.
    pub fn take(&mut self, mut rejection: Rejection, on: &mut impl FnMut(Rejection)) {
        let network = Network::of_address(rejection.peer.ip());
        let (cause, local, netns) = (rejection.cause, rejection.local, rejection.netns);
        let mut kind = Kind { cause, local, netns, network: Some(network) };
        if self.kinds.len() >= CAPACITY && !self.kinds.contains_key(&kind) {
            kind.network = None;
        }
        let entry = self.kinds.entry(kind).or_default();
        if let Some(held) = entry.held.take() {
            rejection.count += held.count;
            rejection.first = held.first.min(rejection.first);
        }
        if entry.handed_on < AT_ONCE || rejection.last.saturating_sub(entry.at) >= INTERVAL {
            entry.handed_on += 1;
            entry.at = rejection.last;
            on(rejection);
        } else {
            entry.held = Some(rejection);
        }
    }

    /// Hands on what has been held back for long enough at `now` (monotonic nanoseconds).
    pub fn tick(&mut self, now: u64, on: &mut impl FnMut(Rejection)) {
        for entry in self.kinds.values_mut() {
            if now.saturating_sub(entry.at) >= INTERVAL
                && let Some(held) = entry.held.take()
            {
                entry.handed_on += 1;
                entry.at = now;
                on(held);
            }
        }
    }

    /// Hands on everything, in the order in which it happened.
    pub fn finish(&mut self, on: &mut impl FnMut(Rejection)) {
        let mut held: Vec<_> = self.kinds.values_mut().filter_map(|entry| entry.held.take()).collect();
        held.sort_by_key(|rejection| (rejection.last, rejection.cause, rejection.local));
        held.into_iter().for_each(on);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rejection::{Evidence, Facts};

    fn at(last: u64, peer: &str) -> Rejection {
        Rejection {
            cause: Cause::NoListener,
            evidence: Evidence::Observed,
            count: 1,
            first: last,
            last,
            peer: peer.parse().unwrap(),
            local: "10.0.2.5:8080".parse().unwrap(),
            netns: 1,
            connection: None,
            sequence: None,
            reason: None,
            location: None,
            facts: Facts::default(),
        }
    }

    #[test]
    fn a_flood_is_counted_and_not_shown() {
        let mut sampler = Sampler::default();
        let mut shown = Vec::new();
        for index in 0..100_000_u64 {
            // Ten seconds in all.
            sampler.take(at(index * 100_000, "10.0.1.7:5000"), &mut |it| shown.push(it));
        }
        sampler.finish(&mut |it| shown.push(it));
        assert!(shown.len() < 20, "{}", shown.len());
        assert_eq!(shown.iter().map(|it| it.count).sum::<u64>(), 100_000);
        let last = shown.last().unwrap();
        assert_eq!((last.last, last.first > shown[shown.len() - 2].last), (99_999 * 100_000, true));
    }

    #[test]
    fn kinds_are_apart_and_what_is_held_is_shown_in_time() {
        let mut sampler = Sampler::default();
        let mut shown = Vec::new();
        for peer in ["10.0.1.7:1", "10.0.3.7:1"] {
            for second in [1, 2, 3, 4] {
                sampler.take(at(second, peer), &mut |it| shown.push(it));
            }
        }
        assert_eq!(shown.len(), 6);
        sampler.tick(INTERVAL, &mut |it| shown.push(it));
        assert_eq!(shown.len(), 6);
        sampler.tick(INTERVAL + 3, &mut |it| shown.push(it));
        assert_eq!(shown.len(), 8);
        sampler.finish(&mut |it| shown.push(it));
        assert_eq!(shown.len(), 8);
    }
}
