//! From reports to requests, each once.

use crate::{CONNECTIONS, KEPT_ALIVE, each, records};
use criterion::Criterion;
use std::hint::black_box;
use tracer_core::{
    decode::Record,
    track::{Event, Tracker},
};

pub fn benches(criterion: &mut Criterion) {
    for (name, requests_a_connection) in [("keep_alive", KEPT_ALIVE), ("connection_a_request", 1)] {
        let mut group = criterion.benchmark_group(format!("join/{name}"));
        for connections in CONNECTIONS {
            let (first, others) = records(connections, requests_a_connection);
            let prepare = || {
                let mut tracker = Tracker::default();
                for record in &first {
                    join(&mut tracker, record);
                }
                tracker
            };
            group.bench_function(connections.to_string(), |bencher| each(bencher, &others, prepare, join));
        }
    }
}

fn join(tracker: &mut Tracker, record: &Record) {
    let mut on = |event: Event<'_>| {
        black_box(event);
    };
    let reported = match record {
        Record::Request(record) => record.reported,
        Record::Opened(record) | Record::Closed(record) => record.reported,
        Record::Rejection(record) => record.reported,
        Record::Listener(record) => record.reported,
    };
    while tracker.step(reported, &mut on) {}
    tracker.record(record, &mut on);
}
