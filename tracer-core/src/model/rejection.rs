//! A rejection: one way in which the last hop refused or broke requests, or is about to, with all that is known of it.
//!
//! It is what kernel records become once this host has been asked for names, rules and listeners (`tracer/src/host/`) and the
//! cause has been found (`explain/`). It holds facts; the sentences are made of them in `explain/`. A recording keeps
//! it as it is.

use crate::{
    duration::duration,
    model::{listener::Listener, peer::Network},
};
use serde::{Deserialize, Serialize};
use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::Duration,
};
use tracer_common::rejection::Folded;

/// The causes. Their names in every output are a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the table of causes (`explain/causes.rs`) says what each is")]
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
    Forwarded,
    // On a connection.
    KeepaliveRace,
    ClosedBeforeResponse,
    ResetBeforeResponse,
    ResetMidResponse,
    ResetDuringUpload,
    PeerGaveUp,
    ApplicationNotReading,
    NoResponse,
    ResponseNotAcknowledged,
    /// The kernel dropped a packet for a reason that is none of the above.
    PacketDropped,
    // Warnings before harm.
    KeepaliveTooShort,
    AcceptQueueFilling,
    ProcessDied,
}

/// Why the application closed a connection that was idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseReason {
    /// Its listener, the last one of that port, closed at the same moment: the server stops.
    Stopped,
    /// The same, and something listens there again: the server was restarted, or another process took over.
    Replaced,
    /// The process ended or closed its listener, while the port was still served: a reload, or a recycled worker.
    WorkerEnded,
    /// The process ended, and its connections with it.
    ProcessEnded,
    /// Connections with different idle times closed in the same instant: a stop or a reload.
    Together,
    /// The connection closed long before the server's own keep-alive time: a stop, a reload, a recycled worker, or a limit of
    /// requests.
    Early,
    /// Several connections closed after the same idle time, at different moments.
    KeepAlive,
}

/// A setting of a server, as its command line or its configuration shows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Setting {
    /// Its name there, such as `keepalive_timeout`.
    pub name: String,
    /// Its value there, such as `5s`.
    pub value: String,
    /// Where: a file, or `command line`.
    pub source: String,
}

impl Setting {
    /// The value as a time, if it is one. haproxy takes a plain number for milliseconds, the others for seconds.
    pub fn time(&self) -> Option<Duration> {
        let first = self.value.split_ascii_whitespace().next()?.trim_end_matches(';');
        let is_plain = first.bytes().all(|it| it.is_ascii_digit());
        let unit = if is_plain && self.name.starts_with("timeout ") { "ms" } else { "" };
        duration(&format!("{first}{unit}")).ok()
    }
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
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Facts {
    /// Connections that wait in the accept queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_length: Option<u32>,
    /// How many may wait there.
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
    /// For how long the peer's window was closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zero_window_ns: Option<u64>,
    /// Bytes of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_in: Option<u64>,
    /// Bytes of the response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_out: Option<u64>,
    /// Bytes that the application had not read when it closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unread: Option<u32>,
    /// Packets of the response that were sent again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retransmits: Option<u32>,
    /// Payload bytes of the packet that was sent again last, if it was a large one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resent_bytes: Option<u32>,
    /// What the packet was: `SYN`, `SYN-ACK`, `ACK`, `data`, `FIN`, `RST`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packet: Option<String>,
    /// It was one of this host's own packets, on its way out.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub outgoing: bool,
    /// With what a firewall, or a listener without room, answered: `a reset` or `an ICMP error`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// Where something listens on that port instead, such as `127.0.0.1:8080`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub listens: Vec<SocketAddr>,
    /// Where packets for that port were forwarded to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forwarded_to: Option<SocketAddr>,
    /// What listens there at all addresses takes no IPv4.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub only_v6: bool,
    /// The process that listens, or that read the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessName>,
    /// The process that ended the connection on this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<ProcessName>,
    /// This host had closed one half of the connection only, and the data came to the other half.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub half_closed: bool,
    /// Nothing had been written when the peer ended the connection.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ended_unanswered: bool,
    /// Why this host closed the connection, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_because: Option<CloseReason>,
    /// How many connections the same process closed in that instant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_together: Option<u32>,
    /// How many connections were closed after the same idle time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub same_idle: Option<u32>,
    /// For how long another connection was idle and lived on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outlived_ns: Option<u64>,
    /// For how long nothing had come or gone when the application closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silent_ns: Option<u64>,
    /// Open files of the process that closed or listens, and how many it may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_files: Option<(u64, u64)>,
    /// Threads of that process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<u64>,
    /// The systemd service that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The container that it runs in, by the first digits of its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Which server it is, by a name of the table in `explain/servers.rs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The setting that the advice is about, and its value now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setting: Option<Setting>,
    /// The connection was accepted and closed without anything being read from it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub closed_unread: bool,
    /// The connection was never accepted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub never_accepted: bool,
    /// The application never read the request.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub never_read: bool,
    /// Nobody was seen to read the request, where no hook sees all reads.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reads_unseen: bool,
    /// The firewall rule that it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
    /// The firewall rules that it may have been, where it cannot be told which.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<Rule>,
    /// Programs that take packets before anything sees them, such as `the XDP program filter (id 12) on eth0`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub xdp: Vec<String>,
    /// Entries in the connection tracking table, and how many it may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conntrack: Option<(u64, u64)>,
    /// What the kernel answers when asked for the way back, such as `Network is unreachable`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
}

/// What keeps rejections of one cause, listener and network apart: one rule is not blamed for what another one did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Apart {
    /// The packet that was refused, as in [`Facts::packet`].
    pub packet: Option<String>,
    /// It was one of this host's own.
    pub outgoing: bool,
    /// The rule that it was, or the rules that it may have been: where, and which there.
    pub rules: Vec<(String, Result<u64, String>)>,
}

impl Rejection {
    /// What keeps it apart from others of its cause.
    pub fn apart(&self) -> Apart {
        let facts = &self.facts;
        // A rule is its handle, as its text may be read at one time and not at another.
        let id = |rule: &Rule| (rule.chain.clone(), rule.handle.ok_or_else(|| rule.text.clone()));
        Apart {
            // How the peer left is no packet that was refused.
            packet: facts.packet.clone().filter(|_| self.cause != Cause::PeerGaveUp),
            outgoing: facts.outgoing,
            rules: facts.rule.iter().chain(&facts.candidates).map(id).collect(),
        }
    }
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
    /// This host's side. Port 0: several.
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

/// Stands for several listeners, or several peers.
pub const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);

impl Rejection {
    /// Whom it is about.
    pub const fn listener(&self) -> Listener {
        Listener::new(self.netns, self.local)
    }

    /// The same, if the events that it counts differ in what `mixed` says: a set of [`Folded`]. Then it names none of these.
    pub fn mixed(mut self, mixed: u8) -> Self {
        if self.count < 2 || mixed == 0 {
            return self;
        }
        if mixed & (Folded::PORT | Folded::LOCAL) != 0 {
            self = self.of_several();
            self.facts.process = None;
            self.local.set_port(0);
        }
        if mixed & Folded::LOCAL != 0 {
            self.local = NOBODY;
        }
        if mixed & Folded::NETWORK != 0 {
            self.peer = NOBODY;
        }
        self
    }

    /// Two of one cause as one. What they have in common is known of both, and nothing else.
    pub fn together(self, other: &Self) -> Self {
        let mut both = self.of_several();
        if network(both.peer) != network(other.peer) {
            both.peer = NOBODY;
        }
        if both.local != other.local {
            both.facts.process = None;
            both.local.set_port(0);
        }
        if both.local.ip() != other.local.ip() {
            both.local = NOBODY;
        }
        if both.netns != other.netns {
            both.netns = 0;
        }
        both.count = both.count.saturating_add(other.count);
        (both.first, both.last) = (both.first.min(other.first), both.last.max(other.last));
        both.evidence = both.evidence.max(other.evidence);
        both.reason = both.reason.filter(|it| other.reason.as_ref() == Some(it));
        both.location = both.location.filter(|it| other.location.as_ref() == Some(it));
        both.facts.packet = both.facts.packet.filter(|it| other.facts.packet.as_ref() == Some(it));
        both.facts.process = both.facts.process.filter(|it| other.facts.process.as_ref() == Some(it));
        both.facts.outgoing &= other.facts.outgoing;
        both
    }

    /// Without what is about one connection or packet.
    fn of_several(self) -> Self {
        let Facts { packet, outgoing, process, .. } = self.facts;
        let facts = Facts { packet, outgoing, process, ..Facts::default() };
        let peer = SocketAddr::new(self.peer.ip(), 0);
        Self { peer, connection: None, sequence: None, facts, ..self }
    }
}

fn network(peer: SocketAddr) -> Network {
    Network::of_address(peer.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_times_in_the_unit_of_their_server() {
        for (name, value, milliseconds) in [
            ("keepalive_timeout", "75s", Some(75_000)),
            ("keepalive_timeout", "75s 60s", Some(75_000)),
            ("keepalive_timeout", "1m;", Some(60_000)),
            ("KeepAliveTimeout", "5", Some(5_000)),
            ("KeepAliveTimeout", "500ms", Some(500)),
            ("timeout http-keep-alive", "10s", Some(10_000)),
            ("timeout http-keep-alive", "500", Some(500)),
            ("--keep-alive", "2", Some(2_000)),
            ("--keep-alive", "$time", None),
            ("--keep-alive", "", None),
        ] {
            let setting = Setting { name: name.to_owned(), value: value.to_owned(), source: String::new() };
            assert_eq!(setting.time(), milliseconds.map(Duration::from_millis), "{name} {value}");
        }
    }
}
