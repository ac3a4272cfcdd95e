//! The end of a live run: what was counted and not reported one by one, what never came, and what of the kernel's own
//! counters all of that explains.

use super::rejections::Rejections;
use crate::{
    explain::{classify, connection},
    model::{
        facts::HostFacts,
        peer::socket,
        reconciliation::{NotRead, Reconciliation, Seen, TcpCounters},
        rejection::{Cause, Rejection},
        tallies::Tallies,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv6Addr, SocketAddr},
};
use tracer_common::rejection::{ArrivalTally, Key, RejectionRecord, Tally};

/// The rest of a key: events that were counted and not reported one by one.
#[derive(Clone, Debug)]
pub struct Rest {
    tally: Tally,
    /// What the key stands for.
    event: Key,
    count: u64,
    /// When the latest one was reported; 0: none was.
    since: u64,
}

/// What is to be made of a key.
#[derive(Clone, Debug)]
pub enum OfKey {
    /// Everything was reported, or it was harmless.
    Nothing,
    /// What is known of those that were reported holds for the rest.
    Known(Box<Rejection>),
    /// The host has to be asked about it.
    Unknown(Box<Rest>),
}

impl OfKey {
    /// What the kernel counted under `key` and did not report one by one.
    pub fn new(key: &Key, tally: &Tally, rejections: &mut Rejections) -> Self {
        let Some(unreported) = rejections.unreported(key, tally) else { return Self::Nothing };
        let event = key.unfolded(tally);
        let is_same = |it: &Rejection| it.local == socket(&event.local);
        let rest = Rest { tally: *tally, event, count: unreported.count, since: unreported.since };
        match unreported.latest {
            // What the host said then holds for those that came with it; now it may say something else.
            latest if unreported.is_known && latest.as_ref().is_none_or(is_same) => {
                latest.map_or(Self::Nothing, |latest| Self::Known(Box::new(rest.counted(latest))))
            }
            _ => Self::Unknown(Box::new(rest)),
        }
    }
}

impl Rest {
    /// An event that stands for it.
    pub fn example(&self) -> RejectionRecord {
        let mut record = RejectionRecord { key: self.event, reported: self.tally.last, ..RejectionRecord::EMPTY };
        record.peer.address = self.event.network;
        record
    }

    /// The rejection that it is, with what the host says of the example; `None`: it is harmless.
    pub fn rejection(&self, facts: &HostFacts) -> Option<Rejection> {
        classify::of_tally(&self.event, &self.tally, facts).map(|it| self.counted(it))
    }

    fn counted(&self, rejection: Rejection) -> Rejection {
        let (first, last) = (self.tally.first.max(self.since), self.tally.last);
        Rejection { count: self.count, first, last, ..rejection }.mixed(self.tally.mixed)
    }
}

/// What was watched.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Only these ports; empty: all.
    pub ports: Vec<u16>,
    /// Only this network namespace, by inode number.
    pub netns: Option<u32>,
    /// A filter but `netns` is used.
    pub filtered: bool,
    /// What arrives is seen, whoever sends it, whichever way it comes, and whether or not somebody reads it.
    pub sees_arrivals: bool,
    /// When tracing began, in monotonic nanoseconds.
    pub began: u64,
}

/// The kernel's own counters, by the inode number of the network namespace.
#[derive(Clone, Debug, Default)]
pub struct OwnCounters {
    /// When tracing began.
    pub begin: BTreeMap<u32, TcpCounters>,
    /// Just before it ended.
    pub before_end: BTreeMap<u32, TcpCounters>,
    /// Just after it ended: what rose in between was perhaps not seen.
    pub end: BTreeMap<u32, TcpCounters>,
}

impl OwnCounters {
    /// The namespaces in which one rose.
    pub fn moved(&self) -> Vec<u32> {
        let is_same = |(netns, before): &(&u32, &TcpCounters)| self.end.get(netns).is_none_or(|now| now == *before);
        self.begin.iter().filter(|it| !is_same(it)).map(|(netns, _)| *netns).collect()
    }

    /// Holds what was seen against them, in the namespaces that were there at the start and in those in which something was seen.
    pub fn reconcile(&self, tallies: &Tallies, rejections: &Rejections, filtered: bool) -> Vec<Reconciliation> {
        let counted = tallies.namespaces.iter().map(|(netns, _)| *netns);
        let seen: BTreeSet<u32> = counted.chain(rejections.namespaces()).filter(|&it| it != 0).collect();
        let all: BTreeSet<u32> = seen.iter().chain(self.begin.keys()).copied().collect();
        let of = |netns: u32| {
            let is_seen = seen.contains(&netns);
            let unread = |not_read| is_seen.then(|| Reconciliation::unread(netns, not_read, filtered));
            let Some(begin) = self.begin.get(&netns) else { return unread(NotRead::AtStart) };
            let Some(end) = self.end.get(&netns) else { return unread(NotRead::AtEnd) };
            let Some(rise) = end.since(begin) else { return unread(NotRead::AtStart) };
            let least = self.before_end.get(&netns).and_then(|it| it.since(begin)).unwrap_or(rise);
            Some(Reconciliation::new(netns, (&least, &rise), &seen_in(netns, tallies, rejections), filtered))
        };
        all.into_iter().filter_map(of).collect()
    }
}

/// What was seen in a network namespace.
fn seen_in(netns: u32, tallies: &Tallies, rejections: &Rejections) -> Seen {
    let count = |cause| rejections.counted(netns, cause);
    let tally = tallies.namespaces.iter().find(|(it, _)| *it == netns).map(|(_, tally)| *tally);
    let tally = tally.unwrap_or_default();
    Seen {
        accept_queue_full: count(Cause::AcceptQueueFull),
        syn_queue_full: count(Cause::SynQueueFull),
        no_route_back: count(Cause::NoRouteBack),
        resets: tally.resets,
        retransmits: tally.retransmits,
    }
}

impl Scope {
    /// What came for the ports that were asked for, and for which this host had no socket; if nothing else was seen, or if
    /// it was forwarded and not answered there.
    pub fn passed_on(&self, tallies: &Tallies, nothing_seen: bool, now: u64) -> Vec<Rejection> {
        let netns = self.netns.unwrap_or(0);
        let of_port = |port: u16| {
            let arrivals = tallies.arrivals.iter().filter(|(local, _)| local.port == port);
            let is_lost = |it: &ArrivalTally| it.forwarded != 0 && it.again != 0 && it.answered == 0;
            let told = arrivals.filter(|(_, tally)| nothing_seen || is_lost(tally));
            let mut told: Vec<_> =
                told.map(|(local, tally)| connection::forwarded(socket(local), netns, Some(tally), now)).collect();
            if told.is_empty() && nothing_seen && tallies.arrived.contains(&port) {
                told.push(connection::forwarded(wildcard(port), netns, None, now));
            }
            told
        };
        self.ports.iter().flat_map(|&port| of_port(port)).collect()
    }

    /// The ports for which nothing arrived: those that were asked for, without those in `passed_on`; 0 stands for all.
    pub fn silent(&self, passed_on: &[Rejection]) -> Vec<u16> {
        if self.ports.is_empty() {
            return vec![0];
        }
        let is_seen = |port: u16| passed_on.iter().any(|it| it.local.port() == port);
        self.ports.iter().copied().filter(|&port| !is_seen(port)).collect()
    }

    /// That nothing arrived for `port` until `now`. `programs` are those that could have taken it before.
    pub fn nothing_arrived(&self, port: u16, now: u64, programs: Vec<String>) -> Rejection {
        connection::nothing_arrived(wildcard(port), self.netns.unwrap_or(0), (self.began, now), programs)
    }
}

fn wildcard(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))
}
