//! The whole way of a record, from its bytes to what is shown.

use crate::{
    CONNECTIONS, KEPT_ALIVE, each, records,
    traffic::{CLOCK, bytes, facts},
};
use criterion::{BenchmarkGroup, Criterion, measurement::WallTime};
use std::io::{self, BufWriter};
use tracer_core::{
    output::terminal::Terminal,
    pipeline::{Events, Format, Options, Pipeline, View},
};

pub fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pipeline");
    for connections in CONNECTIONS {
        view(
            &mut group,
            &format!("summary/{connections}"),
            View { events: Events::None, format: Format::Text(Terminal::default()) },
            connections,
        );
    }
    for (name, view) in [
        ("json", View { events: Events::All, format: Format::Json }),
        ("lines", View { events: Events::All, format: Format::Text(Terminal::default()) }),
    ] {
        self::view(&mut group, name, view, 1_000);
    }
}

fn view(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, view: View, connections: u32) {
    let (first, others) = records(connections, KEPT_ALIVE);
    let others: Vec<_> = others.iter().map(|record| bytes(record).to_vec()).collect();
    let prepare = || {
        let mut pipeline = pipeline(view);
        for record in &first {
            take(&mut pipeline, bytes(record));
        }
        pipeline
    };
    group.bench_function(name, |bencher| each(bencher, &others, prepare, |pipeline, bytes| take(pipeline, bytes)));
}

type Shown = Pipeline<'static>;

fn pipeline(view: View) -> Shown {
    let options = Options { view, min: 0, count: None };
    let mut pipeline = Pipeline::new(CLOCK, options, BufWriter::with_capacity(1 << 16, io::sink()));
    facts().for_each(|fact| pipeline.learn(&fact));
    pipeline
}

fn take(pipeline: &mut Shown, bytes: &[u8]) {
    pipeline.record(bytes).expect("a sink takes everything");
}
