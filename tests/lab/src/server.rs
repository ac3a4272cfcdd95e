//! The servers that people run, as the target, with one interface: start, stop as an operator does, reload, workers.
//!
//! All of them answer `GET /` and `POST /` with two bytes. `POST` is answered once its body was read.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::{Process, Signal, wait_until};
use crate::topology::Lab;

mod apache;
mod go;
mod haproxy;
mod jdk;
mod nginx;
mod node;
mod php;
mod puma;
mod python;
mod redis;

pub use python::interpreter;

/// How long a server may take until it listens: the JDK and Go compile first.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long a graceful stop may take: some servers look every few seconds whether they may end.
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "these are names of programs")]
pub enum Kind {
    /// A master and workers, files.
    Nginx,
    /// Event MPM, files.
    Apache,
    /// php-fpm behind nginx, joined by a Unix socket.
    PhpFpm,
    /// Cluster mode with two workers.
    Puma,
    /// `net/http`.
    Go,
    /// `com.sun.net.httpserver`.
    Jdk,
    Node,
    /// Sync workers: every response closes its connection.
    GunicornSync,
    /// gthread workers.
    GunicornThreads,
    Uvicorn,
    Hypercorn,
    Waitress,
    /// A reverse proxy, joined by a Unix socket to an nginx.
    Haproxy,
    /// `PING`, not HTTP.
    Redis,
}

/// How a server is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where it listens.
    pub address: SocketAddr,
    /// For how long it keeps an idle connection, where it has such a setting; long where absent.
    pub keep_alive: Duration,
    /// More words of its command line.
    pub arguments: Vec<String>,
    /// More of its configuration: of nginx, in the `server` block.
    pub directives: String,
    /// `ulimit -n`.
    pub open_files: Option<u64>,
    /// How many connections it may have at once: of nginx `worker_connections`, and then it has one worker.
    pub connections: Option<usize>,
}

impl Options {
    /// A server on `address` that keeps idle connections for a minute and more.
    #[must_use]
    pub fn listen(address: SocketAddr) -> Self {
        let keep_alive = Duration::from_secs(75);
        let (arguments, directives) = (Vec::new(), String::new());
        Self { address, keep_alive, arguments, directives, open_files: None, connections: None }
    }

    /// The same with another keep-alive time, in whole seconds.
    #[must_use]
    pub fn keep_alive(self, keep_alive: Duration) -> Self {
        Self { keep_alive, ..self }
    }

    /// The same with more words on its command line.
    #[must_use]
    pub fn arguments(self, arguments: &[&str]) -> Self {
        Self { arguments: arguments.iter().map(ToString::to_string).collect(), ..self }
    }

    /// The same with more in its configuration.
    #[must_use]
    pub fn directives(self, directives: &str) -> Self {
        Self { directives: directives.to_owned(), ..self }
    }

    /// The same with a limit of open files.
    #[must_use]
    pub fn open_files(self, limit: u64) -> Self {
        Self { open_files: Some(limit), ..self }
    }

    /// The same with a limit of connections.
    #[must_use]
    pub fn connections(self, limit: usize) -> Self {
        Self { connections: Some(limit), ..self }
    }

    fn keep_alive_s(&self) -> String {
        self.keep_alive.as_secs().to_string()
    }
}

/// How to start a server and what it obeys.
#[derive(Debug)]
struct Launch {
    command: Command,
    /// Servers behind it that are started first, by name.
    behind: Vec<(String, Command)>,
    /// How many children the process has once it is up.
    workers: usize,
    graceful: Signal,
    reload: Option<Signal>,
}

impl Launch {
    fn new(command: Command, graceful: Signal) -> Self {
        Self { command, behind: Vec::new(), workers: 0, graceful, reload: None }
    }

    fn workers(self, workers: usize) -> Self {
        Self { workers, ..self }
    }

    fn reload(self, signal: Signal) -> Self {
        Self { reload: Some(signal), ..self }
    }
}

/// A server running in the `target` namespace; it ends on drop.
#[derive(Debug)]
pub struct Server {
    /// The process, or the master of the workers.
    pub process: Process,
    /// Servers behind it.
    behind: Vec<Process>,
    kind: Kind,
    address: SocketAddr,
    graceful: Signal,
    reload: Option<Signal>,
    workers: usize,
}

impl Kind {
    /// All that speak HTTP.
    pub const HTTP: [Self; 13] = [
        Self::Nginx,
        Self::Apache,
        Self::PhpFpm,
        Self::Puma,
        Self::Go,
        Self::Jdk,
        Self::Node,
        Self::GunicornSync,
        Self::GunicornThreads,
        Self::Uvicorn,
        Self::Hypercorn,
        Self::Waitress,
        Self::Haproxy,
    ];

    /// Whether it keeps connections open after a response.
    #[must_use]
    pub const fn keeps_alive(self) -> bool {
        !matches!(self, Self::GunicornSync)
    }

    fn launch(self, lab: &Lab, directory: &Path, options: &Options) -> Result<Launch> {
        match self {
            Self::Nginx => nginx::launch(lab, directory, options),
            Self::Apache => apache::launch(lab, directory, options),
            Self::PhpFpm => php::launch(lab, directory, options),
            Self::Puma => puma::launch(lab, directory, options),
            Self::Go => go::launch(lab, directory, options),
            Self::Jdk => jdk::launch(lab, directory, options),
            Self::Node => node::launch(lab, directory, options),
            Self::GunicornSync => python::gunicorn(lab, directory, options, "sync"),
            Self::GunicornThreads => python::gunicorn(lab, directory, options, "gthread"),
            Self::Uvicorn => python::uvicorn(lab, directory, options),
            Self::Hypercorn => python::hypercorn(lab, directory, options),
            Self::Waitress => python::waitress(lab, directory, options),
            Self::Haproxy => haproxy::launch(lab, directory, options),
            Self::Redis => redis::launch(lab, options),
        }
    }
}

impl Server {
    /// Starts a server and waits until it listens and its workers are up. `name` is unique in the lab.
    ///
    /// # Errors
    /// Where it is not installed (`cargo xtask setup` installs it), or refuses its configuration.
    pub fn start(lab: &Lab, name: &str, kind: Kind, options: &Options) -> Result<Self> {
        let directory = lab.directory().join(name);
        fs::create_dir_all(&directory).context("cannot make the server's directory")?;
        let Launch { command, behind, workers, graceful, reload } = kind.launch(lab, &directory, options)?;
        let behind: Vec<_> = behind
            .into_iter()
            .map(|(part, command)| Process::start(&format!("{name}-{part}"), command, lab.directory()))
            .collect::<Result<_>>()?;
        let command = match options.open_files {
            Some(limit) => limited(lab, &command, limit)?,
            None => command,
        };
        let mut process = Process::start(name, command, lab.directory())?;
        let port = options.address.port();
        process.wait_ready(PATIENCE, |process| {
            lab.target.is_listening(port).is_ok_and(|listens| listens) && children(process.pid()).len() >= workers
        })?;
        let server = Self { process, behind, kind, address: options.address, graceful, reload, workers };
        server.wait_until_answers(lab)?;
        Ok(server)
    }

    /// Which server it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The processes that serve: the children of the master where there is one. Of php-fpm its own, not those of the server
    /// before it.
    #[must_use]
    pub fn workers(&self) -> Vec<u32> {
        let master = self.behind.last().filter(|_| self.kind == Kind::PhpFpm).unwrap_or(&self.process);
        if self.workers == 0 { vec![master.pid()] } else { children(master.pid()) }
    }

    /// Whether it can replace its workers or its configuration while it serves.
    #[must_use]
    pub const fn can_reload(&self) -> bool {
        self.reload.is_some()
    }

    /// Reloads, as an operator does. Returns at once.
    ///
    /// # Errors
    /// Where it has no reload, or is gone.
    pub fn reload(&self) -> Result<()> {
        let signal = self.reload.with_context(|| format!("{:?} has no reload", self.kind))?;
        // php-fpm is what is reloaded, not what is before it.
        self.behind.last().filter(|_| self.kind == Kind::PhpFpm).unwrap_or(&self.process).signal(signal)
    }

    /// Asks it to end once it has answered what it has read. Returns at once.
    ///
    /// # Errors
    /// Where it is gone.
    pub fn ask_to_stop(&self) -> Result<()> {
        self.process.signal(self.graceful)
    }

    /// As [`Server::ask_to_stop`], and waits until it has ended.
    ///
    /// # Errors
    /// Where it does not end.
    pub fn stop_gracefully(&mut self) -> Result<()> {
        self.ask_to_stop()?;
        self.process.wait(STOP_PATIENCE).map(drop)
    }

    /// Workers may fork before they can answer. No tracer runs yet, and no request is counted.
    fn wait_until_answers(&self, lab: &Lab) -> Result<()> {
        if self.kind == Kind::Redis {
            return Ok(());
        }
        let client = crate::client::Client::new(&lab.lb).timeout(Duration::from_secs(10));
        let request = crate::client::Request::get("/").header("Connection", "close");
        // With TLS, nginx says 400 to this request.
        let answers = || client.request(self.address, &request).is_ok_and(|reply| matches!(reply.status, 200 | 400));
        wait_until(&format!("an answer of {:?}", self.kind), PATIENCE, answers)
    }
}

/// The same command below a limit of open files.
fn limited(lab: &Lab, command: &Command, limit: u64) -> Result<Command> {
    let mut limited = lab.target.command("prlimit")?;
    limited.arg(format!("--nofile={limit}:{limit}")).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            limited.env(name, value);
        }
    }
    if let Some(directory) = command.get_current_dir() {
        limited.current_dir(directory);
    }
    Ok(limited)
}

/// The children of a process.
fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}

/// A directory below `target/` of the workspace, where setup and tests keep what is made once.
fn kept(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target").join(name)
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// The program of that name, wherever Debian puts it: `/usr/sbin` is not always in the path.
fn program(names: &[&str]) -> Result<String> {
    let places = ["/usr/sbin", "/usr/bin", "/usr/local/bin"];
    let mut paths = names.iter().flat_map(|name| places.map(|place| format!("{place}/{name}")));
    let found = paths.find(|path| Path::new(path).is_file());
    ensure!(found.is_some(), "{} is not installed; `cargo xtask setup` installs it", names[0]);
    found.context("there is none")
}
