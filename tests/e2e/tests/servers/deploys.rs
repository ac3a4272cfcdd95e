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
        let told: u64 = trace.rejections.iter().map(|told| told.count).sum();
        assert_eq!(told, lost.len() as u64, "{:#?}", trace.rejections);
        let peers: BTreeSet<_> = lost.iter().map(Entry::source).collect();
        let mut named = BTreeSet::new();
        for told in &trace.rejections {
            // A connection loses one request, and ends.
            let is_lost = told.peer.is_none_or(|peer| peers.contains(&Some(peer)) && named.insert(peer));
            assert!(is_lost, "haproxy lost nothing there, or another request: {told:#?}");
            assert_eq!(told.cause, "keepalive_race", "{told:#?}");
            let why = told.closed_because.as_deref().with_context(|| format!("no reason: {told:#?}"))?;
            assert!(because.contains(&why), "{told:#?}");
            assert!(!told.advice.to_lowercase().contains("keep-alive"), "{told:#?}");
        }
        // A request that came and was never read is a request without a response here.
        let (served, unread): (Vec<_>, Vec<_>) = trace.requests.iter().partition(|request| request.bytes_out > 0);
        assert_eq!(served.len() as u64, *answered);
        for request in unread {
            assert!(peers.contains(&Some(request.peer)), "haproxy lost nothing there: {request:#?}");
        }
        assert_eq!(trace.status.records_lost, Some(0), "{:#?}", trace.status);
        Ok(())
    }
}

/// What a reload, or the recycling of a worker, looks like.
const RELOAD: [&str; 3] = ["worker_ended", "together", "early"];

fn nginx(network: Network, duration: Duration) -> Result<Outcome> {
    deploy(Kind::Nginx, &Options::listen(ADDRESS), network, duration, Server::reload)
}

/// Each worker ends after 50 requests, by itself.
fn gunicorn(network: Network, duration: Duration) -> Result<Outcome> {
    let options = Options::listen(ADDRESS).arguments(&["--max-requests", "50", "--workers", "4"]);
    deploy(Kind::GunicornThreads, &options, network, duration, |_| Ok(()))
}

fn node(network: Network, duration: Duration) -> Result<Outcome> {
    let options = Options::listen(ADDRESS).arguments(&["manager"]);
    deploy(Kind::Node, &options, network, duration, Server::reload)
}

/// What is lost on a perfect network is up to chance; where FINs are lost, requests are.
fn check(of: fn(Network, Duration) -> Result<Outcome>, network: Network, duration: Duration) -> Result<()> {
    let outcome = of(network, duration)?;
    println!("{} answered, {} lost: {:?}", outcome.answered, outcome.lost.len(), outcome.trace.causes());
    ensure!(network == Network::Perfect || !outcome.lost.is_empty(), "nothing was lost");
    outcome.assert_reported(&RELOAD)
}

/// Short tests of each server, and a long one.
macro_rules! of_each_deploy {
    ($($name:ident),+) => {
        $(
            mod $name {
                use super::*;

                #[test]
                fn deploys() -> Result<()> {
                    check(super::$name, Network::Perfect, ms(5000))
                }

                #[test]
                fn deploys_and_fins_are_lost() -> Result<()> {
                    check(super::$name, Network::LosesFins, ms(5000))
                }

                #[test]
                #[ignore = "takes a minute"]
                fn deploys_for_half_a_minute() -> Result<()> {
                    check(super::$name, Network::Perfect, ms(30_000))?;
                    check(super::$name, Network::LosesFins, ms(30_000))
                }
            }
        )+
    };
}

of_each_deploy!(nginx, gunicorn, node);
