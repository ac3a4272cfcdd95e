//! What tracer takes where nothing happens.

use std::time::Duration;

use anyhow::Result;
use lab::clock::sleep;
use lab::usage::Usage;

use crate::{Bill, Scene};

const SECONDS: u64 = 3;
/// Time on a CPU a second, milliseconds.
const CPU_MS: u64 = 20;
/// Times that it goes to sleep a second. It looks for records twenty times a second.
const SLEEPS: u64 = 30;

#[test]
fn an_idle_host_is_left_alone() -> Result<()> {
    let scene = Scene::new()?;
    let tracer = scene.trace(&[])?;
    // What the start left behind is no idleness.
    sleep(Duration::from_secs(1));
    let before = Usage::of(tracer.pid())?;
    sleep(Duration::from_secs(SECONDS));
    let after = Usage::of(tracer.pid())?;
    let trace = tracer.stop()?;
    assert_eq!((trace.status.requests, trace.status.connections), (Some(0), Some(0)), "not idle: {:?}", trace.status);
    let mut bill = Bill::default();
    let cpu_ms = (after.cpu_ns - before.cpu_ns).div_ceil(1_000_000);
    bill.item(format_args!("ms on a CPU in {SECONDS} s"), cpu_ms, SECONDS * CPU_MS);
    bill.item(format_args!("times woken in {SECONDS} s"), after.sleeps - before.sleeps, SECONDS * SLEEPS);
    bill.assert_within();
    Ok(())
}
