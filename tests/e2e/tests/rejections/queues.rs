//! A listener whose queues are full, or filling.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::Result;
use lab::client::Request;
use lab::clock::sleep;
use lab::counters::Counters;
use lab::fault::{Hook, Rules, Segment, matching, send_segments};

use crate::scene::{ONE_SYN, Scene, assert_each_way, assert_only, ms, peer_of, settle, ways};

#[test]
fn the_accept_queue_is_full_at_the_syn() -> Result<()> {
    let scene = Scene::that_never_accepts(2)?;
    let tracer = scene.trace(&[])?;
    let before = Counters::read(&scene.lab.target)?;
    // Linux takes one more than the backlog.
    let waiting = [scene.client().connect_many(ways()[0], 3)?, scene.client().connect_many(ways()[1], 3)?];
    sleep(ms(50));
    scene.cannot_connect(3)?;
    let after = Counters::read(&scene.lab.target)?;
    let trace = settle(tracer)?;
    drop(waiting);
    assert_eq!(after.since(&before, "TcpExtListenOverflows")?, 6);
    for told in assert_each_way(&trace, "accept_queue_full", 3, &[]) {
        assert_eq!((told.evidence.as_str(), told.queue_length, told.queue_limit), ("observed", Some(3), Some(2)));
        assert_eq!(told.process, Some(scene.process()), "{told:#?}");
        assert_eq!((told.reason(), told.location()), (None, None), "there is no drop: {told:#?}");
    }
    Ok(())
}

/// The SYN was answered while there was room; by the final ACK, which comes with the request, there is none.
#[test]
fn the_accept_queue_is_full_at_the_final_ack() -> Result<()> {
    let scene = Scene::that_never_accepts(1)?;
    let tracer = scene.trace(&[])?;
    let before = Counters::read(&scene.lab.target)?;
    let mut open = Vec::new();
    for way in ways() {
        let lost = Rules::start(&scene.lab.lb, Hook::Output, &[&format!("{} drop", matching::BARE_ACKS)])?;
        let mut late = scene.client().connect(way)?;
        drop(lost);
        open.push(scene.client().connect_many(way, 2)?);
        sleep(ms(50));
        late.send(&Request::get("/"))?;
        sleep(ms(50));
        late.reset()?;
    }
    let overflows = Counters::read(&scene.lab.target)?.since(&before, "TcpExtListenOverflows")?;
    let trace = settle(tracer)?;
    assert!(overflows >= 2 && overflows.is_multiple_of(2), "{overflows}");
    // At each of its SYNs there was room.
    for told in assert_each_way(&trace, "accept_queue_full", overflows / 2, &["accept_queue_filling"]) {
        // From Linux 6.15 the kernel names it.
        let named = told.reason() == Some("TCP_LISTEN_OVERFLOW");
        assert_eq!(told.evidence, if named { "observed" } else { "inferred" }, "{told:#?}");
        assert_eq!((told.queue_length, told.queue_limit), (Some(2), Some(1)), "{told:#?}");
        assert_eq!(told.process, Some(scene.process()), "{told:#?}");
    }
    Ok(())
}

#[test]
fn the_syn_queue_is_full() -> Result<()> {
    let scene = Scene::new(|options| options.backlog = 4)?;
    scene.lab.target.sysctl("net.ipv4.tcp_syncookies", "0")?;
    // Nobody answers the SYN-ACKs.
    let _lost = Rules::start(&scene.lab.lb, Hook::Input, &[&format!("{} drop", matching::SYN_ACKS)])?;
    let tracer = scene.trace(&[])?;
    let before = Counters::read(&scene.lab.target)?;
    for way in ways() {
        let syn = |port| Segment::syn(SocketAddr::new(peer_of(way), port), way);
        send_segments(&scene.lab.lb, &(20_000..20_020).map(syn).collect::<Vec<_>>())?;
    }
    sleep(ms(100));
    let drops = Counters::read(&scene.lab.target)?.since(&before, "TcpExtTCPReqQFullDrop")?;
    let trace = settle(tracer)?;
    // The kernel takes four or five, depending on its version.
    assert!(drops == 2 * 16 || drops == 2 * 15, "{drops}");
    for told in assert_each_way(&trace, "syn_queue_full", drops / 2, &[]) {
        assert_eq!(told.evidence, "observed", "{told:#?}");
        assert_eq!(told.process, Some(scene.process()), "{told:#?}");
    }
    Ok(())
}

/// The firewall drops SYNs of one peer while the SYN queue is as long as it may be. None of them comes to the queue.
#[test]
fn the_firewall_drops_syns_while_the_syn_queue_is_at_its_limit() -> Result<()> {
    const DROPPED: u16 = 6;
    let scene = Scene::new(|options| options.backlog = 4)?;
    scene.lab.target.sysctl("net.ipv4.tcp_syncookies", "0")?;
    let _unanswered = Rules::start(&scene.lab.lb, Hook::Input, &[&format!("{} drop", matching::SYN_ACKS)])?;
    let _rule = Rules::start(&scene.lab.target, Hook::Input, &["ip saddr 10.77.0.99 drop"])?;
    let tracer = scene.trace(&[])?;
    let before = Counters::read(&scene.lab.target)?;
    let way = ways()[0];
    let syns = |source: IpAddr, count: u16| -> Vec<_> {
        (0..count).map(|index| Segment::syn(SocketAddr::new(source, 20_000 + index), way)).collect()
    };
    send_segments(&scene.lab.lb, &syns(peer_of(way), 4))?;
    send_segments(&scene.lab.lb, &syns(Ipv4Addr::new(10, 77, 0, 99).into(), DROPPED))?;
    sleep(ms(100));
    let full = Counters::read(&scene.lab.target)?.since(&before, "TcpExtTCPReqQFullDrop")?;
    let trace = settle(tracer)?;
    assert_eq!(full, 0, "the SYN queue was full");
    assert_only(&trace, "firewall_drop", DROPPED.into(), &[]);
    Ok(())
}

/// The firewall drops SYNs of one peer while the accept queue is full. They never come to the queue, and count as drops alone.
#[test]
fn the_firewall_drops_syns_while_the_accept_queue_is_full() -> Result<()> {
    const DROPPED: u16 = 7;
    const IGNORED: u16 = 5;
    let scene = Scene::that_never_accepts(1)?;
    let way = ways()[0];
    let waiting = scene.client().connect_many(way, 2)?;
    sleep(ms(50));
    let _rule = Rules::start(&scene.lab.target, Hook::Input, &["ip saddr 10.77.0.99 drop"])?;
    let tracer = scene.trace(&[])?;
    let before = Counters::read(&scene.lab.target)?;
    let syns = |source: IpAddr, count: u16| -> Vec<_> {
        (0..count).map(|index| Segment::syn(SocketAddr::new(source, 20_000 + index), way)).collect()
    };
    let blocked = syns(Ipv4Addr::new(10, 77, 0, 99).into(), DROPPED);
    send_segments(&scene.lab.lb, &blocked)?;
    send_segments(&scene.lab.lb, &syns(peer_of(way), IGNORED))?;
    send_segments(&scene.lab.lb, &blocked)?;
    sleep(ms(100));
    let overflows = Counters::read(&scene.lab.target)?.since(&before, "TcpExtListenOverflows")?;
    let trace = settle(tracer)?;
    drop(waiting);
    assert_eq!(overflows, u64::from(IGNORED));
    let (dropped, ignored) = (u64::from(2 * DROPPED), u64::from(IGNORED));
    assert_eq!(
        trace.causes(),
        [("accept_queue_full", ignored), ("firewall_drop", dropped)].into(),
        "{:#?}",
        trace.rejections
    );
    for told in trace.rejections_of("accept_queue_full") {
        assert!(told.peer.is_none_or(|peer| peer.ip() == peer_of(way)), "{told:#?}");
    }
    Ok(())
}

/// A warning before harm.
#[test]
fn the_accept_queue_is_filling() -> Result<()> {
    let scene = Scene::that_never_accepts(10)?;
    let tracer = scene.trace(&[])?;
    let waiting = [scene.client().connect_many(ways()[0], 8)?, scene.client().connect_many(ways()[1], 8)?];
    sleep(ms(50));
    let trace = settle(tracer)?;
    drop(waiting);
    let told = trace.rejections_of("accept_queue_filling");
    assert_eq!(told.len(), trace.rejections.len(), "{:#?}", trace.rejections);
    for way in ways() {
        let of_it: Vec<_> = told.iter().filter(|told| told.local == Some(way)).collect();
        assert_eq!(of_it.len(), 1, "{told:#?}");
        // At the last SYN seven waited.
        assert_eq!((of_it[0].queue_length, of_it[0].queue_limit), (Some(7), Some(10)), "{of_it:#?}");
        assert_eq!(of_it[0].process, Some(scene.process()), "{of_it:#?}");
        assert!(of_it[0].alb.is_empty(), "{of_it:#?}");
    }
    Ok(())
}

/// A queue that was never half full is no news.
#[test]
fn an_accept_queue_with_room_is_not_reported() -> Result<()> {
    let scene = Scene::that_never_accepts(10)?;
    let tracer = scene.trace(&[])?;
    let waiting = scene.client().timeout(ONE_SYN).connect_many(ways()[0], 4)?;
    let trace = settle(tracer)?;
    drop(waiting);
    assert!(trace.rejections.is_empty(), "{:#?}", trace.rejections);
    Ok(())
}
