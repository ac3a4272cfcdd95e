//! The CPU time of what has nothing to do with the benchmark: a host is seldom all its own.

use std::{collections::HashMap, fs, process};

use anyhow::{Context as _, Result};

use crate::cpu::tick_ns;

/// The parent of all threads of the kernel.
const KERNEL: u32 = 2;

/// A process, as `/proc/PID/stat` tells.
struct Process {
    parent: u32,
    /// CPU time of it and of its children that have ended, in ticks.
    ticks: u64,
}

/// The CPU time of all processes but this one, its descendants and the kernel's threads since they started, nanoseconds:
/// to a tick, ten milliseconds, for each. What a child took goes to its parent when it ends, so nothing gets lost.
///
/// # Errors
/// Where `/proc` cannot be read.
pub fn cpu_ns() -> Result<u64> {
    let mut processes = HashMap::new();
    for entry in fs::read_dir("/proc").context("cannot read /proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // It may have ended since it was listed.
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        processes.extend(process(&stat).map(|process| (pid, process)));
    }
    let own = process::id();
    let others = processes.iter().filter(|(pid, _)| !descends(&processes, **pid, &[own, KERNEL]));
    Ok(others.map(|(_, process)| process.ticks).sum::<u64>() * tick_ns()?)
}

/// Whether the process is one of `ancestors` or descends from one.
fn descends(processes: &HashMap<u32, Process>, mut pid: u32, ancestors: &[u32]) -> bool {
    // No chain of parents is longer than this, unless it changes while it is read.
    for _ in 0..processes.len() {
        if ancestors.contains(&pid) {
            return true;
        }
        match processes.get(&pid) {
            Some(process) => pid = process.parent,
            None => return false,
        }
    }
    false
}

fn process(stat: &str) -> Option<Process> {
    // Behind the name, which may hold anything: state, parent, and from the twelfth on four times.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split_whitespace().collect();
    let ticks = fields.get(11..15)?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    Some(Process { parent: fields.get(1)?.parse().ok()?, ticks })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::{Process, descends, process};

    #[test]
    fn a_line_is_read_whatever_the_name_is() {
        let line = "7 (a) b) S 5 7 7 0 -1 4194304 1 2 3 4 10 20 30 40 20 0 1 0 100 1000 10";
        let it = process(line).unwrap();
        assert_eq!((it.parent, it.ticks), (5, 100));
        assert!(process("").is_none());
    }

    #[test]
    fn what_this_process_starts_belongs_to_it() {
        let parents = [(1, 0), (2, 0), (10, 1), (11, 10), (12, 11), (20, 1), (30, 2)];
        let processes: HashMap<u32, Process> =
            parents.into_iter().map(|(pid, parent)| (pid, Process { parent, ticks: 0 })).collect();
        let mut own: Vec<u32> = processes.keys().copied().filter(|pid| descends(&processes, *pid, &[10, 2])).collect();
        own.sort_unstable();
        assert_eq!(own, [2, 10, 11, 12, 30]);
    }
}
