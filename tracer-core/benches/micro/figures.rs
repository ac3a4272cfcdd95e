//! From requests to figures.

use crate::{each, requests};
use criterion::Criterion;
use tracer_core::{
    aggregate::{Summary, distribution::Distribution},
    decode::Record,
    model::request::Request,
};

pub fn benches(criterion: &mut Criterion) {
    let records = requests();
    let records: Vec<_> =
        records.iter().filter_map(|it| if let Record::Request(it) = it { Some(it) } else { None }).collect();
    let requests: Vec<_> = records.iter().map(|record| Request::of(record)).collect();
    let times: Vec<_> = requests.iter().filter_map(Request::total).collect();
    let mut group = criterion.benchmark_group("figures");
    group.bench_function("split", |bencher| {
        each(
            bencher,
            &records,
            || (),
            |(), record| {
                std::hint::black_box(Request::of(record));
            },
        );
    });
    group.bench_function("histogram", |bencher| {
        each(bencher, &times, || Distribution::new(3), |distribution, &time| distribution.add(time));
    });
    group.bench_function("request", |bencher| {
        each(bencher, &requests, Summary::default, |summary, request| summary.request(request));
    });
}
