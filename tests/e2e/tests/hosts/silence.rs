//! SYNs that vanish without a word: in the driver, or at the remains of a connection.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::capture::flags;
use lab::client::{Client, Request};
use lab::clock::sleep;
use lab::fault::{DropProgram, Hook, Rules, Segment, matching, send_segments};
use lab::netns::{End, join};
use lab::target::{Options, Target};
use lab::topology::{LB_V4, TARGET_V4};
use lab::{Lab, Namespace};

use crate::python::{TCP, client, serve};
use crate::scene::{at, ms, settle, trace, verdict};

/// A native XDP program drops everything: no hook sees it, so the program is named before anybody is sent upstream.
#[test]
fn a_native_xdp_program_is_suspected_before_the_network() -> Result<()> {
    let lab = Lab::new()?;
    let _server = serve(&lab, 8080, TCP)?;
    let program = DropProgram::native_xdp(&lab.target, c"eth0")?;
    let tracer = trace(&lab, &["--port", "8080"])?;
    client(
        &lab.lb,
        8080,
        "
try:
    socket.create_connection(TARGET, 0.3)
except OSError:
    pass",
    )?;
    let trace = settle(tracer)?;
    drop(program);
    let told = trace.rejections_of("nothing_arrived");
    let told = told.first().context("nothing was told")?;
    ensure!(told.explanation.contains("the XDP program") && told.explanation.contains(" on eth0"), "{told:#?}");
    let verdict = verdict(&trace);
    ensure!(verdict.find("XDP program") < verdict.find("upstream"), "{verdict}");
    Ok(())
}

/// Timestamps behind NAT: a SYN from the port of a connection that has just ended is older than that.
#[test]
fn a_syn_with_an_old_timestamp_is_named() -> Result<()> {
    let lab = Lab::new()?;
    let _target = Target::start(&lab, "target", &Options::listen(&[at(8080)]))?;
    let tracer = trace(&lab, &[])?;
    let source = SocketAddr::new(LB_V4.into(), 44_444);
    let mut first = Client::new(&lab.lb).source_port(source.port()).connect(at(8080))?;
    let timestamp = first.timestamp()?;
    first.request(&Request::get("/").header("X-Close", 1))?;
    ensure!(first.wait_closed()?, "the target ended the connection with a reset");
    drop(first);
    sleep(ms(100));
    let old = Segment { timestamp: Some(timestamp.wrapping_sub(5000)), ..Segment::syn(source, at(8080)) };
    send_segments(&lab.lb, &[old])?;
    let trace = settle(tracer)?;
    let causes = trace.causes();
    ensure!(causes.get("packet_dropped") == Some(&1) && causes.len() == 1, "{:#?}", trace.rejections);
    let told = &trace.rejections[0];
    ensure!(told.packet.as_deref() == Some("SYN") && told.explanation.contains("timestamps behind NAT"), "{told:#?}");
    Ok(())
}

/// An acknowledgement that comes for the remains of a connection (`TIME_WAIT`) is no request that somebody else took.
#[test]
fn a_late_acknowledgement_was_not_forwarded() -> Result<()> {
    let lab = Lab::new()?;
    let _target = Target::start(&lab, "target", &Options::listen(&[at(8080)]))?;
    let mut ended = Client::new(&lab.lb).connect(at(8080))?;
    let source = ended.local;
    ended.request(&Request::get("/").header("X-Close", 1))?;
    ensure!(ended.wait_closed()?, "the target ended the connection with a reset");
    drop(ended);
    let tracer = trace(&lab, &["--port", "8080"])?;
    send_segments(&lab.lb, &[Segment { flags: flags::ACK, ..Segment::syn(source, at(8080)) }])?;
    let trace = settle(tracer)?;
    ensure!(trace.rejections_of("forwarded").is_empty(), "{:#?}", trace.rejections);
    Ok(())
}

/// The SYN is sent again before the handshake is over, and tracing began in between: the socket of the handshake gets it.
#[test]
fn a_syn_that_comes_again_is_no_silence_and_was_not_forwarded() -> Result<()> {
    let lab = Lab::new()?;
    let _target = Target::start(&lab, "target", &Options::listen(&[at(8080)]))?;
    let _lost = Rules::start(&lab.lb, Hook::Input, &[&format!("{} drop", matching::SYN_ACKS)])?;
    let syn = Segment::syn((LB_V4, 40_000).into(), at(8080));
    send_segments(&lab.lb, &[syn])?;
    // The kernel sends the SYN-ACK again after one second and after three, and then not for four.
    sleep(ms(3200));
    let tracer = trace(&lab, &["--port", "8080"])?;
    send_segments(&lab.lb, &[syn])?;
    let trace = settle(tracer)?;
    ensure!(trace.rejections.is_empty(), "{:#?}", trace.rejections);
    Ok(())
}

/// With a port filter, SYNs for which nothing listens are counted by address and port, and those that find no room are a loss. Without
/// that filter nobody asks where they went.
#[test]
fn syns_for_too_many_addresses_are_a_loss_that_is_counted() -> Result<()> {
    const ROOM: u16 = 256;
    const FIRST: u16 = 20_000;
    let ports = FIRST..FIRST + ROOM + 4;
    let listed: Vec<_> = ports.clone().map(|port| format!("--port={port}")).collect();
    for (arguments, lost) in [(listed.iter().map(String::as_str).collect::<Vec<_>>(), 4), (Vec::new(), 0)] {
        let lab = Lab::new()?;
        let tracer = trace(&lab, &arguments)?;
        let syn = |port: u16| Segment { sequence: port.into(), ..Segment::syn((LB_V4, 40_000).into(), at(port)) };
        let syns: Vec<_> = ports.clone().map(syn).collect();
        send_segments(&lab.lb, &syns)?;
        let trace = settle(tracer)?;
        let refused = u64::try_from(syns.len())?;
        ensure!(trace.causes() == [("no_listener", refused)].into(), "{:#?}", trace.causes());
        ensure!(trace.status.counters["arrivals_uncounted"] == lost, "{:#?}", trace.status);
    }
    Ok(())
}

/// SYNs that a socket of this host may still answer are not forgotten without a word. Those that this host refuses or forwards wait for
/// no such answer: a router forgets them all the time, and loses nothing.
#[test]
fn forgotten_syns_are_a_loss_only_where_one_may_be_missed() -> Result<()> {
    const ROOM: u32 = 2048;
    const SYNS: u32 = 2 * ROOM;
    let lab = Lab::new()?;
    // Nobody answers a SYN for a full accept queue, and nobody drops it either.
    let mut options = Options::listen(&[at(8082)]);
    (options.backlog, options.before_accept) = (1, Duration::from_hours(1));
    let _full = Target::start(&lab, "full", &options)?;
    let _waiting = Client::new(&lab.lb).connect_many(at(8082), 2)?;
    let served = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
    let _target = Target::start(&lab, "target", &Options::listen(&[served]))?;
    let _rules = Rules::start(&lab.target, Hook::Prerouting, &["tcp dport 9000 redirect to :8082"])?;
    let beyond = Namespace::new(&lab.target.name().replace("-target", "-beyond"))?;
    join(
        End { namespace: &beyond, interface: "eth0", addresses: &[("10.99.0.2".parse()?, 24)] },
        End { namespace: &lab.target, interface: "beyond0", addresses: &[("10.99.0.1".parse()?, 24)] },
    )?;
    beyond.run("ip", &["route", "add", "default", "via", "10.99.0.1"])?;
    lab.target.sysctl("net.ipv4.ip_forward", "1")?;
    lab.lb.run("ip", &["route", "add", "10.99.0.0/24", "via", &TARGET_V4.to_string()])?;
    let missed = |to: SocketAddr| {
        let tracer = trace(&lab, &["-i", "eth0"])?;
        let syn = |sequence| Segment { sequence, ..Segment::syn((LB_V4, 40_000).into(), to) };
        for part in (0..SYNS).map(syn).collect::<Vec<_>>().chunks(256) {
            send_segments(&lab.lb, part)?;
            sleep(ms(15));
        }
        // Its SYN passes no interface that has the program: it may be one of those.
        Client::new(&lab.target).request(served, &Request::get("/"))?;
        anyhow::Ok(settle(tracer)?.status.counters["syns_forgotten"])
    };
    let (waiting, refused, forwarded) = (missed(at(9000))?, missed(at(9))?, missed("10.99.0.2:9".parse()?)?);
    ensure!((waiting, refused, forwarded) == (1, 0, 0), "{waiting}, {refused}, {forwarded}");
    Ok(())
}
