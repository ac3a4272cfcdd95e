//! A rejection: one way in which the last hop refused or broke requests, or is about to, with all that is known of it.
//!
//! It is what kernel records become once this host has been asked for names, rules and listeners (`enrich/`) and the
//! cause has been found (`explain/`). It holds facts; the sentences are made of them in `explain/`. A recording keeps
//! it as it is.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// The causes. Their names in every output are a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    // Before a connection.
    NoListener,
    AcceptQueueFull,
    SynQueueFull,
    FirewallDrop,
    FirewallReject,
    ConntrackFull,
    ReversePath,
    NoRouteBack,
    SynackUnanswered,
    MalformedPacket,
    BpfDrop,
    NothingArrived,
    // On a connection.
    KeepaliveRace,
    ClosedBeforeResponse,
    ResetBeforeResponse,
    ResetMidResponse,
    PeerGaveUp,
    ApplicationNotReading,
    NoResponse,
    ResponseNotAcknowledged,
    /// The kernel dropped a packet for a reason that is none of the above.
    PacketDropped,
    // Warnings before harm.
    KeepaliveTooShort,
    AcceptQueueFilling,
}

/// What a cause rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// A kernel event says so.
    Observed,
    /// A pattern of events says so.
    Inferred,
    /// Nothing was seen where something should have been.
    NotSeen,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessName {
    /// Thread group id in the initial pid namespace.
    pub pid: u32,
    /// The name of its thread.
    pub comm: String,
    /// How it ended the connection: `closed`, `exited`, or `killed by signal 9`; absent if it did not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub how: Option<String>,
}

/// A firewall rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rule {
    /// Where it is, such as `inet filter input`: family, table, chain.
    pub chain: String,
    /// Its handle, as `nft -a list ruleset` shows it; absent for a chain's policy and for xtables.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub handle: Option<u64>,
    /// Its text, or `policy drop`.
    pub text: String,
}

/// The figures that a sentence may need. What is not known, or does not apply, is absent. Durations are nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_length: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_limit: Option<u32>,
    /// How long the connection had been idle when this host closed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_ns: Option<u64>,
    /// How long after that data came for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late_ns: Option<u64>,
    /// How long the request had waited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waited_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zero_window_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_in: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_out: Option<u64>,
    /// Bytes that the application had not read when it closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unread: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retransmits: Option<u32>,
    /// What the packet was: `SYN`, `SYN-ACK`, `ACK`, `data`, `FIN`, `RST`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packet: Option<String>,
    /// It was one of this host's own packets, on its way out.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub outgoing: bool,
    /// With what a firewall answered: `a reset` or `an ICMP error`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// Where something listens on that port instead, such as `127.0.0.1:8080`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub listens: Vec<SocketAddr>,
    /// The process that listens, or that read the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessName>,
    /// The process that ended the connection on this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<ProcessName>,
    /// The connection was never accepted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub never_accepted: bool,
    /// The application never read the request.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub never_read: bool,
    /// The firewall rule that it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
    /// The firewall rules that it may have been, where it cannot be told which.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<Rule>,
    /// Entries in the connection tracking table, and how many it may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conntrack: Option<(u64, u64)>,
    /// What the kernel answers when asked for the way back, such as `Network is unreachable`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
}

/// What was refused or broken. Moments are `CLOCK_MONOTONIC` nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// The cause.
    pub cause: Cause,
    /// What it rests on.
    pub evidence: Evidence,
    /// How many packets or connections this stands for: those since the last one of its kind.
    pub count: u64,
    /// The first of them.
    pub first: u64,
    /// The latest of them; the rest is about this one.
    pub last: u64,
    /// The peer. Port 0: several; then the address is that of their network.
    pub peer: SocketAddr,
    /// This host's side.
    pub local: SocketAddr,
    /// Network namespace, by inode number.
    pub netns: u32,
    /// The connection, by its socket cookie.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub connection: Option<u64>,
    /// The number of the request on it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sequence: Option<u32>,
    /// The kernel's name for why it dropped the packet, such as `NO_SOCKET`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// The kernel's function in which it did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub location: Option<String>,
    /// The figures.
    #[serde(flatten)]
    pub facts: Facts,
}
