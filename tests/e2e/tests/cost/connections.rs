//! Many connections open at once: memory of tracer.

use std::time::Duration;

use anyhow::Result;
use lab::clock::sleep;
use lab::usage::Usage;

use crate::{Scene, assert_nothing_lost, request, resident, settle};

const CONNECTIONS: usize = 5_000;
/// Memory while they are open, KiB.
const RESIDENT: u64 = 27_000;

#[test]
fn memory_is_within_the_budget_with_five_thousand_connections() -> Result<()> {
    let scene = Scene::new()?;
    let tracer = scene.trace(&["--summary"])?;
    let mut connections = scene.connect(CONNECTIONS)?;
    for connection in &mut connections {
        assert_eq!(connection.request(&request())?.status, 200);
    }
    // Requests are held back for a second before they are in the figures.
    sleep(Duration::from_millis(1500));
    let usage = Usage::of(tracer.pid())?;
    let trace = settle(tracer)?;
    assert_nothing_lost(&trace);
    let seen = (trace.summary.requests, trace.summary.connections);
    assert_eq!(seen, (CONNECTIONS as u64, CONNECTIONS as u64));
    resident(&usage, RESIDENT).assert_within();
    Ok(())
}
