//! The command line from outside: wrong use, hosts that cannot be traced, files that are no recordings, filters, ways to
//! end, and what is printed where. Needs root; `TRACER_BIN` names the program.

mod btf;
mod disk;
mod ends;
mod filters;
mod json;
mod privileges;
mod recording;
mod terminal;
mod usage;

use std::ffi::OsStr;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use lab::client::{Client, Connection, Request};
use lab::process::Signal;
use lab::target::{Options, Target};
use lab::topology::target_addresses;
use lab::tracer::binary;
use lab::{Lab, Process};

/// How long a run may take that has nothing to wait for: the host may be busy.
const LIMIT: Duration = Duration::from_secs(30);

/// What a run of tracer came to.
#[derive(Debug)]
struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Run {
    /// Asserts that it failed with `code`, nothing on stdout, and one to three lines on stderr that hold all of `told`.
    #[track_caller]
    fn assert_refused(&self, code: i32, told: &[&str]) {
        assert_eq!((self.code, self.stdout.as_str()), (Some(code), ""), "{self:#?}");
        self.assert_told(told);
    }

    /// Asserts that stderr is one error of one to three lines that holds all of `told`.
    #[track_caller]
    fn assert_told(&self, told: &[&str]) {
        assert!(self.stderr.starts_with("tracer: "), "{self:#?}");
        assert!((1..=3).contains(&self.stderr.trim_end().lines().count()), "{self:#?}");
        for text in told {
            assert!(self.stderr.contains(text), "no {text:?} in {self:#?}");
        }
        self.assert_calm();
    }

    /// Asserts that there is no trace of a panic.
    #[track_caller]
    fn assert_calm(&self) {
        for text in ["panicked", "RUST_BACKTRACE", "stack backtrace"] {
            assert!(!self.stderr.contains(text), "{self:#?}");
        }
    }

    /// Asserts that it went well.
    #[track_caller]
    fn assert_done(&self) {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self.assert_calm();
    }
}

/// tracer with `arguments`, not started yet.
fn command(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Command> {
    let mut command = Command::new(binary()?);
    command.args(arguments);
    Ok(command)
}

/// Runs `command` to its end.
fn run(command: Command) -> Result<Run> {
    let directory = tempfile::tempdir()?;
    finish(Process::start("tracer", command, directory.path())?)
}

/// Runs tracer with `arguments` to its end.
fn tracer(arguments: &[&str]) -> Result<Run> {
    run(command(arguments)?)
}

/// Waits for the end of `process`.
fn finish(mut process: Process) -> Result<Run> {
    let status = process.wait(LIMIT)?;
    Ok(Run { code: status.code(), stdout: process.stdout()?, stderr: process.stderr()? })
}

/// A lab with a target on port 8080 of both address families, and another one on 8081.
struct Served {
    // Dropped in this order: processes before their namespaces.
    target: Target,
    lab: Lab,
}

impl Served {
    fn new() -> Result<Self> {
        let lab = Lab::new()?;
        let options = Options::listen(&["[::]:8080".parse()?, "[::]:8081".parse()?]);
        Ok(Self { target: Target::start(&lab, "target", &options)?, lab })
    }

    /// `tracer watch` of the target's namespace with more `arguments`; returns when it watches.
    fn watch(&self, arguments: &[&str]) -> Result<Process> {
        let netns = self.lab.target.path();
        let all = ["watch", "--netns"].map(OsStr::new).into_iter().chain([netns.as_os_str()]);
        start(&self.lab, command(all.chain(arguments.iter().map(OsStr::new)))?)
    }

    fn connect(&self, port: u16) -> Result<Connection> {
        Client::new(&self.lab.lb).connect(target_addresses(port)[0])
    }

    /// Sends `count` requests over one connection, which is closed then.
    fn send(&self, port: u16, count: usize) -> Result<()> {
        self.connect(port)?.requests(count, Duration::ZERO, &Request::get("/"))?;
        Ok(())
    }
}

/// Starts a command that runs `tracer watch`; returns when it watches.
fn start(lab: &Lab, command: Command) -> Result<Process> {
    let mut process = Process::start(&unique_name(), command, lab.directory())?;
    process.wait_ready(LIMIT, is_watching)?;
    Ok(process)
}

fn is_watching(process: &Process) -> bool {
    process.stderr().is_ok_and(|text| text.contains("tracer: watching"))
}

/// A name for the files of a process, unique in this program.
fn unique_name() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    format!("tracer-{}", COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// Ends a watching tracer as Ctrl-C does.
fn interrupt(process: Process) -> Result<Run> {
    process.signal(Signal::INT)?;
    finish(process)
}

/// The JSON objects on stdout.
#[track_caller]
fn objects(stdout: &str) -> Vec<serde_json::Value> {
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    stdout.lines().map(parse).collect()
}

/// The JSON objects of one kind.
#[track_caller]
fn of_kind(stdout: &str, kind: &str) -> Vec<serde_json::Value> {
    objects(stdout).into_iter().filter(|object| object["kind"] == kind).collect()
}
