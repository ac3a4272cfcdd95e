//! Netfilter: rules that drop and reject, and a full table of connection tracking.

use anyhow::Result;
use lab::client::Request;
use lab::clock::sleep;
use lab::fault::{Hook, Rules, fill_conntrack};
use lab::tracer::{Rejection, Trace};

use crate::scene::{ONE_SYN, Scene, assert_each_way, ms, settle, ways};

/// Asserts that what was reported names the only rule.
#[track_caller]
fn assert_rule(told: &Rejection, rules: &Rules, text: &str) -> Result<()> {
    let rule = told.rule.as_ref();
    assert_eq!(rule.map(|rule| rule.chain.as_str()), Some(rules.chain().as_str()), "{told:#?}");
    assert_eq!(rule.and_then(|rule| rule.handle), Some(rules.handle(0)?), "{told:#?}");
    assert!(rule.is_some_and(|rule| rule.text.contains(text)), "{told:#?}");
    Ok(())
}

/// Tries to connect three times each way, with a rule in place.
fn refused_by(scene: &Scene, hook: Hook, rule: &str) -> Result<Trace> {
    let tracer = scene.trace(&[])?;
    let rules = Rules::start(&scene.lab.target, hook, &[rule])?;
    scene.cannot_connect(3)?;
    assert_eq!(rules.counted()?, 6);
    let trace = settle(tracer)?;
    for told in &trace.rejections {
        assert_eq!((told.evidence.as_str(), told.reason()), ("observed", Some("NETFILTER_DROP")), "{told:#?}");
        assert_eq!(told.packet.as_deref(), Some("SYN"), "{told:#?}");
        assert_rule(told, &rules, "tcp dport 8080")?;
    }
    Ok(trace)
}

#[test]
fn a_rule_drops() -> Result<()> {
    let scene = Scene::new(|_| {})?;
    let trace = refused_by(&scene, Hook::Input, "tcp dport 8080 counter drop")?;
    assert_each_way(&trace, "firewall_drop", 3, &[]);
    Ok(())
}

#[test]
fn a_rule_drops_before_ip() -> Result<()> {
    let scene = Scene::new(|_| {})?;
    let trace = refused_by(&scene, Hook::Ingress, "tcp dport 8080 counter drop")?;
    assert_each_way(&trace, "firewall_drop", 3, &[]);
    Ok(())
}

#[test]
fn a_rule_rejects_with_a_reset() -> Result<()> {
    let scene = Scene::new(|_| {})?;
    let trace = refused_by(&scene, Hook::Input, "tcp dport 8080 counter reject with tcp reset")?;
    for told in assert_each_way(&trace, "firewall_reject", 3, &[]) {
        assert_eq!(told.answer.as_deref(), Some("a reset"), "{told:#?}");
    }
    Ok(())
}

#[test]
fn a_rule_rejects_with_icmp() -> Result<()> {
    let scene = Scene::new(|_| {})?;
    let trace = refused_by(&scene, Hook::Input, "tcp dport 8080 counter reject with icmpx type admin-prohibited")?;
    for told in assert_each_way(&trace, "firewall_reject", 3, &[]) {
        assert_eq!(told.answer.as_deref(), Some("an ICMP error"), "{told:#?}");
    }
    Ok(())
}

/// Several rules may have been it: they are candidates, none is blamed.
#[test]
fn rules_that_cannot_be_told_apart_are_candidates() -> Result<()> {
    let scene = Scene::new(|_| {})?;
    let tracer = scene.trace(&[])?;
    // Either takes about every second packet.
    let some = "numgen random mod 2 0 tcp dport 8080 drop";
    let rules = Rules::start(&scene.lab.target, Hook::Input, &[some, "tcp dport 8080 drop"])?;
    scene.cannot_connect(1)?;
    let trace = settle(tracer)?;
    for told in assert_each_way(&trace, "firewall_drop", 1, &[]) {
        assert_eq!(told.rule, None, "{told:#?}");
        let mut handles: Vec<_> = told.candidates.iter().filter_map(|rule| rule.handle).collect();
        handles.sort_unstable();
        assert_eq!(handles, [rules.handle(0)?, rules.handle(1)?], "{told:#?}");
    }
    Ok(())
}

/// A rule that is there but not asked about this port is not blamed.
#[test]
fn a_rule_for_another_port_is_not_named() -> Result<()> {
    let scene = Scene::new(|_| {})?;
    let tracer = scene.trace(&[])?;
    let rules = ["tcp dport 9999 drop", "tcp dport 8080 drop"];
    let rules = Rules::start(&scene.lab.target, Hook::Input, &rules)?;
    scene.cannot_connect(1)?;
    let trace = settle(tracer)?;
    for told in assert_each_way(&trace, "firewall_drop", 1, &[]) {
        let named: Vec<_> = told.rule.iter().chain(&told.candidates).filter_map(|rule| rule.handle).collect();
        assert_eq!(named, [rules.handle(1)?], "{told:#?}");
    }
    Ok(())
}

#[test]
fn the_conntrack_table_is_full() -> Result<()> {
    let scene = Scene::new(|_| {})?;
    // It asks for connections to be tracked.
    let _rules = Rules::start(&scene.lab.target, Hook::Input, &["ct state invalid counter"])?;
    let limit = fill_conntrack(&scene.lab.target)?;
    let tracer = scene.trace(&[])?;
    let [v4, _] = ways();
    for _ in 0..3 {
        assert!(scene.client().timeout(ONE_SYN).connect(v4).is_err(), "there is room in the table");
    }
    let trace = settle(tracer)?;
    let told = crate::scene::assert_only(&trace, "conntrack_full", 3, &[]);
    for told in told {
        assert_eq!((told.evidence.as_str(), told.local), ("inferred", Some(v4)), "{told:#?}");
        let (entries, most) = told.conntrack.unwrap_or_default();
        assert!(entries >= most && most >= u64::from(limit), "{limit}: {told:#?}");
        assert_eq!((told.rule.as_ref(), told.candidates.len()), (None, 0), "{told:#?}");
    }
    Ok(())
}

/// The rule comes while a request is under way: what it drops is told, and the request is not called answered.
#[test]
fn a_rule_drops_in_the_middle_of_a_connection() -> Result<()> {
    let scene = Scene::new(|_| {})?;
    let tracer = scene.trace(&[])?;
    for way in ways() {
        let mut connection = scene.client().connect(way)?;
        connection.request(&Request::get("/"))?;
        sleep(ms(20));
        let rules =
            Rules::start(&scene.lab.target, Hook::Input, &["tcp dport 8080 tcp flags & psh == psh counter drop"])?;
        let sent = connection.send(&Request::get("/"))?;
        sleep(ms(50));
        drop(rules);
        // TCP sends it again.
        connection.receive(&Request::get("/"), sent)?;
    }
    let trace = settle(tracer)?;
    let told = trace.rejections_of("firewall_drop");
    assert_eq!(told.len(), trace.rejections.len(), "{:#?}", trace.rejections);
    for way in ways() {
        let of_it: Vec<_> = told.iter().filter(|told| told.local == Some(way)).collect();
        assert!(!of_it.is_empty() && of_it.iter().all(|told| told.packet.as_deref() == Some("data")), "{told:#?}");
    }
    Ok(())
}
