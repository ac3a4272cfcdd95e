//! What tracer costs, as far as it does not depend on how fast the machine is: instructions, maps, bytes and records,
//! runs of programs, wake-ups; and that nothing is lost at a fixed load. A figure over its budget fails. A budget is
//! what was found, and some headroom: whoever lowers a cost lowers its budget, and who raises one says why. Needs root;
//! `TRACER_BIN` names the program; `--nocapture` shows every figure.

mod connections;
mod idle;
mod load;
mod maps;
mod programs;
mod records;
mod runs;

use std::fmt::Display;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use lab::Lab;
use lab::client::{Client, Connection, Request};
use lab::clock::sleep;
use lab::nginx::{self, Nginx};
use lab::topology::target_addresses;
use lab::tracer::{Trace, Tracer};
use lab::usage::Usage;

/// A lab with nginx that listens on port 8080.
struct Scene {
    // Dropped in this order: processes before their namespaces.
    nginx: Nginx,
    lab: Lab,
}

impl Scene {
    fn new() -> Result<Self> {
        let lab = Lab::new()?;
        let mut options = nginx::Options::listen(&[address()]);
        options.keepalive_requests = 1_000_000;
        Ok(Self { nginx: Nginx::start(&lab, "nginx", &options)?, lab })
    }

    fn trace(&self, arguments: &[&str]) -> Result<Tracer> {
        Tracer::start(&self.lab, "tracer", arguments)
    }

    fn connect(&self, connections: usize) -> Result<Vec<Connection>> {
        Client::new(&self.lab.lb).connect_many(address(), connections)
    }
}

fn address() -> SocketAddr {
    target_addresses(8080)[0]
}

/// What is asked for, everywhere: the answer has a head and a body of 100 bytes.
fn request() -> Request {
    Request::get("/small")
}

/// Ends the tracing once the kernel is done with what was sent last.
fn settle(tracer: Tracer) -> Result<Trace> {
    sleep(Duration::from_millis(200));
    tracer.stop()
}

/// Figures held against their budgets.
#[derive(Debug, Default)]
struct Bill {
    exceeded: Vec<String>,
}

impl Bill {
    /// Holds one figure against its budget.
    fn item<T: Copy + Display + PartialOrd>(&mut self, what: impl Display, figure: T, budget: T) {
        println!("{what}: {figure} of {budget}");
        if figure > budget {
            self.exceeded.push(format!("{what}: {figure}, the budget is {budget}"));
        }
    }

    /// Notes something that has no budget, or is not what it should be.
    fn objection(&mut self, what: String) {
        println!("{what}");
        self.exceeded.push(what);
    }

    #[track_caller]
    fn assert_within(self) {
        assert!(self.exceeded.is_empty(), "over budget:\n{}", self.exceeded.join("\n"));
    }
}

/// Memory of tracer: at any moment, which is the start, as it reads all of the kernel's types; and `now`, KiB.
fn resident(usage: &Usage, now: u64) -> Bill {
    let mut bill = Bill::default();
    bill.item("KiB resident at most", usage.peak_kib, 30 << 10);
    bill.item("KiB resident now", usage.resident_kib, now);
    bill
}

/// Asserts that the kernel side lost nothing and found room for everything.
#[track_caller]
fn assert_nothing_lost(trace: &Trace) {
    let status = &trace.status;
    assert_eq!(status.records_lost, Some(0), "{status:?}");
    let shortfalls = (status.records_undecodable, status.connections_forgotten, status.reports_unmatched);
    assert_eq!(shortfalls, (0, 0, 0), "{status:?}");
    let is_loss = |name: &str| ["_lost", "_failed", "_uncounted"].iter().any(|end| name.ends_with(end));
    let losses: Vec<_> = status.counters.iter().filter(|(name, _)| is_loss(name)).collect();
    assert!(losses.len() >= 6, "the kernel side's counters of losses have gone: {losses:?}");
    assert!(losses.iter().all(|(_, count)| **count == 0), "{losses:?}");
}
