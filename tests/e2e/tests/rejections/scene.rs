//! The lab with a target on it, and what must hold of everything that is reported.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::client::{Client, Connection, Request};
use lab::clock::sleep;
use lab::target::{Options, Target};
use lab::topology::{LB_V4, LB_V6, target_addresses};
use lab::tracer::{ProcessName, Rejection, Trace, Tracer};
use lab::{Lab, Namespace};

/// How long a client tries to connect that must not succeed: less than the second after which a SYN is sent again.
pub const ONE_SYN: Duration = ms(400);

pub const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// The target's addresses, IPv4 and IPv6, each with its own listener.
pub fn ways() -> [SocketAddr; 2] {
    target_addresses(8080)
}

/// The load balancer's address on the way to `target`.
pub fn peer_of(target: SocketAddr) -> IpAddr {
    if target.is_ipv4() { LB_V4.into() } else { LB_V6.into() }
}

/// Declared in the order in which they are dropped.
pub struct Scene {
    pub target: Target,
    pub lab: Lab,
}

impl Scene {
    /// A target that listens on both [`ways`].
    pub fn new(change: impl FnOnce(&mut Options)) -> Result<Self> {
        let lab = Lab::new()?;
        let mut options = Options::listen(&ways());
        change(&mut options);
        let target = Target::start(&lab, "target", &options)?;
        let scene = Self { target, lab };
        if options.before_accept.is_zero() && options.before_read.is_zero() {
            // The neighbours are found, before a fault may keep them from it.
            scene.each_way(|connection| connection.request(&Request::get("/")).map(drop))?;
        }
        Ok(scene)
    }

    /// A target whose listeners never accept.
    pub fn that_never_accepts(backlog: i32) -> Result<Self> {
        Self::new(|options| {
            options.backlog = backlog;
            options.before_accept = Duration::from_hours(1);
        })
    }

    pub fn trace(&self, arguments: &[&str]) -> Result<Tracer> {
        start_tracer(&self.lab, arguments)
    }

    pub fn client(&self) -> Client<'_> {
        Client::new(&self.lab.lb)
    }

    /// Opens a connection each way and does `turn` with it; returns the peers.
    pub fn each_way(&self, mut turn: impl FnMut(&mut Connection) -> Result<()>) -> Result<[SocketAddr; 2]> {
        let mut peers = ways();
        for (way, peer) in ways().into_iter().zip(&mut peers) {
            let mut connection = self.client().connect(way)?;
            *peer = connection.local;
            turn(&mut connection)?;
        }
        Ok(peers)
    }

    /// Tries to connect `count` times each way, a SYN each time.
    pub fn cannot_connect(&self, count: usize) -> Result<()> {
        for way in ways().into_iter().flat_map(|way| vec![way; count]) {
            ensure!(self.client().timeout(ONE_SYN).connect(way).is_err(), "{way} can be reached");
        }
        Ok(())
    }

    /// The target as a process that listens, or has read.
    pub fn process(&self) -> ProcessName {
        ProcessName { pid: self.target.pid(), comm: "lab-target".to_owned(), how: None }
    }
}

/// Does something each way at the same time.
pub fn at_once<T: Send>(action: impl Fn(SocketAddr) -> T + Sync) -> [T; 2] {
    let (action, [v4, v6]) = (&action, ways());
    thread::scope(|scope| {
        let other = scope.spawn(move || action(v6));
        let one = action(v4);
        match other.join() {
            Ok(other) => [one, other],
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

pub fn start_tracer(lab: &Lab, arguments: &[&str]) -> Result<Tracer> {
    let tracer = Tracer::start(lab, "tracer", arguments)?;
    // The kernel begins to stamp packets a moment after the tracer has asked for it.
    sleep(ms(100));
    Ok(tracer)
}

/// Ends the tracing once the kernel is done with what happened last.
pub fn settle(tracer: Tracer) -> Result<Trace> {
    sleep(ms(200));
    tracer.stop()
}

/// The codes of the load balancer that a cause leads to.
fn codes(cause: &str) -> &'static [&'static str] {
    match cause {
        "no_listener"
        | "firewall_reject"
        | "keepalive_race"
        | "closed_before_response"
        | "reset_before_response"
        | "reset_mid_response" => &["502"],
        "peer_gave_up" => &["460"],
        "keepalive_too_short" | "accept_queue_filling" => &[],
        _ => &["504"],
    }
}

/// Asserts that `cause` was reported `count` times, over all objects that tell of it, and nothing else but for
/// `besides`; returns these objects.
#[track_caller]
pub fn assert_only<'a>(trace: &'a Trace, cause: &str, count: u64, besides: &[&str]) -> Vec<&'a Rejection> {
    let mut causes = trace.causes();
    causes.retain(|name, _| !besides.contains(name));
    assert_eq!(
        causes,
        BTreeMap::from([(cause, count)]),
        "{:#?}\n{:#?}\n{:#?}",
        trace.rejections,
        trace.requests,
        trace.status
    );
    let told = trace.rejections_of(cause);
    for rejection in &told {
        assert_eq!(rejection.alb, codes(cause), "{rejection:#?}");
        for text in [&rejection.title, &rejection.explanation, &rejection.advice] {
            assert!(text.len() > 10 && !text.contains("None") && !text.contains("{}"), "{rejection:#?}");
        }
        let times = [Some(&rejection.time), rejection.first.as_ref()];
        let [last, first] = times.map(|time| time.and_then(|time| time.parse::<jiff::Timestamp>().ok()));
        assert!(last.is_some() && first.is_some() && first <= last, "{rejection:#?}");
    }
    assert_eq!(trace.status.records_lost, Some(0), "{:#?}", trace.status);
    told
}

/// Whether it tells the peer's address, or else its network (/24, /64).
fn is_from(rejection: &Rejection, peer: IpAddr) -> bool {
    match (rejection.peer, rejection.peer_network.as_deref()) {
        (Some(told), None) => told.ip() == peer,
        (None, Some(network)) => network == if peer.is_ipv4() { "10.77.0.0/24" } else { "fd77::/64" },
        _ => false,
    }
}

/// As [`assert_only`], for what happened `count` times each way, and of which both ends are known.
#[track_caller]
pub fn assert_each_way<'a>(trace: &'a Trace, cause: &str, count: u64, besides: &[&str]) -> Vec<&'a Rejection> {
    let told = assert_only(trace, cause, 2 * count, besides);
    for way in ways() {
        let of_it = || told.iter().filter(|rejection| rejection.local == Some(way));
        assert_eq!(of_it().map(|rejection| rejection.count).sum::<u64>(), count, "{way}: {told:#?}");
        for rejection in of_it() {
            assert!(is_from(rejection, peer_of(way)), "{rejection:#?}");
        }
    }
    told
}

/// As [`assert_each_way`], for what happened once each way, on a connection: it is told which.
#[track_caller]
pub fn assert_on_connections<'a>(
    trace: &'a Trace,
    cause: &str,
    peers: &[SocketAddr],
    sequence: Option<u32>,
    besides: &[&str],
) -> Vec<&'a Rejection> {
    let told = assert_only(trace, cause, peers.len() as u64, besides);
    for peer in peers {
        let of_it: Vec<_> = told.iter().filter(|told| told.peer == Some(*peer)).collect();
        assert_eq!(of_it.len(), 1, "{peer}: {told:#?}");
        let connection = trace.requests_of(*peer).first().map(|request| request.connection.clone());
        assert!(connection.is_some(), "{peer}: {:#?}", trace.requests);
        assert_eq!((&of_it[0].connection, of_it[0].sequence), (&connection, sequence), "{of_it:#?}");
        let local = trace.requests_of(*peer).first().map(|request| request.local);
        assert_eq!(of_it[0].local, local, "{of_it:#?}");
    }
    told
}

/// Waits until the TCP socket of `namespace` between two ports is in `state`.
pub fn wait_for_state(namespace: &Namespace, local: u16, peer: u16, state: u8) -> Result<()> {
    let mut seen = None;
    let is_there = || {
        seen = namespace.tcp_state(local, peer).ok().flatten();
        seen == Some(state)
    };
    lab::wait_until("the state of a connection", ms(10_000), is_there)
        .with_context(|| format!("it is {seen:?} instead of {state}"))
}
