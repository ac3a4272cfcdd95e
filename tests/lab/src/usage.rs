//! What a process has taken of the machine.

use std::fs;

use anyhow::{Context, Result};

/// The kernel's account of a process, from its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time on a CPU in user space and in the kernel, all threads that run now, nanoseconds.
    pub cpu_ns: u64,
    /// How often these threads went to sleep, and so were woken.
    pub sleeps: u64,
    /// Memory that is resident now, KiB.
    pub resident_kib: u64,
    /// The most memory that was resident at once, KiB.
    pub peak_kib: u64,
}

impl Usage {
    /// Reads the account of `pid`.
    ///
    /// # Errors
    /// Where the process is gone, or the kernel keeps no scheduler statistics.
    pub fn of(pid: u32) -> Result<Self> {
        let status = read(&format!("/proc/{pid}/status"))?;
        let (resident_kib, peak_kib) = (figure(&status, "VmRSS:")?, figure(&status, "VmHWM:")?);
        let mut usage = Self { resident_kib, peak_kib, ..Self::default() };
        for task in fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("no process {pid}"))?.flatten() {
            let task = task.path();
            usage.cpu_ns += figure(&read(&format!("{}/schedstat", task.display()))?, "")?;
            usage.sleeps += figure(&read(&format!("{}/status", task.display()))?, "voluntary_ctxt_switches:")?;
        }
        Ok(usage)
    }
}

/// The first number after `name`, at the start of a line.
fn figure(text: &str, name: &str) -> Result<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
    let number = rest.split_whitespace().next().with_context(|| format!("no number after {name}"))?;
    number.parse().with_context(|| format!("{name} is no number: {number}"))
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {path}"))
}
