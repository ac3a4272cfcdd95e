//! tcpdump, which writes headers to a file: what is at hand on every host.

use std::time::Duration;

use anyhow::Result;
use lab::{Lab, Process, process::Signal};

use super::{Attached, Told};

/// tcpdump at work.
pub struct Capture(Process);

impl Capture {
    /// Starts it on the target's interface, with its defaults but for the length.
    pub fn start(lab: &Lab, port: Option<u16>) -> Result<Self> {
        let file = lab.directory().join("headers.pcap");
        let filter = port.map_or_else(|| "tcp".to_owned(), |port| format!("tcp port {port}"));
        let mut command = lab.target.command("tcpdump")?;
        // As root to the end: another user may not write into the lab's directory.
        command.args(["-n", "-Z", "root", "-i", "eth0", "-s", "96", "-w"]).arg(file).arg(filter);
        let mut process = Process::start("tcpdump", command, lab.directory())?;
        let listening = |process: &Process| process.stderr().is_ok_and(|text| text.contains("listening on"));
        process.wait_ready(Duration::from_secs(5), listening)?;
        Ok(Self(process))
    }
}

impl Attached for Capture {
    fn pid(&self) -> Option<u32> {
        Some(self.0.pid())
    }

    fn detach(mut self: Box<Self>) -> Result<Told> {
        self.0.stop(Signal::INT)?;
        Ok(Told { lost: dropped(&self.0.stderr()?), ..Told::default() })
    }
}

/// The packets that the kernel had no room for, in tcpdump's last words.
fn dropped(report: &str) -> Option<u64> {
    let line = report.lines().find(|line| line.contains("dropped by kernel"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn dropped_packets_are_read_from_the_last_words() {
        let report = "10 packets captured\n12 packets received by filter\n2 packets dropped by kernel\n";
        assert_eq!(super::dropped(report), Some(2));
        assert_eq!(super::dropped("tcpdump: eth0: no such device"), None);
    }
}
