//! What watches the host, or does not.

mod bpftrace;
mod empty;
mod sock_ops;
mod tcpdump;
mod tracer;

use std::{os::fd::OwnedFd, time::Duration};

use anyhow::{Context as _, Result};
use aya::sys::{Stats, enable_stats};
use clap::ValueEnum;
use lab::Lab;
use serde::{Deserialize, Serialize};

use crate::workload::Workload;

/// A side of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// Nothing
    Untraced,
    /// `tracer watch --summary`
    Summary,
    /// `tracer watch --summary --without accept`, as where `accept` costs other system calls nothing
    NoAccept,
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
    /// `summary`, while the kernel counts runs and time of BPF programs
    SummaryStats,
    /// `no-accept`, while the kernel counts
    NoAcceptStats,
    /// `empty`, while the kernel counts
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

    /// The side that it is while the kernel counts runs and time of BPF programs, which costs time itself.
    pub const fn counted(self) -> Option<Self> {
        match self {
            Self::Summary => Some(Self::SummaryStats),
            Self::NoAccept => Some(Self::NoAcceptStats),
            Self::Empty => Some(Self::EmptyStats),
            _ => None,
        }
    }

    /// The side that it is while the kernel does not count.
    pub const fn plain(self) -> Self {
        match self {
            Self::SummaryStats => Self::Summary,
            Self::NoAcceptStats => Self::NoAccept,
            Self::EmptyStats => Self::Empty,
            other => other,
        }
    }

    /// Whether it is another side while the kernel counts.
    pub fn counts_runs(self) -> bool {
        self.plain() != self
    }

    /// Whether it tells something on this workload: what is saved at `accept()` does not depend on the rate.
    pub fn suits(self, workload: Workload) -> bool {
        self.plain() != Self::NoAccept
            || matches!(
                workload,
                Workload::KeepAlive
                    | Workload::PerConnection
                    | Workload::ServerKeepAlive
                    | Workload::ServerPerConnection
            )
    }

    /// About how long it takes to attach and to detach on two CPUs.
    pub const fn overhead(self) -> Duration {
        Duration::from_millis(match self.plain() {
            Self::Summary | Self::NoAccept | Self::Json => 600,
            Self::Bpftrace => 1800,
            Self::Empty => 300,
            _ => 150,
        })
    }

    /// Attaches it to the target of the lab; `port` is the one on which the load comes, absent for any.
    ///
    /// # Errors
    /// Where it is not installed, or the kernel refuses it.
    pub fn attach(self, lab: &Lab, port: Option<u16>) -> Result<Box<dyn Attached>> {
        let attached: Box<dyn Attached> = match self {
            Self::Untraced => Box::new(Nothing),
            Self::Summary | Self::SummaryStats => Box::new(tracer::Watch::start(lab, &["--summary"])?),
            Self::NoAccept | Self::NoAcceptStats => {
                Box::new(tracer::Watch::start(lab, &["--summary", "--without", "accept"])?)
            }
            Self::Json => Box::new(tracer::Watch::start(lab, &[])?),
            Self::Tcpdump => Box::new(tcpdump::Capture::start(lab, port)?),
            Self::Bpftrace => Box::new(bpftrace::Script::start(lab, port)?),
            Self::SockOps => Box::new(sock_ops::Flow::attach()?),
            Self::Empty | Self::EmptyStats => Box::new(empty::Floor::attach(lab)?),
        };
        Ok(attached)
    }
}

/// Has the kernel count runs and time of BPF programs for as long as the descriptor is open.
///
/// # Errors
/// Where the kernel cannot.
pub fn count_runs() -> Result<OwnedFd> {
    enable_stats(Stats::RunTime).context("the kernel does not count the runs of BPF programs")
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
