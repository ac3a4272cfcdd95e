//! Delays of the application and of the sender: pickup, upload, service, download.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use lab::attempt;
use lab::client::{Client, Connection, Request};
use lab::clock::{monotonic_ns, realtime_ns, sleep};

use crate::bench::{Bench, by_target, check_request, check_time, ms, ns, served_of, ways};

/// Opens a connection each way, uses it as told and closes it.
fn each_way(bench: &Bench, mut turn: impl FnMut(&mut Connection) -> Result<()>) -> Result<Vec<SocketAddr>> {
    let client = Client::new(&bench.lab.lb);
    let turn = |way| {
        let mut connection = client.connect(way)?;
        turn(&mut connection)?;
        Ok(connection.local)
    };
    ways().into_iter().map(turn).collect()
}

/// Checks each request of each peer against the stage in which it was told to spend so many milliseconds.
fn check_all(bench: Bench, peers: &[SocketAddr], told: &[[(&str, u64); 1]]) -> Result<()> {
    bench.finish(peers.len() * told.len(), peers.len(), |trace, served| {
        for peer in peers {
            for (request, told) in trace.requests_of(*peer).into_iter().zip(told) {
                check_request(request, &by_target(served_of(served, request)?, told)?)?;
            }
        }
        Ok(())
    })
}

#[test]
fn pickup() -> Result<()> {
    attempt("pickup", || {
        let bench = Bench::start(|options| options.before_read = ms(60))?;
        let peers = each_way(&bench, |connection| connection.requests(3, ms(5), &Request::get("/")).map(drop))?;
        check_all(bench, &peers, &[[("pickup", 60)]; 3])
    })
}

#[test]
fn upload() -> Result<()> {
    attempt("upload", || {
        let bench = Bench::start(|_| {})?;
        let peers = each_way(&bench, |connection| {
            connection.request(&Request::put("/", 5000).before_body(ms(100)))?;
            connection.request(&Request::put("/", 300_000).body_pieces(4, ms(30)))?;
            connection.request(&Request::put("/", 4096).header("X-Between-Reads", 80)).map(drop)
        })?;
        check_all(bench, &peers, &[[("upload", 100)], [("upload", 90)], [("upload", 80)]])
    })
}

#[test]
fn service() -> Result<()> {
    attempt("service", || {
        let bench = Bench::start(|_| {})?;
        let peers = each_way(&bench, |connection| {
            connection.request(&Request::get("/").header("X-Before-Write", 80))?;
            connection.request(&Request::put("/", 100_000).header("X-Before-Write", 150)).map(drop)
        })?;
        check_all(bench, &peers, &[[("service", 80)], [("service", 150)]])
    })
}

#[test]
fn download_in_pieces() -> Result<()> {
    attempt("download in pieces", || {
        let bench = Bench::start(|_| {})?;
        let request = Request::get("/").header("X-Pieces", 3).header("X-Between-Pieces", 50);
        let peers = each_way(&bench, |connection| {
            connection.request(&request.clone().header("X-Response-Bytes", 3000))?;
            connection.request(&request.clone().header("X-Response-Bytes", 300_000)).map(drop)
        })?;
        check_all(bench, &peers, &[[("download", 100)]; 2])
    })
}

/// The response fills the window and waits in the target until the client reads.
#[test]
fn download_by_a_slow_reader() -> Result<()> {
    attempt("download by a slow reader", || {
        let bench = Bench::start(|_| {})?;
        let request = Request::get("/").header("X-Response-Bytes", 400_000);
        let mut cases = Vec::new();
        for way in ways() {
            let mut connection = Client::new(&bench.lab.lb).receive_buffer(16 << 10).connect(way)?;
            let sent = connection.send(&request)?;
            sleep(ms(120));
            let reply = connection.receive(&request, sent)?;
            cases.push((connection.local, reply.last_byte_ns));
        }
        bench.finish(3, 3, |trace, served| {
            for (peer, last_byte_ns) in cases {
                let request = trace.requests_of(peer)[0];
                let written_ns = served_of(served, request)?.first_write_ns.context("not written")?;
                let held = last_byte_ns - written_ns;
                assert!(held >= ns(ms(100)), "the client held the response back for {held} ns");
                check_request(request, &[("download", held)])?;
            }
            Ok(())
        })
    })
}

/// Four delays in one request, each in its stage; and its begin by the clock.
#[test]
fn every_stage_of_the_application_at_once() -> Result<()> {
    attempt("every stage of the application", || {
        let bench = Bench::start(|options| options.before_read = ms(60))?;
        let request = Request::put("/", 5000).before_body(ms(140)).header("X-Before-Write", 90);
        let request = request.header("X-Pieces", 2).header("X-Between-Pieces", 70).header("X-Response-Bytes", 9000);
        let mut begun = Vec::new();
        let peers = each_way(&bench, |connection| {
            begun.push(connection.request(&request)?.sent.first_byte_ns);
            Ok(())
        })?;
        bench.finish(3, 3, |trace, served| {
            for (peer, begun_ns) in peers.into_iter().zip(begun) {
                let request = trace.requests_of(peer)[0];
                // The body comes some 80 ms after the first read.
                let told = [("pickup", 60), ("upload", 60), ("service", 90), ("download", 70)];
                check_request(request, &by_target(served_of(served, request)?, &told)?)?;
                let ago = realtime_ns() - request.realtime_ns()?;
                check_time("since the begin", ago, monotonic_ns() - begun_ns)?;
            }
            Ok(())
        })
    })
}
