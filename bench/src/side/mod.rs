//! What watches the host, or does not.

mod bpftrace;
mod empty;
mod sock_ops;
mod tcpdump;
mod tracer;

use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result};
use aya::sys::{Stats, enable_stats};
use clap::ValueEnum;
use lab::Lab;
use serde::{Deserialize, Serialize};

/// A side of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// Nothing
    Untraced,
    /// `tracer watch --summary`
    Summary,
    /// `tracer watch --json` to a file
    Json,
    /// `tcpdump -s 96 -w` to a file
    Tcpdump,
    /// a bpftrace script that measures the same as far as it can
    Bpftrace,
    /// a `sock_ops` program with bytes and round-trip time a connection, as flow monitors use
    SockOps,
    /// programs that do nothing at the hooks of tracer
    Empty,
    /// `tracer watch --summary` while the kernel counts runs and time of BPF programs
    SummaryStats,
    /// the empty programs while the kernel counts
    EmptyStats,
}

/// A side at work; it is detached with its guard.
pub trait Attached {
    /// The process that works for it in user space, if there is one.
    fn pid(&self) -> Option<u32> {
        None
    }

    /// Detaches it.
    ///
    /// # Errors
    /// Where it failed.
    fn detach(self: Box<Self>) -> Result<Told>;
}

/// What a side has to say for itself at its end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told {
    /// Requests that it recorded.
    pub recorded: Option<u64>,
    /// Records, packets or events that it lost, as it says itself.
    pub lost: Option<u64>,
}

impl Side {
    /// The name on the command line and in tables.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// What it is, in words.
    pub fn about(self) -> String {
        let value = self.to_possible_value();
        value.and_then(|value| Some(value.get_help()?.to_string())).unwrap_or_default()
    }

    /// Whether the kernel counts runs and time of BPF programs meanwhile, which costs time itself.
    pub const fn counts_runs(self) -> bool {
        matches!(self, Self::SummaryStats | Self::EmptyStats)
    }

    /// Attaches it to the target of the lab; `port` is the one on which the load comes, absent for any.
    ///
    /// # Errors
    /// Where it is not installed, or the kernel refuses it.
    pub fn attach(self, lab: &Lab, port: Option<u16>) -> Result<Box<dyn Attached>> {
        let attached: Box<dyn Attached> = match self {
            Self::Untraced => Box::new(Nothing),
            Self::Summary | Self::SummaryStats => Box::new(tracer::Watch::start(lab, &["--summary"])?),
            Self::Json => Box::new(tracer::Watch::start(lab, &[])?),
            Self::Tcpdump => Box::new(tcpdump::Capture::start(lab, port)?),
            Self::Bpftrace => Box::new(bpftrace::Script::start(lab, port)?),
            Self::SockOps => Box::new(sock_ops::Flow::attach()?),
            Self::Empty | Self::EmptyStats => Box::new(empty::Floor::attach(lab)?),
        };
        Ok(attached)
    }

    /// Has the kernel count, for as long as the descriptor is open, where the side is about that.
    ///
    /// # Errors
    /// Where the kernel cannot.
    pub fn count_runs(self) -> Result<Option<OwnedFd>> {
        let stats = self.counts_runs().then(|| enable_stats(Stats::RunTime)).transpose();
        stats.context("the kernel does not count the runs of BPF programs")
    }
}

/// The whole name of a program at one of tracer's hooks: the kernel keeps 15 letters. Names that are then alike are
/// both given.
pub fn program_name(kept: &str) -> String {
    const KEPT: usize = 15;
    let is_it = |name: &&str| name.get(..KEPT).unwrap_or(name) == kept;
    let names: Vec<&str> = empty::programs().filter(is_it).collect();
    if names.is_empty() { kept.to_owned() } else { names.join(" + ") }
}

/// Nobody watches.
struct Nothing;

impl Attached for Nothing {
    fn detach(self: Box<Self>) -> Result<Told> {
        Ok(Told::default())
    }
}

#[cfg(test)]
mod tests {
    use super::program_name;

    #[test]
    fn names_of_programs_are_completed() {
        assert_eq!(program_name("tcp_rcv_space_a"), "tcp_rcv_space_adjust");
        assert_eq!(program_name("sys_exit_accept"), "sys_exit_accept4 + sys_exit_accept");
        assert_eq!(program_name("sweep"), "sweep");
        assert_eq!(program_name("tcp_probe"), "tcp_probe");
    }
}
