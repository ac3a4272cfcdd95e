//! Rulesets as nft 1.0.6 and iptables 1.8.9 print them, and packets that come to them.

mod matches;

use super::{
    likeliest, nft,
    rules::{Family, Hook, Place, Ruleset},
    search::{Packet, suspects},
    shortened, xtables,
};
use tracer_common::rejection::PacketKind as Kind;

const INPUT: &str = r#"{"chain": {"family": "inet", "table": "filter", "name": "input", "handle": 1, "type": "filter", "hook": "input", "prio": 0, "policy": "drop"}}"#;

fn ruleset(elements: &[&str]) -> Ruleset {
    let metainfo = r#"{"metainfo": {"version": "1.0.6", "json_schema_version": 1}}"#;
    let json = format!(r#"{{"nftables": [{metainfo}, {}]}}"#, elements.join(", "));
    nft::parse(json.as_bytes()).unwrap()
}

/// Rules in the chain `input`, with the handles 1, 2, and so on.
fn rules(expressions: &[&str]) -> Vec<String> {
    let rule = |(handle, expression): (usize, &&str)| in_chain("inet", "filter", "input", handle + 1, expression);
    expressions.iter().enumerate().map(rule).collect()
}

fn in_chain(family: &str, table: &str, chain: &str, handle: usize, expression: &str) -> String {
    format!(
        r#"{{"rule": {{"family": "{family}", "table": "{table}", "chain": "{chain}", "handle": {handle}, "expr": [{expression}]}}}}"#
    )
}

fn syn() -> Packet {
    let (source, destination) = ("10.0.1.7:41234".parse().unwrap(), "10.0.2.5:8080".parse().unwrap());
    Packet { source, destination, kind: Kind::Syn, outgoing: false }
}

fn syn6() -> Packet {
    let (source, destination) = ("[2001:db8::7]:41234".parse().unwrap(), "[2001:db8::5]:8080".parse().unwrap());
    Packet { source, destination, ..syn() }
}

/// The suspects: a chain and the handle of the rule in it; none is the policy.
fn found(ruleset: &Ruleset, packet: &Packet) -> Vec<(String, Option<u64>)> {
    let name = |place: &Place| place.to_string();
    let found = suspects(ruleset, packet, true, false);
    found.iter().map(|suspect| (name(suspect.place), suspect.entry.and_then(|entry| entry.handle))).collect()
}

/// A match.
fn matching(operator: &str, left: &str, right: &str) -> String {
    format!(r#"{{"match": {{"op": "{operator}", "left": {left}, "right": {right}}}}}"#)
}

fn payload(protocol: &str, field: &str) -> String {
    format!(r#"{{"payload": {{"protocol": "{protocol}", "field": "{field}"}}}}"#)
}

/// `tcp dport PORT` and a statement.
fn port(port: u16, statement: &str) -> String {
    format!("{}, {statement}", matching("==", &payload("tcp", "dport"), &port.to_string()))
}

const DROP: &str = r#"{"drop": null}"#;
const ACCEPT: &str = r#"{"accept": null}"#;
const ON_LOOPBACK: &str = r#"{"match": {"op": "==", "left": {"meta": {"key": "iif"}}, "right": "lo"}}"#;

#[test]
fn the_packet_ends_at_the_first_verdict_that_surely_is_its_own() {
    let handles = |expressions: &[&str]| {
        let rules = rules(expressions);
        let elements: Vec<&str> = [INPUT].into_iter().chain(rules.iter().map(String::as_str)).collect();
        found(&ruleset(&elements), &syn()).into_iter().map(|(_, handle)| handle).collect::<Vec<_>>()
    };
    let (loopback, drop) = (format!("{ON_LOOPBACK}, {ACCEPT}"), port(8080, DROP));
    let unsure = format!("{ON_LOOPBACK}, {DROP}");
    // The usual case: one way to be dropped is left, whether or not it came over loopback.
    assert_eq!(handles(&[&loopback, &port(22, ACCEPT)]), [None]);
    assert_eq!(handles(&[&loopback, &port(22, ACCEPT), &drop, &port(8080, ACCEPT)]), [Some(3)]);
    assert_eq!(handles(&[&port(8080, ACCEPT), &drop]), []);
    // A SYN on a connection that is still tracked may be invalid; that is thought of last.
    let state = r#"{"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": "invalid"}}"#;
    let invalid = format!("{state}, {DROP}");
    assert_eq!(handles(&[&invalid, &port(8080, ACCEPT)]), [Some(1)]);
    assert_eq!(handles(&[&invalid, &port(22, ACCEPT)]), [None]);
    assert_eq!(handles(&[&unsure, &drop, DROP]), [Some(1), Some(2)]);
    assert_eq!(handles(&[&port(8080, r#"{"return": null}"#), DROP]), [None]);
    assert_eq!(handles(&[&port(8080, r#"{"queue": {"num": 3}}"#), DROP]), []);
    assert_eq!(handles(&[&port(8080, r#"{"dnat": {"addr": "10.1.1.1", "port": 80}}"#), DROP]), []);
}

#[test]
fn chains_are_followed() {
    let extra = r#"{"chain": {"family": "inet", "table": "filter", "name": "extra", "handle": 2}}"#;
    let other = r#"{"chain": {"family": "inet", "table": "filter", "name": "other", "handle": 3}}"#;
    let jump = |kind: &str, chain: &str| format!(r#"{{"{kind}": {{"target": "{chain}"}}}}"#);
    let find = |first: &str, in_extra: &str| {
        let first = in_chain("inet", "filter", "input", 1, first);
        let rules = [
            in_chain("inet", "filter", "input", 2, r#"{"reject": {"type": "icmpx", "expr": "admin-prohibited"}}"#),
            in_chain("inet", "filter", "extra", 7, in_extra),
            in_chain("inet", "filter", "other", 8, DROP),
        ];
        let elements = [INPUT, extra, other, &first, &rules[0], &rules[1], &rules[2]];
        found(&ruleset(&elements), &syn()).into_iter().map(|(_, handle)| handle).collect::<Vec<_>>()
    };
    assert_eq!(find(&jump("jump", "extra"), DROP), [Some(7)]);
    assert_eq!(find(&jump("jump", "extra"), &port(22, DROP)), [Some(2)]);
    assert_eq!(find(&jump("jump", "extra"), &port(8080, r#"{"return": null}"#)), [Some(2)]);
    // Behind a goto comes the policy.
    assert_eq!(find(&jump("goto", "extra"), &port(22, DROP)), [None]);
    assert_eq!(find(&format!("{ON_LOOPBACK}, {}", jump("jump", "extra")), DROP), [Some(7), Some(2)]);
    assert_eq!(find(&jump("jump", "extra"), &jump("jump", "other")), [Some(8)]);
    // The kernel has no such loops.
    assert_eq!(find(&jump("jump", "extra"), &jump("jump", "extra")), [Some(2)]);
    assert_eq!(find(&jump("jump", "gone"), DROP), [Some(2)]);
}

#[test]
fn verdict_maps_are_looked_up() {
    let extra = r#"{"chain": {"family": "inet", "table": "filter", "name": "extra", "handle": 2}}"#;
    let named = r#"{"map": {"family": "inet", "name": "verdicts", "table": "filter", "type": "inet_service", "handle": 6, "map": "verdict", "elem": [["*", {"accept": null}], [91, {"drop": null}], [8080, {"jump": {"target": "extra"}}]]}}"#;
    let rule = in_chain("inet", "filter", "extra", 7, DROP);
    let find = |key: &str, data: &str| {
        let vmap = in_chain("inet", "filter", "input", 1, &format!(r#"{{"vmap": {{"key": {key}, "data": {data}}}}}"#));
        let found = found(&ruleset(&[INPUT, extra, named, &vmap, &rule]), &syn());
        found.into_iter().map(|(_, handle)| handle).collect::<Vec<_>>()
    };
    let dport = payload("tcp", "dport");
    let state = r#"{"ct": {"key": "state"}}"#;
    let states = r#"{"set": [["invalid", {"drop": null}], ["established", {"accept": null}]]}"#;
    assert_eq!(find(&dport, r#""@verdicts""#), [Some(7)]);
    assert_eq!(find(&payload("tcp", "sport"), r#""@verdicts""#), []);
    assert_eq!(
        find(&dport, r#"{"set": [[22, {"accept": null}], [{"range": [8000, 9000]}, {"drop": null}]]}"#),
        [Some(1)]
    );
    assert_eq!(find(state, states), [None]);
    assert_eq!(find(&payload("udp", "dport"), r#"{"set": [[53, {"drop": null}]]}"#), [None]);
    let interface = r#"{"meta": {"key": "iifname"}}"#;
    let zones = r#"{"set": [["eth0", {"goto": {"target": "extra"}}], ["eth1", {"drop": null}]]}"#;
    assert_eq!(find(interface, zones), [Some(7), Some(1), None]);
    let several = Packet { source: "10.0.1.0:0".parse().unwrap(), ..syn() };
    let sources = r#"{"set": [["10.0.1.9", {"drop": null}], [{"prefix": {"addr": "10.0.1.0", "len": 24}}, {"accept": null}], ["*", {"drop": null}]]}"#;
    let key = payload("ip", "saddr");
    let vmap = in_chain("inet", "filter", "input", 1, &format!(r#"{{"vmap": {{"key": {key}, "data": {sources}}}}}"#));
    let handles = |packet: &Packet| {
        let found = found(&ruleset(&[INPUT, &vmap]), packet);
        found.into_iter().map(|(_, handle)| handle).collect::<Vec<_>>()
    };
    assert_eq!(handles(&syn()), []);
    assert_eq!(handles(&Packet { source: "10.9.9.9:1".parse().unwrap(), ..syn() }), [Some(1)]);
    assert_eq!(handles(&several), [Some(1), None]);
}

#[test]
fn base_chains_come_in_the_order_of_hooks_and_priorities() {
    let base = |family: &str, table: &str, hook: &str, priority: i32| {
        format!(
            r#"{{"chain": {{"family": "{family}", "table": "{table}", "name": "{hook}", "handle": 1, "type": "filter", "hook": "{hook}", "prio": {priority}, "policy": "accept"}}}}, {}"#,
            in_chain(family, table, hook, 5, &format!("{ON_LOOPBACK}, {DROP}"))
        )
    };
    let chains = [
        base("inet", "b", "input", 10),
        base("ip", "c", "input", -10),
        base("ip6", "c", "input", -10),
        base("inet", "a", "forward", 0),
        base("inet", "a", "prerouting", -300),
        base("netdev", "z", "ingress", 0),
        base("bridge", "z", "input", 0),
        base("inet", "a", "output", 0),
        base("inet", "a", "postrouting", 0),
    ];
    let ruleset = ruleset(&chains.each_ref().map(String::as_str));
    let way = |packet: &Packet, here| {
        let found = suspects(&ruleset, packet, here, false);
        found.iter().map(|suspect| suspect.place.to_string()).collect::<Vec<_>>()
    };
    let input = ["netdev z ingress", "inet a prerouting", "ip c input", "inet b input"];
    assert_eq!(way(&syn(), true), input);
    assert_eq!(way(&syn6(), true), ["netdev z ingress", "inet a prerouting", "ip6 c input", "inet b input"]);
    // Behind docker's port mapping the packet is forwarded.
    let forward = ["netdev z ingress", "inet a prerouting", "inet a forward", "inet a postrouting"];
    assert_eq!(way(&syn(), false), forward);
    let outgoing = Packet { outgoing: true, ..syn() };
    assert_eq!(way(&outgoing, true), ["inet a output", "inet a postrouting"]);
}

const SAVE: &str = r#"# Generated by iptables-nft-save v1.8.9 (nf_tables) on Sun Nov 22 11:14:31 2026
*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A PREROUTING -p tcp -m tcp --dport 7 -j DROP
COMMIT
# Completed on Sun Nov 22 11:14:31 2026
# Generated by iptables-nft-save v1.8.9 (nf_tables) on Sun Nov 22 11:14:31 2026
*filter
:INPUT DROP [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:web - [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -m state --state INVALID -j DROP
-A INPUT -s 10.0.0.0/8 -p tcp -m multiport --dports 80,443,1000:2000 -j ACCEPT
-A INPUT -p tcp -m tcp --dport 8080 -m comment --comment "the \"app\" -j DROP" -j web
-A INPUT -m iprange --src-range 10.0.0.1-10.0.0.5 -j DROP
-A INPUT -j REJECT --reject-with icmp-host-prohibited
-A web ! -s 192.0.2.0/24 -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j REJECT --reject-with tcp-reset
-A web -p tcp -m tcp --sport 1024:65535 --tcp-flags SYN,ACK SYN -m limit --limit 5/sec -j LOG --log-prefix "a b"
-A web -m set --match-set blocked src -j DROP
-A web -j RETURN
COMMIT
# Completed on Sun Nov 22 11:14:31 2026
"#;

#[test]
fn tables_of_iptables_are_read() {
    let ruleset = xtables::parse(SAVE.as_bytes(), Family::Ip, true).unwrap();
    let place = |chain: &str| Place { family: Family::Ip, table: "filter".to_owned(), chain: chain.to_owned() };
    let input = ruleset.chains[&place("INPUT")].base.unwrap();
    assert_eq!((input.hook, input.priority, input.drops), (Hook::Input, 0, true));
    assert_eq!(ruleset.chains[&place("web")].base, None);
    assert_eq!(ruleset.chains[&place("web")].entries.len(), 3);
    let texts = |packet: &Packet| {
        let found = suspects(&ruleset, packet, true, false);
        found.iter().map(|suspect| suspect.entry.unwrap().text.clone().unwrap()).collect::<Vec<_>>()
    };
    let to = |port: u16| Packet { destination: ([10, 0, 2, 5], port).into(), ..syn() };
    let reset =
        "-A web ! -s 192.0.2.0/24 -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j REJECT --reject-with tcp-reset";
    let last = "-A INPUT -j REJECT --reject-with icmp-host-prohibited";
    assert_eq!(texts(&to(8080)), [reset]);
    assert_eq!(texts(&to(1500)), ["-A INPUT -m state --state INVALID -j DROP"]);
    assert_eq!(texts(&to(2001)), [last]);
    assert_eq!(texts(&to(7)), ["-A PREROUTING -p tcp -m tcp --dport 7 -j DROP"]);
    let from = |address: [u8; 4], port: u16| Packet { source: (address, 41234).into(), ..to(port) };
    assert_eq!(texts(&from([192, 0, 2, 9], 8080)), ["-A web -m set --match-set blocked src -j DROP", last]);
    assert_eq!(texts(&from([10, 0, 0, 3], 2001)), ["-A INPUT -m iprange --src-range 10.0.0.1-10.0.0.5 -j DROP"]);
    // A packet of IPv6 does not come there.
    assert_eq!(texts(&syn6()), [""; 0]);
}

#[test]
fn the_other_kind_of_iptables_is_not_taken_for_this() {
    assert!(xtables::parse(SAVE.as_bytes(), Family::Iptables, false).is_none());
    let legacy = SAVE.replace("iptables-nft-save v1.8.9 (nf_tables)", "iptables-save v1.8.9");
    assert!(xtables::parse(legacy.as_bytes(), Family::Ip, true).is_none());
    let ruleset = xtables::parse(legacy.as_bytes(), Family::Iptables, false).unwrap();
    let rejects = suspects(&ruleset, &syn(), true, false);
    assert_eq!(rejects.iter().map(|suspect| suspect.place.to_string()).collect::<Vec<_>>(), ["iptables filter web"]);
    assert!(rejects[0].rejects);
    // The kernel's place says that it was a rule of nf_tables.
    assert!(suspects(&ruleset, &syn(), true, true).is_empty());
}

#[test]
fn an_answer_points_to_the_rules_that_reject() {
    let unsure = format!("{ON_LOOPBACK}, {DROP}");
    let rules = rules(&[&unsure, r#"{"reject": {"type": "tcp reset"}}"#]);
    let ruleset = ruleset(&[INPUT, &rules[0], &rules[1]]);
    let packet = syn();
    let handles = |answered| {
        let found = likeliest(suspects(&ruleset, &packet, true, false), answered);
        found.iter().filter_map(|suspect| suspect.entry?.handle).collect::<Vec<_>>()
    };
    assert_eq!((handles(false), handles(true)), (vec![1, 2], vec![2]));
}

#[test]
fn the_text_of_a_rule_is_that_of_its_handle() {
    let listing = "table inet filter {\n\tchain input { # handle 2\n\t\ttype filter hook input priority filter; policy drop;\n\
        \t\tiif \"lo\" accept # handle 8\n\
        \t\ttcp dport 96 log prefix \"x # handle 7 \" drop comment \"why not\" # handle 45\n\
        \t\ttcp dport { 1, 3,\n\t\t\t    5, 7 } drop # handle 53\n\t\ticmp type echo-request drop # handle 41\n\t}\n}\n";
    let texts = nft::texts(listing.as_bytes(), &[45, 53, 41, 2, 7, 99]);
    let text = |handle| texts.get(&handle).map(String::as_str);
    assert_eq!(text(45), Some(r#"tcp dport 96 log prefix "x # handle 7 " drop comment "why not""#));
    assert_eq!(text(53), Some("tcp dport { 1, 3, 5, 7 } drop"));
    assert_eq!(text(41), Some("icmp type echo-request drop"));
    assert_eq!(texts.len(), 3);
    assert_eq!(shortened(&"ü".repeat(1000)).chars().count(), 151);
}

#[test]
fn too_much_is_not_kept() {
    let rule = in_chain("inet", "filter", "input", 1, DROP);
    let json = |rules: usize| format!(r#"{{"nftables": [{}]}}"#, vec![rule.as_str(); rules].join(","));
    assert!(nft::parse(json(10_000).as_bytes()).is_some());
    assert!(nft::parse(json(10_001).as_bytes()).is_none());
    let ports: Vec<String> = (1..=5000).map(|port: u16| port.to_string()).collect();
    let set = format!(
        r#"{{"set": {{"family": "inet", "name": "many", "table": "filter", "type": "inet_service", "elem": [{}]}}}}"#,
        ports.join(",")
    );
    let many = ruleset(&[&set]).sets.into_values().next().unwrap();
    assert!(many.ranges.len() < 5000 && !many.complete);
}
