//! Open connections on which nothing happens: held by processes of their own, as one may have only so many files open.

use std::{env, time::Duration};

use anyhow::{Context as _, Result};
use lab::{Lab, Process, topology::TARGET_V4};
use rustix::process::{Resource, getrlimit};

use super::{Finished, Load};

/// Files that a holder has beside its sockets, rounded up.
const OTHER_FILES: usize = 100;
/// The port of the first holder; the others follow.
const FIRST_PORT: u16 = 8000;
/// How long a holder may take to open its connections.
const PATIENCE: Duration = Duration::from_secs(30);

/// The processes, each of which holds both ends of its connections; they end with their guards.
pub struct Holders {
    connections: usize,
    _processes: Vec<Process>,
}

impl Holders {
    /// Opens all connections.
    pub fn start(lab: &Lab, connections: usize) -> Result<Self> {
        let limit = getrlimit(Resource::Nofile).maximum.and_then(|limit| usize::try_from(limit).ok());
        let each = limit.map_or(connections, |limit| limit.saturating_sub(OTHER_FILES) / 2).clamp(1, connections);
        let shares = (0..connections).step_by(each).map(|first| each.min(connections - first));
        let program = env::current_exe().context("cannot find this program")?;
        let mut processes = Vec::new();
        for (port, share) in (FIRST_PORT..).zip(shares) {
            let mut command = std::process::Command::new(&program);
            command.arg("hold").arg(lab.target.path()).arg(lab.lb.path());
            command.args([format!("{TARGET_V4}:{port}"), share.to_string()]);
            processes.push(Process::start(&format!("hold-{port}"), command, lab.directory())?);
        }
        for process in &mut processes {
            process.wait_ready(PATIENCE, |process| process.stdout().is_ok_and(|text| text.contains("ready")))?;
        }
        Ok(Self { connections, _processes: processes })
    }
}

impl Load for Holders {
    fn done(&self) -> u64 {
        self.connections as u64
    }

    fn keep_latencies(&self, _: bool) {}

    fn finish(&mut self) -> Result<Finished> {
        Ok(Finished { done: self.done(), ..Finished::default() })
    }
}
