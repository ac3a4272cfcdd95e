//! The lab: a load balancer, a target and a client in network namespaces of their own, joined by veth pairs, with real
//! servers in them and clocks that do not depend on what is being tested.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use lab::{Lab, client::{Client, Request}, target::{Options, Target}};
//!
//! let lab = Lab::new()?;
//! let target = Target::start(&lab, "slow", &Options { listen: vec!["0.0.0.0:8080".parse()?], ..Options::default() })?;
//! let mut connection = Client::new(&lab.lb).connect("10.77.0.2:8080".parse()?)?;
//! let reply = connection.request(&Request::get("/").header("X-Before-Write", 50))?;
//! assert_eq!(reply.status, 200);
//! let served = target.wait_for(1)?;
//! assert!(served[0].service_ns() >= Some(50_000_000));
//! # Ok(())
//! # }
//! ```
//!
//! All of it needs root. Everything that is made (namespace, process, file) is removed on drop, also after a panic; what
//! a killed run could not remove is removed by the next [`Lab`]. Instants are `CLOCK_MONOTONIC` nanoseconds unless a
//! name says otherwise.

mod attempt;
pub mod bpf;
pub mod capture;
pub mod client;
pub mod clock;
pub mod container;
pub mod counters;
pub mod fault;
pub mod flood;
pub mod gunicorn;
pub mod haproxy;
pub mod interrupt;
mod json_log;
pub mod memory;
pub mod netns;
pub mod nginx;
pub mod node;
pub mod process;
pub mod said;
pub mod server;
pub mod steady;
pub mod target;
pub mod topology;
pub mod tracer;
pub mod usage;
pub mod wrk;

pub use attempt::{Busy, attempt};
pub use netns::Namespace;
pub use process::{Process, wait_until};
pub use topology::Lab;
pub use tracer::Tracer;
