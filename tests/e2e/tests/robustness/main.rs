//! However tracer ends, nothing of it stays in the kernel and the traffic goes on; several at once do not disturb each
//! other. Needs root; `TRACER_BIN` names the program.

mod attachments;
mod endings;
mod host;
mod together;

use std::time::Duration;

use anyhow::Result;
use lab::Lab;
use lab::client::{Client, Request};
use lab::target::{Options, Target};
use lab::topology::target_addresses;

/// A lab with a target that listens on port 8080.
struct Scene {
    // Dropped in this order: processes before their namespaces.
    target: Target,
    lab: Lab,
}

impl Scene {
    fn new() -> Result<Self> {
        let lab = Lab::new()?;
        let target = Target::start(&lab, "target", &Options::listen(&["[::]:8080".parse()?]))?;
        Ok(Self { target, lab })
    }

    /// Sends `count` requests over one connection.
    fn send(&self, count: usize) -> Result<()> {
        let mut connection = Client::new(&self.lab.lb).connect(target_addresses(8080)[0])?;
        connection.requests(count, Duration::ZERO, &Request::get("/"))?;
        Ok(())
    }
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}
