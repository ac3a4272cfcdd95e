//! Servers that are reloaded, or replace their workers, under load. haproxy is the load balancer and the judge: what it
//! counts as lost is what has to be reported, with the right cause, and nothing else.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::clock::sleep;
use lab::fault::{Hook, Rules, matching};
use lab::haproxy::{self, Entry, Haproxy};
use lab::server::{Kind, Options, Server};
use lab::steady;
use lab::topology::LB_V4;
use lab::tracer::Trace;

use crate::scene::{ADDRESS, Scene, ms, settle};

/// Where haproxy listens.
const FRONT: SocketAddr = SocketAddr::new(IpAddr::V4(LB_V4), 9090);
/// Requests per second.
const RATE: u64 = 200;

/// What haproxy and the tracer saw of a deploy.
struct Outcome {
    trace: Trace,
    /// The requests that haproxy answered with an error of its own.
    lost: Vec<Entry>,
    answered: u64,
}

/// Whether the network loses packets that end a connection. The load balancer then learns of a close only from the second
/// FIN, 200 ms later, and goes on using the connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Network {
    Perfect,
    LosesFins,
}

/// Load for `duration`, while `deploy` runs each second.
fn deploy(
    kind: Kind,
    options: &Options,
    network: Network,
    duration: Duration,
    deploy: impl Fn(&Server) -> Result<()> + Send + Sync,
) -> Result<Outcome> {
    let scene = Scene::with(kind, options)?;
    let haproxy = Haproxy::start(&scene.lab, "haproxy", &haproxy::Options::new(&[FRONT], ADDRESS))?;
    let rule = format!("numgen random mod 2 0 {} drop", matching::FINS);
    let lossy = match network {
        Network::Perfect => None,
        Network::LosesFins => Some(Rules::start(&scene.lab.lb, Hook::Input, &[&format!("iifname eth0 {rule}")])?),
    };
    let tracer = scene.trace(&[])?;
    let (scene_ref, deploy) = (&scene, &deploy);
    let statuses = std::thread::scope(|scope| -> Result<Vec<u16>> {
        let load = scope.spawn(move || steady::get(&scene_ref.lab.lb, FRONT, RATE, duration));
        let end = Instant::now() + duration.saturating_sub(ms(500));
        while Instant::now() < end {
            sleep(ms(1000));
            deploy(&scene.server)?;
        }
        load.join().map_err(|_| anyhow::anyhow!("the load has panicked"))?
    })?;
    drop(lossy);
    let log = haproxy.wait_for(statuses.len())?;
    ensure!(log.len() == statuses.len(), "haproxy logged {} of {} requests", log.len(), statuses.len());
    // Verdicts on lost requests wait for a second.
    sleep(ms(1300));
    let trace = settle(tracer)?;
    haproxy.stop()?;
    let (answered, lost): (Vec<_>, Vec<_>) = log.into_iter().partition(|entry| entry.status == 200);
    Ok(Outcome { trace, lost, answered: answered.len() as u64 })
}

impl Outcome {
    /// Asserts that exactly the lost requests were reported, all of them as lost to a deploy.
    #[track_caller]
    fn assert_reported(&self, because: &[&str]) -> Result<()> {
        let Self { trace, lost, answered } = self;
        println!("{answered} answered, {} lost: {:?}", lost.len(), trace.causes());
        for entry in lost {
            println!("{:?} {} {} {}", entry.source(), entry.status, entry.termination, entry.retries);
        }
        for told in &trace.rejections {
            println!(
                "{:?} x{} {} {:?} {:?} {} / {}",
                told.peer, told.count, told.cause, told.closed_because, told.closed_together, told.explanation, told.advice
            );
        }
        let told: u64 = trace.rejections.iter().map(|told| told.count).sum();
        assert_eq!(told, lost.len() as u64, "{:#?}", trace.rejections);
        let peers: BTreeSet<_> = lost.iter().map(Entry::source).collect();
        for told in &trace.rejections {
            assert!(told.peer.is_none() || peers.contains(&told.peer), "haproxy lost nothing there: {told:#?}");
            assert_eq!(told.cause, "keepalive_race", "{told:#?}");
            let why = told.closed_because.as_deref().context("no reason")?;
            assert!(because.contains(&why), "{told:#?}");
            assert!(!told.advice.to_lowercase().contains("keep-alive"), "{told:#?}");
        }
        assert_eq!(trace.summary.requests, *answered);
        assert_eq!(trace.status.records_lost, Some(0), "{:#?}", trace.status);
        Ok(())
    }
}

fn nginx(network: Network, duration: Duration) -> Result<Outcome> {
    deploy(Kind::Nginx, &Options::listen(ADDRESS), network, duration, Server::reload)
}

#[test]
fn nginx_reloads_each_second() -> Result<()> {
    nginx(Network::Perfect, ms(8000))?.assert_reported(&["worker_ended", "together"])
}

#[test]
fn nginx_reloads_each_second_and_fins_are_lost() -> Result<()> {
    let outcome = nginx(Network::LosesFins, ms(8000))?;
    ensure!(!outcome.lost.is_empty(), "nothing was lost");
    outcome.assert_reported(&["worker_ended", "together"])
}

fn gunicorn(network: Network, duration: Duration) -> Result<Outcome> {
    let options = Options::listen(ADDRESS).arguments(&["--max-requests", "50", "--workers", "4"]);
    deploy(Kind::GunicornThreads, &options, network, duration, |_| Ok(()))
}

#[test]
fn gunicorn_recycles_its_workers() -> Result<()> {
    gunicorn(Network::Perfect, ms(8000))?.assert_reported(&["worker_ended", "together"])
}

#[test]
fn gunicorn_recycles_its_workers_and_fins_are_lost() -> Result<()> {
    let outcome = gunicorn(Network::LosesFins, ms(8000))?;
    ensure!(!outcome.lost.is_empty(), "nothing was lost");
    outcome.assert_reported(&["worker_ended", "together"])
}

fn node(network: Network, duration: Duration) -> Result<Outcome> {
    let options = Options::listen(ADDRESS).arguments(&["manager"]);
    deploy(Kind::Node, &options, network, duration, Server::reload)
}

#[test]
fn node_is_restarted_by_its_manager() -> Result<()> {
    node(Network::Perfect, ms(8000))?.assert_reported(&["worker_ended", "together"])
}

#[test]
fn node_is_restarted_by_its_manager_and_fins_are_lost() -> Result<()> {
    let outcome = node(Network::LosesFins, ms(8000))?;
    ensure!(!outcome.lost.is_empty(), "nothing was lost");
    outcome.assert_reported(&["worker_ended", "together"])
}
