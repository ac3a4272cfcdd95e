//! What the tests of set-ups share.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use lab::Lab;
use lab::clock::sleep;
use lab::topology::TARGET_V4;
use lab::tracer::{Trace, Tracer};

pub const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// The target at `port`.
pub const fn at(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(TARGET_V4), port)
}

/// Watches the lab's target.
pub fn trace(lab: &Lab, arguments: &[&str]) -> Result<Tracer> {
    let tracer = Tracer::start(lab, "tracer", arguments)?;
    // The kernel begins to stamp packets a moment after the tracer has asked for it.
    sleep(ms(100));
    Ok(tracer)
}

/// Ends the tracing once the kernel is done with what happened last.
pub fn settle(tracer: Tracer) -> Result<Trace> {
    sleep(ms(200));
    tracer.stop()
}

/// What the summary begins with, as one text.
pub fn verdict(trace: &Trace) -> String {
    let sentences = trace.summary.more.get("verdict").and_then(|it| it.as_array()).into_iter().flatten();
    sentences.filter_map(|it| it.as_str()).collect::<Vec<_>>().join(" ")
}
