//! The BPF programs and maps that a process holds, with what the kernel says of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::OwnedFd;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;

mod fill;

pub use fill::{Fill, fills};

/// Bytes of an instruction.
const INSTRUCTION: u64 = 8;

/// A loaded program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The name of its function, whole: `struct bpf_prog_info` has 15 letters of it, BTF all.
    pub name: String,
    /// Instructions that the verifier looked at until it was content (Linux 5.16).
    pub verified: u64,
    /// Instructions after it removed what cannot be reached, before they became those of the processor.
    pub translated: u64,
    /// How often it ran while the kernel [counted](count_runs).
    pub runs: u64,
}

/// A map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    /// Its name, the first 15 letters.
    pub name: String,
    /// Its type, as `bpftool` calls it.
    pub kind: String,
    /// Bytes of a key.
    pub key: u64,
    /// Bytes of a value.
    pub value: u64,
    /// The most entries that it takes; 0 where something else is the limit. Bytes, for a ring buffer.
    pub entries: u64,
    /// Bytes of kernel memory that it takes now.
    pub memory: u64,
}

/// Has the kernel count the runs of all programs for as long as the descriptor is open.
///
/// # Errors
/// Where the process is not root, or the kernel is older than 5.8.
pub fn count_runs() -> Result<OwnedFd> {
    aya::sys::enable_stats(aya::sys::Stats::RunTime).context("cannot have the runs of BPF programs counted")
}

/// The programs that `pid` holds through its file descriptors, by name.
///
/// # Errors
/// Where the process is gone, it holds none, or `bpftool` is not installed.
pub fn programs(pid: u32) -> Result<Vec<Program>> {
    #[derive(Deserialize)]
    struct Listed {
        id: u32,
        #[serde(default)]
        name: String,
        bytes_xlated: u64,
    }
    let held = held(pid, "prog_id")?;
    let listed = list::<Listed>("prog")?.into_iter();
    let mut programs: Vec<Program> = listed
        .filter_map(|listed| {
            let info = held.get(&listed.id)?;
            let (verified, runs) = (info.number("verified_insns").unwrap_or(0), info.number("run_cnt").unwrap_or(0));
            Some(Program { name: listed.name, verified, translated: listed.bytes_xlated / INSTRUCTION, runs })
        })
        .collect();
    ensure!(programs.len() == held.len(), "bpftool lists {} of {} programs", programs.len(), held.len());
    programs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(programs)
}

/// The maps that `pid` holds through its file descriptors, by name.
///
/// # Errors
/// As [`programs`].
pub fn maps(pid: u32) -> Result<Vec<Map>> {
    #[derive(Deserialize)]
    struct Listed {
        id: u32,
        #[serde(default)]
        name: String,
        #[serde(rename = "type")]
        kind: String,
        bytes_key: u64,
        bytes_value: u64,
        max_entries: u64,
    }
    let held = held(pid, "map_id")?;
    let listed = list::<Listed>("map")?.into_iter();
    let mut maps: Vec<Map> = listed
        .filter_map(|Listed { id, name, kind, bytes_key, bytes_value, max_entries }| {
            let memory = held.get(&id)?.number("memlock").unwrap_or(0);
            Some(Map { name, kind, key: bytes_key, value: bytes_value, entries: max_entries, memory })
        })
        .collect();
    ensure!(maps.len() == held.len(), "bpftool lists {} of {} maps", maps.len(), held.len());
    maps.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(maps)
}

/// What the kernel says of a file descriptor: lines of a name, a colon and a value.
struct Info(String);

impl Info {
    fn number(&self, name: &str) -> Option<u64> {
        let mut lines = self.0.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| *key == name)?.1.trim().parse().ok()
    }
}

/// The objects of a process of which `id` is the number, each with the file descriptor's description. A link, too, has
/// the number of its program, and says nothing of it: only descriptors with `memlock` are those of objects themselves.
fn held(pid: u32, id: &str) -> Result<BTreeMap<u32, Info>> {
    let (mut held, mut linked) = (BTreeMap::new(), BTreeSet::new());
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).with_context(|| format!("no process {pid}"))?.flatten() {
        // It may have been closed since it was listed.
        let info = Info(fs::read_to_string(entry.path()).unwrap_or_default());
        let Some(number) = info.number(id).and_then(|number| number.try_into().ok()) else { continue };
        if info.number("memlock").is_some() {
            held.insert(number, info);
        } else {
            linked.insert(number);
        }
    }
    ensure!(!held.is_empty(), "the process {pid} holds nothing with a {id}");
    linked.retain(|number| !held.contains_key(number));
    ensure!(linked.is_empty(), "the process {pid} holds links to programs that it does not hold: {linked:?}");
    Ok(held)
}

/// What `bpftool` lists.
fn list<T: DeserializeOwned>(kind: &str) -> Result<Vec<T>> {
    let output = Command::new("bpftool").args(["--json", kind, "list"]).output().context("cannot start bpftool")?;
    ensure!(output.status.success(), "bpftool {kind} list: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).with_context(|| format!("bpftool {kind} list prints something else"))
}
