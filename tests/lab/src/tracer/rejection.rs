//! The rejections that `tracer watch --json` prints.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Deserialize;

/// What was refused or broken, or is about to. What is not known, or does not apply, is absent. Durations are
/// nanoseconds.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a field of the object")]
pub struct Rejection {
    /// When the latest one was, RFC 3339.
    pub time: String,
    /// The cause's name.
    pub cause: String,
    /// `observed`, `inferred` or `not_seen`.
    pub evidence: String,
    /// How many there were since the object before of the same kind.
    pub count: u64,
    /// When the first one was, RFC 3339.
    pub first: Option<String>,
    /// What the kernel says of a packet that it dropped.
    pub kernel: Option<Kernel>,
    /// The other end.
    pub peer: Option<SocketAddr>,
    /// The network of the other ends, where it stands for several.
    pub peer_network: Option<String>,
    /// This end.
    pub local: Option<SocketAddr>,
    /// The inode number of its network namespace.
    pub netns: Option<u32>,
    /// The connection's id.
    pub connection: Option<String>,
    /// Which request of its connection it was, from 1.
    pub sequence: Option<u32>,
    /// The load balancer's codes that it leads to.
    #[serde(default)]
    pub alb: Vec<String>,
    /// The cause in a few words.
    pub title: String,
    /// What happened, in a sentence.
    pub explanation: String,
    /// What to do.
    pub advice: String,
    /// Connections that waited for `accept()`.
    pub queue_length: Option<u32>,
    /// How many may.
    pub queue_limit: Option<u32>,
    /// How long the connection had been idle when it was closed.
    pub idle_ns: Option<u64>,
    /// How long after that data came for it.
    pub late_ns: Option<u64>,
    /// How long the request had waited.
    pub waited_ns: Option<u64>,
    /// How long the window was closed.
    pub zero_window_ns: Option<u64>,
    /// Bytes of the request.
    pub bytes_in: Option<u64>,
    /// Bytes of the response.
    pub bytes_out: Option<u64>,
    /// Bytes that the application had not read when it closed.
    pub unread: Option<u32>,
    /// Packets that were sent again.
    pub retransmits: Option<u32>,
    /// What the packet was: `SYN`, `ACK`, `data`, ….
    pub packet: Option<String>,
    /// It was one of the host's own packets.
    #[serde(default)]
    pub outgoing: bool,
    /// With what a firewall answered.
    pub answer: Option<String>,
    /// Where something listens on that port instead.
    #[serde(default)]
    pub listens: Vec<SocketAddr>,
    /// The process that listens, or that read the request.
    pub process: Option<ProcessName>,
    /// The process that ended the connection.
    pub ended_by: Option<ProcessName>,
    /// Nothing had been written when the peer ended the connection.
    #[serde(default)]
    pub ended_unanswered: bool,
    /// Why the connection was closed, such as `worker_ended` or `keep_alive`.
    pub closed_because: Option<String>,
    /// How many connections the same process closed in that instant.
    pub closed_together: Option<u32>,
    /// How many connections were closed after the same idle time.
    pub same_idle: Option<u32>,
    /// For how long another connection was idle and lived on.
    pub outlived_ns: Option<u64>,
    /// For how long nothing had come or gone when the application closed.
    pub silent_ns: Option<u64>,
    /// Open files of the process, and how many it may have.
    pub open_files: Option<(u64, u64)>,
    /// Threads of that process.
    pub threads: Option<u64>,
    /// The name of the server in the table of servers.
    pub server: Option<String>,
    /// The setting that the advice is about, and its value.
    pub setting: Option<Setting>,
    /// The connection was accepted and closed without anything being read from it.
    #[serde(default)]
    pub closed_unread: bool,
    /// The connection was never accepted.
    #[serde(default)]
    pub never_accepted: bool,
    /// The request was never read.
    #[serde(default)]
    pub never_read: bool,
    /// The firewall rule that it was.
    pub rule: Option<Rule>,
    /// The firewall rules that it may have been.
    #[serde(default)]
    pub candidates: Vec<Rule>,
    /// The table of connection tracking.
    pub conntrack: Option<Conntrack>,
    /// What the kernel answers when asked for the way back.
    pub route: Option<String>,
}

/// Why and where the kernel dropped a packet.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Kernel {
    /// The name of the reason, without its prefix.
    pub reason: Option<String>,
    /// The name of the function.
    pub location: Option<String>,
}

/// A process.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct ProcessName {
    /// Its id.
    pub pid: u32,
    /// The name of its thread.
    pub comm: String,
    /// How it ended the connection.
    pub how: Option<String>,
}

/// A setting of a server.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// A file, or `command line`.
    pub source: String,
}

/// A firewall rule.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Rule {
    /// Address family, table, chain.
    pub chain: String,
    /// Its handle.
    pub handle: Option<u64>,
    /// Its text.
    pub text: String,
}

/// Entries in the table of connection tracking, and how many there may be.
pub type Conntrack = (u64, u64);

impl Rejection {
    /// The name of the drop reason.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.kernel.as_ref()?.reason.as_deref()
    }

    /// The function that dropped the packet.
    #[must_use]
    pub fn location(&self) -> Option<&str> {
        self.kernel.as_ref()?.location.as_deref()
    }
}

/// How much of each cause there is.
pub(super) fn causes(rejections: &[Rejection]) -> BTreeMap<&str, u64> {
    let mut causes = BTreeMap::new();
    for rejection in rejections {
        *causes.entry(rejection.cause.as_str()).or_default() += rejection.count;
    }
    causes
}
