//! A bpftrace script: what somebody who knows the kernel writes in an hour.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use lab::{Lab, Process, process::Signal};

use super::{Attached, Told};

/// The script.
const SCRIPT: &str = include_str!("../../peer.bt");
/// What it prints once it is attached.
const READY: &str = "ready";
/// bpftrace finds tracepoints in tracefs: where that is not mounted, it is for this process alone.
const START: &str =
    r#"[ -e /sys/kernel/tracing/events ] || mount -t tracefs tracefs /sys/kernel/tracing; exec bpftrace "$@""#;

/// bpftrace at work.
pub struct Script(Process);

impl Script {
    /// Starts it.
    pub fn start(lab: &Lab, port: Option<u16>) -> Result<Self> {
        let file = lab.directory().join("peer.bt");
        fs::write(&file, SCRIPT).context("cannot write the script")?;
        let mut command = std::process::Command::new("unshare");
        command.args(["--mount", "sh", "-c", START, "sh"]).arg(&file).arg(port.unwrap_or(0).to_string());
        // As many as there are connections; the default is 4 096.
        command.env("BPFTRACE_MAP_KEYS_MAX", "65536");
        let mut process = Process::start("bpftrace", command, lab.directory())?;
        process
            .wait_ready(Duration::from_secs(20), |process| process.stdout().is_ok_and(|text| text.contains(READY)))?;
        Ok(Self(process))
    }
}

impl Attached for Script {
    fn pid(&self) -> Option<u32> {
        Some(self.0.pid())
    }

    fn detach(mut self: Box<Self>) -> Result<Told> {
        self.0.stop(Signal::INT)?;
        Ok(Told { recorded: recorded(&self.0.stdout()?), ..Told::default() })
    }
}

/// The requests that it counted.
fn recorded(report: &str) -> Option<u64> {
    report.lines().find_map(|line| line.strip_prefix("@requests: "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_count_is_found_among_the_maps() {
        assert_eq!(
            super::recorded("Attaching 4 probes...\nready\n\n@requests: 17\n@service:\n[1K, 2K) 17\n"),
            Some(17)
        );
        assert_eq!(super::recorded("ready\n"), None);
    }
}
