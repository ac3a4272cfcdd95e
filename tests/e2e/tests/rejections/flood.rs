//! A flood of SYNs onto a full listener: counted exactly, told in few words, and everything else is traced on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread;

use anyhow::{Result, anyhow, ensure};
use lab::client::{Client, Request};
use lab::clock::{monotonic_ns, sleep};
use lab::counters::Counters;
use lab::fault::{Segment, send_segments};
use lab::target::{Options, Target};
use lab::topology::target_addresses;

use crate::scene::{Scene, assert_only, ms, settle, ways};

const SYNS: u32 = 200_000;
/// SYNs that are made at once.
const PART: u32 = 2000;

/// A SYN from one of 250 addresses of the load balancer's network; no two are alike.
fn syn(index: u32, destination: SocketAddr) -> Result<Segment> {
    let host = u16::try_from(3 + index % 250)?;
    let source: IpAddr = match destination {
        SocketAddr::V4(_) => Ipv4Addr::new(10, 77, 0, host.to_be_bytes()[1]).into(),
        SocketAddr::V6(_) => Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, host).into(),
    };
    Ok(Segment::syn(SocketAddr::new(source, u16::try_from(1024 + index / 250)?), destination))
}

#[test]
fn two_hundred_thousand_syns_onto_a_full_listener() -> Result<()> {
    let scene = Scene::that_never_accepts(1)?;
    let other = Target::start(&scene.lab, "other", &Options::listen(&target_addresses(8081)))?;
    let tracer = scene.trace(&[])?;
    let waiting = [scene.client().connect_many(ways()[0], 2)?, scene.client().connect_many(ways()[1], 2)?];
    sleep(ms(50));
    let before = Counters::read(&scene.lab.target)?;
    let started = monotonic_ns();
    let (answered, flooded_ns) = thread::scope(|scope| {
        let flood = scope.spawn(|| {
            for first in (0..SYNS).step_by(PART as usize) {
                let way = ways()[usize::from(first >= SYNS / 2)];
                let syns = (first..first + PART).map(|index| syn(index, way)).collect::<Result<Vec<_>>>()?;
                send_segments(&scene.lab.lb, &syns)?;
            }
            anyhow::Ok(monotonic_ns() - started)
        });
        let mut answered = 0;
        let mut connection = Client::new(&scene.lab.lb).connect(target_addresses(8081)[0])?;
        while !flood.is_finished() {
            connection.request(&Request::get("/"))?;
            answered += 1;
            sleep(ms(1));
        }
        let flooded_ns = flood.join().map_err(|_| anyhow!("the flood panicked"))??;
        anyhow::Ok((answered, flooded_ns))
    })?;
    sleep(ms(100));
    let after = Counters::read(&scene.lab.target)?;
    let trace = settle(tracer)?;
    drop(waiting);
    let drops = after.since(&before, "TcpExtListenDrops")?;
    println!("{SYNS} SYNs in {} ms, {drops} dropped; {} objects", flooded_ns / 1_000_000, trace.rejections.len());
    ensure!(drops == u64::from(SYNS), "the flood was not dropped for the queue alone");
    assert_only(&trace, "accept_queue_full", drops, &[]);
    assert!(trace.rejections.len() < 100, "{}", trace.rejections.len());
    assert_eq!((trace.requests.len(), trace.status.requests), (answered, Some(answered as u64)));
    assert!(trace.requests.iter().all(|request| request.pid == Some(other.pid()) && request.completed.is_none()));
    Ok(())
}
