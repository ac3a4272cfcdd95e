//! `tracer watch` running on the lab, and what it printed.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::process::{Process, Signal};
use crate::topology::Lab;

mod record;
mod rejection;

pub use record::{
    Connection, ConnectionStages, Counter, Hook, Reconciliation, Request, RequestStages, Status, Summary,
};
pub use rejection::{Conntrack, Kernel, ProcessName, Rejection, Rule, Setting};

/// The environment variable that names the program to test.
pub const BINARY: &str = "TRACER_BIN";
/// How long it may take to attach, and to end: a loaded host with two CPUs verifies the programs slowly.
const PATIENCE: Duration = Duration::from_secs(30);

/// The program to test, from the environment variable [`BINARY`].
///
/// # Errors
/// Where the variable is not set, or names no file.
pub fn binary() -> Result<PathBuf> {
    let path = std::env::var_os(BINARY).map(PathBuf::from);
    let path = path.with_context(|| format!("{BINARY} is not set: `cargo xtask test` sets it to the release build"))?;
    ensure!(path.is_file(), "{BINARY} is {}, which is no file", path.display());
    Ok(path)
}

/// `tracer watch --json` at work; it ends on drop. Its output is kept in `NAME.stdout` and `NAME.stderr`.
#[derive(Debug)]
pub struct Tracer {
    /// The process, for signals and its output.
    pub process: Process,
}

impl Tracer {
    /// Watches the lab's `target` namespace from outside: on the host, with `--netns`. Returns once it watches.
    /// `name` is unique in the lab; `arguments` are added, such as `["--port", "8080"]`.
    ///
    /// # Errors
    /// Where the program is missing, cannot attach, or ends before it watches; with its stderr.
    pub fn start(lab: &Lab, name: &str, arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(binary()?);
        command.args(["watch", "--json", "--netns", lab.target.name()]).args(arguments);
        Self::run(name, command, lab.directory())
    }

    /// As [`Tracer::start`], from inside the `target` namespace. The filter stays: other labs may be at work.
    ///
    /// # Errors
    /// As [`Tracer::start`].
    pub fn start_inside(lab: &Lab, name: &str, arguments: &[&str]) -> Result<Self> {
        let mut command = lab.target.command(&binary()?.to_string_lossy())?;
        command.args(["watch", "--json", "--netns", lab.target.name()]).args(arguments);
        Self::run(name, command, lab.directory())
    }

    /// Starts any `command` of the program that watches, and returns once it does.
    ///
    /// # Errors
    /// As [`Tracer::start`].
    pub fn run(name: &str, command: Command, directory: &Path) -> Result<Self> {
        let mut process = Process::start(name, command, directory)?;
        process.wait_ready(PATIENCE, |process| {
            process.stderr().is_ok_and(|text| text.lines().any(|line| line.starts_with("tracer: watching ")))
        })?;
        Ok(Self { process })
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What it printed so far. A request is printed when the next one begins, when the connection closes, or after a
    /// second of quiet.
    ///
    /// # Errors
    /// Where its output cannot be read.
    pub fn so_far(&self) -> Result<Output> {
        Output::read(self.process.stdout_path())
    }

    /// Waits until `enough` holds for what it printed so far. All of it is read again each time that it grows: not for
    /// heavy load.
    ///
    /// # Errors
    /// Where it ended, or `timeout` passed, before.
    pub fn wait_for(&mut self, timeout: Duration, mut enough: impl FnMut(&Output) -> bool) -> Result<Output> {
        let path = self.process.stdout_path().to_owned();
        let (mut length, mut output) = (u64::MAX, Output::default());
        self.process.wait_ready(timeout, |_| {
            let now = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
            if now != length {
                length = now;
                output = Output::read(&path).unwrap_or_default();
            }
            enough(&output)
        })?;
        Ok(output)
    }

    /// Ends it as Ctrl-C does and returns everything.
    ///
    /// # Errors
    /// Where it does not end, fails, or has not printed a status; with its stderr.
    pub fn stop(self) -> Result<Trace> {
        self.process.signal(Signal::INT)?;
        self.finish()
    }

    /// Waits until it ends by itself (`--count`, `--duration`) and returns everything.
    ///
    /// # Errors
    /// As [`Tracer::stop`].
    pub fn finish(mut self) -> Result<Trace> {
        let exit = self.process.wait(PATIENCE)?;
        let stderr = self.process.stderr()?;
        ensure!(exit.success(), "tracer failed ({exit}):\n{stderr}");
        let Output { requests, messages, amended, connections, waiting, rejections, summary, status } =
            self.so_far()?;
        let Some(status) = status else { bail!("tracer printed no status:\n{stderr}") };
        let summary = summary.context("tracer printed no summary")?;
        Ok(Trace { requests, messages, amended, connections, waiting, rejections, summary, status, exit, stderr })
    }
}

/// A whole run.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The requests in the order in which they were printed, each as it was printed last.
    pub requests: Vec<Request>,
    /// The turns that are no requests: messages and streams, in the order in which they were printed.
    pub messages: Vec<Request>,
    /// How many objects replaced one that was printed before.
    pub amended: usize,
    /// The connections that closed.
    pub connections: Vec<Connection>,
    /// The requests that had not ended.
    pub waiting: Vec<Request>,
    /// What was refused or broken.
    pub rejections: Vec<Rejection>,
    /// The figures at the end.
    pub summary: Summary,
    /// The last object.
    pub status: Status,
    /// How the process ended.
    pub exit: ExitStatus,
    /// What it wrote on stderr.
    pub stderr: String,
}

impl Trace {
    /// The requests of one peer, in the order of their sequence numbers.
    #[must_use]
    pub fn requests_of(&self, peer: std::net::SocketAddr) -> Vec<&Request> {
        let mut requests: Vec<_> = self.requests.iter().filter(|request| request.peer == peer).collect();
        requests.sort_by_key(|request| request.sequence);
        requests
    }

    /// The connection of one peer, once it has closed.
    #[must_use]
    pub fn connection_of(&self, peer: std::net::SocketAddr) -> Option<&Connection> {
        self.connections.iter().find(|connection| connection.peer == peer)
    }

    /// How much of each cause there was, over all objects that tell of it.
    #[must_use]
    pub fn causes(&self) -> BTreeMap<&str, u64> {
        rejection::causes(&self.rejections)
    }

    /// The rejections with a cause.
    #[must_use]
    pub fn rejections_of(&self, cause: &str) -> Vec<&Rejection> {
        self.rejections.iter().filter(|rejection| rejection.cause == cause).collect()
    }
}

/// Where each turn is, by connection and number: whether among the requests, and its index there.
type Places = HashMap<(String, u32), (bool, usize)>;

/// The objects that were printed; as [`Trace`], as far as they have come.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// See [`Trace::requests`].
    pub requests: Vec<Request>,
    /// See [`Trace::messages`].
    pub messages: Vec<Request>,
    /// See [`Trace::amended`].
    pub amended: usize,
    /// See [`Trace::connections`].
    pub connections: Vec<Connection>,
    /// See [`Trace::waiting`].
    pub waiting: Vec<Request>,
    /// See [`Trace::rejections`].
    pub rejections: Vec<Rejection>,
    /// See [`Trace::summary`].
    pub summary: Option<Summary>,
    /// See [`Trace::status`].
    pub status: Option<Status>,
}

impl Output {
    /// Reads the objects in a file; a last line without its end is still being written, and left out.
    ///
    /// # Errors
    /// Where it cannot be read, a line is no object of a known kind, or one follows the status.
    pub fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        Self::from_lines(BufReader::with_capacity(1 << 16, file))
    }

    /// Takes the objects in a text.
    ///
    /// # Errors
    /// As [`Output::read`].
    pub fn parse(text: &str) -> Result<Self> {
        Self::from_lines(text.as_bytes())
    }

    /// How much of each cause there was, over all objects that tell of it.
    #[must_use]
    pub fn causes(&self) -> BTreeMap<&str, u64> {
        rejection::causes(&self.rejections)
    }

    fn from_lines(mut reader: impl BufRead) -> Result<Self> {
        let (mut output, mut places, mut line) = (Self::default(), HashMap::new(), String::new());
        while reader.read_line(&mut line).context("cannot read the output of tracer")? > 0 && line.ends_with('\n') {
            output.add(&line, &mut places).with_context(|| format!("in the output of tracer: {line}"))?;
            line.clear();
        }
        Ok(output)
    }

    fn add(&mut self, line: &str, places: &mut Places) -> Result<()> {
        ensure!(self.status.is_none(), "something follows the status");
        match line.strip_prefix(r#"{"kind":""#).and_then(|rest| rest.split('"').next()) {
            Some("request" | "message" | "stream") => self.add_turn(serde_json::from_str(line)?, places)?,
            Some("connection") => self.connections.push(serde_json::from_str(line)?),
            Some("waiting") => self.waiting.push(serde_json::from_str(line)?),
            Some("rejection") => self.rejections.push(serde_json::from_str(line)?),
            Some("summary") => self.summary = Some(serde_json::from_str(line)?),
            Some("status") => self.status = Some(serde_json::from_str(line)?),
            _ => bail!("not an object with a known kind in the first place"),
        }
        Ok(())
    }
    /// Adds a turn, or replaces it where it was printed before. What was printed as a request may turn out as a stream.
    fn add_turn(&mut self, turn: Request, places: &mut Places) -> Result<()> {
        let is_request = turn.kind == "request";
        match places.entry((turn.connection.clone(), turn.sequence)) {
            Entry::Occupied(mut place) => {
                ensure!(turn.revision.is_some(), "the same request twice, without a revision");
                self.amended += 1;
                let (was_request, index) = *place.get();
                if was_request == is_request {
                    self.turns(is_request)[index] = turn;
                    return Ok(());
                }
                self.turns(was_request).remove(index);
                *place.get_mut() = (is_request, self.turns(is_request).len());
                for (kind, place) in places.values_mut() {
                    if *kind == was_request && *place > index {
                        *place -= 1;
                    }
                }
            }
            Entry::Vacant(place) => {
                place.insert((is_request, self.turns(is_request).len()));
            }
        }
        self.turns(is_request).push(turn);
        Ok(())
    }

    const fn turns(&mut self, requests: bool) -> &mut Vec<Request> {
        if requests { &mut self.requests } else { &mut self.messages }
    }
}
