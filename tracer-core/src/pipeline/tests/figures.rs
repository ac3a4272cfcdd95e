//! What is counted never goes down while tracing, and at the end each request counts once.

use super::*;
use crate::{
    aggregate::Group,
    decode::encode_connection,
    samples::{MS, closed, counters_of},
    track::SETTLED,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use tracer_common::endpoint::Endpoint;

/// One thing that a pipeline is handed, and when it comes.
#[derive(Clone, Debug)]
enum Step {
    Request(RequestRecord),
    Closed(ConnectionRecord),
    Tick,
}

/// Where the requests of a connection come from.
fn peer(connection: u64) -> Endpoint {
    let [.., network] = connection.to_be_bytes();
    Endpoint::v4([10, 0, network, 1], 41_234)
}

/// A report of a request. Each report of a request has more bytes than the one before it.
fn report_of(connection: u64, sequence: u32, revision: u32, reported: u64, flags: u32) -> RequestRecord {
    let mut record = request(reported, [1; 7]);
    record.tuple.peer = peer(connection);
    (record.connection, record.sequence, record.revision, record.flags) = (connection, sequence, revision, flags);
    record.bytes_in = 10 * u64::from(revision + 1);
    record.bytes_out = if flags & RequestRecord::COMPLETE == 0 { 0 } else { 1000 * u64::from(revision + 1) };
    record.retransmits = u16::try_from(revision).unwrap();
    record
}

/// The records of a connection. Between two of them `gaps` nanoseconds pass.
fn connection(id: u64, gaps: std::ops::Range<u64>) -> impl Strategy<Value = Vec<(u64, Step)>> {
    let flags = prop_oneof![
        4 => Just(RequestRecord::COMPLETE),
        1 => Just(RequestRecord::COMPLETE | RequestRecord::FINAL),
        1 => Just(RequestRecord::FINAL),
    ];
    let requests = prop::collection::vec(prop::collection::vec((flags, gaps.clone(), any::<bool>()), 1..4), 1..6);
    (requests, any::<bool>(), gaps).prop_map(move |(requests, closes, gap)| {
        let (mut now, mut steps) = (S, Vec::new());
        for (reports, sequence) in requests.into_iter().zip(1..) {
            for ((flags, gap, ticks), revision) in reports.into_iter().zip(0..) {
                now += gap;
                steps.push((now, Step::Request(report_of(id, sequence, revision, now, flags))));
                if ticks {
                    steps.push((now + gap / 2, Step::Tick));
                }
            }
        }
        if closes {
            let mut record = ConnectionRecord { connection: id, reported: now + gap, ..closed() };
            record.tuple.peer = peer(id);
            steps.push((now + gap, Step::Closed(record)));
        }
        steps
    })
}

fn traffic(connections: u64, gaps: std::ops::Range<u64>) -> impl Strategy<Value = Vec<(u64, Step)>> {
    let all = (1..=connections).map(|id| connection(id, gaps.clone())).collect::<Vec<_>>();
    all.prop_map(|all| {
        let mut steps: Vec<_> = all.into_iter().flatten().collect();
        steps.sort_by_key(|(at, _)| *at);
        steps
    })
}

/// The counters of a report. Groups have come out of `other` by none of them.
#[derive(Debug)]
struct Counted {
    all: Vec<u64>,
    groups: BTreeMap<Group, Vec<u64>>,
    processes: u64,
    revised: u64,
}

impl Counted {
    fn of(report: &Report) -> Self {
        let Report { all, groups, processes, messages, streams, run, .. } = report;
        let mut all = counters_of(all);
        all.extend([*messages, *streams]);
        let groups = groups.iter().map(|(group, figures)| (*group, counters_of(figures))).collect();
        let processes = processes.iter().map(|it| it.requests).sum::<u64>() + report.other_processes;
        Self { all, groups, processes, revised: run.shortfalls.revised }
    }

    /// Whether no counter of this report is above the same one of a later report.
    fn is_at_most(&self, later: &Self) -> bool {
        let is_at_most = |one: &[u64], other: &[u64]| one.iter().zip(other).all(|(one, other)| one <= other);
        is_at_most(&self.all, &later.all)
            && self.groups.iter().all(|(group, it)| is_at_most(it, &later.groups[group]))
            && self.processes <= later.processes
            && self.revised <= later.revised
    }
}

/// The summary of a run of `steps`, in which a report is taken behind every step.
fn run(steps: &[(u64, Step)]) -> Result<serde_json::Value, TestCaseError> {
    let mut out = Vec::new();
    let view = View { events: Events::None, format: Format::Json };
    let mut pipeline = Pipeline::new(CLOCK, options(view), &mut out);
    let mut before = Counted::of(&pipeline.report(None));
    for (at, step) in steps {
        match step {
            Step::Request(record) => pipeline.record(encode_request(record)).unwrap(),
            Step::Closed(record) => pipeline.record(encode_connection(record)).unwrap(),
            Step::Tick => pipeline.tick(*at).unwrap(),
        }
        let now = Counted::of(&pipeline.report(None));
        prop_assert!(before.is_at_most(&now), "{before:?} {now:?}");
        before = now;
    }
    pipeline.finish(&[], None).unwrap();
    let text = String::from_utf8(out).unwrap();
    let summary: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    prop_assert!(before.all[0] <= summary["requests"].as_u64().unwrap());
    Ok(summary)
}

/// The last report of each request.
fn requests(steps: &[(u64, Step)]) -> BTreeMap<(u64, u32), RequestRecord> {
    let mut requests = BTreeMap::new();
    for (_, step) in steps {
        if let Step::Request(record) = step {
            let last = requests.entry((record.connection, record.sequence)).or_insert(*record);
            if last.revision < record.revision {
                *last = *record;
            }
        }
    }
    requests
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Nothing is missing where no response pauses for as long as requests are pending.
    #[test]
    fn figures_are_those_of_the_last_report_of_each_request(steps in traffic(4, 0..SETTLED)) {
        let summary = run(&steps)?;
        let requests = requests(&steps);
        let sum = |of: fn(&RequestRecord) -> u64| requests.values().map(of).sum::<u64>();
        prop_assert_eq!(&summary["requests"], requests.len());
        prop_assert_eq!(&summary["bytes_in"], sum(|it| it.bytes_in));
        prop_assert_eq!(&summary["bytes_out"], sum(|it| it.bytes_out));
        prop_assert_eq!(&summary["retransmits"], sum(|it| it.retransmits.into()));
        prop_assert_eq!(&summary["unanswered"], sum(|it| u64::from(it.bytes_out == 0)));
    }

    /// Reports overtake each other, and responses pause for any time.
    #[test]
    fn each_request_counts_once_in_any_order(
        mut steps in traffic(4, 0..2 * SETTLED),
        delays in prop::collection::vec(prop_oneof![3 => Just(0), 1 => 0..3 * SETTLED, 1 => 0..100 * MS], 200),
    ) {
        for ((at, step), delay) in steps.iter_mut().zip(delays) {
            // The end of a connection overtakes nothing of it.
            *at += if let Step::Closed(_) = step { 4 * SETTLED } else { delay };
        }
        steps.sort_by_key(|(at, _)| *at);
        let summary = run(&steps)?;
        prop_assert_eq!(&summary["requests"], requests(&steps).len());
    }
}
