//! The live side of rejections: asks this host what the kernel side cannot know while it still holds, finds the cause,
//! and hands every rejection to the pipeline, which records and shows it.

use crate::{
    aggregate::sampler::Sampler,
    clock::monotonic,
    enrich::{
        host::Host,
        netstat::{self, Reconciliation, Seen},
    },
    explain::{Limits, classify, connection},
    pipeline::Pipeline,
    probe::Tallies,
    probe::namespace,
    rejection::{Cause, Rejection},
    status::Counters,
};
use foldhash::fast::FixedState;
use std::{
    collections::{HashMap, HashSet},
    io::{self, Write},
    net::{Ipv6Addr, SocketAddr},
};
use tracer_common::{
    record::{ConnectionRecord, RequestRecord},
    rejection::{Key, RejectionRecord},
};

/// Requests remembered of which something was told before they ended.
const CAPACITY: usize = 65_536;

/// What was handed on of the events of a key.
#[derive(Default)]
struct Told {
    /// How many.
    count: u64,
    /// When the latest one happened.
    at: u64,
    /// What it was; `None`: harmless.
    latest: Option<Box<Rejection>>,
}

/// What was told until now, and whom to ask.
pub struct Refusals {
    host: Host,
    limits: Limits,
    sampler: Sampler,
    /// What was handed on of each key.
    told: HashMap<Key, Told, FixedState>,
    /// Requests, by connection and number, of which a cause was told: it is told once.
    requests: HashSet<(u64, u32, Cause), FixedState>,
    /// What is to be handed to the pipeline.
    ready: Vec<Rejection>,
    /// The kernel's own counters when tracing began, by network namespace.
    counters: Vec<(u32, netstat::Counters)>,
    began: u64,
    ports: Vec<u16>,
    netns: Option<u32>,
    /// Rejections that were counted, by network namespace and cause.
    counted: HashMap<(u32, Cause), u64, FixedState>,
}

impl Refusals {
    /// Nothing was told yet. `netns` is the one network namespace that is watched, by inode number.
    /// `ports` are the ports that are watched; none: all. `began` is when tracing began, in monotonic nanoseconds.
    pub fn new(host: Host, limits: Limits, netns: Option<u32>, ports: Vec<u16>, began: u64) -> Self {
        Self {
            host,
            limits,
            sampler: Sampler::default(),
            told: HashMap::default(),
            requests: HashSet::default(),
            ready: Vec::new(),
            counters: counters_of(netns),
            began,
            ports,
            netns,
            counted: HashMap::default(),
        }
    }

    /// An event that the kernel side reported.
    pub fn event(&mut self, record: &RejectionRecord) {
        let facts = self.host.facts(record);
        let told = self.told.entry(record.key).or_default();
        // Reports of two CPUs may overtake each other.
        let Some(count @ 1..) = record.count.checked_sub(told.count) else { return };
        let rejection = classify::of_record(record, &facts).map(|rejection| Rejection { count, ..rejection });
        *told = Told { count: record.count, at: record.reported, latest: rejection.clone().map(Box::new) };
        if let Some(rejection) = rejection {
            self.take(rejection);
        }
    }

    /// A connection that is gone.
    pub fn closed(&mut self, record: &ConnectionRecord) {
        if let Some(rejection) = connection::of_closed(record, self.limits) {
            // What was told of its request while it waited explains its end, too.
            let request = (record.connection, record.requests);
            let waited = [Cause::NoResponse, Cause::ResponseNotAcknowledged];
            if !waited.iter().any(|&cause| self.requests.contains(&(request.0, request.1, cause))) {
                self.take(rejection);
            }
        }
    }

    /// A request that ended.
    pub fn ended(&mut self, record: &RequestRecord) {
        if let Some(rejection) = connection::of_request(record, self.limits) {
            self.once(rejection);
        }
    }

    /// A request that waits; `record.reported` is now.
    pub fn waiting(&mut self, record: &RequestRecord) {
        for rejection in connection::of_waiting(record, self.limits) {
            self.once(rejection);
        }
    }

    /// Whether the sender of this request was told to wait, or more: whether [`Refusals::ended`] wants to see it.
    pub const fn is_of_interest(record: &RequestRecord) -> bool {
        record.zero_window != 0
    }

    /// Hands on what is due at `now` (monotonic nanoseconds).
    pub fn flush(&mut self, now: u64, pipeline: &mut Pipeline<impl Write>) -> io::Result<()> {
        let Self { sampler, ready, .. } = self;
        sampler.tick(now, &mut |rejection| ready.push(rejection));
        ready.drain(..).try_for_each(|rejection| pipeline.rejection(&rejection))
    }

    /// Hands on the rest: what the kernel counted and did not report, what its queues were like, what never came, and
    /// what of the kernel's own counters all of that explains.
    pub fn finish(
        &mut self,
        tallies: &Tallies,
        totals: &Counters,
        pipeline: &mut Pipeline<impl Write>,
    ) -> io::Result<()> {
        let places: Vec<_> = tallies.rejections.iter().map(|(key, _)| key.location).filter(|&it| it != 0).collect();
        self.host.locate(&places);
        for (key, tally) in &tallies.rejections {
            let told = self.told.remove(key).unwrap_or_default();
            let Some(count @ 1..) = tally.count.checked_sub(told.count) else { continue };
            let rest = if told.count == 0 {
                let facts = self.host.facts(&example(key, tally.last));
                classify::of_tally(key, tally, &facts)
            } else {
                // What the host said then holds for those that came with it; now it may say something else.
                told.latest.map(|latest| *latest)
            };
            if let Some(rest) = rest {
                self.take(Rejection { count, first: tally.first.max(told.at), last: tally.last, ..rest });
            }
        }
        for (key, tally) in &tallies.listeners {
            if let Some(mut rejection) = connection::of_listener(key, tally) {
                rejection.facts.process = self.host.listener(key.netns, rejection.local);
                self.take(rejection);
            }
        }
        let reconciliation = self.reconcile(tallies);
        // What the kernel counted came here, too, though perhaps not past a hook.
        let kernel_saw = reconciliation.iter().flat_map(|it| &it.rows).any(|row| row.kernel != 0);
        let nothing_seen = totals.connections() == 0 && self.counted.is_empty() && tallies.listeners.is_empty();
        if nothing_seen && !kernel_saw {
            self.nothing_arrived(monotonic()?);
        }
        let Self { sampler, ready, .. } = self;
        sampler.finish(&mut |rejection| ready.push(rejection));
        ready.drain(..).try_for_each(|rejection| pipeline.rejection(&rejection))?;
        pipeline.reconciliation(reconciliation);
        Ok(())
    }

    /// Holds what was seen against the kernel's own counters.
    fn reconcile(&self, tallies: &Tallies) -> Vec<Reconciliation> {
        let of = |&(netns, before): &(u32, netstat::Counters)| {
            let counters = netstat::Counters::read(netns).ok()?.since(&before);
            let count = |cause| self.counted.get(&(netns, cause)).copied().unwrap_or(0);
            let tally = tallies.namespaces.iter().find(|(it, _)| *it == netns).map(|(_, tally)| *tally);
            let tally = tally.unwrap_or_default();
            let seen = Seen {
                accept_queue_full: count(Cause::AcceptQueueFull),
                syn_queue_full: count(Cause::SynQueueFull),
                no_route_back: count(Cause::NoRouteBack),
                resets: tally.resets,
                retransmits: tally.retransmits,
            };
            Some(Reconciliation::new(netns, &counters, &seen))
        };
        self.counters.iter().filter_map(of).collect()
    }

    fn nothing_arrived(&mut self, now: u64) {
        let any = [0];
        let ports = if self.ports.is_empty() { &any[..] } else { &self.ports };
        let locals: Vec<_> = ports.iter().map(|&port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).collect();
        for local in locals {
            self.take(connection::nothing_arrived(local, self.netns.unwrap_or(0), self.began, now));
        }
    }

    fn once(&mut self, rejection: Rejection) {
        let (Some(connection), Some(sequence)) = (rejection.connection, rejection.sequence) else { return };
        if self.requests.len() >= CAPACITY {
            self.requests.clear();
        }
        if self.requests.insert((connection, sequence, rejection.cause)) {
            self.take(rejection);
        }
    }

    fn take(&mut self, rejection: Rejection) {
        *self.counted.entry((rejection.netns, rejection.cause)).or_default() += rejection.count;
        let Self { sampler, ready, .. } = self;
        sampler.take(rejection, &mut |rejection| ready.push(rejection));
    }
}

/// The counters of the network namespace `netns`, or of all that a process is in. What vanishes meanwhile is left out.
fn counters_of(netns: Option<u32>) -> Vec<(u32, netstat::Counters)> {
    let all = netns.map_or_else(namespace::all, |netns| vec![netns]);
    all.into_iter().filter_map(|netns| Some((netns, netstat::Counters::read(netns).ok()?))).collect()
}

/// A record that stands for what `key` counts.
fn example(key: &Key, at: u64) -> RejectionRecord {
    let mut record = RejectionRecord { key: *key, reported: at, ..RejectionRecord::EMPTY };
    record.peer.address = key.network;
    record
}
