//! How it is told: in bounded words, with exact counts, held against the kernel's own counters, and again by `report`.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Result, ensure};
use lab::clock::sleep;
use lab::counters::Counters;
use lab::fault::{Hook, Rules, Segment, send_segments};
use lab::topology::{LB_V4, TARGET_V4};
use lab::tracer::binary;

use crate::scene::{ONE_SYN, Scene, assert_only, ms, settle, ways};

/// More ports than the kernel side and the output keep apart.
#[test]
fn a_scan_of_six_thousand_ports_is_a_few_lines() -> Result<()> {
    let scene = Scene::new(|_| {})?;
    let tracer = scene.trace(&[])?;
    let source = SocketAddr::new(LB_V4.into(), 40_000);
    let syns: Vec<_> = (20_000..26_000).map(|port| Segment::syn(source, (TARGET_V4, port).into())).collect();
    send_segments(&scene.lab.lb, &syns)?;
    sleep(ms(100));
    // What comes after it is told as ever.
    ensure!(scene.client().timeout(ONE_SYN).connect((TARGET_V4, 8099).into()).is_err(), "something listens");
    let trace = settle(tracer)?;
    assert_only(&trace, "no_listener", 6001, &[]);
    assert!(trace.rejections.len() < 100, "{}", trace.rejections.len());
    Ok(())
}

/// A scan takes no room from what comes after it, also where every port of it is a key of its own.
#[test]
fn after_a_scan_a_full_queue_is_named() -> Result<()> {
    for arguments in [&[][..], &["--peer", "10.77.0.0/24"][..]] {
        let scene = Scene::that_never_accepts(1)?;
        let tracer = scene.trace(arguments)?;
        let source = SocketAddr::new(LB_V4.into(), 40_000);
        let syns: Vec<_> = (20_000..27_000).map(|port| Segment::syn(source, (TARGET_V4, port).into())).collect();
        send_segments(&scene.lab.lb, &syns)?;
        // Those of a scan with a key per port are taken out at the second look after it.
        sleep(ms(1500));
        let waiting = scene.client().connect_many(ways()[0], 2)?;
        sleep(ms(50));
        for _ in 0..3 {
            ensure!(scene.client().timeout(ONE_SYN).connect(ways()[0]).is_err(), "there was room");
        }
        let trace = settle(tracer)?;
        drop(waiting);
        let full: Vec<_> = trace.rejections.iter().filter(|it| it.cause == "accept_queue_full").collect();
        ensure!(!full.is_empty(), "{:#?}", trace.rejections);
        for told in &full {
            ensure!(told.local == Some(ways()[0]) && told.process.is_some(), "{told:#?}");
        }
        assert_eq!(full.iter().map(|told| told.count).sum::<u64>(), 3);
        let scanned = trace.rejections.iter().filter(|it| it.cause == "no_listener");
        assert_eq!(scanned.map(|told| told.count).sum::<u64>(), 7000, "{arguments:?}");
        let verdict = trace.summary.more["verdict"].to_string();
        ensure!(!verdict.contains(":0 ") && !verdict.contains("several networks"), "{verdict}");
        ensure!(verdict.contains("to several ports found nothing") || !arguments.is_empty(), "{verdict}");
        ensure!(verdict.contains("to :8080 met a full accept queue"), "{verdict}");
    }
    Ok(())
}

/// More networks than the kernel side keeps apart: the listener is told all the same.
#[test]
fn a_flood_from_six_thousand_networks_is_counted_exactly() -> Result<()> {
    let scene = Scene::that_never_accepts(1)?;
    let tracer = scene.trace(&[])?;
    let waiting = scene.client().connect_many(ways()[0], 2)?;
    sleep(ms(50));
    let before = Counters::read(&scene.lab.target)?;
    let source = |index: u16| {
        let [high, low] = index.to_be_bytes();
        SocketAddr::new([11, high, low, 1].into(), 40_000)
    };
    let syns: Vec<_> = (0..6000).map(|index| Segment::syn(source(index), ways()[0])).collect();
    send_segments(&scene.lab.lb, &syns)?;
    sleep(ms(100));
    let drops = Counters::read(&scene.lab.target)?.since(&before, "TcpExtListenDrops")?;
    let trace = settle(tracer)?;
    drop(waiting);
    assert_eq!(drops, 6000);
    assert_only(&trace, "accept_queue_full", drops, &["accept_queue_filling"]);
    assert!(trace.rejections.len() < 100, "{}", trace.rejections.len());
    Ok(())
}

#[test]
fn the_kernels_own_counters_are_held_against_what_was_seen() -> Result<()> {
    let scene = Scene::that_never_accepts(1)?;
    let tracer = scene.trace(&[])?;
    let before = Counters::read(&scene.lab.target)?;
    let waiting = [scene.client().connect_many(ways()[0], 2)?, scene.client().connect_many(ways()[1], 2)?];
    sleep(ms(50));
    scene.cannot_connect(2)?;
    for way in ways() {
        let nothing = SocketAddr::new(way.ip(), 8099);
        ensure!(scene.client().timeout(ONE_SYN).connect(nothing).is_err(), "something listens");
    }
    let counted = Counters::read(&scene.lab.target)?;
    let trace = settle(tracer)?;
    drop(waiting);
    assert_eq!(trace.status.reconciliation.len(), 1, "one namespace is watched: {:#?}", trace.status);
    for (name, counter, count) in [
        ("ListenOverflows", "TcpExtListenOverflows", 4),
        ("ListenDrops", "TcpExtListenDrops", 4),
        ("OutRsts", "TcpOutRsts", 2),
    ] {
        assert_eq!(counted.since(&before, counter)?, count, "{counter}");
        let row = trace.status.reconciliation[0].rows.iter().find(|row| row.name == name);
        let row = row.map(|row| (row.kernel, row.explained, row.difference));
        assert_eq!(row, Some((count, count, 0)), "{name}: {:#?}", trace.status.reconciliation);
    }
    Ok(())
}

/// With `--peer`, every packet of that network that is dropped, whether its port is served or not.
#[test]
fn what_a_named_network_loses_is_told_for_any_port() -> Result<()> {
    for (network, count) in [("10.77.0.0/24", 2), ("10.78.0.0/24", 0)] {
        let scene = Scene::new(|_| {})?;
        let tracer = scene.trace(&["--peer", network])?;
        let rules = Rules::start(&scene.lab.target, Hook::Input, &["tcp dport 8099 drop"])?;
        for _ in 0..count.max(1) {
            ensure!(scene.client().timeout(ONE_SYN).connect((TARGET_V4, 8099).into()).is_err(), "it is let through");
        }
        sleep(ms(200));
        drop(rules);
        let trace = settle(tracer)?;
        if count == 0 {
            assert!(!trace.causes().contains_key("firewall_drop"), "{:#?}", trace.rejections);
            continue;
        }
        for told in assert_only(&trace, "firewall_drop", count, &[]) {
            assert_eq!(told.local, Some((TARGET_V4, 8099).into()), "{told:#?}");
        }
    }
    Ok(())
}

#[test]
fn report_tells_what_watch_told() -> Result<()> {
    let scene = Scene::that_never_accepts(1)?;
    let file = scene.lab.directory().join("recording");
    let path = file.to_string_lossy().into_owned();
    let tracer = scene.trace(&["--write", &path])?;
    let printed = tracer.process.stdout_path().to_owned();
    let waiting = [scene.client().connect_many(ways()[0], 2)?, scene.client().connect_many(ways()[1], 2)?];
    sleep(ms(50));
    scene.cannot_connect(5)?;
    let trace = settle(tracer)?;
    drop(waiting);
    assert_only(&trace, "accept_queue_full", 10, &[]);
    let printed = fs::read_to_string(printed)?;
    for _ in 0..2 {
        let report = Command::new(binary()?).args(["report", "--json"]).arg(&file).output()?;
        ensure!(report.status.success(), "{}", String::from_utf8_lossy(&report.stderr));
        assert_eq!(String::from_utf8(report.stdout)?, printed);
    }
    let text = Command::new(binary()?).args(["report", "--rejections"]).arg(&file).output()?;
    let text = String::from_utf8(text.stdout)?;
    let is_told = |line: &str| line.contains("REJECTED accept_queue_full") && line.contains("(504)");
    assert!(text.lines().any(is_told), "{text}");
    Ok(())
}
