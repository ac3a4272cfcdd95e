//! Against haproxy in front of the target: time to first byte and total are those of its timers, which are whole
//! milliseconds.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use lab::client::{Client, Request};
use lab::clock::MS;
use lab::haproxy::{self, Haproxy};
use lab::nginx::{self, Nginx};
use lab::target::{Options, Target};
use lab::topology::{FRONT_V4, FRONT_V6, target_addresses};
use lab::{Lab, Tracer, attempt};

use crate::compare::{Differences, assert_whole};

/// What the difference may be at the median and at the 95th percentile, and what haproxy's rounding adds, nanoseconds.
const BOUND: u64 = 2 * MS + MS;
const REQUESTS: usize = 240;
const CONNECTIONS: usize = 4;

/// The tracer's time of a request and haproxy's, nanoseconds, for the first byte and for the whole.
fn differences(haproxy: &[haproxy::Entry], tracer: &lab::tracer::Trace) -> Result<[Differences; 2]> {
    let (mut first_byte, mut total) = (Vec::new(), Vec::new());
    let mut sources: Vec<SocketAddr> = haproxy.iter().filter_map(haproxy::Entry::source).collect();
    sources.sort_unstable();
    sources.dedup();
    for source in sources {
        let entries: Vec<_> = haproxy.iter().filter(|entry| entry.source() == Some(source)).collect();
        let requests = tracer.requests_of(source);
        ensure!(entries.len() == requests.len(), "{source}: {} of {}", requests.len(), entries.len());
        // A connection carries one request at a time, so both tell them in the same order.
        for (entry, request) in entries.into_iter().zip(requests) {
            ensure!((200..300).contains(&entry.status) && entry.termination == "--", "{entry:?}");
            let ns = |ms: i64| u64::try_from(ms).map(|ms| ms * MS).context("a stage was not reached");
            let accept = request.accept_ns.unwrap_or(0);
            first_byte.push((accept + request.before_ns("download")).abs_diff(ns(entry.response_ms)?));
            let whole = request.total_ns.context("no total")?;
            total.push(whole.abs_diff(ns(entry.response_ms + entry.data_ms)?));
        }
    }
    Ok([Differences::new("time to first byte", first_byte), Differences::new("total", total)])
}

/// Sends the requests through haproxy to `server` and compares.
fn compare(lab: &Lab, name: &str, server: SocketAddr, request: impl Fn(usize) -> Request) -> Result<()> {
    let front: SocketAddr = if server.is_ipv4() { (FRONT_V4, 80).into() } else { (FRONT_V6, 80).into() };
    let haproxy = Haproxy::start(lab, &format!("haproxy-{name}"), &haproxy::Options::new(&[front], server))?;
    let tracer = Tracer::start(lab, &format!("tracer-{name}"), &[])?;
    let client = Client::new(lab.client());
    let mut connections = client.connect_many(front, CONNECTIONS)?;
    for turn in 0..REQUESTS {
        connections[turn % CONNECTIONS].request(&request(turn))?;
    }
    let entries = haproxy.wait_for(REQUESTS)?;
    let trace = tracer.stop()?;
    assert_whole(&trace, REQUESTS);
    let mut far = Vec::new();
    for differences in differences(&entries, &trace)? {
        println!("{name}: {differences}");
        if differences.percentile(95) > BOUND {
            far.push(differences.to_string());
        }
    }
    ensure!(far.is_empty(), "{name}: {}", far.join("; "));
    drop(haproxy);
    Ok(())
}

/// haproxy acknowledges at once: a delayed acknowledgement would be part of the total, but not of its timers.
fn new_lab() -> Result<Lab> {
    let lab = Lab::with_client()?;
    lab.acknowledge_at_once()?;
    Ok(lab)
}

#[test]
fn haproxy_and_the_tracer_agree_about_the_target() -> Result<()> {
    attempt("haproxy and the target", || {
        let lab = new_lab()?;
        let addresses = target_addresses(8080);
        let _target = Target::start(&lab, "target", &Options::listen(&addresses))?;
        for (name, address) in ["v4", "v6"].into_iter().zip(addresses) {
            compare(&lab, name, address, |turn| match turn % 6 {
                0 => Request::get("/").header("X-Before-Write", 4),
                1 => Request::get("/").header("X-Before-Write", 12),
                2 => Request::put("/", 4096).header("X-Between-Reads", 8),
                3 => Request::get("/")
                    .header("X-Pieces", 3)
                    .header("X-Between-Pieces", 5)
                    .header("X-Response-Bytes", 900),
                4 => Request::get("/").header("X-Response-Bytes", 300_000),
                _ => Request::get("/"),
            })?;
        }
        Ok(())
    })
}

#[test]
fn haproxy_and_the_tracer_agree_about_nginx() -> Result<()> {
    attempt("haproxy and nginx", || {
        let lab = new_lab()?;
        let addresses = target_addresses(8080);
        let _nginx = Nginx::start(&lab, "nginx", &nginx::Options::listen(&addresses))?;
        for (name, address) in ["v4", "v6"].into_iter().zip(addresses) {
            compare(&lab, name, address, |turn| match turn % 8 {
                0 => Request::get("/1m"),
                1 => Request::put(&format!("/upload/{turn}"), 50_000),
                _ => Request::get("/small"),
            })?;
        }
        Ok(())
    })
}
