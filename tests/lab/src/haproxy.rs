//! haproxy as the load balancer in front of the target, and its own timers from its log. Like an ALB it uses connections
//! to the target again and does not try a request twice.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::json_log::JsonLog;
use crate::process::{Process, Signal};
use crate::topology::Lab;

/// How haproxy is set up. Durations are taken in whole milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where it listens in the `lb` namespace: any of its addresses, or `0.0.0.0` and `[::]`, with the same port.
    pub listen: Vec<SocketAddr>,
    /// Where it sends the requests.
    pub servers: Vec<SocketAddr>,
    /// The time between two health checks of a server; none where absent.
    pub health_check: Option<Duration>,
    /// How long a connection to the server may take to be established.
    pub connect_timeout: Duration,
    /// How long the server may be silent: then haproxy answers 504.
    pub server_timeout: Duration,
    /// How long the client may be silent.
    pub client_timeout: Duration,
    /// How long an unused connection to the server stays open.
    pub idle: Duration,
}

impl Options {
    /// haproxy on `listen` in front of one server, without health checks.
    #[must_use]
    pub fn new(listen: &[SocketAddr], server: SocketAddr) -> Self {
        Self {
            listen: listen.to_vec(),
            servers: vec![server],
            health_check: None,
            connect_timeout: Duration::from_secs(5),
            server_timeout: Duration::from_mins(1),
            client_timeout: Duration::from_mins(1),
            idle: Duration::from_mins(1),
        }
    }

    /// With a health check (`OPTIONS /`) of each server every `period`.
    #[must_use]
    pub fn health_check(self, period: Duration) -> Self {
        Self { health_check: Some(period), ..self }
    }

    fn configuration(&self) -> String {
        let ms = |duration: Duration| duration.as_millis();
        let bind = |address: &SocketAddr| format!("    bind {}\n", bind_address(*address));
        let check = self.health_check.map_or(String::new(), |period| format!(" check inter {}ms", ms(period)));
        let server = |(index, address): (usize, &SocketAddr)| {
            format!("    server s{index} {} pool-purge-delay {}ms{check}\n", bind_address(*address), ms(self.idle))
        };
        let httpchk = if self.health_check.is_some() { "    option httpchk\n" } else { "" };
        format!(
            "global\n    log stdout format raw local0\n    nbthread 1\n\
             defaults\n    mode http\n    log global\n    option dontlognull\n    option forwardfor\n    http-reuse always\n    retries 0\n    \
             timeout connect {}ms\n    timeout server {}ms\n    timeout client {}ms\n\
             frontend front\n{}    log-format '{LOG_FORMAT}'\n    default_backend back\n\
             backend back\n{httpchk}{}",
            ms(self.connect_timeout),
            ms(self.server_timeout),
            ms(self.client_timeout),
            self.listen.iter().map(bind).collect::<String>(),
            self.servers.iter().enumerate().map(server).collect::<String>(),
        )
    }
}

/// haproxy's fields as JSON, named as in [`Entry`]. Paths with a quote in them are not expected here.
const LOG_FORMAT: &str = concat!(
    r#"{"client_ip":"%ci","client_port":%cp,"method":"%HM","path":"%HP","receive_ms":%TR,"queue_ms":%Tw,"#,
    r#""connect_ms":%Tc,"response_ms":%Tr,"data_ms":%Td,"active_ms":%Ta,"status":%ST,"bytes_to_client":%B,"#,
    r#""bytes_from_client":%U,"source_ip":"%bi","source_port":"%bp","server_ip":"%si","server_port":"%sp","#,
    r#""termination":"%ts","retries":"%rc","accepted_s":%Ts,"accepted_ms":"%ms"}"#
);

/// haproxy running in the `lb` namespace; it ends on drop.
#[derive(Debug)]
pub struct Haproxy {
    /// The process, for signals and its output.
    pub process: Process,
    log: JsonLog<Entry>,
}

/// One request in haproxy's log. Timers are milliseconds; -1 is a stage that was not reached.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Entry {
    /// The client's address.
    pub client_ip: IpAddr,
    /// The client's port.
    pub client_port: u16,
    /// The request's method.
    pub method: String,
    /// The request's path.
    pub path: String,
    /// `%TR`: the request's head came in, from its first byte.
    pub receive_ms: i64,
    /// `%Tw`: waited for a connection slot.
    pub queue_ms: i64,
    /// `%Tc`: connected to the server; 0 where a connection was reused.
    pub connect_ms: i64,
    /// `%Tr`: from the request sent to the head of the response received.
    pub response_ms: i64,
    /// `%Td`: from the head of the response to its last byte.
    pub data_ms: i64,
    /// `%Ta`: from the first byte of the request to the last byte of the response.
    pub active_ms: i64,
    /// The status that the client got; -1 if none.
    pub status: i32,
    /// Bytes sent to the client, head and body.
    pub bytes_to_client: u64,
    /// Bytes received from the client, head and body.
    pub bytes_from_client: u64,
    /// haproxy's end of the connection to the server: address, `-` if there was none.
    source_ip: String,
    /// haproxy's end of the connection to the server: port, `-` if there was none.
    source_port: String,
    server_ip: String,
    server_port: String,
    /// `%ts`: why the session ended, `--` for good.
    pub termination: String,
    /// Attempts to connect after the first; with a `+` if another server was tried.
    pub retries: String,
    /// When the connection was accepted, seconds since the epoch; the first part.
    accepted_s: u64,
    accepted_ms: String,
}

impl Entry {
    /// haproxy's own end of the connection to the server: what the server sees as its peer.
    #[must_use]
    pub fn source(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.source_ip.parse().ok()?, self.source_port.parse().ok()?))
    }

    /// The server that answered.
    #[must_use]
    pub fn server(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.server_ip.parse().ok()?, self.server_port.parse().ok()?))
    }

    /// When the client's connection was accepted, `CLOCK_REALTIME` milliseconds.
    #[must_use]
    pub fn accepted_realtime_ms(&self) -> Option<u64> {
        Some(self.accepted_s * 1000 + self.accepted_ms.parse::<u64>().ok()?)
    }
}

impl Haproxy {
    /// Starts haproxy and waits until it listens. `name` is unique in the lab.
    ///
    /// # Errors
    /// Where it is not installed, or refuses its configuration.
    pub fn start(lab: &Lab, name: &str, options: &Options) -> Result<Self> {
        let file = lab.directory().join(format!("{name}.cfg"));
        fs::write(&file, options.configuration()).context("cannot write haproxy's configuration")?;
        let mut command = lab.lb.command("haproxy")?;
        command.arg("-db").arg("-f").arg(&file);
        let mut process = Process::start(name, command, lab.directory())?;
        let listens = |address: &SocketAddr| lab.lb.is_listening(address.port()).is_ok_and(|listens| listens);
        process.wait_ready(Duration::from_secs(5), |_| options.listen.iter().all(listens))?;
        // Other lines of its stdout tell of servers that go up and down.
        let log = JsonLog::new(process.stdout_path().to_owned());
        Ok(Self { process, log })
    }

    /// The requests logged so far, in the order in which they ended.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub fn log(&self) -> Result<Vec<Entry>> {
        self.log.entries()
    }

    /// Waits for `count` requests in the log.
    ///
    /// # Errors
    /// Where there are fewer after five seconds.
    pub fn wait_for(&self, count: usize) -> Result<Vec<Entry>> {
        self.log.wait_for(count)
    }

    /// Ends haproxy and returns its log. haproxy logs a request a moment after its response: [`Haproxy::wait_for`] those
    /// that matter first.
    ///
    /// # Errors
    /// Where it cannot be ended, or the log cannot be read.
    pub fn stop(mut self) -> Result<Vec<Entry>> {
        self.process.stop(Signal::TERM)?;
        self.log()
    }
}

/// An address as haproxy writes it: IPv6 without brackets, told from IPv4 by a prefix.
fn bind_address(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(_) => format!("ipv4@{address}"),
        SocketAddr::V6(address) => format!("ipv6@{}:{}", address.ip(), address.port()),
    }
}
