//! The objects that `tracer watch --json` prints. What was not measured is absent; fields that are not named here are
//! passed over.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Map, Value};

/// A request, ended or waiting. Durations are nanoseconds.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Request {
    /// What it is: `request`, `message`, `stream`, or `waiting`.
    pub kind: String,
    /// When it began, RFC 3339 with microseconds.
    pub time: String,
    /// The connection's id.
    pub connection: String,
    /// Which request of its connection it is, from 1.
    pub sequence: u32,
    /// Present where it replaces what was printed before.
    pub revision: Option<u32>,
    /// The other end.
    pub peer: SocketAddr,
    /// This end.
    pub local: SocketAddr,
    /// The port that the peer used, where the host maps it to another one.
    pub asked_port: Option<u16>,
    /// The inode number of its network namespace.
    pub netns: Option<u32>,
    /// The process that read it.
    pub pid: Option<u32>,
    /// The name of the thread that read it.
    pub comm: Option<String>,
    /// The systemd unit of that process.
    pub unit: Option<String>,
    /// The control group of that process.
    pub cgroup: Option<String>,
    /// The connection was open before tracing began.
    pub adopted: Option<bool>,
    /// `false` where it was given up.
    pub completed: Option<bool>,
    /// The stage that a waiting request is in.
    pub stage: Option<String>,
    /// Payload bytes received.
    pub bytes_in: u64,
    /// Payload bytes written.
    pub bytes_out: u64,
    /// How long it waited in the socket before `accept()`.
    pub accept_ns: Option<u64>,
    /// The sum of its stages.
    pub total_ns: Option<u64>,
    /// Its stages.
    #[serde(default)]
    pub stages_ns: RequestStages,
    /// Stages that are counted in the one before them.
    pub merged: Vec<String>,
    /// Its stage `service` may have been a wait for the sender.
    #[serde(default)]
    pub may_be_incomplete: bool,
    /// Packets of the response that were sent again.
    pub retransmits: u32,
    /// Smoothed round-trip time.
    pub srtt_ns: Option<u64>,
}

impl Request {
    /// When it began, `CLOCK_REALTIME` nanoseconds; to the microsecond.
    ///
    /// # Errors
    /// Where the time is not RFC 3339.
    pub fn realtime_ns(&self) -> Result<u64> {
        let time: jiff::Timestamp = self.time.parse().with_context(|| format!("not a time: {}", self.time))?;
        u64::try_from(time.as_nanosecond()).context("a time before 1970")
    }

    /// The sum of its wait for `accept()` and its stages.
    #[must_use]
    pub fn sum_ns(&self) -> u64 {
        self.accept_ns.unwrap_or(0) + self.stages_ns.named().iter().filter_map(|(_, stage)| *stage).sum::<u64>()
    }

    /// The sum of its stages from the first one up to `stage`, which is left out: how long after its begin that began.
    #[must_use]
    pub fn before_ns(&self, stage: &str) -> u64 {
        self.stages_ns.named().iter().take_while(|(name, _)| *name != stage).filter_map(|(_, time)| *time).sum()
    }
}

/// The stages of a request, nanoseconds.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[expect(missing_docs, reason = "the stages are defined by what is being tested")]
pub struct RequestStages {
    pub ingress: Option<u64>,
    pub pickup: Option<u64>,
    pub upload: Option<u64>,
    pub service: Option<u64>,
    pub egress: Option<u64>,
    pub download: Option<u64>,
    pub drain: Option<u64>,
}

impl RequestStages {
    /// All stages in order, by name.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, Option<u64>); 7] {
        [
            ("ingress", self.ingress),
            ("pickup", self.pickup),
            ("upload", self.upload),
            ("service", self.service),
            ("egress", self.egress),
            ("download", self.download),
            ("drain", self.drain),
        ]
    }
}

/// A connection that closed. Durations are nanoseconds.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Connection {
    /// When it began, RFC 3339 with microseconds.
    pub time: String,
    /// Its id.
    pub connection: String,
    /// The other end.
    pub peer: SocketAddr,
    /// This end.
    pub local: SocketAddr,
    /// The inode number of its network namespace.
    pub netns: Option<u32>,
    /// It was open before tracing began.
    pub adopted: Option<bool>,
    /// Its stages.
    #[serde(default)]
    pub stages_ns: ConnectionStages,
    /// Requests begun on it.
    pub requests: u32,
    /// How it ended first.
    pub closed_by: Option<String>,
}

/// The stages of a connection, nanoseconds.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[expect(missing_docs, reason = "the stages are defined by what is being tested")]
pub struct ConnectionStages {
    pub synack: Option<u64>,
    pub handshake: Option<u64>,
    pub accept: Option<u64>,
}

impl ConnectionStages {
    /// All stages in order, by name.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, Option<u64>); 3] {
        [("synack", self.synack), ("handshake", self.handshake), ("accept", self.accept)]
    }
}

/// The figures at the end.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Summary {
    /// Requests that ended.
    pub requests: u64,
    /// Of these, those without any answer.
    pub unanswered: u64,
    /// Of these, those whose answer was not acknowledged whole.
    pub cut: u64,
    /// Connections whose stages are known.
    pub connections: u64,
    /// Payload bytes received.
    pub bytes_in: u64,
    /// Payload bytes written.
    pub bytes_out: u64,
    /// Packets sent again.
    pub retransmits: u64,
    /// Everything else: quantiles, groups, processes.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// The last object.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Status {
    /// Requests that ended, as the kernel counted them.
    pub requests: Option<u64>,
    /// Connections, as the kernel counted them.
    pub connections: Option<u64>,
    /// Records that did not fit into the ring buffer.
    pub records_lost: Option<u64>,
    /// Records that could not be decoded.
    #[serde(default)]
    pub records_undecodable: u64,
    /// Connections forgotten because there were too many.
    #[serde(default)]
    pub connections_forgotten: u64,
    /// Reports that belong to no request that is remembered.
    #[serde(default)]
    pub reports_unmatched: u64,
    /// Reports that came when their requests had been counted.
    #[serde(default)]
    pub requests_revised: u64,
    /// The kernel's counters by name.
    #[serde(default)]
    pub counters: BTreeMap<String, u64>,
    /// What was seen, held against the kernel's own counters, by network namespace.
    #[serde(default)]
    pub reconciliation: Vec<Reconciliation>,
    /// How each hook is attached, or why it is not.
    pub hooks: Vec<Hook>,
    /// Everything else: the names of the network namespaces.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// The kernel's counters of a network namespace.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub struct Reconciliation {
    /// The inode number of the namespace.
    pub netns: u32,
    /// One for each counter.
    pub rows: Vec<Counter>,
    /// Only a part of what the kernel counted was watched.
    #[serde(default)]
    pub filtered: bool,
}

/// A counter of the kernel.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub struct Counter {
    /// Its name.
    pub name: String,
    /// By how much it rose.
    pub kernel: u64,
    /// How much of that was seen.
    pub explained: u64,
    /// The rest.
    pub difference: i64,
}

/// A hook.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Hook {
    /// What it is for.
    pub hook: String,
    /// Through what it is attached.
    pub attached: Option<String>,
    /// Why it is not.
    pub refused: Option<String>,
    /// What is not measured without it.
    pub lost: Option<String>,
}
