//! The end of `tracer watch`: what is left, what was counted and not reported, and what of the kernel's own counters that
//! explains.

use super::{Records, Sink, drain, sweep};
use crate::{
    clock::monotonic,
    host::xdp,
    probe::{Probe, namespace::Netns},
};
use std::{
    collections::BTreeMap,
    io,
    thread::sleep,
    time::{Duration, Instant},
};
use tracer_core::{
    model::{reconciliation::TcpCounters, status::Counters, tallies::Tallies},
    pipeline::{
        Pipeline,
        totals::{OwnCounters, Scope},
    },
};

/// Pause between two looks for records, while the kernel's counters are read.
const PAUSE: Duration = Duration::from_millis(5);

/// Shows what is left, also after an error, because what was seen until then is not lost. Every step is taken whether or
/// not the one before it failed. The first error is returned at the end.
pub fn finish(
    probe: &mut Probe,
    records: &mut Records,
    mut sink: Sink,
    (scope, begin): (Scope, BTreeMap<u32, TcpCounters>),
    outcome: anyhow::Result<()>,
) -> anyhow::Result<bool> {
    let mut first = FirstError::default();
    first.keep(outcome);
    let (missed, untraced) = (probe.events_missed(), probe.untraced());
    let before_end = first.keep(counters_before_end(records, &mut sink)).unwrap_or_default();
    // From here on nothing is counted any more, so that the totals are those of the records.
    first.keep(probe.stop());
    let until = sink.asker.ask_counters();
    let end = sink.asker.wait_for_counters(until, &mut sink.pipeline);
    let own = OwnCounters { begin, before_end, end };
    let waiting = first.keep(sweep(probe, records, &mut sink)).unwrap_or_default();
    let counters = first.keep(probe.counts());
    let mut counters = counters
        .map(|it| Counters::new(it).with_events_missed(missed).with_untraced(untraced.interfaces, untraced.namespaces));
    let Sink { mut pipeline, mut asker } = sink;
    if first.0.as_ref().is_some_and(crate::is_broken_pipe) {
        return Ok(pipeline.abandon(&waiting, counters.as_ref()));
    }
    for record in &waiting {
        pipeline.notice_waiting(record);
    }
    let tallies = first.keep(probe.tallies());
    let mut end = End { scope: &scope, own: &own, pipeline: &mut pipeline };
    let told = end.tell(&mut asker, tallies, counters.as_ref());
    first.keep(told);
    counters = counters.map(|it| it.with_unanswered(asker.unanswered));
    let whole = first.keep(pipeline.finish(&waiting, counters.as_ref()));
    first.0.map_or(Ok(whole.unwrap_or(false)), Err)
}

/// The first of several errors.
#[derive(Default)]
struct FirstError(Option<anyhow::Error>);

impl FirstError {
    /// The value of `result`, if there is one. Otherwise keeps the error, unless there was one before.
    fn keep<T, E: Into<anyhow::Error>>(&mut self, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.0.get_or_insert_with(|| error.into())).ok()
    }
}

/// The kernel's own counters while tracing still goes on.
fn counters_before_end(records: &mut Records, sink: &mut Sink) -> anyhow::Result<BTreeMap<u32, TcpCounters>> {
    let until = sink.asker.ask_counters();
    while Instant::now() < until {
        drain(records, sink)?;
        sink.asker.tick(&mut sink.pipeline)?;
        if let Some(counters) = sink.asker.counters() {
            return Ok(counters);
        }
        sleep(PAUSE);
    }
    Ok(BTreeMap::new())
}

/// What is passed on when nothing is traced any more.
struct End<'a> {
    scope: &'a Scope,
    own: &'a OwnCounters,
    pipeline: &'a mut Pipeline<'static>,
}

impl End<'_> {
    /// Passes the rest on, as far as it could be read: what the kernel counted and did not report, what its queues were like, what
    /// never came, and what of the kernel's own counters all of that explains. An error of the output keeps nothing from the
    /// recording.
    fn tell(
        &mut self,
        asker: &mut super::Asker,
        tallies: Option<Tallies>,
        totals: Option<&Counters>,
    ) -> io::Result<()> {
        let now = monotonic();
        self.own.moved().into_iter().for_each(|netns| self.pipeline.notice_namespace(netns, now));
        self.pipeline.ask_all();
        let Some(mut tallies) = tallies else {
            return asker.finish(self.pipeline).and(self.pipeline.decide(u64::MAX));
        };
        let mut result = asker.tallies(std::mem::take(&mut tallies.rejections), self.pipeline);
        for (key, tally) in &tallies.listeners {
            asker.listener(key, tally);
        }
        result = result.and(asker.finish(self.pipeline));
        result = result.and(self.pipeline.decide(u64::MAX));
        let reconciliation = self.own.reconcile(&tallies, self.pipeline.rejections(), self.scope.filtered);
        // What the kernel counted came here, too, though perhaps not past a hook.
        let kernel_saw = reconciliation.iter().flat_map(|it| &it.rows).any(|row| row.kernel != 0);
        result = result.and(self.tell_arrivals(&tallies, totals, kernel_saw));
        self.pipeline.reconciliation(reconciliation);
        result
    }

    /// Passes on what came for ports without a listener, and for which ports nothing came.
    fn tell_arrivals(&mut self, tallies: &Tallies, totals: Option<&Counters>, kernel_saw: bool) -> io::Result<()> {
        let Some(totals) = totals.filter(|it| self.scope.sees_arrivals && it.untraced() == (0, 0)) else {
            return Ok(());
        };
        let nothing_seen = totals.connections() == 0
            && self.pipeline.rejections().is_empty()
            && tallies.listeners.is_empty()
            && !tallies.resent;
        let now = monotonic();
        let passed_on = self.scope.passed_on(tallies, nothing_seen, now);
        let mut result = Ok(());
        for rejection in &passed_on {
            result = result.and(self.pipeline.rejection(rejection));
        }
        if nothing_seen && !kernel_saw && (!tallies.unheard || !self.scope.ports.is_empty()) {
            let programs = xdp_programs(self.scope.netns);
            for port in self.scope.silent(&passed_on) {
                let silence = self.scope.nothing_arrived(port, now, programs.clone());
                result = result.and(self.pipeline.rejection(&silence));
            }
        }
        result
    }
}

/// The native XDP programs of the network namespace `netns`, or of this process's own. A namespace that is gone has none any more.
fn xdp_programs(netns: Option<u32>) -> Vec<String> {
    let programs = || xdp::programs().unwrap_or_default();
    match netns {
        Some(netns) => Netns::open(netns).and_then(|netns| netns.inside(programs)).unwrap_or_default(),
        None => programs(),
    }
}
