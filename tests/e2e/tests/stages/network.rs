//! Delays of this host's queues and of the network behind it: egress, drain.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use lab::attempt;
use lab::capture::{Capture, Packet, flags};
use lab::client::{Client, Request};
use lab::clock::sleep;

use crate::bench::{Bench, by_target, check, check_request, ms, ns, served_of, ways};
use crate::faults::{Queue, lose_acks};

/// The response waits in the queue in front of the device.
#[test]
fn egress() -> Result<()> {
    attempt("egress", || {
        let bench = Bench::start(|_| {})?;
        let mut cases = Vec::new();
        for way in ways() {
            let mut connection = Client::new(&bench.lab.lb).connect(way)?;
            connection.request(&Request::get("/"))?;
            let queue = Queue::start(&bench.lab.target)?;
            queue.fill(ms(100))?;
            let reply = connection.request(&Request::get("/"))?;
            drop(queue);
            cases.push((connection.local, reply.first_byte_ns));
        }
        bench.finish(6, 3, |trace, served| {
            for (peer, first_byte_ns) in cases {
                let requests = trace.requests_of(peer);
                let written_ns = served_of(served, requests[1])?.first_write_ns.context("not written")?;
                let waited = first_byte_ns - written_ns;
                ensure!(waited >= ns(ms(50)), "the queue held the response back for {waited} ns only");
                check_request(requests[0], &[])?;
                check_request(requests[1], &[("egress", waited)])?;
            }
            Ok(())
        })
    })
}

/// The acknowledgement of the response is lost, and comes with the next request, before anything is sent again.
#[test]
fn drain_until_the_next_request() -> Result<()> {
    attempt("drain until the next request", || {
        let bench = Bench::start(|_| {})?;
        let mut cases = Vec::new();
        for way in ways() {
            let mut connection = Client::new(&bench.lab.lb).connect(way)?;
            connection.request(&Request::get("/"))?;
            let lost = lose_acks(&bench.lab.lb)?;
            connection.request(&Request::get("/"))?;
            sleep(ms(100));
            let next = Request::get("/").header("X-Before-Write", 90);
            let sent = connection.send(&next)?;
            // The request is to be read before nft takes the processor.
            sleep(ms(20));
            drop(lost);
            connection.receive(&next, sent)?;
            cases.push((connection.local, sent.first_byte_ns));
        }
        bench.finish(9, 3, |trace, served| {
            for (peer, acknowledged_ns) in cases {
                let requests = trace.requests_of(peer);
                let written_ns = served_of(served, requests[1])?.last_write_ns.context("not written")?;
                check_request(requests[0], &[])?;
                check_request(requests[1], &[("drain", acknowledged_ns - written_ns)])?;
                check_request(requests[2], &by_target(served_of(served, requests[2])?, &[("service", 90)])?)?;
            }
            Ok(())
        })
    })
}

/// From the response's first transmission to its acknowledgement, as captured at the target.
fn acknowledged_after(packets: &[Packet], peer: SocketAddr) -> Result<u64> {
    let response = packets.iter().find(|packet| packet.destination == peer && packet.payload > 0);
    let response = response.context("no response was captured")?;
    let end = response.sequence.wrapping_add(response.payload);
    let acknowledges = |packet: &&Packet| {
        packet.source == peer && packet.acknowledgement == end && packet.has(flags::ACK) && packet.payload == 0
    };
    let acknowledgement = packets.iter().find(acknowledges).context("no acknowledgement was captured")?;
    Ok(acknowledgement.realtime_ns - response.realtime_ns)
}

/// The acknowledgement of the response is lost, and comes again once the response was sent again.
#[test]
fn drain_with_a_retransmission() -> Result<()> {
    attempt("drain with a retransmission", || {
        let bench = Bench::start(|_| {})?;
        let mut peers = Vec::new();
        let capture = Capture::start(&bench.lab.target, bench.lab.directory(), "capture", "eth0", "tcp")?;
        for way in ways() {
            let mut connection = Client::new(&bench.lab.lb).connect(way)?;
            let lost = lose_acks(&bench.lab.lb)?;
            connection.request(&Request::get("/"))?;
            sleep(ms(100));
            drop(lost);
            sleep(ms(500));
            peers.push(connection.local);
        }
        let packets = capture.stop()?;
        bench.finish(3, 3, |trace, _| {
            for peer in peers {
                let waited = acknowledged_after(&packets, peer)?;
                ensure!(waited >= ns(ms(100)), "the acknowledgement came after {waited} ns already");
                let request = trace.requests_of(peer)[0];
                assert!(request.retransmits >= 1, "{request:#?}");
                check(&request.stages_ns.named(), &[("drain", waited)])?;
            }
            Ok(())
        })
    })
}
