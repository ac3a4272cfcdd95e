//! What rules match, as nft 1.0.6 writes it in JSON.

use super::{INPUT, found, matching, payload, rules, ruleset, syn, syn6};
use crate::host::ruleset::search::Packet;
use tracer_common::rejection::PacketKind as Kind;

/// Of a rule that drops in a chain whose policy is to drop: whether the packet surely comes to it, may, or does not.
fn verdict(matches: &str, packet: &Packet) -> &'static str {
    let rules = rules(&[&format!(r#"{matches}, {{"counter": {{"packets": 0, "bytes": 0}}}}, {{"drop": null}}"#)]);
    let sets = [
        r#"{"set": {"family": "inet", "name": "nets", "table": "filter", "type": "ipv4_addr", "handle": 3, "flags": ["interval"], "elem": [{"prefix": {"addr": "10.0.0.0", "len": 16}}, {"range": ["192.0.2.1", "192.0.2.9"]}, "198.51.100.7"]}}"#,
        r#"{"set": {"family": "inet", "name": "ports", "table": "filter", "type": "inet_service", "handle": 4, "elem": [81, 82]}}"#,
        r#"{"set": {"family": "inet", "name": "dyn", "table": "filter", "type": "ipv4_addr", "handle": 5, "size": 65535, "flags": ["timeout"], "timeout": 10, "elem": [{"elem": {"val": "10.0.1.7", "timeout": 10, "expires": 3}}]}}"#,
        r#"{"set": {"family": "inet", "name": "pairs", "table": "filter", "type": ["ipv4_addr", "inet_service"], "handle": 6}}"#,
    ];
    let elements: Vec<&str> = [INPUT].into_iter().chain(sets).chain(rules.iter().map(String::as_str)).collect();
    let found = found(&ruleset(&elements), packet);
    match found.iter().map(|(_, handle)| *handle).collect::<Vec<_>>().as_slice() {
        [Some(1)] => "yes",
        [Some(1), None] => "maybe",
        [None] => "no",
        other => panic!("{other:?}"),
    }
}

#[test]
fn addresses_and_ports_are_compared() {
    let cases = [
        ("ip", "saddr", "==", r#""10.0.1.7""#, "yes"),
        ("ip", "saddr", "==", r#"{"prefix": {"addr": "10.0.0.0", "len": 8}}"#, "yes"),
        ("ip", "saddr", "==", r#"{"prefix": {"addr": "10.9.0.0", "len": 16}}"#, "no"),
        ("ip", "daddr", "==", r#"{"range": ["10.0.2.0", "10.0.2.5"]}"#, "yes"),
        ("ip", "saddr", "!=", r#"{"set": [{"prefix": {"addr": "10.0.0.0", "len": 8}}, "11.0.0.1"]}"#, "no"),
        ("ip", "saddr", "==", r#""@nets""#, "yes"),
        ("ip", "daddr", "!=", r#""@nets""#, "no"),
        ("ip", "saddr", "==", r#""@dyn""#, "yes"),
        // It may have been added since.
        ("ip", "daddr", "==", r#""@dyn""#, "maybe"),
        ("ip", "saddr", "==", r#""@gone""#, "maybe"),
        ("ip6", "saddr", "!=", r#"{"prefix": {"addr": "2001:db8::", "len": 32}}"#, "no"),
        ("tcp", "dport", "==", "8080", "yes"),
        ("tcp", "dport", "==", r#"{"set": [22, {"range": [8000, 8090]}, 443]}"#, "yes"),
        ("tcp", "dport", "!=", r#"{"range": [80, 90]}"#, "yes"),
        ("tcp", "dport", "==", r#""@ports""#, "no"),
        ("tcp", "dport", "==", r#"{"set": [22, "http-alt"]}"#, "maybe"),
        ("tcp", "sport", ">=", "1024", "yes"),
        ("tcp", "dport", "<", "8080", "no"),
        ("tcp", "dport", ">", "65535", "no"),
        ("th", "dport", "==", "8080", "yes"),
        ("udp", "dport", "==", "53", "no"),
        ("udp", "dport", "!=", "53", "no"),
        ("icmp", "type", "==", r#""echo-request""#, "no"),
        ("ip", "dscp", "==", "3", "maybe"),
        ("ip", "protocol", "==", r#""tcp""#, "yes"),
        ("ip6", "nexthdr", "==", r#""tcp""#, "no"),
    ];
    for (protocol, field, operator, right, expected) in cases {
        let text = matching(operator, &payload(protocol, field), right);
        assert_eq!(verdict(&text, &syn()), expected, "{text}");
    }
    let source6 = payload("ip6", "saddr");
    assert_eq!(verdict(&matching("==", &source6, r#"{"prefix": {"addr": "2001:db8::", "len": 32}}"#), &syn6()), "yes");
    assert_eq!(verdict(&matching("==", &source6, r#"{"set": ["fe80::1", "2001:db8::8"]}"#), &syn6()), "no");
    assert_eq!(verdict(&matching("!=", &payload("ip", "saddr"), r#""10.0.1.7""#), &syn6()), "no");
}

#[test]
fn protocols_states_and_flags_are_compared() {
    let [l4proto, nfproto, protocol, iifname, mark] =
        ["l4proto", "nfproto", "protocol", "iifname", "mark"].map(|key| format!(r#"{{"meta": {{"key": "{key}"}}}}"#));
    let [state, direction] = ["state", "direction"].map(|key| format!(r#"{{"ct": {{"key": "{key}"}}}}"#));
    let flags = payload("tcp", "flags");
    let masked = format!(r#"{{"&": [{flags}, ["fin", "syn", "rst", "ack"]]}}"#);
    let or = format!(r#"{{"&": [{flags}, {{"|": [{{"|": ["fin", "syn"]}}, "ack"]}}]}}"#);
    let concat = format!(r#"{{"concat": [{}, {}]}}"#, payload("ip", "saddr"), payload("tcp", "dport"));
    let and = format!(r#"{{"&": [{}, "0.0.0.255"]}}"#, payload("ip", "daddr"));
    let cases = [
        ("==", &l4proto, r#""tcp""#, "yes"),
        ("==", &l4proto, r#"{"set": ["tcp", "udp"]}"#, "yes"),
        ("==", &l4proto, "17", "no"),
        ("!=", &l4proto, r#""icmp""#, "yes"),
        ("==", &nfproto, r#""ipv4""#, "yes"),
        ("==", &protocol, r#""ip6""#, "no"),
        ("==", &iifname, r#""eth*""#, "maybe"),
        ("==", &mark, "5", "maybe"),
        ("in", &state, r#"["established", "related"]"#, "no"),
        ("==", &state, r#"{"set": ["established", "new"]}"#, "yes"),
        ("in", &state, r#""new""#, "yes"),
        ("in", &state, r#""invalid""#, "no"),
        ("==", &direction, r#""original""#, "maybe"),
        ("in", &flags, r#""syn""#, "yes"),
        ("in", &flags, r#"["ack", "rst"]"#, "no"),
        ("in", &flags, r#""psh""#, "maybe"),
        ("==", &masked, r#""syn""#, "yes"),
        ("!=", &masked, r#""syn""#, "no"),
        ("==", &or, r#"["syn", "ack"]"#, "no"),
        ("==", &flags, r#""syn""#, "maybe"),
        ("==", &flags, r#"{"set": [{"|": ["syn", "ack"]}, "syn"]}"#, "maybe"),
        ("==", &concat, r#"{"set": [{"concat": ["10.0.0.1", 80]}]}"#, "maybe"),
        ("==", &concat, r#""@pairs""#, "maybe"),
        ("==", &and, r#""0.0.0.9""#, "maybe"),
    ];
    for (operator, left, right, expected) in cases {
        let text = matching(operator, left, right);
        assert_eq!(verdict(&text, &syn()), expected, "{text}");
    }
    // To connection tracking, data may be anything.
    let data = Packet { kind: Kind::Data, ..syn() };
    assert_eq!(verdict(&matching("in", &state, r#""invalid""#), &data), "maybe");
    assert_eq!(verdict(&matching("==", &masked, r#""syn""#), &data), "no");
}

#[test]
fn what_depends_on_other_packets_is_not_judged() {
    let statements = [
        r#"{"limit": {"rate": 10, "burst": 5, "per": "second"}}"#,
        r#"{"ct count": {"val": 5, "inv": true}}"#,
        r#"{"quota": {"val": 5, "val_unit": "mbytes", "inv": true}}"#,
        r#"{"set": {"op": "update", "elem": {"payload": {"protocol": "ip", "field": "saddr"}}, "set": "@dyn", "stmt": [{"limit": {"rate": 3, "burst": 5, "per": "second", "inv": true}}]}}"#,
        r#"{"xt": {"type": "match", "name": "owner"}}"#,
        r#"{"xt": null}"#,
        r#"{"something": {"of": "the future"}}"#,
    ];
    for statement in statements {
        assert_eq!(verdict(statement, &syn()), "maybe", "{statement}");
    }
    for statement in [r#"{"log": {"prefix": "x"}}"#, r#"{"xt": {"type": "match", "name": "comment"}}"#] {
        assert_eq!(verdict(statement, &syn()), "yes", "{statement}");
    }
}

#[test]
fn of_several_peers_only_the_network_is_known() {
    let several = Packet { source: "10.0.1.0:0".parse().unwrap(), ..syn() };
    let saddr = |right| verdict(&matching("==", &payload("ip", "saddr"), right), &several);
    assert_eq!(saddr(r#"{"prefix": {"addr": "10.0.0.0", "len": 23}}"#), "yes");
    assert_eq!(saddr(r#""10.0.1.7""#), "maybe");
    assert_eq!(saddr(r#""10.0.1.0""#), "maybe");
    assert_eq!(saddr(r#""10.0.2.7""#), "no");
    assert_eq!(verdict(&matching(">=", &payload("tcp", "sport"), "1024"), &several), "maybe");
    let several = Packet { source: "[2001:db8::]:0".parse().unwrap(), ..syn6() };
    let saddr = |right| verdict(&matching("==", &payload("ip6", "saddr"), right), &several);
    assert_eq!(saddr(r#"{"prefix": {"addr": "2001:db8::", "len": 64}}"#), "yes");
    assert_eq!(saddr(r#"{"prefix": {"addr": "2001:db8::", "len": 65}}"#), "maybe");
    // Not even that.
    let unknown = Packet { source: "[::]:0".parse().unwrap(), ..syn() };
    let saddr = |right| verdict(&matching("==", &payload("ip", "saddr"), right), &unknown);
    assert_eq!((saddr(r#""10.0.2.7""#), saddr(r#"{"prefix": {"addr": "0.0.0.0", "len": 0}}"#)), ("maybe", "maybe"));
}
