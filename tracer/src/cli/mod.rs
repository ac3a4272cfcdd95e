//! The command line.

mod netns;
mod network;
mod parse;

use clap::{Args, Parser, Subcommand};
pub use netns::Netns;
pub use network::network;
pub use parse::parse;
use tracer_core::{duration::duration, output::terminal::Terminal, pipeline::View, replay::Show};

use crate::probe;
use clap::builder::PossibleValuesParser;
use ipnet::IpNet;
use std::{num::NonZeroU64, path::PathBuf, time::Duration};
use tracer_core::{explain::Limits, model::selection::Selection};

/// Explains the last hop of a web request: load balancer to host to application.
#[derive(Debug, Parser)]
#[command(version, about, long_about = None, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show every request and where its time goes, as it happens (needs root)
    #[command(after_long_help = WATCH_EXAMPLES)]
    Watch(WatchArgs),
    /// Show what was recorded with watch -w: the same output every time
    #[command(after_long_help = REPORT_EXAMPLES)]
    Report(ReportArgs),
    /// Say whether this host can be traced: which hook attaches through what, and why not
    Check(CheckArgs),
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 wrong use, 3 this host cannot be traced.";

const WATCH_EXAMPLES: &str = "\
Examples:
  tracer watch                                  every request on every served port, until Ctrl-C
  tracer watch --port 8080 --min 100ms          only requests to port 8080 that took 100 ms or more
  tracer watch --peer 10.0.1.0/24 -d 30s        only from this subnet, for 30 seconds
  tracer watch --summary -d 1m                  no line a request, the figures after a minute
  tracer watch --rejections                     only what is refused or broken, and why
  tracer watch --json -n 100 | jq .stages_ns    100 requests as JSON
  tracer watch -w slow.tracer -d 5m             keep the records for tracer report slow.tracer

Stages: a * marks the one that took the longest if that was 1 ms or more, < one whose time is in the stage before it,
- one not measured.";

const REPORT_EXAMPLES: &str = "\
Examples:
  tracer report slow.tracer                     lines and figures, as watch showed them
  tracer report slow.tracer --summary           the figures only
  tracer report slow.tracer --rejections        only what was refused or broken, and why
  tracer report slow.tracer --min 1s --json     the slow requests as JSON";

const PID_HELP: &str = "\
Only requests and connections read by this process. No process takes part in a handshake
or in the drop of a packet: full queues, refused connections and what a firewall drops
are not shown";

const NETNS_HELP: &str = "\
Only in this network namespace: a name, a path, an inode number, or a pid. A dropped
packet of which the kernel no longer knows the namespace is not shown";

const INTERFACE_HELP: &str = "\
Only connections opened through this network interface from now on, and packets that it
receives; may be repeated. It is one of --netns, or of this network namespace. A dropped
packet of this host is shown if the SYN of its connection came through the interface";

/// What both `watch` and `report` can be asked for.
#[derive(Args, Debug)]
pub struct ShowArgs {
    /// Only requests to this local port; may be repeated
    #[arg(long = "port", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub ports: Vec<u16>,
    /// Only requests from this network or address; may be repeated
    #[arg(long = "peer", value_name = "CIDR", value_parser = network)]
    pub peers: Vec<IpNet>,
    /// Show only requests that took at least this long (250ms, 1.5s), and all rejections
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub min: Option<Duration>,
    /// Show only what was rejected, no line a request
    #[arg(long, conflicts_with = "summary")]
    pub rejections: bool,
    /// The load balancer's idle timeout [default: 60s, or the recording's]
    #[arg(long, value_name = "DURATION", value_parser = timeout)]
    pub idle_timeout: Option<Duration>,
    /// JSON: one object a line, the last one is the status
    #[arg(long)]
    pub json: bool,
    /// Only the figures at the end, no line a request
    #[arg(long)]
    pub summary: bool,
}

impl ShowArgs {
    /// What lets connections and packets through by their ends.
    pub fn selection(&self) -> Selection {
        Selection { ports: self.ports.clone(), peers: self.peers.clone() }
    }

    /// What is to be assumed of the load balancer.
    pub fn limits(&self) -> Limits {
        self.given_limits().unwrap_or_default()
    }

    fn given_limits(&self) -> Option<Limits> {
        self.idle_timeout.map(|idle_timeout| Limits { idle_timeout })
    }

    /// The least time of a request that is shown, in nanoseconds.
    pub fn min(&self) -> u64 {
        self.min.map_or(0, |min| u64::try_from(min.as_nanos()).unwrap_or(u64::MAX))
    }

    /// The form in which `terminal` gets it.
    pub fn view(&self, terminal: Terminal) -> View {
        View::of(self.json, self.summary, self.rejections, terminal)
    }

    /// What is shown of a recording.
    pub fn show(&self, terminal: Terminal) -> Show {
        let (selection, view, min) = (self.selection(), self.view(terminal), self.min());
        Show { selection, view, min, limits: self.given_limits() }
    }
}

/// Reads a timeout: a duration that is not 0.
fn timeout(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("a timeout is longer than 0".to_owned()),
        timeout => Ok(timeout),
    }
}

/// The arguments of `watch`.
#[derive(Args, Debug)]
pub struct WatchArgs {
    /// What is shown of it.
    #[command(flatten)]
    pub show: ShowArgs,
    /// Only requests and connections read by this process
    #[arg(short, long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(long_help = PID_HELP)]
    pub pid: Option<u32>,
    /// Only in this network namespace: a name, a path, an inode number, or a pid
    #[arg(long, value_name = "NETNS")]
    #[arg(long_help = NETNS_HELP)]
    pub netns: Option<Netns>,
    /// Only connections opened through this network interface from now on; may be repeated
    #[arg(short, long = "interface", value_name = "INTERFACE")]
    #[arg(long_help = INTERFACE_HELP)]
    pub interfaces: Vec<String>,
    /// End after this time (30s, 5m; a plain number is seconds); otherwise with Ctrl-C
    #[arg(short, long, value_name = "DURATION", value_parser = duration)]
    pub duration: Option<Duration>,
    /// End after this many requests
    #[arg(short = 'n', long, value_name = "COUNT")]
    pub count: Option<NonZeroU64>,
    /// Write the records to a file, for tracer report
    #[arg(short, long, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// Leave out this hook, and save what it costs; may be repeated (--help lists them)
    #[arg(long, value_name = "HOOK", value_parser = optional_hooks(), hide_possible_values = true)]
    #[arg(long_help = without_help())]
    pub without: Vec<String>,
    /// Show on stderr what the programs in the kernel log
    #[arg(long)]
    pub kernel_log: bool,
}

/// Takes the name of a hook that can be done without.
fn optional_hooks() -> PossibleValuesParser {
    PossibleValuesParser::new(probe::optional().map(|hook| hook.name))
}

/// What each hook is for, so that one knows what one does without.
fn without_help() -> String {
    let head = "Leave out this hook, and save what it costs; may be repeated. It is worth it for accept where tracer check\n\
                shows it attached to sys_exit_accept4: with it every system call of the host takes a slower path.\n\
                The hooks, and what is lost without each:";
    let lines = probe::optional().map(|hook| format!("\n  {:<13}{}", hook.name, hook.lost));
    head.to_owned() + &lines.collect::<String>()
}

/// The arguments of `report`.
#[derive(Args, Debug)]
pub struct ReportArgs {
    /// The recording
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// What is shown of it.
    #[command(flatten)]
    pub show: ShowArgs,
}

/// The arguments of `check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// Try every way to every fact, not only until one attaches
    #[arg(long)]
    pub all: bool,
    /// JSON: one object, as the hooks in the status of watch
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_are_understood() {
        let line = "tracer watch --port 80 --port 8080 --peer 10.0.1.0/24 -p 7 -i eth0 -d 1.5s --min 250ms -n 3 -w f --json \
             --rejections --idle-timeout 350s --without accept --without sweep";
        let Command::Watch(watch) = Cli::try_parse_from(line.split(' ')).unwrap().command else { panic!() };
        assert_eq!(watch.show.ports, [80, 8080]);
        assert_eq!(watch.without, ["accept", "sweep"]);
        assert_eq!(watch.duration, Some(Duration::from_millis(1500)));
        assert_eq!(watch.show.min, Some(Duration::from_millis(250)));
        assert_eq!(watch.show.limits().idle_timeout, Duration::from_secs(350));
        let wrong = ["--port 0", "--port 70000", "--peer 10.0.1.5/24", "-p 0", "-d -1s", "-n 0", "--min soon"];
        for wrong in wrong.into_iter().chain(["--idle-timeout 0s", "--rejections --summary", "--without receive"]) {
            let line = format!("tracer watch {wrong}");
            assert_eq!(Cli::try_parse_from(line.split(' ')).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }
}
