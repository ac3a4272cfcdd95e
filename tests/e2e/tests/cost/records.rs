//! What a request takes of the ring buffer, and of a recording. A recording holds the records as the ring buffer held
//! them.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use lab::client::{Client, Request};
use lab::target::{Options, Target};
use lab::{Lab, Tracer};

use crate::{Bill, address, assert_nothing_lost, settle};

const REQUESTS: usize = 2_000;

/// A kind of record (the number that each begins with), its name, how many there are, and the most bytes of each.
struct Budget(u32, &'static str, usize, usize);

/// The records of one kept-alive connection.
const BUDGETS: [Budget; 3] = [
    Budget(1, "requests", REQUESTS, 216),
    Budget(2, "connections opened", 1, 224),
    Budget(3, "connections closed", 1, 224),
];
/// Bytes of a recording for a request: its record, and the block's header.
const FILE_A_REQUEST: usize = 224;
/// Bytes of a recording for all else: connections, hooks, limits, the host's processes, counters.
const FILE_BESIDES: usize = 4 << 10;

/// Bytes of a recording before its first block: what marks it, the version, the clock.
const HEADER: usize = 8 + 4 + 8;
/// Bytes of a block before its rest: the kind, the length of the rest.
const BLOCK_HEADER: usize = 4 + 4;
/// The kind of a block that holds a record.
const RECORD: u32 = 1;
/// What the kernel puts before a record, and the multiple to which it is filled up (`BPF_RINGBUF_HDR_SZ`), bytes.
const RING_HEADER: usize = 8;

/// The blocks of a recording: kind and rest.
fn blocks(recording: &[u8]) -> Result<Vec<(u32, &[u8])>> {
    let mut left = recording.get(HEADER..).context("no recording")?;
    let mut blocks = Vec::new();
    while !left.is_empty() {
        let length = number(left.get(4..).context("a cut block")?)? as usize;
        let rest = left.get(BLOCK_HEADER..BLOCK_HEADER + length).context("a cut block")?;
        blocks.push((number(left)?, rest));
        left = &left[BLOCK_HEADER + length..];
    }
    Ok(blocks)
}

fn number(bytes: &[u8]) -> Result<u32> {
    bytes.first_chunk().map(|bytes| u32::from_le_bytes(*bytes)).context("a cut number")
}

/// The lengths of the records, by kind.
fn records(recording: &[u8]) -> Result<BTreeMap<u32, Vec<usize>>> {
    let mut records = BTreeMap::<_, Vec<_>>::new();
    for (_, rest) in blocks(recording)?.iter().filter(|(kind, _)| *kind == RECORD) {
        records.entry(number(rest)?).or_default().push(rest.len());
    }
    Ok(records)
}

/// Sends the requests over one connection; returns the recording. To the lab's target, which writes each answer at once:
/// where the peer acknowledges the first of two writes before the second, a request is reported twice.
fn record() -> Result<Vec<u8>> {
    let lab = Lab::new()?;
    let target = Target::start(&lab, "target", &Options::listen(&[address()]))?;
    let file = lab.directory().join("recording");
    let tracer = Tracer::start(&lab, "tracer", &["-w", file.to_str().context("not text")?])?;
    let mut connection = Client::new(&lab.lb).connect(address())?;
    connection.requests(REQUESTS, Duration::ZERO, &Request::get("/"))?;
    drop(connection);
    let trace = settle(tracer)?;
    drop(target);
    assert_nothing_lost(&trace);
    assert_eq!(trace.status.requests, Some(REQUESTS as u64));
    fs::read(&file).context("no recording")
}

#[test]
fn records_and_bytes_a_request_are_within_the_budget() -> Result<()> {
    let recording = record()?;
    let mut records = records(&recording)?;
    let mut bill = Bill::default();
    let in_ring = |length: &usize| RING_HEADER + length.next_multiple_of(RING_HEADER);
    for Budget(kind, name, count, bytes) in BUDGETS {
        let lengths = records.remove(&kind).unwrap_or_default();
        assert!(lengths.len() >= count, "only {} records of {name}", lengths.len());
        bill.item(format_args!("records of {name}"), lengths.len(), count);
        bill.item(format_args!("bytes of such a record"), lengths.iter().copied().max().unwrap_or(0), bytes);
        let ring: usize = lengths.iter().map(in_ring).sum();
        bill.item("bytes of the ring buffer for them", ring, count * (RING_HEADER + bytes));
    }
    for (kind, lengths) in records {
        bill.objection(format!("{} records of kind {kind} have no budget", lengths.len()));
    }
    bill.item("bytes of the recording", recording.len(), REQUESTS * FILE_A_REQUEST + FILE_BESIDES);
    bill.assert_within();
    Ok(())
}
