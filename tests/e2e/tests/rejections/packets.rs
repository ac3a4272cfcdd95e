//! Packets that are broken, or that a program takes.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use lab::Process;
use lab::clock::sleep;
use lab::counters::Counters;
use lab::fault::{Cgroup, DropProgram, Segment, send_segments};
use lab::target::{Options, program};

use crate::scene::{Scene, assert_each_way, assert_only, ms, peer_of, settle, start_tracer, ways};

#[test]
fn the_checksum_is_wrong() -> Result<()> {
    let scene = Scene::new(|_| {})?;
    let tracer = scene.trace(&[])?;
    let before = Counters::read(&scene.lab.target)?;
    for way in ways() {
        let source = |port| SocketAddr::new(peer_of(way), port);
        let broken = |port| Segment { intact: false, ..Segment::syn(source(port), way) };
        send_segments(&scene.lab.lb, &(20_000..20_007).map(broken).collect::<Vec<_>>())?;
    }
    sleep(ms(50));
    let errors = Counters::read(&scene.lab.target)?.since(&before, "TcpInCsumErrors")?;
    let trace = settle(tracer)?;
    assert_eq!(errors, 14);
    for told in assert_each_way(&trace, "malformed_packet", 7, &[]) {
        assert_eq!((told.evidence.as_str(), told.reason()), ("observed", Some("TCP_CSUM")), "{told:#?}");
    }
    Ok(())
}

/// SYNs from this host's own loopback network, which no network carries.
#[test]
fn the_source_is_impossible() -> Result<()> {
    let scene = Scene::new(|_| {})?;
    let tracer = scene.trace(&[])?;
    let [v4, _] = ways();
    let syn = |port| Segment::syn(SocketAddr::new([127, 0, 0, 9].into(), port), v4);
    send_segments(&scene.lab.lb, &(20_000..20_003).map(syn).collect::<Vec<_>>())?;
    sleep(ms(50));
    let trace = settle(tracer)?;
    for told in assert_only(&trace, "packet_dropped", 3, &[]) {
        assert_eq!((told.evidence.as_str(), told.reason()), ("observed", Some("IP_LOCALNET")), "{told:#?}");
        assert_eq!((told.local, told.peer.map(|peer| peer.ip())), (Some(v4), Some([127, 0, 0, 9].into())), "{told:#?}");
    }
    Ok(())
}

#[test]
fn an_xdp_program_drops() -> Result<()> {
    let scene = Scene::new(|_| {})?;
    let tracer = scene.trace(&[])?;
    let program = DropProgram::xdp(&scene.lab.target, c"eth0")?;
    scene.cannot_connect(3)?;
    drop(program);
    let trace = settle(tracer)?;
    for told in assert_each_way(&trace, "bpf_drop", 3, &[]) {
        assert_eq!(told.evidence, "observed", "{told:#?}");
        // Generic XDP gives no reason on most kernels: the place tells.
        let known = told.reason() == Some("XDP") || told.location().is_some_and(|location| location.contains("xdp"));
        assert!(known, "{told:#?}");
    }
    Ok(())
}

#[test]
fn a_tc_program_drops() -> Result<()> {
    let scene = Scene::new(|_| {})?;
    let tracer = scene.trace(&[])?;
    let program = DropProgram::tc(&scene.lab.target, c"eth0")?;
    scene.cannot_connect(3)?;
    drop(program);
    let trace = settle(tracer)?;
    for told in assert_each_way(&trace, "bpf_drop", 3, &[]) {
        assert_eq!((told.evidence.as_str(), told.reason()), ("observed", Some("TC_INGRESS")), "{told:#?}");
    }
    Ok(())
}

/// The target is in a control group whose program takes what comes for it.
#[test]
fn a_program_of_a_control_group_drops() -> Result<()> {
    let Scene { target, lab } = Scene::new(|_| {})?;
    drop(target);
    let name = lab.lb.name().replace("-lb", "");
    let cgroup = Cgroup::new(&name)?;
    let mut command = lab.target.command("sh")?;
    command.args(["-c", r#"echo $$ > "$0" && exec "$@""#]).arg(cgroup.processes()).arg(program()?);
    command.args(Options::listen(&ways()).to_arguments());
    let mut target = Process::start("grouped", command, lab.directory())?;
    target.wait_ready(ms(5000), |process| process.stdout().is_ok_and(|text| text.lines().count() == 2))?;
    let scene = Grouped { target, lab };
    let tracer = start_tracer(&scene.lab, &[])?;
    let program = DropProgram::cgroup(&cgroup)?;
    for way in ways().into_iter().flat_map(|way| [way; 3]) {
        let client = lab::client::Client::new(&scene.lab.lb).timeout(crate::scene::ONE_SYN);
        assert!(client.connect(way).is_err(), "{way} can be reached");
    }
    drop(program);
    let trace = settle(tracer)?;
    let pid = scene.target.pid();
    drop(scene);
    for told in assert_each_way(&trace, "bpf_drop", 3, &[]) {
        assert_eq!(told.evidence, "observed", "{told:#?}");
        told.reason().context("no reason")?;
        assert!(told.process.as_ref().is_none_or(|process| process.pid == pid), "{told:#?}");
    }
    Ok(())
}

/// Declared in the order in which they are dropped.
struct Grouped {
    target: Process,
    lab: lab::Lab,
}
