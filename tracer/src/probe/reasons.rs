//! Which of the kernel's drop reasons are looked at, and how. Their numbers differ from kernel to kernel, so they are
//! told by their names. What a reason means is for `explain/` (`reasons.rs` there, whose test holds it against this list);
//! those that no rejection can come of are filtered in the kernel.

use tracer_common::settings::class::{ALWAYS, FIREWALL, LATE, PLACE, SYN};

/// The prefix of every name in `enum skb_drop_reason` that is a reason.
pub const PREFIX: &str = "SKB_DROP_REASON_";

/// Reasons by name, without the prefix; a `*` stands for the rest of a name.
const CLASSES: &[(u8, &[&str])] = &[
    (SYN | LATE, &["NO_SOCKET"]),
    // A SYN that does not open a connection, because one with the same ends has just ended.
    (SYN, &["TCP_RFC7323_TW_PAWS"]),
    // Generic XDP gives no reason.
    (LATE | PLACE, &["NOT_SPECIFIED"]),
    (LATE, &["TCP_ABORT_ON_DATA", "TCP_CLOSE", "SOCKET_CLOSE"]),
    (ALWAYS | FIREWALL, &["NETFILTER_DROP"]),
    (ALWAYS, &["IP_RPFILTER", "TCP_LISTEN_OVERFLOW", "XDP", "TC_INGRESS", "TC_EGRESS", "SOCKET_FILTER"]),
    (ALWAYS, &["BPF_CGROUP_EGRESS", "SECURITY_HOOK", "XFRM_POLICY", "IP_OUTNOROUTES", "IP_INNOROUTES"]),
    (ALWAYS, &["TCP_CSUM", "IP_CSUM", "SKB_CSUM", "IP_INHDR", "IP_NOPROTO", "PKT_TOO_SMALL", "HDR_TRUNC"]),
    (ALWAYS, &["TCP_FLAGS", "TCP_INVALID_SYN", "TCP_MD5*", "TCP_AO*", "FRAG_*", "PKT_TOO_BIG"]),
    (ALWAYS, &["SOCKET_BACKLOG", "SOCKET_RCVBUFF", "PROTO_MEM", "CPU_BACKLOG", "QDISC_*", "FQ_*", "NOMEM", "NEIGH_*"]),
    (ALWAYS, &["IP_LOCALNET", "IP_LOCAL_SOURCE", "IP_INVALID_SOURCE"]),
];

/// What to do with a packet that was dropped for the reason with that name: a set of [`tracer_common::settings::class`].
pub fn class(name: &str) -> u8 {
    let name = name.strip_prefix(PREFIX).unwrap_or(name);
    let is = |pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    };
    CLASSES.iter().find(|(_, names)| names.iter().any(|pattern| is(pattern))).map_or(0, |(class, _)| *class)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_told_by_name() {
        assert_eq!(class("SKB_DROP_REASON_NO_SOCKET"), SYN | LATE);
        assert_eq!(class("SKB_DROP_REASON_TCP_MD5NOTFOUND"), ALWAYS);
        assert_eq!(class("SKB_DROP_REASON_TCP_FLAGS"), ALWAYS);
        assert_eq!(class("SKB_DROP_REASON_TCP_OLD_DATA"), 0);
        assert_eq!(class("SKB_CONSUMED"), 0);
    }
}
