//! Many requests, many connections, large and long requests, and those that do not end well: nothing is lost, counted
//! twice, or called complete that is not. Needs root; `TRACER_BIN` names the program. Those that take longer than twenty
//! seconds are ignored unless asked for: `cargo xtask test` asks.

mod adopted;
mod endings;
mod many;
mod pieces;
mod sizes;
mod throughput;
mod waiting;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use lab::Lab;
use lab::client::{Client, Connection};
use lab::clock::sleep;
use lab::target::{Options, Target};
use lab::topology::target_addresses;
use lab::tracer::{Trace, Tracer};

/// What is always so, however the load was.
#[track_caller]
fn assert_nothing_lost(trace: &Trace) {
    let status = &trace.status;
    assert_eq!(status.records_lost, Some(0), "{status:?}");
    let shortfalls = (status.records_undecodable, status.connections_forgotten, status.reports_unmatched);
    assert_eq!(shortfalls, (0, 0, 0), "{status:?}");
    for (name, count) in status.counters.iter().filter(|(name, _)| name.ends_with("_lost") || name.ends_with("_failed"))
    {
        assert_eq!(*count, 0, "{name}");
    }
    assert_eq!(status.requests, Some(trace.requests.len() as u64), "counted by the kernel, and shown");
    assert_eq!(trace.summary.requests, trace.requests.len() as u64, "in the figures, and shown");
}

/// A lab with a target that listens on port 8080.
struct Scene {
    // Dropped in this order: processes before their namespaces.
    target: Target,
    lab: Lab,
}

impl Scene {
    fn new(change: impl FnOnce(&mut Options)) -> Result<Self> {
        let lab = Lab::new()?;
        let mut options = Options::listen(&["[::]:8080".parse()?]);
        change(&mut options);
        Ok(Self { target: Target::start(&lab, "target", &options)?, lab })
    }

    fn trace(&self) -> Result<Tracer> {
        Tracer::start(&self.lab, "tracer", &[])
    }

    fn connect(&self) -> Result<Connection> {
        Client::new(&self.lab.lb).connect(address())
    }
}

/// Where the target, or nginx, listens.
fn address() -> SocketAddr {
    target_addresses(8080)[0]
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Ends the tracing once the kernel is done with what was sent last.
fn settle(tracer: Tracer) -> Result<Trace> {
    sleep(ms(200));
    tracer.stop()
}

/// The only request of a trace.
fn only_request(trace: &Trace) -> Result<&lab::tracer::Request> {
    anyhow::ensure!(trace.requests.len() == 1, "{:#?}", trace.requests);
    trace.requests.first().context("no request")
}
