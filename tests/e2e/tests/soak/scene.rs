//! The lab: servers on the target, a load balancer that has the addresses of all peers.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use lab::Lab;
use lab::client::{Client, Connection};
use lab::nginx::{self, Nginx};
use lab::target::{Options, Target};
use lab::topology::TARGET_V4;

/// nginx.
pub const SERVED: SocketAddr = SocketAddr::new(IpAddr::V4(TARGET_V4), 8080);
/// A listener whose accept queue is always full.
pub const FULL: SocketAddr = SocketAddr::new(IpAddr::V4(TARGET_V4), 9100);

/// Declared in the order in which they are dropped.
pub struct Scene {
    _waiting: Vec<Connection>,
    _full: Target,
    _nginx: Nginx,
    pub lab: Lab,
}

impl Scene {
    pub fn new() -> Result<Self> {
        let lab = Lab::new()?;
        // Resets and SYN-ACKs reach whoever was said to have sent the SYN, and nothing is forwarded.
        lab.target.run("ip", &["route", "add", "default", "via", "10.77.0.1"])?;
        for network in ["11.0.0.0/8", "12.0.0.0/24", "100.64.0.0/10"] {
            lab.lb.run("ip", &["route", "add", "local", network, "dev", "lo"])?;
        }
        let options = nginx::Options {
            access_log: false,
            keepalive_timeout: Duration::from_hours(1),
            keepalive_requests: 1_000_000,
            ..nginx::Options::listen(&[SERVED])
        };
        let nginx = Nginx::start(&lab, "nginx", &options)?;
        let full = Target::start(&lab, "full", &never_accepts(FULL))?;
        let waiting = Client::new(&lab.lb).connect_many(FULL, 2)?;
        Ok(Self { _waiting: waiting, _full: full, _nginx: nginx, lab })
    }
}

/// A listener whose accept queue is full after two connections.
pub fn never_accepts(address: SocketAddr) -> Options {
    Options { backlog: 1, before_accept: Duration::from_hours(10), ..Options::listen(&[address]) }
}
