//! The lab as a workload needs it: servers up, names and limits set.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::Result;
use lab::{
    Lab,
    nginx::{self, Nginx},
    topology::{LB_V4, TARGET_V4},
};

use super::{Kind, Load, Workload, http::Client, idle::Holders, syn_flood::SynFlood};

/// The port of the server.
pub const PORT: u16 = 80;

/// Where the server listens.
pub fn address() -> SocketAddr {
    SocketAddr::new(TARGET_V4.into(), PORT)
}

/// The device between the server and a client that is outside of this kernel.
pub struct Tap;

impl Tap {
    /// Its name in the namespace of the server.
    pub const NAME: &str = "tap0";
    /// Its address.
    pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 79, 0, 1);
    /// The client's own address.
    pub const PEER: Ipv4Addr = Ipv4Addr::new(10, 79, 0, 2);
    /// The length of the prefix of both.
    pub const PREFIX: u8 = 24;
    /// The network (/24) from which the client connects.
    pub const CLIENTS: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 0);

    fn make(lab: &Lab) -> Result<()> {
        let (address, clients) = (format!("{}/{}", Self::ADDRESS, Self::PREFIX), format!("{}/24", Self::CLIENTS));
        for arguments in [
            &["tuntap", "add", "dev", Self::NAME, "mode", "tap"][..],
            &["address", "add", &address, "dev", Self::NAME],
            &["link", "set", Self::NAME, "up"],
            &["route", "add", &clients, "via", &Self::PEER.to_string(), "dev", Self::NAME],
        ] {
            lab.target.run("ip", arguments)?;
        }
        Ok(())
    }
}

/// The server, for all samples of a workload. Fields drop in this order.
pub struct Scene<'lab> {
    /// The workload.
    pub workload: Workload,
    /// The lab.
    pub lab: &'lab Lab,
    _nginx: Option<Nginx>,
}

impl<'lab> Scene<'lab> {
    /// Starts what the workload needs.
    pub fn raise(lab: &'lab Lab, workload: Workload) -> Result<Self> {
        lab.lb.sysctl("net.ipv4.ip_local_port_range", "1024 65535")?;
        // Ten thousand connections a sample would use up the ports while closed ones wait for a minute.
        lab.lb.sysctl("net.ipv4.tcp_tw_reuse", "1")?;
        lab.target.sysctl("net.core.somaxconn", "16384")?;
        let nginx = match workload.kind() {
            Kind::Idle(_) => None,
            kind => {
                // Where connections are opened at once, none has to wait for a second try.
                let backlog = if kind == Kind::SynFlood { 511 } else { 16_384 };
                let defaults = nginx::Options::listen(&[address()]);
                let options = nginx::Options {
                    workers: 2,
                    keepalive_timeout: Duration::from_mins(5),
                    keepalive_requests: 1_000_000_000,
                    backlog,
                    access_log: false,
                    tcp_nopush: true,
                    ..defaults
                };
                Some(Nginx::start(lab, "nginx", &options)?)
            }
        };
        if matches!(workload.kind(), Kind::Http(http) if http.is_outside) {
            Tap::make(lab)?;
        }
        if workload.kind() == Kind::SynFlood {
            // The answers leave for a router, as they would on a real host, and nobody answers them.
            lab.target.run("ip", &["route", "add", "default", "via", &LB_V4.to_string()])?;
        }
        Ok(Self { workload, lab, _nginx: nginx })
    }

    /// Starts the load; what it opens is open when it returns.
    pub fn load(&self) -> Result<Box<dyn Load + 'lab>> {
        Ok(match self.workload.kind() {
            Kind::Http(http) => Box::new(Client::start(self.lab, address(), http)?),
            Kind::SynFlood => Box::new(SynFlood::start(self.lab, address())?),
            Kind::Idle(connections) => Box::new(Holders::start(self.lab, connections)?),
        })
    }
}
