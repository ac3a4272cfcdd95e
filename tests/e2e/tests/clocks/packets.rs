//! Against tcpdump in the target's namespace: the moments that bound the stages are those of the packets.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use lab::capture::{Capture, Packet};
use lab::client::{Client, Request};
use lab::nginx::{self, Nginx};
use lab::target::{Options, Target};
use lab::topology::target_addresses;
use lab::{Lab, Tracer, attempt, tracer, wait_until};

use crate::compare::{Differences, assert_whole};

/// What the difference may be at the median, nanoseconds.
const MEDIAN: u64 = 50_000;
const NAMES: [&str; 4] = ["first byte in", "first packet out", "last packet out", "last ACK in"];

/// The times of a request's packets, `CLOCK_REALTIME` nanoseconds, in the order of [`NAMES`].
type Times = [u64; 4];

/// Whether the sequence number `a` is at or after `b`.
fn at_or_after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) < 1 << 31
}

/// The requests of one connection, from its packets alone: one begins with the first bytes from `peer` after a response.
fn turns(packets: &[Packet], peer: SocketAddr) -> Vec<Times> {
    let mut turns: Vec<Times> = Vec::new();
    let mut response_end = None;
    for packet in packets.iter().filter(|packet| packet.source == peer || packet.destination == peer) {
        if packet.source == peer {
            // Before what it carries: an acknowledgement may come with the next request.
            if let (Some(turn), Some(end)) = (turns.last_mut(), response_end)
                && turn[3] == 0
                && at_or_after(packet.acknowledgement, end)
            {
                turn[3] = packet.realtime_ns;
            }
            if packet.payload > 0 && turns.last().is_none_or(|turn| turn[1] != 0) {
                turns.push([packet.realtime_ns, 0, 0, 0]);
                response_end = None;
            }
        } else if packet.payload > 0
            && let Some(turn) = turns.last_mut()
        {
            let end = packet.sequence.wrapping_add(packet.payload);
            if response_end.is_none_or(|known| at_or_after(end, known) && end != known) {
                if turn[1] == 0 {
                    turn[1] = packet.realtime_ns;
                }
                turn[2] = packet.realtime_ns;
                turn[3] = 0;
                response_end = Some(end);
            }
        }
    }
    turns
}

/// The same as the tracer tells it.
fn moments(request: &tracer::Request) -> Result<Times> {
    let arrived = request.realtime_ns()?;
    let begun = arrived + request.accept_ns.unwrap_or(0);
    let total = request.total_ns.context("no total")?;
    Ok([arrived, begun + request.before_ns("download"), begun + request.before_ns("drain"), arrived + total])
}

/// Runs `traffic` with tcpdump and the tracer on it, and compares them. `traffic` returns the clients' addresses.
fn compare(lab: &Lab, name: &str, traffic: impl FnOnce() -> Result<(Vec<SocketAddr>, usize)>) -> Result<()> {
    let mut tracer = Tracer::start_inside(lab, &format!("tracer-{name}"), &[])?;
    let capture = Capture::start(&lab.target, lab.directory(), &format!("capture-{name}"), "eth0", "tcp")?;
    let (peers, requests) = traffic()?;
    tracer.wait_for(std::time::Duration::from_secs(5), |output| output.connections.len() >= peers.len())?;
    let closed = |packets: Vec<Packet>| {
        let fin = |peer| packets.iter().any(|packet| packet.source == peer && packet.has(lab::capture::flags::FIN));
        peers.iter().all(|peer| fin(*peer))
    };
    wait_until("tcpdump to write the last packet", std::time::Duration::from_secs(5), || {
        capture.packets().is_ok_and(closed)
    })?;
    let packets = capture.stop()?;
    let trace = tracer.stop()?;
    assert_whole(&trace, requests);
    let mut differences = [const { Vec::new() }; 4];
    for peer in peers {
        let (captured, requests) = (turns(&packets, peer), trace.requests_of(peer));
        ensure!(captured.len() == requests.len(), "{peer}: {} requests captured", captured.len());
        for (captured, request) in captured.into_iter().zip(requests) {
            for ((list, captured), told) in differences.iter_mut().zip(captured).zip(moments(request)?) {
                list.push(captured.abs_diff(told));
            }
        }
    }
    let mut far = Vec::new();
    for (what, list) in NAMES.into_iter().zip(differences) {
        let differences = Differences::new(what, list);
        println!("{name}: {differences}");
        if differences.percentile(50) > MEDIAN {
            far.push(differences.to_string());
        }
    }
    ensure!(far.is_empty(), "{name}: {}", far.join("; "));
    Ok(())
}

/// Small and large, up and down, slow and fast, over connections that are kept.
#[test]
fn the_moments_of_the_target_are_those_of_its_packets() -> Result<()> {
    attempt("packets of the target", || {
        let lab = Lab::new()?;
        let addresses = target_addresses(8080);
        let _target = Target::start(&lab, "target", &Options::listen(&addresses))?;
        for (name, address) in ["v4", "v6"].into_iter().zip(addresses) {
            compare(&lab, name, || {
                let mut peers = Vec::new();
                for _ in 0..5 {
                    let mut connection = Client::new(&lab.lb).connect(address)?;
                    for turn in 0..50 {
                        let request = match turn % 5 {
                            0 => Request::get("/").header("X-Before-Write", 5),
                            1 => Request::put("/", 100_000),
                            2 => Request::get("/").header("X-Response-Bytes", 200_000),
                            3 => Request::get("/").header("X-Response-Bytes", 99).header("X-Pieces", 3),
                            _ => Request::get("/"),
                        };
                        connection.request(&request)?;
                    }
                    peers.push(connection.local);
                }
                Ok((peers, 250))
            })?;
        }
        Ok(())
    })
}

#[test]
fn the_moments_of_nginx_are_those_of_its_packets() -> Result<()> {
    attempt("packets of nginx", || {
        let lab = Lab::new()?;
        let addresses = target_addresses(80);
        let _nginx = Nginx::start(&lab, "nginx", &nginx::Options::listen(&addresses))?;
        for (name, address) in ["v4", "v6"].into_iter().zip(addresses) {
            compare(&lab, name, || {
                let mut peers = Vec::new();
                for _ in 0..5 {
                    let mut connection = Client::new(&lab.lb).connect(address)?;
                    for turn in 0..50 {
                        let path = if turn % 10 == 9 { "/1m" } else { "/small" };
                        connection.request(&Request::get(path))?;
                    }
                    peers.push(connection.local);
                }
                Ok((peers, 250))
            })?;
        }
        Ok(())
    })
}
