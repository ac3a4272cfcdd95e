//! What is well: connections with requests, each from an address of its own, and a few that stay open.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result, anyhow, ensure};
use lab::client::{Client, Request};

use crate::plan::Run;
use crate::scene::{SERVED, Scene};

/// Threads that connect.
const WORKERS: u32 = 4;
/// The address of the first peer: the network between carriers and their customers (RFC 6598, /10).
const FIRST: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 0);

/// What a client has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub connections: u64,
    pub requests: u64,
}

impl Counted {
    pub fn add(&mut self, other: Self) {
        self.connections += other.connections;
        self.requests += other.requests;
    }
}

/// All connections of the plan. Each has one to three requests; most answers are small, few are large.
pub fn send(scene: &Scene, run: &Run) -> Result<Counted> {
    let share = run.plan.connections * run.plan.rounds / WORKERS;
    std::thread::scope(|scope| {
        let work = |worker| move || connect(scene, run, share * worker, share);
        let workers: Vec<_> = (0..WORKERS).map(|worker| scope.spawn(work(worker))).collect();
        let mut counted = Counted::default();
        for worker in workers {
            counted.add(worker.join().map_err(|_| anyhow!("a client panicked"))??);
        }
        Ok(counted)
    })
}

fn connect(scene: &Scene, run: &Run, first: u32, count: u32) -> Result<Counted> {
    let mut counted = Counted::default();
    // Stays open for all of the time.
    let mut lasting = Client::new(&scene.lab.lb).connect(SERVED)?;
    counted.connections += 1;
    run.paced(count, |number| {
        let number = first + number;
        let client = Client::new(&scene.lab.lb).source(IpAddr::V4(Ipv4Addr::from(u32::from(FIRST) + number)));
        let mut connection = client.connect(SERVED).with_context(|| format!("connection {number}"))?;
        counted.connections += 1;
        for request in 0..=number % 3 {
            let path = if number.is_multiple_of(500) && request == 0 { "/1m" } else { "/small" };
            let reply = connection.request(&Request::get(path)).with_context(|| format!("connection {number}"))?;
            ensure!(reply.status == 200, "connection {number}: {reply:?}");
            counted.requests += 1;
        }
        if number.is_multiple_of(50) {
            lasting.request(&Request::put("/upload/file", 20_000)).context("a connection that stays")?;
            counted.requests += 1;
        }
        Ok(())
    })?;
    Ok(counted)
}
