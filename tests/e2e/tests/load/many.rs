//! Ten thousand connections open at once.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use lab::Lab;
use lab::client::{Client, Request};
use lab::nginx::{self, Nginx};
use lab::tracer::Tracer;

use crate::{address, assert_nothing_lost, settle};

const CONNECTIONS: usize = 10_000;
/// What the program may take with `--summary`, KiB.
const RESIDENT_LIMIT: u64 = 30 << 10;

/// A figure of `/proc/PID/status`, KiB.
fn memory(pid: u32, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with(name)).with_context(|| format!("no {name}"))?;
    Ok(line.split_whitespace().nth(1).context("no number")?.parse()?)
}

#[test]
#[ignore = "takes about half a minute"]
fn all_are_recorded_in_little_memory() -> Result<()> {
    let lab = Lab::new()?;
    let options = nginx::Options { keepalive_timeout: Duration::from_mins(5), ..nginx::Options::listen(&[address()]) };
    let nginx = Nginx::start(&lab, "nginx", &options)?;
    let tracer = Tracer::start(&lab, "tracer", &[])?;
    let summary = Tracer::start(&lab, "summary", &["--summary"])?;
    let at_start = memory(summary.pid(), "VmRSS:")?;
    let mut connections = Client::new(&lab.lb).connect_many(address(), CONNECTIONS)?;
    for connection in &mut connections {
        assert_eq!(connection.request(&Request::get("/small"))?.status, 200);
    }
    nginx.wait_for(CONNECTIONS)?;
    lab::clock::sleep(Duration::from_millis(1500));
    let (resident, highest) = (memory(summary.pid(), "VmRSS:")?, memory(summary.pid(), "VmHWM:")?);
    let detail = ["RssAnon:", "RssFile:", "RssShmem:"].map(|name| memory(summary.pid(), name).unwrap_or(0));
    println!(
        "--summary: {at_start} KiB at the start, {resident} KiB now, {highest} KiB at most; anonymous, file, shared: {detail:?}"
    );
    println!("--json: {} KiB", memory(tracer.pid(), "VmRSS:")?);
    let trace = settle(tracer)?;
    assert_nothing_lost(&trace);
    assert_eq!(trace.requests.len(), CONNECTIONS);
    assert_eq!(trace.status.connections, Some(CONNECTIONS as u64));
    assert!(trace.connections.is_empty(), "all are still open");
    let mut ids: Vec<&str> = trace.requests.iter().map(|request| request.connection.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), CONNECTIONS, "one on each connection");
    let figures = summary.stop()?;
    assert_eq!((figures.summary.requests, figures.summary.connections), (CONNECTIONS as u64, CONNECTIONS as u64));
    assert!(highest < RESIDENT_LIMIT, "{highest} KiB");
    drop(connections);
    Ok(())
}
