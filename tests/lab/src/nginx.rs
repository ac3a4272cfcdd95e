//! nginx as the target, with its own access log.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::json_log::JsonLog;
use crate::process::{Process, Signal};
use crate::topology::Lab;

/// The files that nginx serves at `/NAME`: name and length in bytes. `PUT /upload/NAME` takes a body of any length.
pub const FILES: [(&str, u64); 3] = [("small", 100), ("1m", 1 << 20), ("64m", 64 << 20)];

/// How nginx is set up; the defaults are nginx's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `listen`: IPv6 addresses do not take IPv4.
    pub listen: Vec<SocketAddr>,
    /// `worker_processes`.
    pub workers: usize,
    /// `keepalive_timeout`, in whole seconds.
    pub keepalive_timeout: Duration,
    /// `keepalive_requests`.
    pub keepalive_requests: u64,
    /// `backlog` of each listener.
    pub backlog: u32,
    /// Whether requests are logged.
    pub access_log: bool,
    /// `tcp_nopush`: head and body of a file leave together; most distributions ship it on.
    pub tcp_nopush: bool,
}

impl Options {
    /// nginx with one worker that listens on `addresses`.
    #[must_use]
    pub fn listen(addresses: &[SocketAddr]) -> Self {
        Self {
            listen: addresses.to_vec(),
            workers: 1,
            keepalive_timeout: Duration::from_secs(75),
            keepalive_requests: 1000,
            backlog: 511,
            access_log: true,
            tcp_nopush: false,
        }
    }

    fn configuration(&self, prefix: &Path) -> String {
        let prefix = prefix.display();
        let listen = |address| format!("        listen {address} backlog={};\n", self.backlog);
        let listeners: String = self.listen.iter().map(listen).collect();
        let log = if self.access_log { format!("{prefix}/access.log lab") } else { "off".to_owned() };
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary: String = temporary.map(|kind| format!("    {kind}_temp_path {prefix}/{kind}_temp;\n")).concat();
        format!(
            "daemon off;\nuser root;\nworker_processes {};\npid {prefix}/nginx.pid;\n\
             events {{ worker_connections 16384; }}\n\
             http {{\n    log_format lab '{LOG_FORMAT}';\n    access_log {log};\n    keepalive_timeout {}s;\n    \
             keepalive_requests {};\n    sendfile on;\n    tcp_nopush {};\n    client_max_body_size 0;\n{temporary}    \
             server {{\n{listeners}        root {prefix}/www;\n        \
             location /upload/ {{ dav_methods PUT; create_full_put_path on; }}\n    }}\n}}\n",
            self.workers,
            self.keepalive_timeout.as_secs(),
            self.keepalive_requests,
            if self.tcp_nopush { "on" } else { "off" },
        )
    }
}

/// nginx's variables as JSON, named as in [`Entry`].
const LOG_FORMAT: &str = concat!(
    r#"{"remote_ip":"$remote_addr","remote_port":$remote_port,"request":"$request","status":$status,"#,
    r#""request_s":"$request_time","ended_s":"$msec","connection":$connection,"#,
    r#""connection_requests":$connection_requests,"bytes_sent":$bytes_sent,"request_length":$request_length}"#
);

/// nginx running in the `target` namespace; it ends on drop.
#[derive(Debug)]
pub struct Nginx {
    /// The process, for signals and its output.
    pub process: Process,
    log: JsonLog<Entry>,
}

/// One request in nginx's log.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Entry {
    /// The client's address.
    pub remote_ip: IpAddr,
    /// The client's port.
    pub remote_port: u16,
    /// The request line.
    pub request: String,
    /// The status code; 499 where the client closed first.
    pub status: u16,
    request_s: String,
    ended_s: String,
    /// nginx's number of the connection.
    pub connection: u64,
    /// Which request of the connection it was, from 1.
    pub connection_requests: u64,
    /// Bytes sent, head and body.
    pub bytes_sent: u64,
    /// Bytes received, head and body.
    pub request_length: u64,
}

impl Entry {
    /// The client's end of the connection.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        SocketAddr::new(self.remote_ip, self.remote_port)
    }

    /// `$request_time`, milliseconds: from the first byte read to the entry in the log.
    #[must_use]
    pub fn request_ms(&self) -> Option<u64> {
        self.request_s.replace('.', "").parse().ok()
    }

    /// `$msec`, `CLOCK_REALTIME` milliseconds: when the entry was written.
    #[must_use]
    pub fn ended_realtime_ms(&self) -> Option<u64> {
        self.ended_s.replace('.', "").parse().ok()
    }
}

impl Nginx {
    /// Starts nginx and waits until its workers run. `name` is unique in the lab.
    ///
    /// # Errors
    /// Where it is not installed, or refuses its configuration.
    pub fn start(lab: &Lab, name: &str, options: &Options) -> Result<Self> {
        let prefix = lab.directory().join(name);
        make_files(&prefix.join("www")).with_context(|| format!("cannot make the files in {}", prefix.display()))?;
        let configuration = prefix.join("nginx.conf");
        fs::write(&configuration, options.configuration(&prefix)).context("cannot write nginx's configuration")?;
        let mut command = lab.target.command("nginx")?;
        command.arg("-p").arg(&prefix).arg("-e").arg("stderr").arg("-c").arg(&configuration);
        let mut process = Process::start(name, command, lab.directory())?;
        process.wait_ready(Duration::from_secs(5), |process| idle_workers(process.pid()) == options.workers)?;
        Ok(Self { process, log: JsonLog::new(prefix.join("access.log")) })
    }

    /// The process id of the master.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The process ids of the workers.
    #[must_use]
    pub fn workers(&self) -> Vec<u32> {
        children(self.pid())
    }

    /// The requests logged so far, in the order in which they ended.
    ///
    /// # Errors
    /// Where the log cannot be read: it is off.
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

    /// Ends nginx and returns its whole log.
    ///
    /// # Errors
    /// Where it cannot be ended, or the log cannot be read.
    pub fn stop(mut self) -> Result<Vec<Entry>> {
        self.process.stop(Signal::TERM)?;
        self.log()
    }
}

fn make_files(root: &Path) -> Result<()> {
    fs::create_dir_all(root.join("upload"))?;
    for (name, length) in FILES {
        let length = usize::try_from(length).context("the file is too large for this host")?;
        fs::write(root.join(name), vec![b'n'; length])?;
    }
    Ok(())
}

/// How many workers of the master sleep: those that have come up and wait for events.
fn idle_workers(master: u32) -> usize {
    let sleeps = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with('S'))
    };
    children(master).iter().filter(|pid| sleeps(pid)).count()
}

fn children(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}
