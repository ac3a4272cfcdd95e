//! Tests of the verdict: its sentences and their order.

use super::{Finding, Totals, verdict};
use crate::{
    explain::{
        Limits,
        causes::CAUSES,
        tests::{bare, process},
    },
    model::{
        namespaces::Namespaces,
        rejection::{Cause, CloseReason, Evidence, Facts, Rejection, Rule},
    },
};

const TOTALS: Totals = Totals { requests: 411, connections: 63 };

const fn finding(rejection: &Rejection, count: u64) -> Finding<'_> {
    Finding { rejection, count, group: None }
}

fn said(findings: &[Finding<'_>]) -> Vec<String> {
    verdict(findings, TOTALS, Limits::default(), &Namespaces::default())
}

fn queue_full() -> Rejection {
    let facts = Facts {
        queue_length: Some(131),
        queue_limit: Some(128),
        packet: Some("SYN".to_owned()),
        process: Some(process("gunicorn", 812, None)),
        ..Facts::default()
    };
    Rejection { facts, ..bare(Cause::AcceptQueueFull) }
}

#[test]
fn no_finding_is_a_verdict_too() {
    assert_eq!(said(&[]), ["Nothing was rejected."]);
}

#[test]
fn a_sentence_says_how_many_who_and_what_to_do() {
    assert_eq!(
        said(&[finding(&queue_full(), 1_204)]),
        ["1 204 SYNs from 10.0.1.0/24 to :8080 met a full accept queue (131/128); gunicorn[812] accepts too slowly: \
          raise workers."]
    );
    let refused = bare(Cause::NoListener);
    assert_eq!(
        said(&[finding(&refused, 7)]),
        ["10% of connections (7) from 10.0.1.0/24 to :8080 found nothing that listens; start the application or \
          correct the port of the target group."]
    );
    let mut race = bare(Cause::KeepaliveRace);
    race.facts.ended_by = Some(process("nginx", 77, Some("closed")));
    race.facts.idle_ns = Some(5_000_000_000);
    assert_eq!(
        said(&[finding(&race, 1)]),
        ["Under 1% of requests (1) from 10.0.1.0/24 to :8080 met a connection that nginx[77] had just closed after \
          5.00s without a request; see whether it stopped then, or closes idle connections by itself."]
    );
    (race.facts.closed_because, race.facts.same_idle) = (Some(CloseReason::KeepAlive), Some(3));
    assert_eq!(
        said(&[finding(&race, 1)]),
        ["Under 1% of requests (1) from 10.0.1.0/24 to :8080 met a connection that nginx[77] had just closed after \
          5.00s without a request (its keep-alive is shorter than the load balancer's 60s: 3 connections closed after \
          the same idle time); raise its keep-alive above the load balancer's 60s."]
    );
    race.facts.closed_because = Some(CloseReason::Stopped);
    assert_eq!(
        said(&[finding(&race, 1)]),
        ["Under 1% of requests (1) from 10.0.1.0/24 to :8080 met a connection that nginx[77] had just closed after \
          5.00s without a request (it stopped: its listener closed at the same moment); let the load balancer leave \
          before it stops."]
    );
    let mut outgoing = bare(Cause::PacketDropped);
    outgoing.facts = Facts { outgoing: true, packet: Some("data".to_owned()), ..Facts::default() };
    outgoing.reason = Some("QDISC_DROP".to_owned());
    assert_eq!(
        said(&[finding(&outgoing, 1)]),
        ["1 data packet from :8080 to 10.0.1.0/24 got dropped by the kernel: the interface's queue was full \
          (QDISC_DROP)."]
    );
}

#[test]
fn a_share_is_of_the_same_port_and_network() {
    let rejection = bare(Cause::ClosedBeforeResponse);
    let group = Some(Totals { requests: 100, connections: 9 });
    let found = Finding { group, ..finding(&rejection, 9) };
    assert!(said(&[found])[0].starts_with("9% of requests (9) from 10.0.1.0/24 to :8080 got no response"));
    // More than were traced: no share.
    assert!(said(&[Finding { count: 101, ..found }])[0].starts_with("101 requests from"));
    let other = Rejection { peer: "10.0.2.9:1".parse().unwrap(), ..rejection.clone() };
    let both = [found, Finding { group, ..finding(&other, 31) }];
    assert!(said(&both)[0].starts_with("20% of requests (40) from 10.0.2.0/24 and 10.0.1.0/24 to :8080"));
}

#[test]
fn one_cause_at_one_address_is_one_sentence() {
    let from = |peer: &str| Rejection { peer: peer.parse().unwrap(), ..queue_full() };
    let peers = ["10.0.1.9:1", "10.0.2.9:1", "10.0.3.0:0", "10.0.1.0:0"].map(from);
    let sentences = said(&peers.each_ref().map(|it| finding(it, 10)));
    assert_eq!(sentences.len(), 1);
    assert!(sentences[0].starts_with("40 SYNs from 10.0.1.0/24 and 2 more networks to :8080"), "{sentences:?}");
    let anyone = from("[::]:0");
    assert!(said(&[finding(&anyone, 2)])[0].starts_with("2 SYNs from several networks to :8080"));
}

#[test]
fn no_sentence_names_port_0() {
    let at = |local: &str| Rejection { local: local.parse().unwrap(), ..bare(Cause::NoListener) };
    let (several, one, other) = (at("10.0.2.5:0"), at("10.0.2.5:81"), at("10.0.2.6:81"));
    let sentences = said(&[finding(&several, 30), finding(&one, 1), finding(&other, 2)]);
    assert_eq!(sentences.len(), 2, "{sentences:?}");
    assert!(sentences[0].contains(" to several ports found nothing that listens"), "{sentences:?}");
    assert!(sentences[1].contains(" to :81 found"), "{sentences:?}");
    // Most of them were for one port.
    let sentences = said(&[finding(&one, 30), finding(&several, 5)]);
    assert_eq!(sentences.len(), 2, "{sentences:?}");
}

#[test]
fn no_rule_is_blamed_for_what_another_one_did() {
    let dropped = |packet: &str, handle| {
        let rule = Rule { chain: "inet filter input".to_owned(), handle: Some(handle), text: "drop".to_owned() };
        let facts = Facts { packet: Some(packet.to_owned()), rule: Some(rule), ..Facts::default() };
        Rejection { facts, ..bare(Cause::FirewallDrop) }
    };
    let (data, fin, syn) = (dropped("data", 2), dropped("FIN", 2), dropped("SYN", 3));
    assert_eq!(
        said(&[finding(&syn, 1), finding(&fin, 1), finding(&data, 6)]),
        [
            "6 data packets and 1 FIN from 10.0.1.0/24 to :8080 got dropped by this host's firewall: `drop` (handle 2 in \
             inet filter input); let them pass.",
            "1 SYN from 10.0.1.0/24 to :8080 got dropped by this host's firewall: `drop` (handle 3 in inet filter \
             input); let them pass."
        ]
    );
}

#[test]
fn the_most_harmful_comes_first_and_warnings_last() {
    let warning = bare(Cause::KeepaliveTooShort);
    let filling = bare(Cause::AcceptQueueFilling);
    let closed = bare(Cause::ClosedBeforeResponse);
    let full = queue_full();
    let reset = bare(Cause::ResetMidResponse);
    let first_words = |findings: &[Finding<'_>]| -> Vec<_> {
        said(findings).iter().map(|it| it.split_once(" from").map_or("", |it| it.0).to_owned()).collect()
    };
    // Fewer requests than SYNs, but a SYN is a part of a connection only.
    let findings = [finding(&warning, 50), finding(&full, 30), finding(&closed, 10), finding(&filling, 1)];
    assert_eq!(first_words(&findings), ["2% of requests (10)", "30 SYNs", "79% of connections (50)"]);
    // At most three.
    let findings = [finding(&warning, 50), finding(&full, 50), finding(&closed, 10), finding(&reset, 11)];
    assert_eq!(first_words(&findings), ["50 SYNs", "3% of requests (11)", "2% of requests (10)"]);
}

#[test]
fn what_is_certain_weighs_more() {
    let observed = bare(Cause::ResponseNotAcknowledged);
    let inferred = Rejection { evidence: Evidence::Inferred, ..bare(Cause::ClosedBeforeResponse) };
    let sentences = said(&[finding(&inferred, 12), finding(&observed, 10)]);
    assert!(sentences[0].contains("nobody acknowledged") && sentences[1].contains("got no response"), "{sentences:?}");
    let sentences = said(&[finding(&inferred, 14), finding(&observed, 10)]);
    assert!(sentences[0].contains("got no response"), "{sentences:?}");
}

#[test]
fn every_cause_has_a_sentence() {
    for entry in &CAUSES {
        let sentences = said(&[finding(&bare(entry.cause), 2)]);
        let [sentence] = sentences.as_slice() else { panic!("{sentences:?}") };
        let is_whole =
            sentence.ends_with('.') && sentence.starts_with(|c: char| c.is_uppercase() || c.is_ascii_digit());
        let is_clean = !["  ", " .", " ,", " ;", "..", "{", "}"].iter().any(|slip| sentence.contains(slip));
        assert!(is_whole && is_clean, "{sentence:?}");
    }
}
