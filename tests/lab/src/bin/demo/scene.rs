//! What stands in the lab: a web server and an application on the target, a load balancer in front of each.

use std::fs;
use std::net::{Ipv6Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use lab::client::{Client, Connection, Reply, Request};
use lab::haproxy::{self, Haproxy};
use lab::nginx::{self, Nginx};
use lab::process::Signal;
use lab::target::{self, Target};
use lab::topology::{CLIENT_V4, FRONT_V4, LB_V4, target_addresses};
use lab::{Lab, Namespace, clock, wait_until};

/// Where nginx listens.
const WEB: u16 = 80;
/// Where the application listens.
pub const APP: u16 = 8080;

/// A load balancer's listener: the port on which it takes requests for one group of targets.
#[derive(Clone, Copy)]
pub enum Front {
    /// For nginx.
    Web = 8000,
    /// For the application.
    App = 8001,
    /// For the application, over IPv6.
    App6 = 8002,
}

impl Front {
    /// Where clients connect to.
    pub fn address(self) -> SocketAddr {
        SocketAddr::new(FRONT_V4.into(), self as u16)
    }
}

/// The servers and load balancers; ended on drop, before the lab.
pub struct Scene<'lab> {
    /// The namespaces.
    pub lab: &'lab Lab,
    /// The application.
    pub app: Target,
    /// A request that waits for its answer until the end.
    pub waiting: Option<Connection>,
    _web: Nginx,
    _load_balancers: [Haproxy; 3],
}

impl<'lab> Scene<'lab> {
    /// Starts everything.
    pub fn raise(lab: &'lab Lab) -> Result<Self> {
        route_around(lab)?;
        let [web, _] = target_addresses(WEB);
        let [app, app6] = target_addresses(APP);
        let balance =
            |name, front: Front, server| Haproxy::start(lab, name, &haproxy::Options::new(&[front.address()], server));
        let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), APP);
        Ok(Self {
            lab,
            app: Target::start(lab, "app", &target::Options::listen(&[any]))?,
            waiting: None,
            _web: Nginx::start(lab, "web", &nginx::Options::listen(&[web]))?,
            _load_balancers: [
                balance("lb-web", Front::Web, web)?,
                balance("lb-app", Front::App, app)?,
                balance("lb-app6", Front::App6, app6)?,
            ],
        })
    }

    /// Opens a connection to the load balancer.
    pub fn connect(&self, front: Front) -> Result<Connection> {
        Client::new(self.lab.client()).connect(front.address())
    }

    /// Sends `count` requests at the same time, each from a client of its own, while the application is stopped for
    /// `pause`.
    pub fn request_while_stopped(&self, count: usize, pause: Duration, request: &Request) -> Result<()> {
        let connections = (0..count).map(|_| self.connect(Front::App)).collect::<Result<Vec<_>>>()?;
        self.app.process.signal(Signal::STOP)?;
        // A thread that wakes up at this very moment would still accept.
        wait_until("the application stands still", Duration::from_secs(1), || is_stopped(self.app.pid()))?;
        let answers = thread::scope(|scope| {
            let ask = |mut connection: Connection| scope.spawn(move || connection.request(request));
            let threads: Vec<_> = connections.into_iter().map(ask).collect();
            clock::sleep(pause);
            // Also where a client has failed: the others wait.
            let resumed = self.app.process.signal(Signal::CONT);
            let answers = threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a client panicked"))?);
            let answers = answers.collect::<Result<Vec<Reply>>>();
            resumed.and(answers)
        });
        answers.map(drop)
    }
}

/// Whether every thread of the process is stopped.
fn is_stopped(pid: u32) -> bool {
    let stopped = |thread: fs::DirEntry| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with('T'))
    };
    fs::read_dir(format!("/proc/{pid}/task")).is_ok_and(|threads| threads.flatten().all(stopped))
}

/// Lets the client reach the target without the load balancer, as a missing security group rule would.
fn route_around(lab: &Lab) -> Result<()> {
    let client_network = format!("{CLIENT_V4}/32");
    lab.lb.sysctl("net.ipv4.ip_forward", "1")?;
    let target = target_addresses(APP)[0].ip().to_string();
    let route = |namespace: &Namespace, to: &str, via: &str| {
        namespace
            .run("ip", &["route", "add", to, "via", via])
            .context("cannot route around the load balancer")
            .map(drop)
    };
    route(&lab.target, &client_network, &LB_V4.to_string())?;
    route(lab.client(), &target, &FRONT_V4.to_string())
}
