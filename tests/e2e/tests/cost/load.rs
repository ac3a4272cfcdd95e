//! The lab's fixed load: nothing is lost, in little memory.

use std::time::Duration;

use anyhow::Result;
use lab::client::Connection;
use lab::clock::{duration_ns, monotonic_ns, sleep_until};
use lab::tracer::Trace;
use lab::usage::Usage;

use crate::{Scene, assert_nothing_lost, request, resident, settle};

const CONNECTIONS: usize = 64;
const REQUESTS: usize = 16_000;
/// Between two requests: 2 000 a second.
const PAUSE: Duration = Duration::from_micros(500);
/// Memory at the end, KiB.
const RESIDENT: u64 = 26_000;

/// Sends the requests at their fixed times, over each connection in turn; returns how long it took. One that comes back
/// late delays those after it, which then go without a pause until they are in time again: the number is fixed, and the
/// rate is one that any machine keeps.
fn send(connections: &mut [Connection]) -> Result<Duration> {
    let (start, count) = (monotonic_ns(), connections.len());
    let request = request();
    let mut due = start;
    for number in 0..REQUESTS {
        sleep_until(due);
        assert_eq!(connections[number % count].request(&request)?.status, 200);
        due += duration_ns(PAUSE);
    }
    Ok(Duration::from_nanos(monotonic_ns() - start))
}

/// All requests that were sent were logged and recorded, each once, and all connections.
fn assert_complete(trace: &Trace, logged: usize) {
    assert_nothing_lost(trace);
    assert_eq!((logged, trace.requests.len(), trace.status.requests), (REQUESTS, REQUESTS, Some(REQUESTS as u64)));
    assert_eq!((trace.connections.len(), trace.status.connections), (CONNECTIONS, Some(CONNECTIONS as u64)));
    let carried: u64 = trace.connections.iter().map(|connection| u64::from(connection.requests)).sum();
    assert_eq!(carried, REQUESTS as u64);
}

#[test]
fn nothing_is_lost_at_two_thousand_requests_a_second() -> Result<()> {
    let scene = Scene::new()?;
    let tracer = scene.trace(&[])?;
    let mut connections = scene.connect(CONNECTIONS)?;
    let time = send(&mut connections)?;
    let logged = scene.nginx.wait_for(REQUESTS)?.len();
    drop(connections);
    // Requests are held back for a second; then the most is resident.
    lab::clock::sleep(Duration::from_millis(1200));
    let usage = Usage::of(tracer.pid())?;
    let trace = settle(tracer)?;
    let missed = trace.status.counters.get("events_missed");
    println!("{REQUESTS} requests in {time:?}; events missed: {missed:?}; {usage:?}");
    assert_complete(&trace, logged);
    assert!(missed.is_some(), "events that the kernel did not pass on are not told");
    resident(&usage, RESIDENT).assert_within();
    Ok(())
}
