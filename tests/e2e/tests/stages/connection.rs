//! Delays before a connection is in use: synack, handshake, accept.

use anyhow::{Context, Result, ensure};
use lab::attempt;
use lab::client::{Client, Request};
use lab::clock::sleep;
use lab::tracer::Trace;

use crate::bench::{Bench, by_target, check, check_request, check_time, ms, ns, served_of, ways};
use crate::faults::{Queue, lose_acks, lose_syn_acks};

fn check_connection(trace: &Trace, peer: std::net::SocketAddr, injected: &[(&str, u64)]) -> Result<()> {
    let connection = trace.connection_of(peer).context("no such connection")?;
    check(&connection.stages_ns.named(), injected).with_context(|| format!("{connection:?}"))
}

#[test]
fn accept() -> Result<()> {
    attempt("accept", || {
        let bench = Bench::start(|options| options.before_accept = ms(120))?;
        let mut cases = Vec::new();
        for way in ways() {
            // The request comes at once, while the connection waits, or after it was accepted.
            for pause in [ms(0), ms(60), ms(200)] {
                let mut connection = Client::new(&bench.lab.lb).connect(way)?;
                let request = Request::get("/").before_first_byte(pause).header("X-Before-Write", 70);
                let sent_ns = connection.request(&request)?.sent.first_byte_ns;
                connection.request(&Request::get("/"))?;
                cases.push((connection.local, sent_ns));
            }
        }
        bench.finish(18, 9, |trace, served| {
            for (peer, sent_ns) in cases {
                let requests = trace.requests_of(peer);
                let served = served_of(served, requests[0])?;
                check_connection(trace, peer, &by_target(served, &[("accept", 120)])?)?;
                check_request(requests[0], &by_target(served, &[("service", 70)])?)?;
                check_request(requests[1], &[])?;
                let waited = served.accepted_ns.context("not accepted")?.saturating_sub(sent_ns);
                let accept_ns = requests[0].accept_ns.context("the wait for accept() was not measured")?;
                check_time("accept_ns", accept_ns, waited)?;
            }
            Ok(())
        })
    })
}

/// The SYN-ACK waits in the queue in front of the device.
#[test]
fn synack() -> Result<()> {
    attempt("synack", || {
        let bench = Bench::start(|_| {})?;
        let mut cases = Vec::new();
        for way in ways() {
            // Finds the neighbours, whose answers would wait in the queue too.
            Client::new(&bench.lab.lb).request(way, &Request::get("/"))?;
            let queue = Queue::start(&bench.lab.target)?;
            queue.fill(ms(100))?;
            let mut connection = Client::new(&bench.lab.lb).connect(way)?;
            drop(queue);
            connection.request(&Request::get("/"))?;
            cases.push((connection.local, connection.connected_ns - connection.connect_ns));
        }
        bench.finish(6, 6, |trace, _| {
            for (peer, waited) in cases {
                ensure!(waited >= ns(ms(50)), "the queue held the SYN-ACK back for {waited} ns only");
                check_connection(trace, peer, &[("synack", waited)])?;
                check_request(trace.requests_of(peer)[0], &[])?;
            }
            Ok(())
        })
    })
}

/// The handshake's last ACK is lost, and comes with the request: what comes that way is not stamped, so `ingress` is
/// not measured.
#[test]
fn handshake_that_ends_with_the_request() -> Result<()> {
    attempt("handshake that ends with the request", || {
        let bench = Bench::start(|_| {})?;
        let mut cases = Vec::new();
        for way in ways() {
            let lost = lose_acks(&bench.lab.lb)?;
            let mut connection = Client::new(&bench.lab.lb).connect(way)?;
            sleep(ms(120));
            drop(lost);
            let reply = connection.request(&Request::get("/").header("X-Before-Write", 70))?;
            connection.request(&Request::get("/"))?;
            cases.push((connection.local, reply.sent.first_byte_ns - connection.connected_ns));
        }
        bench.finish(6, 3, |trace, served| {
            for (peer, waited) in cases {
                check_connection(trace, peer, &[("handshake", waited)])?;
                let requests = trace.requests_of(peer);
                let stages = requests[0].stages_ns.named();
                ensure!(stages[0] == ("ingress", None), "{:?}", requests[0]);
                check(&stages[1..], &by_target(served_of(served, requests[0])?, &[("service", 70)])?)?;
                check_request(requests[1], &[])?;
            }
            Ok(())
        })
    })
}

/// The handshake's last ACK is lost, and comes again in answer to the SYN-ACK that is sent again after a second.
#[test]
fn handshake_with_a_second_synack() -> Result<()> {
    attempt("handshake with a second SYN-ACK", || {
        let bench = Bench::start(|_| {})?;
        let mut peers = Vec::new();
        for way in &ways()[..2] {
            let lost = lose_acks(&bench.lab.lb)?;
            let mut connection = Client::new(&bench.lab.lb).connect(*way)?;
            sleep(ms(300));
            drop(lost);
            sleep(ms(1000));
            connection.request(&Request::get("/"))?;
            peers.push(connection.local);
        }
        bench.finish(2, 2, |trace, _| {
            for peer in peers {
                check_connection(trace, peer, &[("handshake", ns(ms(1000)))])?;
                check_request(trace.requests_of(peer)[0], &[])?;
            }
            Ok(())
        })
    })
}

/// A first attempt was given up: what came of it is no part of the second one from the same port.
#[test]
fn a_second_attempt_from_the_same_port() -> Result<()> {
    attempt("a second attempt from the same port", || {
        let bench = Bench::start(|_| {})?;
        let mut peers = Vec::new();
        for (way, port) in ways()[..2].iter().zip(50_060..) {
            let client = Client::new(&bench.lab.lb).source_port(port);
            let lost = lose_syn_acks(&bench.lab.lb)?;
            ensure!(client.timeout(ms(300)).connect(*way).is_err(), "no SYN-ACK was lost");
            drop(lost);
            // The SYN-ACK that is sent again after a second is answered with a reset.
            sleep(ms(2000));
            let mut connection = client.connect(*way)?;
            connection.request(&Request::get("/"))?;
            peers.push(connection.local);
        }
        bench.finish(2, 2, |trace, _| {
            for peer in peers {
                let stages = trace.connection_of(peer).context("no such connection")?.stages_ns;
                for stage in [stages.synack, stages.handshake] {
                    ensure!(stage.context("it was not measured")? < ns(ms(50)), "{stages:?}");
                }
            }
            Ok(())
        })
    })
}
