//! A limit of memory for a process: who needs more is killed by the kernel.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::wait_until;

/// The places of control groups and the name of the limit there: of the first version, and of the second.
const PLACES: [(&str, &str); 2] =
    [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];

/// A control group, removed on drop. What is in it has to have ended by then.
pub struct MemoryLimit(PathBuf);

impl MemoryLimit {
    /// Allows the process `pid` this many bytes.
    ///
    /// # Errors
    ///
    /// If there are no control groups for memory, or they cannot be changed.
    pub fn new(pid: u32, bytes: u64) -> Result<Self> {
        for (place, limit) in PLACES {
            let group = Self(Path::new(place).join(format!("tracer-test-{pid}")));
            if fs::create_dir(&group.0).is_err() {
                continue;
            }
            // In another version's place, the group is a plain folder without this file, or there is no such place.
            if group.0.join(limit).exists() {
                fs::write(group.0.join(limit), bytes.to_string())?;
                fs::write(group.0.join("cgroup.procs"), pid.to_string())?;
                return Ok(group);
            }
        }
        bail!("cannot limit memory: there are no control groups for it under /sys/fs/cgroup")
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // The kernel takes a process out of its group a moment after its end.
        let _ = wait_until("an empty control group", Duration::from_secs(5), || {
            fs::remove_dir(&self.0).is_ok() || !self.0.exists()
        });
    }
}
