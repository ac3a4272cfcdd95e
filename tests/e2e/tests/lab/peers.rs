//! The real servers and tools: nginx, haproxy, wrk, tcpdump.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use lab::capture::{Capture, Packet, flags};
use lab::client::{Client, Request};
use lab::clock::realtime_offset_ns;
use lab::flood::flood;
use lab::haproxy::{self, Haproxy};
use lab::nginx::{self, Nginx};
use lab::topology::{FRONT_V4, FRONT_V6, target_addresses};
use lab::{Lab, wait_until, wrk};

use crate::{DELAY, assert_injected, ms, start_target};

#[test]
fn nginx_answers_in_both_families() -> Result<()> {
    let lab = Lab::new()?;
    let addresses = target_addresses(80);
    let options = nginx::Options { workers: 2, ..nginx::Options::listen(&addresses) };
    let nginx = Nginx::start(&lab, "nginx", &options)?;
    assert_eq!(nginx.workers().len(), 2);
    for (address, logged) in addresses.into_iter().zip([4, 8]) {
        let mut connection = Client::new(&lab.lb).connect(address)?;
        for (name, length) in nginx::FILES {
            let reply = connection.request(&Request::get(&format!("/{name}")))?;
            assert_eq!((reply.status, reply.body_bytes), (200, length));
        }
        let slow = Request::put("/upload/a", 10_000).before_body(DELAY);
        assert!(matches!(connection.request(&slow)?.status, 201 | 204));
        let entry = nginx.wait_for(logged)?.pop().context("nothing logged")?;
        assert_eq!(entry.remote(), connection.local);
        assert_eq!(entry.connection_requests, 4);
        assert!(entry.request_ms() >= Some(190) && entry.request_length > 10_000, "{entry:?}");
    }
    assert_eq!(nginx.stop()?.len(), 8);
    Ok(())
}

#[test]
fn haproxy_stands_in_front_and_times_it() -> Result<()> {
    let lab = Lab::with_client()?;
    let target = start_target(&lab, |_| {})?;
    let fronts: [SocketAddr; 2] = [(FRONT_V4, 80).into(), (FRONT_V6, 80).into()];
    for (front, back) in fronts.into_iter().zip(target_addresses(8080)) {
        let before = target.served()?.len();
        let haproxy = Haproxy::start(&lab, "haproxy", &haproxy::Options::new(&[front], back))?;
        let mut connection = Client::new(lab.client()).connect(front)?;
        let replies =
            connection.requests(2, ms(1), &Request::get("/slow").header("X-Before-Write", DELAY.as_millis()))?;
        assert!(replies.iter().all(|reply| reply.status == 200));
        let entries = haproxy.wait_for(2)?;
        let served = target.wait_for(before + 2)?.split_off(before);
        for (entry, served) in entries.iter().zip(&served) {
            assert_eq!((entry.source(), entry.server()), (served.peer, served.local));
            assert_eq!((entry.status, entry.path.as_str(), entry.termination.as_str()), (200, "/slow", "--"));
            assert!((190..350).contains(&entry.response_ms) && entry.active_ms >= entry.response_ms, "{entry:?}");
            assert_eq!(SocketAddr::new(entry.client_ip, entry.client_port), connection.local);
        }
        assert_eq!(served[0].connection, served[1].connection, "the connection to the target is used again");
    }
    Ok(())
}

#[test]
fn haproxy_checks_the_health_of_its_servers() -> Result<()> {
    let lab = Lab::new()?;
    let target = start_target(&lab, |_| {})?;
    let options = haproxy::Options::new(&["127.0.0.1:80".parse()?], target_addresses(8080)[0]).health_check(ms(100));
    let haproxy = Haproxy::start(&lab, "haproxy", &options)?;
    let served = target.wait_for(3)?;
    assert!(served.iter().all(|check| check.request == "OPTIONS /" && check.sequence == 1), "{served:?}");
    drop(target);
    let down = || haproxy.process.stdout().is_ok_and(|text| text.contains("no server available"));
    wait_until("haproxy to find its server down", Duration::from_secs(5), down)?;
    assert_eq!(Client::new(&lab.lb).request(options.listen[0], &Request::get("/"))?.status, 503);
    let last = haproxy.wait_for(1)?.pop().context("nothing logged")?;
    assert_eq!((last.status, last.source()), (503, None));
    Ok(())
}

#[test]
fn floods_are_exact() -> Result<()> {
    let lab = Lab::new()?;
    let addresses = target_addresses(80);
    let options = nginx::Options { keepalive_requests: 10_000, ..nginx::Options::listen(&addresses) };
    let nginx = Nginx::start(&lab, "nginx", &options)?;
    let mut logged = 0;
    let mut check = |what: &str, requests: usize, connections: Option<usize>| -> Result<()> {
        logged += requests;
        let entries = nginx.wait_for(logged)?.split_off(logged - requests);
        assert_eq!(entries.len(), requests, "{what}");
        let mut ports: Vec<u16> = entries.iter().map(|entry| entry.remote_port).collect();
        ports.sort_unstable();
        ports.dedup();
        assert!(connections.is_none_or(|connections| connections == ports.len()), "{what}: {}", ports.len());
        Ok(())
    };
    for (address, keep_alive) in addresses.into_iter().zip([true, false]) {
        let total = flood(&lab.lb, address, &Request::get("/small"), 1000, 7, keep_alive)?;
        assert_eq!((total.answered, total.failed, total.first_error.as_deref()), (1000, 0, None));
        assert!(total.percentile_ns(99) >= total.percentile_ns(50) && total.percentile_ns(50) > Some(0));
        check("our own", 1000, keep_alive.then_some(7))?;
    }
    for (address, connections, threads, keep_alive) in
        [(addresses[0], 1, 1, true), (addresses[1], 64, 2, true), (addresses[0], 8, 2, false)]
    {
        let options =
            wrk::Options { connections, threads, keep_alive, ..wrk::Options::exactly(3001, address, "/small") };
        let report = wrk::run(&lab.lb, lab.directory(), "wrk", &options)?;
        assert_eq!((report.requests, report.errors()), (3001, 0), "{report:?}");
        assert!(report.duration_us < 30_000_000 && report.p50_us > 0, "{report:?}");
        check("wrk", 3001, None)?;
    }
    let timed = wrk::Options {
        requests: None,
        duration: Duration::from_secs(1),
        ..wrk::Options::exactly(1, addresses[0], "/small")
    };
    let report = wrk::run(&lab.lb, lab.directory(), "wrk", &timed)?;
    assert!(report.requests > 100 && report.errors() == 0, "{report:?}");
    Ok(())
}

#[test]
fn the_capture_sees_each_packet_at_its_time() -> Result<()> {
    let lab = Lab::new()?;
    let target = start_target(&lab, |_| {})?;
    for (name, address) in ["v4", "v6"].into_iter().zip(target_addresses(8080)) {
        let capture = Capture::start(&lab.target, lab.directory(), name, "eth0", "tcp port 8080")?;
        let before = target.served()?.len();
        let mut connection = Client::new(&lab.lb).connect(address)?;
        let reply = connection.request(&Request::get("/").header("X-Before-Write", DELAY.as_millis()))?;
        let served = target.wait_for(before + 1)?.pop().context("nothing served")?;
        let saw_response =
            |packets: &[Packet]| packets.iter().any(|packet| packet.source.port() == 8080 && packet.payload > 0);
        wait_until("tcpdump to write the response", ms(3000), || {
            capture.packets().is_ok_and(|all| saw_response(&all))
        })?;
        let packets = capture.stop()?;
        let first = packets.first().context("nothing captured")?;
        assert_eq!((first.source, first.destination, first.flags), (connection.local, address, flags::SYN));
        assert_eq!(packets[1].flags, flags::SYN | flags::ACK);
        let payload = |port: u16| packets.iter().find(|packet| packet.source.port() == port && packet.payload > 0);
        let request = payload(connection.local.port()).context("no request captured")?;
        let response = payload(8080).context("no response captured")?;
        assert!(request.has(flags::PSH) && request.sequence == first.sequence.wrapping_add(1));
        assert_eq!((u64::from(request.payload), u64::from(response.payload)), (reply.sent.bytes, reply.bytes));
        assert_eq!(response.acknowledgement, request.sequence.wrapping_add(request.payload));
        // The clocks agree: the packet of the request is between its write and its first read.
        let at = request.realtime_ns - realtime_offset_ns();
        assert!(reply.sent.first_byte_ns <= at && Some(at) <= served.first_read_ns, "{reply:?} {served:?} {at}");
        assert_injected("between the packets", Some(response.realtime_ns - request.realtime_ns), DELAY);
    }
    Ok(())
}
