//! What each step of the pipeline costs: nanoseconds a record.

mod decode;
mod encode;
mod figures;
mod join;
mod pipeline;
#[path = "../common/traffic.rs"]
mod traffic;

use criterion::{Bencher, Criterion};
use std::time::{Duration, Instant};
use tracer_core::decode::Record;
use traffic::Traffic;

/// Records that are looked at in one pass: some megabytes, more than a processor's own caches hold.
const RECORDS: usize = 50_000;

/// Connections at once: few, as many as a service may have, and very many.
const CONNECTIONS: [u32; 3] = [10, 1_000, 10_000];

/// Requests on a connection that is kept alive.
const KEPT_ALIVE: u32 = 100;

/// Records of so many connections; the first ones, which are to be dealt with before the clock runs, and the others.
fn records(connections: u32, requests_a_connection: u32) -> (Vec<Record>, Vec<Record>) {
    let mut traffic = Traffic::new(connections, requests_a_connection);
    let first = traffic.by_ref().take(4 * connections as usize).collect();
    (first, traffic.take(RECORDS).collect())
}

/// Requests alone, each once.
fn requests() -> Vec<Record> {
    let requests = Traffic::new(1_000, KEPT_ALIVE).filter(|it| matches!(it, Record::Request(_)));
    requests.take(RECORDS).collect()
}

/// Measures what `run` takes for one of `items`, which follow each other; `prepare` makes what a pass begins with.
fn each<S, T>(bencher: &mut Bencher<'_>, items: &[T], prepare: impl Fn() -> S, mut run: impl FnMut(&mut S, &T)) {
    bencher.iter_custom(|iterations| {
        let mut elapsed = Duration::ZERO;
        let mut left = usize::try_from(iterations).unwrap_or(usize::MAX);
        while left > 0 {
            let pass = &items[..left.min(items.len())];
            left -= pass.len();
            let mut state = prepare();
            let began = Instant::now();
            for item in pass {
                run(&mut state, item);
            }
            elapsed += began.elapsed();
        }
        elapsed
    });
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    for benches in [decode::benches, join::benches, figures::benches, encode::benches, pipeline::benches] {
        benches(&mut criterion);
    }
    criterion.final_summary();
}
