//! What the host is made to do while a side watches it.

pub mod hold;
mod http;
mod idle;
mod paced;
pub mod scene;
mod syn_flood;

use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;

pub use scene::Scene;

/// A workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Workload {
    /// Small answers over connections that stay, as fast as the host can
    KeepAlive,
    /// Small answers, a connection for each, as fast as the host can
    PerConnection,
    /// Small answers over connections that stay; only the server's end of them is on this host
    ServerKeepAlive,
    /// Small answers, a connection for each; only the server's end of them is on this host
    ServerPerConnection,
    /// Answers of 1 MiB over connections that stay, as fast as the host can
    Large,
    /// 5 000 requests a second over 10 connections
    #[value(name = "rate-10")]
    Rate10,
    /// 5 000 requests a second over 100 connections
    #[value(name = "rate-100")]
    Rate100,
    /// 10 000 requests a second over 100 connections
    #[value(name = "rate-100-double")]
    Rate100Double,
    /// 5 000 requests a second over 1 000 connections
    #[value(name = "rate-1000")]
    Rate1000,
    /// 5 000 requests a second over 10 000 connections
    #[value(name = "rate-10000")]
    Rate10000,
    /// SYNs from addresses that do not answer, as fast as one CPU sends them
    SynFlood,
    /// 50 000 open connections on which nothing happens
    Idle,
}

/// What a workload consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Requests to nginx.
    Http(Http),
    /// SYNs to nginx, to which nothing follows.
    SynFlood,
    /// So many open connections.
    Idle(usize),
}

/// Requests to nginx.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http {
    /// What is asked for.
    pub path: &'static str,
    /// Connections at once.
    pub connections: usize,
    /// Whether a connection carries more than one request.
    pub keep_alive: bool,
    /// Requests a second; absent: the next one goes when the answer has come.
    pub rate: Option<u32>,
    /// Whether the client is outside of this kernel: its end of a connection is no socket of this host.
    pub is_outside: bool,
}

impl Workload {
    /// The name on the command line and in tables.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// What it is, in words.
    pub fn about(self) -> String {
        let value = self.to_possible_value();
        value.and_then(|value| Some(value.get_help()?.to_string())).unwrap_or_default()
    }

    /// What it consists of.
    pub const fn kind(self) -> Kind {
        const SATURATED: Http =
            Http { path: "/small", connections: 64, keep_alive: true, rate: None, is_outside: false };
        const PACED: Http = Http { rate: Some(5000), ..SATURATED };
        match self {
            Self::KeepAlive => Kind::Http(SATURATED),
            Self::PerConnection => Kind::Http(Http { keep_alive: false, ..SATURATED }),
            Self::ServerKeepAlive => Kind::Http(Http { is_outside: true, ..SATURATED }),
            Self::ServerPerConnection => Kind::Http(Http { keep_alive: false, is_outside: true, ..SATURATED }),
            Self::Large => Kind::Http(Http { path: "/1m", connections: 16, ..SATURATED }),
            Self::Rate10 => Kind::Http(Http { connections: 10, ..PACED }),
            Self::Rate100 => Kind::Http(Http { connections: 100, ..PACED }),
            Self::Rate100Double => Kind::Http(Http { connections: 100, rate: Some(10_000), ..PACED }),
            Self::Rate1000 => Kind::Http(Http { connections: 1000, ..PACED }),
            Self::Rate10000 => Kind::Http(Http { connections: 10_000, ..PACED }),
            Self::SynFlood => Kind::SynFlood,
            Self::Idle => Kind::Idle(50_000),
        }
    }

    /// What a sample counts, in the plural.
    pub const fn counts(self) -> &'static str {
        match self.kind() {
            Kind::Http(_) => "requests",
            Kind::SynFlood => "SYNs",
            Kind::Idle(_) => "ms",
        }
    }

    /// In what cost is told.
    pub const fn unit(self) -> &'static str {
        match self.kind() {
            Kind::Http(_) => "ns a request",
            Kind::SynFlood => "ns a SYN",
            // The same as nanoseconds a millisecond.
            Kind::Idle(_) => "µs a second",
        }
    }

    /// How long the load is on before it counts. tracer holds requests back for about a second: until then it has not got
    /// all the work that they make. Where there are none, nothing is held back.
    pub const fn warm_up(self) -> Duration {
        match self.kind() {
            Kind::Http(_) => Duration::from_millis(1200),
            Kind::SynFlood | Kind::Idle(_) => Duration::from_millis(300),
        }
    }

    /// About how long it takes to open and to close the connections on two CPUs.
    pub const fn overhead(self) -> Duration {
        Duration::from_millis(match self.kind() {
            Kind::Http(http) => http.connections as u64 / 10,
            Kind::SynFlood => 50,
            Kind::Idle(connections) => connections as u64 / 20,
        })
    }

    /// Whether nothing is done but to hold connections.
    pub const fn is_idle(self) -> bool {
        matches!(self.kind(), Kind::Idle(_))
    }
}

/// Load at work; it ends with its guard.
pub trait Load {
    /// Requests answered, or SYNs sent, so far. For open connections: how many there are.
    fn done(&self) -> u64;

    /// From now on latencies are kept, or no longer.
    fn keep_latencies(&self, keep: bool);

    /// Ends it once what is under way is answered.
    ///
    /// # Errors
    /// Where it could not go on.
    fn finish(&mut self) -> Result<Finished>;
}

/// What a load came to.
#[derive(Clone, Debug, Default)]
pub struct Finished {
    /// Requests answered as they should be, or SYNs sent, from the first to the last.
    pub done: u64,
    /// Those that failed.
    pub failed: u64,
    /// Nanoseconds from the moment at which a request was due to its last byte, in ascending order.
    pub latencies_ns: Vec<u64>,
}
