//! From bytes to a record.

use crate::{RECORDS, each, requests, traffic::bytes};
use criterion::Criterion;
use std::hint::black_box;
use tracer_core::decode::decode;

pub fn benches(criterion: &mut Criterion) {
    let requests: Vec<_> = requests().iter().map(|it| bytes(it).to_vec()).collect();
    assert_eq!(requests.len(), RECORDS);
    criterion.bench_function("decode/request", |bencher| {
        each(
            bencher,
            &requests,
            || (),
            |(), bytes| {
                let _ = black_box(decode(black_box(bytes)));
            },
        );
    });
}
