//! What a host says about a rejection when it is asked.

use super::rejection::{ProcessName, Rule};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// The functions in which netfilter drops packets, for kernels before 5.17, which have no reasons.
const NETFILTER: [&str; 2] = ["nf_hook_slow", "nft_do_chain"];

/// The answers. What was not asked, because the event does not need it, or is not known is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostFacts {
    /// The kernel's name for why it dropped the packet, such as `NO_SOCKET`.
    pub reason: Option<String>,
    /// The kernel's function in which it did.
    pub location: Option<String>,
    /// What listens on the port of this host's side, at whatever address; the wildcard of both families is `[::]`.
    pub listens: Vec<(SocketAddr, Option<ProcessName>)>,
    /// What listens at all addresses takes no IPv4.
    pub only_v6: bool,
    /// The process of the listener that the event is about.
    pub owner: Option<ProcessName>,
    /// Of several listeners, among which a program picks, one whose accept queue is full: how many wait, how many may, and
    /// its process.
    pub full: Option<(u32, u32, Option<ProcessName>)>,
    /// The firewall rule that dropped the packet.
    pub rule: Option<Rule>,
    /// The firewall rules that may have, where it cannot be told which.
    pub candidates: Vec<Rule>,
    /// That rule, or every candidate, rejects with an answer instead of dropping in silence.
    pub rule_rejects: bool,
    /// Entries in the connection tracking table, and how many it may have.
    pub conntrack: Option<(u64, u64)>,
    /// The connection tracking table refused new entries lately.
    pub conntrack_dropped: bool,
    /// Why the kernel has no route to the peer, such as `Network is unreachable`; absent if it has one.
    pub route: Option<String>,
    /// Open files of the process that listens, and how many it may have.
    pub open_files: Option<(u64, u64)>,
}

impl HostFacts {
    /// Whether netfilter dropped the packet.
    pub fn is_by_netfilter(&self) -> bool {
        match (self.reason.as_deref(), self.location.as_deref()) {
            (Some(reason), _) => reason == "NETFILTER_DROP",
            (None, Some(location)) => NETFILTER.contains(&location),
            (None, None) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn netfilter_is_told_by_the_reason_or_else_by_the_place() {
        let by = |reason: Option<&str>, location: Option<&str>| {
            let facts = HostFacts {
                reason: reason.map(str::to_owned),
                location: location.map(str::to_owned),
                ..HostFacts::default()
            };
            facts.is_by_netfilter()
        };
        assert!(by(Some("NETFILTER_DROP"), None) && by(None, Some("nf_hook_slow")));
        assert!(!by(Some("NO_SOCKET"), Some("nf_hook_slow")) && !by(None, Some("tcp_v4_rcv")) && !by(None, None));
    }
}
