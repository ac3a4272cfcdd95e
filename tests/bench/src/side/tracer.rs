//! `tracer watch` as a process of its own, as a user runs it.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use lab::{
    Lab, Tracer,
    process::Signal,
    tracer::{Status, binary},
};

use super::{Attached, Told};

/// How long it may take to end.
const PATIENCE: Duration = Duration::from_mins(1);
/// More than its last object is long.
const TAIL: u64 = 1 << 16;

/// The program at work.
pub struct Watch(Tracer);

impl Watch {
    /// Starts it on the target's namespace.
    pub fn start(lab: &Lab, arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(binary()?);
        command.args(["watch", "--json", "--netns", lab.target.name()]).args(arguments);
        Ok(Self(Tracer::run("tracer", command, lab.directory())?))
    }
}

impl Attached for Watch {
    fn pid(&self) -> Option<u32> {
        Some(self.0.pid())
    }

    fn detach(mut self: Box<Self>) -> Result<Told> {
        let process = &mut self.0.process;
        process.signal(Signal::INT)?;
        let exit = process.wait(PATIENCE)?;
        ensure!(exit.success(), "tracer failed ({exit}): {}", process.stderr()?);
        let last = last_line(process.stdout_path())?;
        let status: Status = serde_json::from_str(&last).with_context(|| format!("not a status of tracer: {last}"))?;
        let unusable = status.records_undecodable + status.reports_unmatched + status.connections_forgotten;
        let is_loss = |name: &str| ["_lost", "_failed", "_uncounted"].iter().any(|end| name.ends_with(end));
        let losses: u64 = status.counters.iter().filter(|(name, _)| is_loss(name)).map(|(_, count)| count).sum();
        Ok(Told { recorded: status.requests, lost: status.records_lost.map(|_| losses + unusable) })
    }
}

/// The last line of a file that may be long.
fn last_line(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let tail = String::from_utf8_lossy(&tail);
    Ok(tail.lines().next_back().context("tracer printed nothing")?.to_owned())
}
