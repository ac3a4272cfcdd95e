//! Tests of the classification: each row of it, and what is harmless.

use super::{of_late, of_record, of_tally};
use crate::{
    explain::{Limits, entry, explain, tests::process},
    model::{
        facts::HostFacts,
        rejection::{
            Cause,
            Evidence::{self, Inferred, Observed},
            Rejection, Rule,
        },
    },
    samples::{S, US, v4, v6},
};
use tracer_common::{
    endpoint::{Endpoint, Tuple},
    opening::Opening,
    rejection::{Ended, Ender, Event, How, Key, PacketKind, Queue, RejectionRecord, Tally},
};

const FULL: u16 = Key::QUEUE_FULL;
const RESET: u16 = Key::REJECTED_WITH_RESET;
const ICMP: u16 = Key::REJECTED_WITH_ICMP;

fn record(event: Event, packet: PacketKind, flags: u16, ends: Tuple) -> RejectionRecord {
    let key = Key {
        location: u64::from(event == Event::Dropped),
        netns: 7,
        reason: u32::from(event == Event::Dropped),
        event: event as u8,
        packet: packet as u8,
        flags,
        local: ends.local,
        network: Key::network_of(&ends.peer),
    };
    RejectionRecord { reported: 9 * S, count: 3, key, peer: ends.peer, ..RejectionRecord::EMPTY }
}

fn dropped(packet: PacketKind, flags: u16) -> RejectionRecord {
    record(Event::Dropped, packet, flags, v4())
}

fn host(reason: &str, location: &str) -> HostFacts {
    HostFacts { reason: Some(reason.to_owned()), location: Some(location.to_owned()), ..HostFacts::default() }
}

fn rule(text: &str) -> Rule {
    Rule { chain: "inet filter input".to_owned(), handle: Some(4), text: text.to_owned() }
}

/// The cause, from the record and from the tally of its key, which must be the same; and one that the table expects.
fn cause(record: &RejectionRecord, host: &HostFacts) -> Option<(Cause, Evidence)> {
    let of = |rejection: Rejection| (rejection.cause, rejection.evidence);
    let found = of_record(record, host).map(of);
    let tally = Tally { count: 5, first: S, last: 2 * S, recorded: S, ..Tally::default() };
    assert_eq!(of_tally(&record.key, &tally, host).map(of), found);
    if let Some((cause, evidence)) = found {
        assert!(entry(cause).evidence.contains(&evidence), "{cause:?} {evidence:?}");
    }
    found
}

#[test]
fn a_drop_has_the_cause_that_reason_place_and_packet_say() {
    use Cause::{
        AcceptQueueFull, BpfDrop, FirewallDrop, FirewallReject, MalformedPacket, NoListener, NoRouteBack,
        PacketDropped, ReversePath,
    };
    use PacketKind::{Ack, Data, Syn, SynAck};
    const OUT: u16 = Key::OUTGOING;
    for (reason, location, packet, flags, expected) in [
        ("NO_SOCKET", "tcp_v4_rcv", Syn, 0, (NoListener, Observed)),
        ("NO_SOCKET", "tcp_v6_rcv", Syn, 0, (NoListener, Observed)),
        ("NO_SOCKET", "cookie_v4_check", Ack, FULL, (AcceptQueueFull, Inferred)),
        ("NO_SOCKET", "cookie_v6_check", Data, FULL, (AcceptQueueFull, Inferred)),
        ("NOT_SPECIFIED", "tcp_v4_do_rcv", Ack, FULL, (AcceptQueueFull, Inferred)),
        ("NO_SOCKET", "tcp_v6_do_rcv", Data, FULL, (AcceptQueueFull, Inferred)),
        ("NETFILTER_DROP", "nft_do_chain", Syn, RESET, (FirewallReject, Observed)),
        ("NETFILTER_DROP", "nf_hook_slow", Syn, ICMP, (FirewallReject, Observed)),
        ("NETFILTER_DROP", "nft_do_chain", Syn, 0, (FirewallDrop, Observed)),
        ("NETFILTER_DROP", "nf_hook_slow", Data, 0, (FirewallDrop, Observed)),
        ("NETFILTER_DROP", "nft_do_chain", SynAck, OUT, (FirewallDrop, Observed)),
        ("IP_RPFILTER", "ip_rcv_finish_core", Syn, 0, (ReversePath, Observed)),
        ("TCP_LISTEN_OVERFLOW", "tcp_v4_rcv", Ack, FULL, (AcceptQueueFull, Observed)),
        ("NOT_SPECIFIED", "tcp_v4_rcv", Ack, FULL, (AcceptQueueFull, Inferred)),
        ("NOT_SPECIFIED", "tcp_v6_rcv", Data, FULL, (AcceptQueueFull, Inferred)),
        ("NOT_SPECIFIED", "tcp_v4_rcv.isra.0+0x1d/0x90", Ack, FULL, (AcceptQueueFull, Inferred)),
        ("TCP_CSUM", "tcp_v4_rcv", Syn, 0, (MalformedPacket, Observed)),
        ("IP_CSUM", "ip_rcv_core", Syn, 0, (MalformedPacket, Observed)),
        ("IP_INHDR", "ip_rcv_core", Syn, 0, (MalformedPacket, Observed)),
        ("PKT_TOO_SMALL", "tcp_v4_rcv", Syn, 0, (MalformedPacket, Observed)),
        ("HDR_TRUNC", "tcp_v4_rcv", Syn, 0, (MalformedPacket, Observed)),
        ("TCP_FLAGS", "tcp_rcv_state_process", Syn, 0, (MalformedPacket, Observed)),
        ("TCP_INVALID_SYN", "tcp_validate_incoming", Syn, 0, (MalformedPacket, Observed)),
        ("SKB_CSUM", "tcp_v4_rcv", Data, 0, (MalformedPacket, Observed)),
        ("IP_NOPROTO", "ip_protocol_deliver_rcu", Syn, 0, (MalformedPacket, Observed)),
        ("XDP", "do_xdp_generic", Syn, 0, (BpfDrop, Observed)),
        ("TC_INGRESS", "__netif_receive_skb_core", Syn, 0, (BpfDrop, Observed)),
        ("TC_EGRESS", "__dev_queue_xmit", SynAck, OUT, (BpfDrop, Observed)),
        ("SOCKET_FILTER", "tcp_v4_rcv", Syn, 0, (BpfDrop, Observed)),
        ("BPF_CGROUP_EGRESS", "ip_finish_output", SynAck, OUT, (BpfDrop, Observed)),
        ("IP_OUTNOROUTES", "__ip_queue_xmit", Data, OUT, (NoRouteBack, Observed)),
        ("IP_INNOROUTES", "ip6_pkt_drop", Data, OUT, (NoRouteBack, Observed)),
        ("IP_OUTNOROUTES", "ip6_pkt_discard", Data, 0, (PacketDropped, Observed)),
        ("IP_INNOROUTES", "ip_rcv_finish", Data, 0, (PacketDropped, Observed)),
    ] {
        let found = cause(&dropped(packet, flags), &host(reason, location));
        assert_eq!(found, Some(expected), "{reason} {location} {packet:?} {flags}");
    }
}

/// `net.ipv4.tcp_abort_on_overflow`.
#[test]
fn a_listener_without_room_may_answer_with_a_reset() {
    let host = host("TCP_LISTEN_OVERFLOW", "tcp_v4_rcv");
    let told = |flags| of_record(&dropped(PacketKind::Ack, flags), &host).unwrap();
    assert_eq!(told(Key::RESET_BY_LISTENER).facts.answer.as_deref(), Some("a reset"));
    assert_eq!(told(FULL).facts.answer, None);
    let codes = |flags| explain(&told(flags), Limits::default()).alb;
    assert_eq!((codes(Key::RESET_BY_LISTENER), codes(FULL)), (&["502"][..], &["504"][..]));
}

/// The socket that is meant names the process, whatever else has the same address.
#[test]
fn the_listener_of_the_record_names_the_process() {
    let queue = Queue { length: 2, limit: 1 };
    let record = RejectionRecord { queue, ..record(Event::AcceptQueueFull, PacketKind::Syn, 0, v4()) };
    let listens = vec![("0.0.0.0:8080".parse().unwrap(), None)];
    let unknown = HostFacts { listens, ..HostFacts::default() };
    let named = HostFacts { owner: Some(process("gunicorn", 813, None)), ..unknown.clone() };
    let pid = |host: &HostFacts| of_record(&record, host).unwrap().facts.process.map(|it| it.pid);
    assert_eq!((pid(&unknown), pid(&named)), (None, Some(813)));
}

/// A program picks the listener: that one of them is full is known, and that the SYN got no answer.
#[test]
fn a_steered_syn_without_an_answer_met_the_queue_that_is_full() {
    let unanswered = |flags| record(Event::SynUnanswered, PacketKind::Syn, flags, v4());
    let full = HostFacts { full: Some((2, 1, Some(process("web", 9, None)))), ..HostFacts::default() };
    assert_eq!(cause(&unanswered(Key::STEERED), &full), Some((Cause::AcceptQueueFull, Inferred)));
    assert_eq!(cause(&unanswered(Key::STEERED), &HostFacts::default()), None);
    assert_eq!(cause(&unanswered(0), &full), None);
    let facts = of_record(&unanswered(Key::STEERED), &full).unwrap().facts;
    assert_eq!(
        (facts.queue_length, facts.queue_limit, facts.process),
        (Some(2), Some(1), Some(process("web", 9, None)))
    );
}

#[test]
fn a_listener_for_ipv6_only_is_elsewhere_for_ipv4() {
    let listens = vec![("[::]:8080".parse().unwrap(), Some(process("web", 9, None)))];
    let only = HostFacts { listens, only_v6: true, ..host("NO_SOCKET", "tcp_v4_rcv") };
    let both = HostFacts { only_v6: false, ..only.clone() };
    let said = |host: &HostFacts| explain(&of_record(&dropped(PacketKind::Syn, 0), host).unwrap(), Limits::default());
    assert!(said(&only).text.contains(": web[9] is bound for IPv6 only ([::]:8080);"), "{:?}", said(&only));
    assert!(!said(&both).text.contains("bound"), "{:?}", said(&both));
}

#[test]
fn other_losses_are_told_by_their_reason() {
    for reason in [
        "SOCKET_BACKLOG",
        "SOCKET_RCVBUFF",
        "PROTO_MEM",
        "CPU_BACKLOG",
        "QDISC_DROP",
        "QDISC_OVERLIMIT",
        "FQ_BAND_LIMIT",
        "NEIGH_FAILED",
        "NEIGH_QUEUEFULL",
        "NEIGH_DEAD",
        "NOMEM",
        "SECURITY_HOOK",
        "XFRM_POLICY",
        "IP_LOCALNET",
        "IP_LOCAL_SOURCE",
        "IP_INVALID_SOURCE",
        "TCP_MD5NOTFOUND",
        "TCP_MD5FAILURE",
        "TCP_AOFAILURE",
        "FRAG_REASM_TIMEOUT",
        "FRAG_TOO_FAR",
        "PKT_TOO_BIG",
    ] {
        let found = cause(&dropped(PacketKind::Data, 0), &host(reason, "somewhere"));
        assert_eq!(found, Some((Cause::PacketDropped, Observed)), "{reason}");
    }
}

#[test]
fn what_is_harmless_is_not_reported() {
    for reason in [
        "NOT_SPECIFIED",
        "QUEUE_PURGE",
        "TCP_OLD_DATA",
        "TCP_OLD_ACK",
        "TCP_OLD_SEQUENCE",
        "TCP_RESET",
        "TCP_CLOSE",
        "SOCKET_CLOSE",
        "OTHERHOST",
        "TCP_INVALID_SEQUENCE",
        "TCP_ZEROWINDOW",
        "TCP_RFC7323_PAWS",
        "TCP_OVERWINDOW",
        "TCP_ABORT_ON_DATA",
        "SKB_CONSUMED",
        "UNHANDLED_PROTO",
        "DUP_FRAG",
        "A_REASON_OF_THE_FUTURE",
    ] {
        let syn = (reason != "NOT_SPECIFIED").then_some(PacketKind::Syn);
        for packet in syn.into_iter().chain([
            PacketKind::Ack,
            PacketKind::Data,
            PacketKind::Fin,
            PacketKind::Reset,
            PacketKind::Other,
        ]) {
            assert_eq!(cause(&dropped(packet, 0), &host(reason, "tcp_v4_rcv")), None, "{reason} {packet:?}");
        }
    }
    for packet in [PacketKind::Ack, PacketKind::Data, PacketKind::Fin, PacketKind::Reset] {
        assert_eq!(cause(&dropped(packet, 0), &host("NO_SOCKET", "tcp_v4_rcv")), None, "{packet:?}");
    }
    // Full at that moment, but the drop was elsewhere, or of a packet that no queue is needed for.
    assert_eq!(cause(&dropped(PacketKind::Ack, FULL), &host("NOT_SPECIFIED", "tcp_rcv_state_process")), None);
    assert_eq!(cause(&dropped(PacketKind::Fin, FULL), &host("NOT_SPECIFIED", "tcp_v4_rcv")), None);
    assert_eq!(cause(&dropped(PacketKind::Ack, FULL), &host("NO_SOCKET", "tcp_v4_rcv")), None);
    assert_eq!(cause(&dropped(PacketKind::Syn, 0), &host("NOT_SPECIFIED", "tcp_rcv_state_process")), None);
    // An event is newer than this program.
    let mut unknown = dropped(PacketKind::Syn, 0);
    unknown.key.event = 99;
    assert_eq!(cause(&unknown, &host("NO_SOCKET", "tcp_v4_rcv")), None);
}

#[test]
fn a_syn_that_a_connection_which_has_just_ended_refuses_is_told_as_that() {
    let of = |packet, reason| cause(&dropped(packet, 0), &host(reason, "tcp_v6_rcv"));
    assert_eq!(of(PacketKind::Syn, "TCP_RFC7323_TW_PAWS"), Some((Cause::PacketDropped, Observed)));
    // Before Linux 6.15, and for a sequence number that is too old.
    assert_eq!(of(PacketKind::Syn, "NOT_SPECIFIED"), Some((Cause::PacketDropped, Inferred)));
    assert_eq!(of(PacketKind::Data, "TCP_RFC7323_TW_PAWS"), None);
}

#[test]
fn where_the_kernel_has_no_reasons_the_place_has_to_do() {
    let of = |location: &str, packet, flags| {
        let host = HostFacts { reason: None, location: Some(location.to_owned()), ..HostFacts::default() };
        cause(&dropped(packet, flags), &host)
    };
    assert_eq!(of("nft_do_chain", PacketKind::Syn, 0), Some((Cause::FirewallDrop, Observed)));
    assert_eq!(of("nf_hook_slow", PacketKind::Syn, RESET), Some((Cause::FirewallReject, Observed)));
    assert_eq!(of("tcp_v4_rcv", PacketKind::Ack, FULL), Some((Cause::AcceptQueueFull, Inferred)));
    assert_eq!(of("tcp_v4_rcv", PacketKind::Syn, 0), None);
    assert_eq!(cause(&dropped(PacketKind::Syn, 0), &HostFacts::default()), None);
}

#[test]
fn netfilter_drops_for_a_rule_or_for_want_of_room() {
    let slow = || host("NETFILTER_DROP", "nf_hook_slow");
    let full = HostFacts { conntrack: Some((100, 100)), ..slow() };
    let found = of_record(&dropped(PacketKind::Syn, 0), &full).unwrap();
    assert_eq!((found.cause, found.evidence), (Cause::ConntrackFull, Inferred));
    assert_eq!(found.facts.conntrack, Some((100, 100)));
    let of = |flags, host: &HostFacts| cause(&dropped(PacketKind::Syn, flags), host);
    let rose = HostFacts { conntrack: Some((99, 100)), conntrack_dropped: true, ..slow() };
    assert_eq!(of(0, &rose), Some((Cause::ConntrackFull, Inferred)));
    // A rule of nftables, an answer of it, room left, and no limit at all.
    let by_rule = HostFacts { conntrack: Some((100, 100)), ..host("NETFILTER_DROP", "nft_do_chain") };
    assert_eq!(of(0, &by_rule), Some((Cause::FirewallDrop, Observed)));
    assert_eq!(of(RESET, &full), Some((Cause::FirewallReject, Observed)));
    for conntrack in [Some((99, 100)), Some((100, 0)), None] {
        assert_eq!(of(0, &HostFacts { conntrack, ..slow() }), Some((Cause::FirewallDrop, Observed)));
    }
}

#[test]
fn the_firewall_rule_is_named() {
    let found = HostFacts { rule: Some(rule("tcp dport 8080 drop")), ..host("NETFILTER_DROP", "nft_do_chain") };
    let rejection = of_record(&dropped(PacketKind::Syn, 0), &found).unwrap();
    assert_eq!(rejection.facts.rule, found.rule);
    assert_eq!(rejection.facts.answer, None);
    // It rejects, though no answer was seen.
    let rejects = HostFacts {
        candidates: vec![rule("reject"), rule("reject with tcp reset")],
        rule_rejects: true,
        ..host("NETFILTER_DROP", "nft_do_chain")
    };
    let rejection = of_record(&dropped(PacketKind::Syn, 0), &rejects).unwrap();
    assert_eq!((rejection.cause, rejection.evidence), (Cause::FirewallReject, Inferred));
    assert_eq!((rejection.facts.candidates.len(), rejection.facts.answer), (2, None));
    let answer = |flags| of_record(&dropped(PacketKind::Syn, flags), &rejects).unwrap().facts.answer;
    assert_eq!((answer(RESET).as_deref(), answer(ICMP).as_deref()), (Some("a reset"), Some("an ICMP error")));
}

#[test]
fn events_that_are_no_drops() {
    let of = |event, host: &HostFacts| cause(&record(event, PacketKind::Syn, 0, v6()), host);
    let nothing = HostFacts::default();
    assert_eq!(of(Event::AcceptQueueFull, &nothing), Some((Cause::AcceptQueueFull, Observed)));
    assert_eq!(of(Event::SynQueueFull, &nothing), Some((Cause::SynQueueFull, Observed)));
    assert_eq!(of(Event::SynackUnanswered, &nothing), Some((Cause::SynackUnanswered, Observed)));
    // What the data was is known of its connection only.
    for event in [Event::DataAfterClose, Event::FinAfterData, Event::TakenBack] {
        assert_eq!(of(event, &nothing), None, "{event:?}");
    }
    assert_eq!(of(Event::SynUnanswered, &nothing), None);
    let route = Some("Network is unreachable".to_owned());
    let unroutable = HostFacts { route: route.clone(), ..nothing };
    assert_eq!(of(Event::SynUnanswered, &unroutable), Some((Cause::NoRouteBack, Inferred)));
    let rejection = of_record(&record(Event::SynUnanswered, PacketKind::Syn, 0, v6()), &unroutable).unwrap();
    assert_eq!(rejection.facts.route, route);
}

#[test]
fn a_full_queue_has_its_figures_and_the_process_that_is_slow() {
    let mut full = record(Event::AcceptQueueFull, PacketKind::Syn, 0, v4());
    full.queue = Queue { length: 129, limit: 128 };
    let at = |address: &str, name| (address.parse().unwrap(), Some(process(name, 1, None)));
    let wildcard = at("[::]:8080", "wildcard");
    let host = HostFacts {
        listens: vec![at("127.0.0.1:8080", "loopback"), wildcard.clone(), at("10.0.2.5:8080", "exact")],
        ..HostFacts::default()
    };
    let rejection = of_record(&full, &host).unwrap();
    assert_eq!((rejection.facts.queue_length, rejection.facts.queue_limit), (Some(129), Some(128)));
    assert_eq!(rejection.facts.packet.as_deref(), Some("SYN"));
    assert_eq!(rejection.facts.process, Some(process("exact", 1, None)));
    let only = HostFacts { listens: vec![wildcard], ..HostFacts::default() };
    assert_eq!(of_record(&full, &only).unwrap().facts.process, Some(process("wildcard", 1, None)));
    // IPv4's wildcard serves no IPv6.
    let v4_only = HostFacts { listens: vec![at("0.0.0.0:443", "v4")], ..HostFacts::default() };
    let six = record(Event::AcceptQueueFull, PacketKind::Syn, 0, v6());
    assert_eq!(of_record(&six, &v4_only).unwrap().facts.process, None);
    assert_eq!(of_record(&six, &v4_only).unwrap().facts.queue_limit, None, "was not looked at");
}

#[test]
fn where_else_something_listens_is_told() {
    let gunicorn = || Some(process("gunicorn", 812, None));
    let of = |listens: &[(&str, Option<_>)]| {
        let listens = listens.iter().map(|(at, process)| (at.parse().unwrap(), process.clone())).collect();
        let host = HostFacts { listens, ..host("NO_SOCKET", "tcp_v4_rcv") };
        of_record(&dropped(PacketKind::Syn, 0), &host).unwrap().facts
    };
    let loopback = of(&[("127.0.0.1:8080", gunicorn()), ("[::1]:8080", gunicorn())]);
    assert_eq!((loopback.listens.len(), loopback.process), (2, gunicorn()));
    let two = of(&[("127.0.0.1:8080", gunicorn()), ("10.9.9.9:8080", None)]);
    assert_eq!((two.listens.len(), two.process), (2, None));
    // They were opened since, or they would have got it.
    let since = of(&[("0.0.0.0:8080", gunicorn()), ("[::]:8080", gunicorn()), ("10.0.2.5:8080", gunicorn())]);
    assert!(since.listens.is_empty() && since.process.is_none());
}

#[test]
fn the_race_names_who_closed_and_when() {
    let mut late = record(Event::DataAfterClose, PacketKind::Data, 0, v4());
    let by = Ender { pid: 77, how: How::Closed as u16, signal: 0, comm: *b"nginx\0\0\0\0\0\0\0\0\0\0\0" };
    late.ended =
        Ended { connection: 0x1a2b, ended: 9 * S - 200 * US, idle: 5 * S, by, requests: 2, ..Ended::default() };
    let rejection = of_late(&late, false, &HostFacts::default()).unwrap();
    assert_eq!((rejection.facts.idle_ns, rejection.facts.late_ns), (Some(5 * S), Some(200 * US)));
    assert_eq!(rejection.facts.ended_by, Some(process("nginx", 77, Some("closed"))));
    assert_eq!(rejection.connection, Some(0x1a2b));
    let [killed, exited, unknown] = [(How::Killed, 9), (How::Exited, 0), (How::Unknown, 0)].map(|(how, signal)| {
        let by = Ender { how: how as u16, signal, ..by };
        let record = RejectionRecord { ended: Ended { by, ..late.ended }, ..late };
        of_late(&record, false, &HostFacts::default()).unwrap().facts.ended_by.unwrap().how
    });
    assert_eq!((killed.as_deref(), exited.as_deref()), (Some("killed by signal 9"), Some("exited")));
    assert_eq!(unknown, None);
    // What is not known is absent.
    late.ended = Ended { requests: 2, ..Ended::default() };
    let rejection = of_late(&late, false, &HostFacts::default()).unwrap();
    assert_eq!((rejection.facts.idle_ns, rejection.facts.late_ns, rejection.connection), (None, None, None));
    assert_eq!(rejection.facts.ended_by, None);
}

#[test]
fn data_after_the_close_is_told_by_what_it_is() {
    let mut late = record(Event::DataAfterClose, PacketKind::Data, 0, v4());
    late.payload = 400;
    late.ended = Ended { ended: 9 * S - 200 * US, idle: 5 * S, requests: 2, ..Ended::default() };
    let of = |late: &RejectionRecord, has_fin| of_late(late, has_fin, &HostFacts::default());
    let found = of(&late, false).unwrap();
    assert_eq!((found.cause, found.evidence, found.count), (Cause::KeepaliveRace, Observed, 1));
    assert_eq!((found.facts.unread, found.facts.closed_unread), (Some(400), false));
    // The first data of the connection: it was closed unread, and its age is not an idle time.
    late.ended.requests = 0;
    let found = of(&late, false).unwrap();
    assert_eq!((found.cause, found.evidence), (Cause::ResetBeforeResponse, Observed));
    assert!(found.facts.closed_unread && found.facts.never_read);
    assert_eq!((found.facts.idle_ns, found.facts.late_ns), (None, Some(200 * US)));
    // The rest of an upload: it was sent before the whole response had come.
    (late.ended.requests, late.ended.written, late.acknowledges) = (1, 1000, 500);
    let found = of(&late, false).unwrap();
    assert_eq!((found.cause, found.evidence), (Cause::ResetDuringUpload, Observed));
    late.opening = Opening::TlsAlert as u32;
    assert_eq!(of(&late, false), None);
}

#[test]
fn a_record_is_one_event_and_a_tally_all_of_them() {
    let host = host("TCP_CSUM", "tcp_v4_rcv");
    let record = dropped(PacketKind::Data, Key::OUTGOING);
    let one = of_record(&record, &host).unwrap();
    assert_eq!((one.count, one.first, one.last, one.netns), (1, 9 * S, 9 * S, 7));
    assert_eq!((one.peer, one.local), ("10.0.1.23:41234".parse().unwrap(), "10.0.2.5:8080".parse().unwrap()));
    assert_eq!((one.reason.as_deref(), one.location.as_deref()), (Some("TCP_CSUM"), Some("tcp_v4_rcv")));
    assert!(one.facts.outgoing && one.facts.packet.as_deref() == Some("data"));
    let tally = Tally { count: 41, first: S, last: 8 * S, recorded: 7 * S, ..Tally::default() };
    let all = of_tally(&record.key, &tally, &host).unwrap();
    assert_eq!((all.count, all.first, all.last), (41, S, 8 * S));
    assert_eq!(all.peer, "10.0.1.0:0".parse().unwrap());
    let expected = Rejection { count: 41, first: S, last: 8 * S, peer: all.peer, ..one };
    assert_eq!(all, expected);
    let anyone = Key { network: Endpoint::NONE.address, ..record.key };
    assert_eq!(of_tally(&anyone, &tally, &host).unwrap().peer, "[::]:0".parse().unwrap());
}
