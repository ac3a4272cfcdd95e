//! The kernel's reasons for dropping a packet: which of them are looked at, and what those mean that say by themselves what
//! it is. All others are harmless, such as an old duplicate, and are filtered in the kernel. The numbers of reasons differ
//! from kernel to kernel, so they go by their names.

use crate::model::rejection::Cause::{self, BpfDrop, MalformedPacket, PacketDropped, ReversePath};
use foldhash::fast::FixedState;
use std::collections::HashMap;
use tracer_common::settings::class::{ALWAYS, FIREWALL, LATE, PLACE, SYN};

/// A reason.
pub struct Reason {
    /// As in the kernel's `enum skb_drop_reason`, without `SKB_DROP_REASON_`; a `*` at the end stands for any ending.
    pub name: &'static str,
    /// Its cause.
    pub cause: Cause,
    /// In words.
    pub words: &'static str,
    /// What to do, if there is more to say than in the table of causes.
    pub advice: Option<&'static str>,
}

const fn reason(name: &'static str, cause: Cause, words: &'static str) -> Reason {
    Reason { name, cause, words, advice: None }
}

const fn advised(name: &'static str, cause: Cause, words: &'static str, advice: &'static str) -> Reason {
    Reason { name, cause, words, advice: Some(advice) }
}

const BACKLOG: &str = "If it lasts, give the queue of each CPU more room, `sysctl -w \
    net.core.netdev_max_backlog=4096`, and spread the interrupts of the interface; the second column of \
    /proc/net/softnet_stat counts these drops.";
const BUFFER: &str = "Let the application read sooner (more workers), or give sockets more room: the last figure of \
    `sysctl net.ipv4.tcp_rmem`.";
const MEMORY: &str = "Free memory, or let TCP have more: `sysctl net.ipv4.tcp_mem`, and `ss -s` for how much it holds.";
const QUEUE: &str =
    "`tc -s qdisc show` counts what each queue dropped: a shaper is too tight, or the interface too slow.";
const NEIGHBOUR: &str =
    "The next hop does not answer for its address: `ip neigh show`, and the route that leads to it.";
const SOURCE: &str = "The packet's source address cannot be right: look for a proxy or NAT on the way, and for an \
    address that two hosts have.";
const SIGNED: &str = "Both ends have to agree on the key: `ss -tin` shows signed connections.";
const TOO_BIG: &str = "Lower the MTU of the interface or clamp the MSS, and let ICMP \"fragmentation needed\" pass.";
const FRAGMENTS: &str =
    "TCP should need no fragments: look for a tunnel on the way, and let ICMP \"fragmentation needed\" pass.";

/// To be extended.
pub static REASONS: &[Reason] = &[
    reason("IP_RPFILTER", ReversePath, "no route back through that interface"),
    // Damaged packets.
    reason("TCP_CSUM", MalformedPacket, "wrong TCP checksum"),
    reason("IP_CSUM", MalformedPacket, "wrong IP checksum"),
    reason("SKB_CSUM", MalformedPacket, "wrong checksum"),
    reason("IP_INHDR", MalformedPacket, "bad IP header"),
    reason("PKT_TOO_SMALL", MalformedPacket, "shorter than the headers say"),
    reason("HDR_TRUNC", MalformedPacket, "headers cut off"),
    reason("TCP_FLAGS", MalformedPacket, "TCP flags that make no sense"),
    reason("TCP_INVALID_SYN", MalformedPacket, "a SYN where none can be"),
    reason("IP_NOPROTO", MalformedPacket, "a protocol that is unknown here"),
    // Programs that decide over packets. The words are who did it.
    reason("XDP", BpfDrop, "an XDP program"),
    reason("TC_INGRESS", BpfDrop, "a tc filter or program at ingress"),
    reason("TC_EGRESS", BpfDrop, "a tc filter or program at egress"),
    reason("SOCKET_FILTER", BpfDrop, "a filter on the socket or its control group"),
    reason("BPF_CGROUP_EGRESS", BpfDrop, "a BPF program on the control group"),
    // Everything else that loses packets.
    advised("SOCKET_BACKLOG", PacketDropped, "the socket's backlog was full while it was in use", BUFFER),
    advised("SOCKET_RCVBUFF", PacketDropped, "the socket's receive buffer was full", BUFFER),
    advised("PROTO_MEM", PacketDropped, "TCP had used up the memory that it may have", MEMORY),
    advised("NOMEM", PacketDropped, "the kernel was out of memory", MEMORY),
    advised("CPU_BACKLOG", PacketDropped, "the packet queue of a CPU was full", BACKLOG),
    advised("QDISC_*", PacketDropped, "the interface's queue was full", QUEUE),
    advised("FQ_*", PacketDropped, "the interface's fair queue was full", QUEUE),
    advised("NEIGH_*", PacketDropped, "the next hop does not answer", NEIGHBOUR),
    advised(
        "SECURITY_HOOK",
        PacketDropped,
        "refused by a security module",
        "`ausearch -m avc -ts recent` or `journalctl -k` tells which policy.",
    ),
    advised(
        "XFRM_POLICY",
        PacketDropped,
        "refused by an IPsec policy",
        "`ip xfrm policy` lists them, /proc/net/xfrm_stat counts what they refuse.",
    ),
    advised("IP_LOCALNET", PacketDropped, "a loopback address, from outside", SOURCE),
    advised("IP_LOCAL_SOURCE", PacketDropped, "an address of this host as source, from outside", SOURCE),
    advised("IP_INVALID_SOURCE", PacketDropped, "a source address that cannot send", SOURCE),
    advised("TCP_MD5*", PacketDropped, "TCP MD5 signature missing, unexpected or wrong", SIGNED),
    advised("TCP_AO*", PacketDropped, "TCP authentication option missing, unexpected or wrong", SIGNED),
    advised("FRAG_*", PacketDropped, "fragments that could not be put together", FRAGMENTS),
    advised("PKT_TOO_BIG", PacketDropped, "larger than the MTU", TOO_BIG),
    advised(
        "IP_INNOROUTES",
        PacketDropped,
        "no route to the destination",
        "Its destination is no address of this host: `ip -brief address`, and the address in the target group.",
    ),
    advised(
        "IP_OUTNOROUTES",
        PacketDropped,
        "no route to the destination",
        "`ip route show table all` lists the routes.",
    ),
];

const TIME_WAIT: &str = "`nstat -az TcpExtPAWSTimewait TcpExtPAWSEstab` counts those with an old timestamp. Several hosts behind \
    one NAT address do this, each with timestamps of its own: give the NAT more addresses or ports, or let the peers close \
    first, so that TIME_WAIT stays with them.";

/// Reasons for which TCP drops a SYN.
static OF_SYNS: &[Reason] = &[
    advised(
        "TCP_RFC7323_TW_PAWS",
        PacketDropped,
        "its timestamp is older than that of the connection from the same port that has just ended (PAWS, timestamps behind NAT)",
        TIME_WAIT,
    ),
    // Before Linux 6.15 that reason was not told apart.
    advised(
        "NOT_SPECIFIED",
        PacketDropped,
        "its timestamp or sequence number is older than that of the connection from the same port that has just ended \
            (TIME_WAIT; timestamps behind NAT)",
        TIME_WAIT,
    ),
];

/// The prefix of every name in `enum skb_drop_reason` that is a reason.
pub const PREFIX: &str = "SKB_DROP_REASON_";

/// The names of the reasons of the running kernel, by their numbers.
#[derive(Clone, Debug, Default)]
pub struct Names(HashMap<u32, String, FixedState>);

impl Names {
    /// From the values of `enum skb_drop_reason`.
    pub fn new(values: &[(String, u64)]) -> Self {
        let reason =
            |(name, value): &(String, u64)| Some((u32::try_from(*value).ok()?, name.strip_prefix(PREFIX)?.to_owned()));
        Self(values.iter().filter_map(reason).collect())
    }

    /// The name of the reason with that number, without [`PREFIX`].
    pub fn of(&self, number: u32) -> Option<String> {
        self.0.get(&number).cloned()
    }
}

/// The reasons of which more has to be known (`classify.rs`), and how the kernel side looks at them.
const JUDGED: &[(u8, &[&str])] = &[
    (SYN | LATE, &["NO_SOCKET"]),
    // A SYN that does not open a connection, because one with the same ends has just ended.
    (SYN, &["TCP_RFC7323_TW_PAWS"]),
    // Generic XDP gives no reason.
    (LATE | PLACE, &["NOT_SPECIFIED"]),
    (LATE, &["TCP_ABORT_ON_DATA", "TCP_CLOSE", "SOCKET_CLOSE"]),
    (ALWAYS | FIREWALL, &["NETFILTER_DROP"]),
    (ALWAYS, &["TCP_LISTEN_OVERFLOW"]),
];

/// What to do with a packet that was dropped for the reason with that name: a set of [`tracer_common::settings::class`].
pub fn class(name: &str) -> u8 {
    let name = name.strip_prefix(PREFIX).unwrap_or(name);
    let judged = JUDGED.iter().find(|(_, names)| names.contains(&name)).map(|(class, _)| *class);
    judged.unwrap_or(if of(name).is_some() { ALWAYS } else { 0 })
}

/// What the table says of the reason `name` for which TCP dropped a SYN.
pub fn of_syn(name: &str) -> Option<&'static Reason> {
    OF_SYNS.iter().find(|reason| reason.name == name)
}

/// What the table says of the reason `name`.
pub fn of(name: &str) -> Option<&'static Reason> {
    REASONS.iter().find(|reason| match reason.name.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == reason.name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_ending() {
        assert_eq!(of("NEIGH_FAILED").map(|reason| reason.name), Some("NEIGH_*"));
        assert_eq!(of("TCP_MD5FAILURE").map(|reason| reason.name), Some("TCP_MD5*"));
        assert!(of("TCP_CSUM_").is_none() && of("").is_none());
    }

    #[test]
    fn the_kernel_side_lets_through_what_is_in_the_table() {
        assert_eq!(class("SKB_DROP_REASON_NO_SOCKET"), SYN | LATE);
        assert_eq!(class("SKB_DROP_REASON_TCP_MD5NOTFOUND"), ALWAYS);
        assert_eq!(class("SKB_DROP_REASON_NETFILTER_DROP"), ALWAYS | FIREWALL);
        assert_eq!(class("SKB_DROP_REASON_TCP_OLD_DATA"), 0);
        assert_eq!(class("SKB_CONSUMED"), 0);
    }

    /// As far as the packet is a SYN.
    #[test]
    fn every_reason_of_a_syn_is_let_through_by_the_kernel_side() {
        for reason in OF_SYNS {
            assert!(class(reason.name) & (SYN | PLACE) != 0, "{}", reason.name);
            assert!(of_syn(reason.name).is_some() && of(reason.name).is_none(), "{}", reason.name);
        }
    }

    #[test]
    fn no_reason_hides_behind_another() {
        for reason in REASONS {
            assert!(of(reason.name).is_some_and(|found| std::ptr::eq(found, reason)), "{}", reason.name);
        }
    }
}
