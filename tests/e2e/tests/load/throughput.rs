//! 100 000 requests by wrk against nginx: what tracer has recorded is what nginx has logged, request for request.

use std::collections::HashMap;
use std::net::SocketAddr;

use anyhow::Result;
use lab::Lab;
use lab::nginx::{self, Nginx};
use lab::tracer::{Trace, Tracer};
use lab::wrk::{self, Options};

use crate::{address, assert_nothing_lost, settle};

const REQUESTS: u64 = 100_000;

/// Connections of wrk that carry no request: to begin with, it tries whether the address answers at all.
const TRIED: usize = 1;

/// How often each request (its peer, and its place on the connection) was seen.
type Seen = HashMap<(SocketAddr, u64), u32>;

fn seen(requests: impl Iterator<Item = (SocketAddr, u64)>) -> Seen {
    requests.fold(Seen::new(), |mut seen, request| {
        *seen.entry(request).or_default() += 1;
        seen
    })
}

fn flood(connections: usize, keep_alive: bool) -> Result<Trace> {
    let lab = Lab::new()?;
    let options = nginx::Options { keepalive_requests: 10 * REQUESTS, ..nginx::Options::listen(&[address()]) };
    let nginx = Nginx::start(&lab, "nginx", &options)?;
    let tracer = Tracer::start(&lab, "tracer", &[])?;
    let load = Options { connections, keep_alive, ..Options::exactly(REQUESTS, address(), "/small") };
    let report = wrk::run(&lab.lb, lab.directory(), "wrk", &load)?;
    let logged = nginx.wait_for(usize::try_from(REQUESTS)?)?;
    let trace = settle(tracer)?;
    println!(
        "{} requests/s by wrk; recorded {}, logged {}, lost {:?}",
        report.requests * 1_000_000 / report.duration_us.max(1),
        trace.requests.len(),
        logged.len(),
        trace.status.records_lost
    );
    assert_nothing_lost(&trace);
    assert_eq!(trace.requests.len(), logged.len());
    let recorded = seen(trace.requests.iter().map(|request| (request.peer, u64::from(request.sequence))));
    let expected = seen(logged.iter().map(|entry| (entry.remote(), entry.connection_requests)));
    assert!(recorded == expected, "the requests are not those that nginx logged");
    assert_each_sequence_once(&trace);
    let whole = trace.requests.iter().all(|request| request.completed.is_none() && request.bytes_in > 0);
    assert!(whole && trace.amended == 0, "all are complete, and were so when they were first shown");
    assert_eq!(trace.summary.bytes_in, logged.iter().map(|entry| entry.request_length).sum::<u64>());
    assert_eq!(trace.summary.bytes_out, logged.iter().map(|entry| entry.bytes_sent).sum::<u64>());
    Ok(trace)
}

fn assert_each_sequence_once(trace: &Trace) {
    let mut connections: HashMap<&str, Vec<u64>> = HashMap::new();
    for request in &trace.requests {
        connections.entry(&request.connection).or_default().push(request.sequence.into());
    }
    for (connection, mut sequences) in connections {
        sequences.sort_unstable();
        assert!(sequences.iter().copied().eq(1..=sequences.len() as u64), "{connection}: {sequences:?}");
    }
}

/// Asserts that there were so many connections with requests, all of which have closed.
fn assert_connections(trace: &Trace, expected: usize) {
    let all = expected + TRIED;
    assert_eq!((trace.status.connections, trace.connections.len()), (Some(all as u64), all));
    let used: Vec<_> = trace.connections.iter().map(|it| u64::from(it.requests)).filter(|&it| it > 0).collect();
    assert_eq!((used.len(), used.iter().sum()), (expected, REQUESTS));
}

#[test]
#[ignore = "takes about half a minute"]
fn one_connection() -> Result<()> {
    let trace = flood(1, true)?;
    assert_connections(&trace, 1);
    Ok(())
}

#[test]
#[ignore = "takes about half a minute"]
fn sixty_four_connections() -> Result<()> {
    let trace = flood(64, true)?;
    assert_connections(&trace, 64);
    Ok(())
}

#[test]
#[ignore = "takes about a minute"]
fn a_connection_per_request() -> Result<()> {
    let trace = flood(64, false)?;
    let used = trace.connections.iter().filter(|it| it.requests == 1).count() as u64;
    assert_eq!(used, REQUESTS);
    // wrk connects once more after each response, and has nothing to send there in the end.
    let unused = trace.connections.iter().filter(|it| it.requests == 0).count() as u64;
    assert!(unused <= 64 + TRIED as u64, "{unused} connections without a request");
    let counters = &trace.status.counters;
    assert_eq!(trace.status.connections, Some(used + unused));
    assert_eq!((counters["connections_opened"], counters["connections_adopted"]), (used + unused, 0));
    assert_eq!(counters["connections_closed"], used + unused);
    assert_eq!(trace.summary.connections, used + unused);
    let unmeasured = trace.connections.iter().filter(|it| it.stages_ns.named().iter().any(|(_, time)| time.is_none()));
    assert_eq!(unmeasured.count() as u64, unused_without_accept(&trace), "all stages of all connections are measured");
    Ok(())
}

/// Connections that were closed before the application accepted them have no `accept`.
fn unused_without_accept(trace: &Trace) -> u64 {
    trace.connections.iter().filter(|it| it.requests == 0 && it.stages_ns.accept.is_none()).count() as u64
}
