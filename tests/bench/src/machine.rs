//! Where it was measured.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

/// The machine and what was compared.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Machine {
    /// The model of its CPUs.
    pub cpu: String,
    /// How many there are.
    pub cpus: usize,
    /// Its memory, MiB.
    pub memory_mib: u64,
    /// The kernel's release.
    pub kernel: String,
    /// A hypervisor is below.
    pub is_virtual: bool,
    /// The programs, each with its version.
    pub versions: Vec<String>,
}

impl Machine {
    /// This one.
    ///
    /// # Errors
    /// Where `/proc` cannot be read.
    pub fn of_this_host() -> Result<Self> {
        let cpus = fs::read_to_string("/proc/cpuinfo").context("cannot read /proc/cpuinfo")?;
        let field = |name: &str| cpus.lines().find(|line| line.starts_with(name))?.split_once(": ").map(|(_, it)| it);
        let memory = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
        let memory = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")).context("no MemTotal")?;
        let memory_kib: u64 = memory.trim().trim_end_matches(" kB").parse().context("MemTotal is no number")?;
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").context("cannot read the kernel's release")?;
        let tracer = lab::tracer::binary()?;
        let programs = [
            (&*tracer.to_string_lossy(), "--version"),
            ("nginx", "-v"),
            ("tcpdump", "--version"),
            ("bpftrace", "--version"),
        ];
        Ok(Self {
            cpu: field("model name").or_else(|| field("CPU part")).unwrap_or("unknown").to_owned(),
            cpus: cpus.lines().filter(|line| line.starts_with("processor")).count(),
            memory_mib: memory_kib >> 10,
            kernel: kernel.trim().to_owned(),
            is_virtual: field("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
            versions: programs.into_iter().filter_map(|(program, argument)| version(program, argument)).collect(),
        })
    }
}

/// The build of tracer that is measured: the SHA-256 of its file.
///
/// # Errors
/// Where there is no such file, or it cannot be read.
pub fn build() -> Result<String> {
    let output = Command::new("sha256sum").arg(lab::tracer::binary()?).output().context("cannot run sha256sum")?;
    ensure!(output.status.success(), "sha256sum: {}", String::from_utf8_lossy(&output.stderr).trim());
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.split_whitespace().next().context("sha256sum says nothing")?.trim_start_matches('\\').to_owned())
}

/// The first line in which a program says its version, on whichever stream.
fn version(program: &str, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    text.lines().next().map(|line| line.trim_start_matches("nginx version: ").to_owned())
}
