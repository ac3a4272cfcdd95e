//! wrk: load from a mature tool, for a time or for an exact number of requests.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::netns::Namespace;
use crate::process::{Process, Signal};

/// What load to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where to send the requests.
    pub address: SocketAddr,
    /// What to ask for, such as `/small`.
    pub path: String,
    /// Connections open at once, over all threads.
    pub connections: usize,
    /// Threads; at most as many as connections.
    pub threads: usize,
    /// When to stop at the latest, in whole seconds.
    pub duration: Duration,
    /// When to stop: exactly so many requests, or as many as fit into the duration.
    pub requests: Option<u64>,
    /// Whether a connection carries more than one request.
    pub keep_alive: bool,
}

impl Options {
    /// Exactly `requests` to `address` over one connection with keep-alive, within a minute.
    #[must_use]
    pub fn exactly(requests: u64, address: SocketAddr, path: &str) -> Self {
        let duration = Duration::from_mins(1);
        let path = path.to_owned();
        Self { address, path, connections: 1, threads: 1, duration, requests: Some(requests), keep_alive: true }
    }
}

/// What wrk counted.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Report {
    /// Responses received.
    pub requests: u64,
    /// How long it took, microseconds.
    pub duration_us: u64,
    /// Bytes received.
    pub bytes: u64,
    /// Sockets that could not connect.
    pub connect_errors: u64,
    /// Reads that failed.
    pub read_errors: u64,
    /// Writes that failed.
    pub write_errors: u64,
    /// Responses with a status above 399.
    pub status_errors: u64,
    /// Requests that took longer than two seconds.
    pub timeouts: u64,
    /// Median latency, microseconds.
    pub p50_us: u64,
    /// 90th percentile of latency, microseconds.
    pub p90_us: u64,
    /// 99th percentile of latency, microseconds.
    pub p99_us: u64,
    /// Highest latency, microseconds.
    pub max_us: u64,
}

impl Report {
    /// All errors together.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.connect_errors + self.read_errors + self.write_errors + self.status_errors + self.timeouts
    }
}

/// What marks our lines among wrk's own.
const DONE: &str = "LAB-DONE";
const REPORT: &str = "LAB-REPORT ";

/// Runs wrk in `namespace` to its end. `name` is unique in `directory`, which gets its files.
///
/// # Errors
/// Where wrk is not installed, fails, or has not sent the requests within the duration.
pub fn run(namespace: &Namespace, directory: &Path, name: &str, options: &Options) -> Result<Report> {
    let script = directory.join(format!("{name}.lua"));
    fs::write(&script, lua(options)).context("cannot write wrk's script")?;
    let (connections, threads) = (options.connections.to_string(), options.threads.to_string());
    let seconds = format!("{}s", options.duration.as_secs().max(1));
    let url = format!("http://{}{}", options.address, options.path);
    let mut command = namespace.command("wrk")?;
    command.args(["-c", &connections, "-t", &threads, "-d", &seconds]).arg("-s").arg(&script).arg(url);
    let mut process = Process::start(name, command, directory)?;
    let limit = options.duration + Duration::from_secs(10);
    if options.requests.is_some() {
        // wrk would sleep until its duration is over; on SIGINT it reports at once.
        let done = |process: &Process| process.stderr().is_ok_and(|text| text.matches(DONE).count() == options.threads);
        process
            .wait_ready(limit, |process| done(process) || process.stdout().is_ok_and(|text| text.contains(REPORT)))?;
        process.signal(Signal::INT)?;
    }
    let status = process.wait(limit)?;
    let stdout = process.stdout()?;
    ensure!(status.success(), "wrk failed ({status}): {}{stdout}", process.stderr()?);
    let line = stdout.lines().find_map(|line| line.strip_prefix(REPORT)).context("wrk has not reported")?;
    let report: Report = serde_json::from_str(line).with_context(|| format!("not a report of wrk: {line}"))?;
    if let Some(wanted) = options.requests {
        ensure!(report.requests == wanted, "wrk got {} of {wanted} responses: {report:?}", report.requests);
    }
    Ok(report)
}

/// The script. For an exact number, `delay` is asked before each request: once the thread's share is sent, it holds
/// every further one back for ever, and the last response stops the thread.
fn lua(options: &Options) -> String {
    let connection = if options.keep_alive { "" } else { "wrk.headers[\"Connection\"] = \"close\"\n" };
    let count = options.requests.map_or_else(String::new, |requests| {
        format!(
            "local index = 0\n\
             function setup(thread)\n  \
               thread:set('limit', math.floor({requests} * (index + 1) / {threads}) \
                 - math.floor({requests} * index / {threads}))\n  index = index + 1\nend\n\
             local asked, answered = 0, 0\n\
             function delay()\n  asked = asked + 1\n  if asked > limit then return 1000000000 end\n  return 0\nend\n\
             function response()\n  answered = answered + 1\n  if answered == limit then\n    \
               io.stderr:write('{DONE}\\n')\n    wrk.thread:stop()\n  end\nend\n",
            threads = options.threads
        )
    });
    format!(
        "{connection}{count}\
         function done(summary, latency)\n  local e = summary.errors\n  \
           io.write(string.format('{REPORT}{{\"requests\":%d,\"duration_us\":%d,\"bytes\":%d,\"connect_errors\":%d,' ..\n    \
           '\"read_errors\":%d,\"write_errors\":%d,\"status_errors\":%d,\"timeouts\":%d,\"p50_us\":%d,\"p90_us\":%d,' ..\n    \
           '\"p99_us\":%d,\"max_us\":%d}}\\n', summary.requests, summary.duration, summary.bytes, e.connect, e.read,\n    \
           e.write, e.status, e.timeout, latency:percentile(50), latency:percentile(90), latency:percentile(99),\n    \
           latency.max))\nend\n"
    )
}
