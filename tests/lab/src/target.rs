//! The target: a small server of our own with delays at chosen places, and the log of when they really happened.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::json_log::JsonLog;
use crate::netns::Namespace;
use crate::process::{Process, Signal};
use crate::topology::Lab;

mod options;
pub mod server;

pub use options::{Behaviour, Options};

/// The target's program, of the package `e2e`.
const PROGRAM: &str = "lab-target";

/// The target running in a namespace; it ends on drop.
#[derive(Debug)]
pub struct Target {
    /// The process, for signals and its output.
    pub process: Process,
    log: JsonLog<Served>,
}

impl Target {
    /// Starts the target in the lab's `target` namespace and waits until it listens. `name` is unique in the lab.
    ///
    /// # Errors
    /// Where the program is not built or cannot listen.
    pub fn start(lab: &Lab, name: &str, options: &Options) -> Result<Self> {
        Self::start_in(&lab.target, lab.directory(), name, options)
    }

    /// As [`Target::start`], in any namespace, with its files in any directory.
    ///
    /// # Errors
    /// As [`Target::start`].
    pub fn start_in(namespace: &Namespace, directory: &Path, name: &str, options: &Options) -> Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let program = program()?;
        let mut command = namespace.command(&program.to_string_lossy())?;
        command.args(options.to_arguments()).arg("--log").arg(&log);
        let mut process = Process::start(name, command, directory)?;
        let listening =
            |process: &Process| process.stdout().is_ok_and(|text| text.lines().count() == options.listen.len());
        process.wait_ready(Duration::from_secs(5), listening)?;
        Ok(Self { process, log: JsonLog::new(log) })
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What was served so far, in the order in which the requests ended.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub fn served(&self) -> Result<Vec<Served>> {
        self.log.entries()
    }

    /// Waits for `count` requests in the log: a response is logged a moment after it is written.
    ///
    /// # Errors
    /// Where there are fewer after five seconds.
    pub fn wait_for(&self, count: usize) -> Result<Vec<Served>> {
        self.log.wait_for(count)
    }

    /// Ends the target and returns its whole log.
    ///
    /// # Errors
    /// Where it cannot be ended, or the log cannot be read.
    pub fn stop(mut self) -> Result<Vec<Served>> {
        self.process.stop(Signal::TERM)?;
        self.served()
    }
}

/// One request as the target saw it. Instants are `CLOCK_MONOTONIC` nanoseconds; one that did not come is absent.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub struct Served {
    /// Counts the connections of this target, from 1.
    pub connection: u64,
    /// Counts the requests of the connection, from 1.
    pub sequence: u64,
    /// The other end; an IPv4-mapped address is shown as IPv4.
    pub peer: Option<SocketAddr>,
    /// This end; an IPv4-mapped address is shown as IPv4.
    pub local: Option<SocketAddr>,
    /// The listener woke up: a connection waits in the accept queue. Before `--before-accept`.
    pub accept_ready_ns: Option<u64>,
    /// `accept()` returned.
    pub accepted_ns: Option<u64>,
    /// `poll()` said that the first bytes can be read. Before `--before-read`.
    pub readable_ns: Option<u64>,
    /// The first read returned.
    pub first_read_ns: Option<u64>,
    /// The read of the last byte of the request returned.
    pub last_read_ns: Option<u64>,
    /// Before the first write of the response.
    pub first_write_ns: Option<u64>,
    /// After the last write of the response.
    pub last_write_ns: Option<u64>,
    /// Bytes of the request, head and body, as far as they were read.
    pub bytes_in: u64,
    /// Bytes of the response, head and body, as far as they were written.
    pub bytes_out: u64,
    /// Method and path.
    pub request: String,
    /// Status of the response, if one was written.
    pub status: Option<u16>,
    /// Why the request did not end well.
    pub error: Option<String>,
}

impl Served {
    /// From readable to the first read, nanoseconds.
    #[must_use]
    pub fn pickup_ns(&self) -> Option<u64> {
        self.first_read_ns?.checked_sub(self.readable_ns?)
    }

    /// From the first read to the last, nanoseconds.
    #[must_use]
    pub fn upload_ns(&self) -> Option<u64> {
        self.last_read_ns?.checked_sub(self.first_read_ns?)
    }

    /// From the last read to the first write, nanoseconds.
    #[must_use]
    pub fn service_ns(&self) -> Option<u64> {
        self.first_write_ns?.checked_sub(self.last_read_ns?)
    }

    /// From the first write to the last, nanoseconds.
    #[must_use]
    pub fn writing_ns(&self) -> Option<u64> {
        self.last_write_ns?.checked_sub(self.first_write_ns?)
    }

    /// From the connection in the accept queue to `accept()`, nanoseconds.
    #[must_use]
    pub fn accept_ns(&self) -> Option<u64> {
        self.accepted_ns?.checked_sub(self.accept_ready_ns?)
    }
}

/// The program of the target: next to the running one (`target/debug`), or one directory up (`target/debug/deps`, for tests).
///
/// # Errors
/// Where it is not built.
pub fn program() -> Result<PathBuf> {
    let here = std::env::current_exe().context("cannot tell where this program is")?;
    let found = here.ancestors().skip(1).take(2).map(|directory| directory.join(PROGRAM)).find(|path| path.is_file());
    let Some(path) = found else {
        bail!("{PROGRAM} is not next to {}: build it with `cargo build -p e2e --bin {PROGRAM}`", here.display());
    };
    Ok(path)
}
