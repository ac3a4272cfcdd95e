//! Rejections, sampled: of each kind the first few are handed on at once, the rest once a second with their count, so
//! that a flood costs bounded output and no count is lost. Time is that of the rejections or of the caller.

use crate::model::{
    listener::Listener,
    peer::Network,
    rejection::{Apart, Cause, NOBODY, Rejection},
};
use foldhash::fast::FixedState;
use std::{cmp::Reverse, collections::HashMap};

/// So many of a kind are handed on at once.
const AT_ONCE: u64 = 3;
/// Nanoseconds between two that are handed on after that.
const INTERVAL: u64 = 1_000_000_000;
/// So many of a cause are handed on within [`INTERVAL`], whatever their kinds: a scan has a kind a port.
const BUDGET: u32 = 20;
/// Kinds told apart. Beyond, those of a cause at a listener are one kind; beyond twice as many, those of a cause in a namespace.
const CAPACITY: usize = 4096;
/// A kind of which nothing more came for this time is forgotten where there is no room, in nanoseconds.
const QUIET: u64 = 60_000_000_000;

/// What makes two rejections the same kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    cause: Cause,
    listener: Listener,
    network: Option<Network>,
    apart: Apart,
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
    /// Since when how many of a cause were handed on.
    spent: HashMap<Cause, (u64, u32), FixedState>,
    /// When kinds were last forgotten.
    cleared: u64,
}

impl Sampler {
    /// Takes a rejection, which may stand for several; `on` is called for what is to be shown.
    pub fn take(&mut self, mut rejection: Rejection, on: &mut impl FnMut(Rejection)) {
        let network = Network::of_address(rejection.peer.ip());
        let (cause, listener) = (rejection.cause, rejection.listener());
        let mut kind = Kind { cause, listener, network: Some(network), apart: rejection.apart() };
        if self.kinds.len() >= CAPACITY {
            self.forget(rejection.last);
        }
        let is_one = self.has_room(&kind, CAPACITY);
        if !is_one {
            (kind.network, kind.apart) = (None, Apart::default());
            if !self.has_room(&kind, 2 * CAPACITY) {
                kind.listener.local = NOBODY;
            }
        }
        let entry = self.kinds.entry(kind).or_default();
        rejection = match entry.held.take() {
            Some(held) if !is_one => rejection.together(&held),
            Some(held) => {
                let (count, first) = (rejection.count + held.count, rejection.first.min(held.first));
                Rejection { count, first, ..rejection }
            }
            None => rejection,
        };
        let now = rejection.last;
        let is_due = entry.handed_on < AT_ONCE || now.saturating_sub(entry.at) >= INTERVAL;
        if is_due && may_spend(&mut self.spent, cause, now) {
            entry.handed_on += 1;
            entry.at = now;
            on(rejection);
        } else {
            entry.held = Some(rejection);
        }
    }

    fn has_room(&self, kind: &Kind, capacity: usize) -> bool {
        self.kinds.len() < capacity || self.kinds.contains_key(kind)
    }

    /// Makes room at `now`, at most once per [`INTERVAL`].
    fn forget(&mut self, now: u64) {
        if now.saturating_sub(self.cleared) >= INTERVAL {
            self.cleared = now;
            self.kinds.retain(|_, entry| entry.held.is_some() || now.saturating_sub(entry.at) < QUIET);
        }
    }

    /// Whether [`Sampler::tick`] may pass something on at `now`.
    pub fn is_due(&self, now: u64) -> bool {
        self.kinds.values().any(|entry| entry.held.is_some() && now.saturating_sub(entry.at) >= INTERVAL)
    }

    /// Hands on what has been held back for long enough at `now` (monotonic nanoseconds).
    pub fn tick(&mut self, now: u64, on: &mut impl FnMut(Rejection)) {
        for (kind, entry) in &mut self.kinds {
            if now.saturating_sub(entry.at) >= INTERVAL
                && entry.held.is_some()
                && may_spend(&mut self.spent, kind.cause, now)
                && let Some(held) = entry.held.take()
            {
                entry.handed_on += 1;
                entry.at = now;
                on(held);
            }
        }
    }

    /// Hands on everything, in the order in which it happened; of each cause the most frequent kinds, and the others as
    /// one.
    pub fn finish(&mut self, on: &mut impl FnMut(Rejection)) {
        let mut held: Vec<_> = self.kinds.values_mut().filter_map(|entry| entry.held.take()).collect();
        held.sort_by_key(|it| (it.cause, Reverse(it.count), it.last, it.local));
        let mut kept: Vec<Rejection> = Vec::new();
        for of_cause in held.chunk_by(|one, other| one.cause == other.cause) {
            let (most, others) = of_cause.split_at(of_cause.len().min(BUDGET as usize));
            kept.extend_from_slice(most);
            let mut others = others.iter();
            kept.extend(others.next().cloned().map(|first| others.fold(first, Rejection::together)));
        }
        kept.sort_by_key(|it| (it.last, it.cause, it.local));
        kept.into_iter().for_each(on);
    }
}

/// Whether another one of `cause` may be handed on at `now`; then it counts.
fn may_spend(spent: &mut HashMap<Cause, (u64, u32), FixedState>, cause: Cause, now: u64) -> bool {
    let (since, count) = spent.entry(cause).or_insert((now, 0));
    if now.saturating_sub(*since) >= INTERVAL {
        (*since, *count) = (now, 0);
    }
    let may = *count < BUDGET;
    *count += u32::from(may);
    may
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::rejection::{Evidence, Facts};
    use std::net::SocketAddr;

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
    fn a_scan_of_many_ports_is_a_few_lines() {
        let mut sampler = Sampler::default();
        let mut shown = Vec::new();
        for port in 1..=6000_u16 {
            let local = SocketAddr::from(([10, 0, 2, 5], port));
            sampler.take(Rejection { local, ..at(u64::from(port), "10.0.1.7:5000") }, &mut |it| shown.push(it));
        }
        assert_eq!(shown.len(), BUDGET as usize);
        sampler.finish(&mut |it| shown.push(it));
        assert_eq!(shown.len(), 2 * BUDGET as usize + 1);
        assert_eq!(shown.iter().map(|it| it.count).sum::<u64>(), 6000);
        let several: Vec<_> = shown.iter().filter(|it| it.local.port() == 0).collect();
        assert_eq!(several.iter().map(|it| it.count).sum::<u64>(), 6000 - (shown.len() - several.len()) as u64);
        for several in several {
            // What they have in common is still known.
            assert_eq!(several.local.ip().to_string(), "10.0.2.5");
            assert_eq!(Network::of_address(several.peer.ip()).to_string(), "10.0.1.0/24");
        }
    }

    #[test]
    fn beyond_the_capacity_no_kind_is_named_and_every_one_is_counted() {
        let mut sampler = Sampler::default();
        let mut shown = Vec::new();
        for index in 0..60_000_u16 {
            let local = SocketAddr::from(([10, 0, 2, 5], 1 + index));
            sampler.take(Rejection { local, ..at(1, "10.0.1.7:5000") }, &mut |it| shown.push(it));
        }
        assert_eq!(sampler.kinds.len(), 2 * CAPACITY + 1);
        sampler.finish(&mut |it| shown.push(it));
        assert_eq!(shown.iter().map(|it| it.count).sum::<u64>(), 60_000);
        assert!(shown.iter().all(|it| it.count == 1 || it.local.port() == 0), "{shown:#?}");
    }

    /// After months of scans there is room for what comes next, at whatever listener.
    #[test]
    fn quiet_kinds_make_way() {
        let mut sampler = Sampler::default();
        for round in 0..4 {
            let begin = round * 2 * QUIET;
            for index in 0..60_000_u64 {
                let [.., high, low] = index.to_be_bytes();
                let peer = SocketAddr::from(([10, high, low, 1], 5000));
                sampler.take(Rejection { peer, ..at(begin + index, "10.0.1.7:5000") }, &mut |_| {});
            }
            // The flood is shown, bit by bit, and is over.
            for second in 1..1000 {
                sampler.tick(begin + second * INTERVAL, &mut |_| {});
            }
            let (mut shown, now) = (Vec::new(), begin + 1000 * INTERVAL + QUIET);
            sampler.take(Rejection { cause: Cause::FirewallDrop, ..at(now, "10.7.7.7:1") }, &mut |it| shown.push(it));
            assert_eq!((shown.len(), shown[0].peer.port()), (1, 1), "{shown:#?}");
            assert!(sampler.kinds.len() <= 2 * CAPACITY, "{}", sampler.kinds.len());
        }
        assert!(sampler.kinds.len() < CAPACITY, "{}", sampler.kinds.len());
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
