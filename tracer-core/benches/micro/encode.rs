//! From requests to bytes of an output: of a JSON object, of a line, of a recording.

use crate::{
    each, requests,
    traffic::{CLOCK, bytes, facts},
};
use criterion::Criterion;
use std::{
    io::{self, BufWriter},
    path::Path,
};
use tracer_core::{
    decode::Record,
    model::{place::Places, request::Request},
    output::{lines::Lines, objects::Objects, terminal::Terminal},
    recording::write::Recorder,
};

pub fn benches(criterion: &mut Criterion) {
    let records = requests();
    let mut places = Places::default();
    facts().for_each(|fact| places.learn(&fact));
    let requests: Vec<_> = records.iter().filter_map(|it| request(it, &places)).collect();
    let mut group = criterion.benchmark_group("encode");
    let out = || BufWriter::with_capacity(1 << 16, io::sink());
    group.bench_function("json", |bencher| {
        each(
            bencher,
            &requests,
            || (Objects::new(CLOCK), out()),
            |(objects, out), request| {
                objects.request(out, request).expect("a sink takes everything");
            },
        );
    });
    for (name, width) in [("line", None), ("line_of_80", Some(80))] {
        let terminal = Terminal { width, ..Terminal::default() };
        group.bench_function(name, |bencher| {
            each(
                bencher,
                &requests,
                || (Lines::new(CLOCK, terminal), out()),
                |(lines, out), request| {
                    lines.request(out, request).expect("a sink takes everything");
                },
            );
        });
    }
    let recorder = || Recorder::create(Path::new("/dev/null"), CLOCK).expect("/dev/null can be written to");
    group.bench_function("recording", |bencher| {
        each(bencher, &records, recorder, |recorder, record| {
            recorder.record(bytes(record)).expect("/dev/null takes everything");
        });
    });
}

fn request<'a>(record: &'a Record, places: &'a Places) -> Option<Request<'a>> {
    let Record::Request(record) = record else { return None };
    Some(Request { place: places.of(&record.process), ..Request::of(record) })
}
