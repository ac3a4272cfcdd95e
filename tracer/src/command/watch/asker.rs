//! The live side of rejections: asks this host what the kernel side cannot know, while it still holds, and what was counted
//! without being reported.

use crate::{
    clock::monotonic,
    host::{answers::Host, names::Namer, netstat, process::ControlGroups, xdp},
    probe::{
        Filters, Tallies,
        namespace::{self, Netns},
    },
};
use foldhash::fast::FixedState;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io::{self, Write},
    net::{Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};
use tracer_common::rejection::{ArrivalTally, Event, Key, RejectionRecord, Tally};
use tracer_core::{
    explain::{classify, connection},
    model::{
        application::Application,
        facts::HostFacts,
        peer::socket,
        reconciliation::{NotRead, Reconciliation, Seen, TcpCounters},
        rejection::{Cause, Rejection},
        status::Counters,
    },
    pipeline::{Pipeline, rejections::Question},
};

/// For how long an answer about a process holds: a flood of closes asks about it once.
const LIFETIME: Duration = Duration::from_millis(500);
/// Answers that are kept.
const CAPACITY: usize = 256;

/// This host, and what it said lately.
pub struct Asker {
    host: Host,
    groups: ControlGroups,
    applications: HashMap<(u32, u32, SocketAddr), (Instant, Application), FixedState>,
    /// The kernel's own counters when tracing began, by network namespace.
    counters: Vec<(u32, TcpCounters)>,
    began: u64,
    filters: Filters,
    /// The hook for SYNs is attached.
    sees_syns: bool,
    /// `None`: namespaces go without names.
    namer: Option<Namer>,
}

impl Asker {
    /// `filters` say what is watched; `sees_syns` that the hook for SYNs is attached; `began` is when tracing began, in
    /// monotonic nanoseconds.
    pub fn new(host: Host, filters: Filters, sees_syns: bool, began: u64) -> Self {
        let namer = Namer::start().inspect_err(|error| log::warn!("network namespaces have no names: {error}")).ok();
        let counters = counters_of(filters.netns);
        let groups = ControlGroups::of_this_host();
        Self { host, groups, applications: HashMap::default(), counters, began, filters, sees_syns, namer }
    }

    /// What this host says about an event.
    pub fn facts(&mut self, record: &RejectionRecord) -> HostFacts {
        self.host.facts(record)
    }

    /// Answers the questions of the pipeline.
    pub fn answer(&mut self, pipeline: &mut Pipeline<impl Write>) {
        if let Some(namer) = &self.namer {
            pipeline.unnamed().into_iter().for_each(|netns| namer.ask(netns));
            namer.found().for_each(|(netns, name)| pipeline.name_namespace(netns, &name));
        }
        for process in pipeline.unplaced() {
            if let Some(fact) = self.groups.find(&process) {
                pipeline.learn(&fact);
            }
        }
        for question in pipeline.questions() {
            let answer = self.application(question);
            pipeline.answer(question.number, answer);
        }
    }

    fn application(&mut self, question: Question) -> Application {
        let Question { pid, netns, local, .. } = question;
        let now = Instant::now();
        let key = (pid, netns, local);
        if let Some((until, answer)) = self.applications.get(&key)
            && *until > now
        {
            return answer.clone();
        }
        if self.applications.len() >= CAPACITY {
            self.applications.clear();
        }
        let answer = self.host.application(pid, netns, local);
        self.applications.insert(key, (now + LIFETIME, answer.clone()));
        answer
    }

    /// Passes the rest on, as far as it could be read: what the kernel counted and did not report, what its queues were like, what never came, and what
    /// of the kernel's own counters all of that explains.
    pub fn finish(
        &mut self,
        tallies: Option<&Tallies>,
        totals: Option<&Counters>,
        pipeline: &mut Pipeline<impl Write>,
    ) -> io::Result<()> {
        let counters = counters_of(self.filters.netns).into_iter().collect();
        let now = monotonic();
        for netns in self.moved(&counters) {
            pipeline.notice_namespace(netns, now);
        }
        pipeline.ask_all();
        self.answer(pipeline);
        let names = self.namer.as_mut().map(Namer::rest).unwrap_or_default();
        for (netns, name) in names {
            pipeline.name_namespace(netns, &name);
        }
        let mut result = pipeline.decide(u64::MAX);
        let Some(tallies) = tallies else { return result };
        // An error of the output keeps nothing from the recording.
        result = result.and(self.count(&tallies.rejections, pipeline));
        for (key, tally) in &tallies.listeners {
            if let Some(mut rejection) = connection::of_listener(key, tally) {
                rejection.facts.process = self.host.listener(key.netns, rejection.local);
                result = result.and(pipeline.rejection(&rejection));
            }
        }
        let reconciliation = self.reconcile(&counters, tallies, pipeline);
        // What the kernel counted came here, too, though perhaps not past a hook.
        let kernel_saw = reconciliation.iter().flat_map(|it| &it.rows).any(|row| row.kernel != 0);
        let nothing_seen = totals.is_some_and(|it| it.connections() == 0)
            && pipeline.rejections().is_empty()
            && tallies.listeners.is_empty()
            && !tallies.resent;
        let sees_all = self.would_see_arrivals() && totals.is_some_and(|it| it.untraced() == (0, 0));
        let passed_on = if sees_all { self.passed_on(tallies, nothing_seen, now) } else { Vec::new() };
        for rejection in &passed_on {
            result = result.and(pipeline.rejection(rejection));
        }
        if nothing_seen && !kernel_saw && sees_all && (!tallies.unheard || !self.filters.ports.is_empty()) {
            let seen = |port: u16| passed_on.iter().any(|it| it.local.port() == port);
            result = result.and(self.nothing_arrived(now, seen, pipeline));
        }
        pipeline.reconciliation(reconciliation);
        result
    }

    /// What came for the ports that were asked for, and for which this host had no socket; if nothing else was seen, or if
    /// it was forwarded and not answered there.
    fn passed_on(&self, tallies: &Tallies, nothing_seen: bool, now: u64) -> Vec<Rejection> {
        let netns = self.filters.netns.unwrap_or(0);
        let of_port = |port: u16| {
            let arrivals = tallies.arrivals.iter().filter(|(local, _)| local.port == port);
            let is_lost = |it: &ArrivalTally| it.forwarded != 0 && it.again != 0 && it.answered == 0;
            let told = arrivals.filter(|(_, tally)| nothing_seen || is_lost(tally));
            let mut told: Vec<_> =
                told.map(|(local, tally)| connection::forwarded(socket(local), netns, Some(tally), now)).collect();
            if told.is_empty() && nothing_seen && tallies.arrived.contains(&port) {
                let local = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
                told.push(connection::forwarded(local, netns, None, now));
            }
            told
        };
        self.filters.ports.iter().flat_map(|&port| of_port(port)).collect()
    }

    /// Passes on what was counted in tallies that were taken out of the kernel's maps. Records of the same events that come
    /// later count no more.
    pub fn taken(&mut self, tallies: &[(Key, Tally)], pipeline: &mut Pipeline<impl Write>) -> io::Result<()> {
        if let Some((key, _)) = tallies.first() {
            pipeline.generation_ends(key.generation());
        }
        self.count(tallies, pipeline)
    }

    fn count(&mut self, tallies: &[(Key, Tally)], pipeline: &mut Pipeline<impl Write>) -> io::Result<()> {
        let places: Vec<_> = tallies.iter().map(|(key, _)| key.location).filter(|&it| it != 0).collect();
        self.host.locate(&places);
        let mut result = Ok(());
        for (key, tally) in tallies {
            if let Some(rest) = self.unreported(key, tally, pipeline) {
                result = result.and(pipeline.rejection(&rest));
            }
        }
        result
    }

    /// What the kernel counted under `key` and did not report one by one.
    fn unreported(&mut self, key: &Key, tally: &Tally, pipeline: &mut Pipeline<impl Write>) -> Option<Rejection> {
        let unreported = pipeline.unreported(key, tally)?;
        let event = key.unfolded(tally);
        let is_late = Event::of(event.event) == Some(Event::DataAfterClose);
        let is_same = |it: &Rejection| it.local == socket(&event.local);
        let rest = match unreported.latest {
            // What the host said then holds for those that came with it; now it may say something else.
            latest if unreported.is_known && !is_late && latest.as_ref().is_none_or(is_same) => latest?,
            _ => {
                let facts = self.host.facts(&example(&event, tally.last));
                classify::of_tally(&event, tally, &facts)?
            }
        };
        let first = tally.first.max(unreported.since);
        let rest = Rejection { count: unreported.count, first, last: tally.last, ..rest };
        Some(rest.mixed(tally.mixed))
    }

    /// The namespaces in which a counter of the kernel's rose until `now`.
    fn moved(&self, now: &BTreeMap<u32, TcpCounters>) -> Vec<u32> {
        let is_same = |(netns, before): &(u32, TcpCounters)| now.get(netns).is_none_or(|now| now == before);
        self.counters.iter().filter(|it| !is_same(it)).map(|(netns, _)| *netns).collect()
    }

    /// Holds what was seen against the kernel's own counters, of the namespaces that were there at the start and of those in
    /// which something was seen.
    fn reconcile(
        &self,
        now: &BTreeMap<u32, TcpCounters>,
        tallies: &Tallies,
        pipeline: &Pipeline<impl Write>,
    ) -> Vec<Reconciliation> {
        let filtered = !self.filters.let_all_through();
        let before: BTreeMap<u32, TcpCounters> = self.counters.iter().copied().collect();
        let counted = tallies.namespaces.iter().map(|(netns, _)| *netns);
        let seen: BTreeSet<u32> = counted.chain(pipeline.rejections().namespaces()).filter(|&it| it != 0).collect();
        let all: BTreeSet<u32> = seen.iter().chain(before.keys()).copied().collect();
        let of = |netns: u32| {
            let is_seen = seen.contains(&netns);
            let unread = |not_read| is_seen.then(|| Reconciliation::unread(netns, not_read, filtered));
            let Some(before) = before.get(&netns) else { return unread(NotRead::AtStart) };
            let Some(now) = now.get(&netns) else { return unread(NotRead::AtEnd) };
            let Some(rise) = now.since(before) else { return unread(NotRead::AtStart) };
            Some(Reconciliation::new(netns, &rise, &seen_in(netns, tallies, pipeline), filtered))
        };
        all.into_iter().filter_map(of).collect()
    }

    /// Whether what arrives is seen, whoever sends it, whichever way it comes, and whether or not somebody reads it.
    fn would_see_arrivals(&self) -> bool {
        let Filters { pid, interfaces, peers, .. } = &self.filters;
        self.sees_syns && pid.is_none() && interfaces.is_empty() && peers.is_empty()
    }

    /// Says so of every port for which nothing was `seen`.
    fn nothing_arrived(
        &self,
        now: u64,
        seen: impl Fn(u16) -> bool,
        pipeline: &mut Pipeline<impl Write>,
    ) -> io::Result<()> {
        let any = [0];
        let ports = if self.filters.ports.is_empty() { &any[..] } else { &self.filters.ports };
        let unseen = ports.iter().filter(|&&port| !seen(port));
        let locals = unseen.map(|&port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
        let netns = self.filters.netns;
        let programs = || xdp::programs().unwrap_or_default();
        // A namespace that is gone has no programs any more.
        let programs = match netns {
            Some(netns) => Netns::open(netns).and_then(|netns| netns.inside(programs)).unwrap_or_default(),
            None => programs(),
        };
        let (netns, times) = (netns.unwrap_or(0), (self.began, now));
        locals.into_iter().try_for_each(|local| {
            pipeline.rejection(&connection::nothing_arrived(local, netns, times, programs.clone()))
        })
    }
}

/// What was seen in a network namespace.
fn seen_in(netns: u32, tallies: &Tallies, pipeline: &Pipeline<impl Write>) -> Seen {
    let count = |cause| pipeline.rejections().counted(netns, cause);
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

/// The counters of the network namespace `netns`, or of all that a process is in. What vanishes meanwhile is left out.
fn counters_of(netns: Option<u32>) -> Vec<(u32, TcpCounters)> {
    let all = netns.map_or_else(namespace::all, |netns| vec![netns]);
    all.into_iter().filter_map(|netns| Some((netns, netstat::read(netns).ok()?))).collect()
}

/// A record that stands for what `key` counts.
fn example(key: &Key, at: u64) -> RejectionRecord {
    let mut record = RejectionRecord { key: *key, reported: at, ..RejectionRecord::EMPTY };
    record.peer.address = key.network;
    record
}
