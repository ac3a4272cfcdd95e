//! What a process has in the kernel, and what is attached in a namespace.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lab::{Namespace, wait_until};

use crate::ms;

/// BPF programs, links and maps, by their kernel-wide numbers, which are not used again soon.
#[derive(Debug, Default)]
pub struct Held {
    programs: BTreeSet<u32>,
    links: BTreeSet<u32>,
    maps: BTreeSet<u32>,
}

impl Held {
    /// Those that a watching tracer holds.
    pub fn by(pid: u32) -> Result<Self> {
        let held = Self::so_far(pid)?;
        ensure!(held.programs.len() >= 8 && held.links.len() >= 5 && held.maps.len() >= 5, "so few? {held:?}");
        Ok(held)
    }

    /// Those that `pid` holds at this moment through its file descriptors.
    pub fn so_far(pid: u32) -> Result<Self> {
        let mut held = Self::default();
        for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).context("it is gone")?.flatten() {
            // It may have been closed since it was listed.
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            let number = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u32>().ok());
            held.links.extend(number("link_id:"));
            held.programs.extend(number("prog_id:"));
            held.maps.extend(number("map_id:"));
        }
        Ok(held)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.programs.len() + self.links.len() + self.maps.len()
    }

    /// Waits until `bpftool` lists none of them. The kernel frees them a moment after their last holder is gone: in a
    /// work queue, behind what else it has to free, such as a namespace with a large table.
    pub fn assert_gone(&self) -> Result<()> {
        for (kind, ours) in [("link", &self.links), ("prog", &self.programs), ("map", &self.maps)] {
            let mut left = BTreeSet::new();
            let gone = || {
                left = listed(kind).map_or_else(|_| ours.clone(), |all| ours.intersection(&all).copied().collect());
                left.is_empty()
            };
            wait_until("the kernel to have freed everything", ms(30_000), gone)
                .with_context(|| format!("bpftool {kind} still lists {left:?}"))?;
        }
        Ok(())
    }
}

/// The numbers that `bpftool` lists.
fn listed(kind: &str) -> Result<BTreeSet<u32>> {
    let output = Command::new("bpftool").args(["--json", kind, "list"]).output().context("cannot start bpftool")?;
    ensure!(output.status.success(), "bpftool {kind} list: {}", String::from_utf8_lossy(&output.stderr));
    let objects: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout)?;
    Ok(objects.iter().filter_map(|object| object["id"].as_u64()?.try_into().ok()).collect())
}

/// The filters and queueing disciplines of a namespace. Programs that are attached by links (`tcx`) are among [`Held`].
pub fn of_interfaces(namespace: &Namespace) -> Result<String> {
    let mut all = namespace.run("tc", &["qdisc", "show"])?;
    for direction in ["ingress", "egress"] {
        for interface in ["lo", "eth0"] {
            all += &namespace.run("tc", &["filter", "show", "dev", interface, direction])?;
        }
    }
    Ok(all + &namespace.run("bpftool", &["net", "show"])?)
}
