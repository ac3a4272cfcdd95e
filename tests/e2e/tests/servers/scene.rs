//! A server in the lab, and clients of it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::Lab;
use lab::client::{Client, Connection, Reply, Request};
use lab::clock::sleep;
use lab::server::{Kind, Options, Server};
use lab::topology::TARGET_V4;
use lab::tracer::{Trace, Tracer};

/// Where every server listens.
pub const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(TARGET_V4), 8080);

pub const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Declared in the order in which they are dropped.
pub struct Scene {
    pub server: Server,
    pub lab: Lab,
}

impl Scene {
    pub fn new(kind: Kind) -> Result<Self> {
        Self::with(kind, &Options::listen(ADDRESS))
    }

    pub fn with(kind: Kind, options: &Options) -> Result<Self> {
        Self::within(Lab::new()?, kind, options)
    }

    pub fn within(lab: Lab, kind: Kind, options: &Options) -> Result<Self> {
        let server = Server::start(&lab, "server", kind, options)?;
        Ok(Self { server, lab })
    }

    pub fn trace(&self, arguments: &[&str]) -> Result<Tracer> {
        let tracer = Tracer::start(&self.lab, "tracer", arguments)?;
        // The kernel begins to stamp packets a moment after the tracer has asked for it.
        sleep(ms(100));
        Ok(tracer)
    }

    pub fn client(&self) -> Client<'_> {
        Client::new(&self.lab.lb).timeout(Duration::from_secs(20))
    }

    pub fn connect(&self) -> Result<Connection> {
        self.client().connect(ADDRESS)
    }

    /// A connection that was used once and is idle.
    pub fn idle(&self) -> Result<Connection> {
        let mut connection = self.connect()?;
        ok(&connection.request(&Request::get("/"))?)?;
        Ok(connection)
    }
}

/// A client that keeps its connection where the server does, and counts its requests.
pub struct Browser<'a> {
    scene: &'a Scene,
    open: Option<Connection>,
    pub sent: u64,
}

impl<'a> Browser<'a> {
    pub fn new(scene: &'a Scene) -> Self {
        Self { scene, open: None, sent: 0 }
    }

    /// A request with `Connection: close`. The JDK's server closes as asked, but does not say so in its response.
    pub fn last_request(&mut self) -> Result<()> {
        self.request(&Request::get("/").header("Connection", "close"))?;
        self.open = None;
        Ok(())
    }

    pub fn request(&mut self, request: &Request) -> Result<()> {
        let mut connection = match self.open.take() {
            Some(connection) => connection,
            None => self.scene.connect()?,
        };
        self.sent += 1;
        let reply = connection.request(request).with_context(|| format!("{:?}", self.scene.server.kind()))?;
        ok(&reply)?;
        if !reply.closed {
            self.open = Some(connection);
        }
        Ok(())
    }
}

pub fn ok(reply: &Reply) -> Result<()> {
    ensure!(reply.status == 200, "{}", reply.head);
    Ok(())
}

/// Ends the tracing once the kernel is done with what happened last.
pub fn settle(tracer: Tracer) -> Result<Trace> {
    sleep(ms(200));
    tracer.stop()
}

/// Asserts that nothing was reported, and that `requests` were counted: in lines, in figures, and in the kernel.
#[track_caller]
pub fn assert_healthy(trace: &Trace, requests: u64) {
    assert_healthy_in_tls(trace, requests);
    assert_eq!(trace.status.requests, Some(requests));
}

/// As [`assert_healthy`]. The kernel counts the turns of handshakes, too.
#[track_caller]
pub fn assert_healthy_in_tls(trace: &Trace, requests: u64) {
    assert!(trace.rejections.is_empty(), "{:#?}", trace.rejections);
    assert_eq!(trace.summary.requests, requests, "{:#?}", trace.requests);
    assert_eq!(trace.requests.len() as u64, requests);
    assert_eq!(trace.status.records_lost, Some(0), "{:#?}", trace.status);
    for word in ["messages", "streams"] {
        assert!(!trace.summary.more.contains_key(word), "{:#?}", trace.summary);
    }
}
