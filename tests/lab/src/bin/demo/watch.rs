//! `tracer watch`, on the terminal of whoever runs the demo.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStderr, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use lab::{Namespace, process::Signal};
use rustix::process::{Pid, kill_process, set_parent_process_death_signal};

use crate::{interrupt, say};

/// How long it may take to load its programs.
const READY: Duration = Duration::from_secs(30);
/// How long it may take to show its summary.
const GRACE: Duration = Duration::from_secs(10);
/// How often signals and the end of tracer are looked for.
const LOOK: Duration = Duration::from_millis(20);
/// What it says on standard error once everything is attached.
const WATCHING: &str = "tracer: watching";

/// The running tracer; ended on drop. It stays in the demo's process group, so that it may write to the terminal.
pub struct Watch {
    child: Child,
    relay: Option<JoinHandle<()>>,
}

impl Watch {
    /// `tracer watch` for what happens in `namespace`.
    pub fn command(tracer: &OsStr, namespace: &Namespace) -> Command {
        let mut command = Command::new(tracer);
        command.args(["watch", "--netns", namespace.name()]);
        command
    }

    /// Starts it and waits until it watches, or has ended: then it has said why.
    pub fn start(mut command: Command) -> Result<Self> {
        let words: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
        say(format_args!("$ tracer {}", words.join(" ")));
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let end_with_parent = || set_parent_process_death_signal(Some(Signal::INT)).map_err(Into::into);
        // SAFETY: the closure makes one system call and allocates nothing, so it may run between fork and exec.
        unsafe { command.pre_exec(end_with_parent) };
        let program = command.get_program().to_owned();
        let mut child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let (watching, watches) = channel();
        let relay = child.stderr.take().map(|stderr| thread::spawn(move || relay(stderr, &watching)));
        let watch = Self { child, relay };
        wait_ready(&watches)?;
        Ok(watch)
    }

    /// Whether it has ended, or is about to: it has closed its standard error.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.relay.as_ref().is_none_or(JoinHandle::is_finished) || self.try_wait()?.is_some())
    }

    fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("cannot wait for tracer")
    }

    /// Waits for `pause`.
    ///
    /// # Errors
    /// As soon as there is no more reason to go on: tracer has ended, or Ctrl-C.
    pub fn pause(&mut self, pause: Duration) -> Result<()> {
        let deadline = Instant::now() + pause;
        loop {
            if interrupt::came() || self.has_ended()? {
                bail!("the demo was ended");
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(LOOK));
        }
    }

    /// Ends it as Ctrl-C does, waits until its summary is out, and returns its exit code.
    pub fn finish(mut self) -> Result<ExitCode> {
        let status = self.end()?;
        let code = status.code().with_context(|| format!("tracer was ended: {status}"))?;
        Ok(u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from))
    }

    fn end(&mut self) -> Result<ExitStatus> {
        let deadline = Instant::now() + GRACE;
        if self.try_wait()?.is_none() {
            let _ = kill_process(Pid::from_child(&self.child), Signal::INT);
        }
        while self.try_wait()?.is_none() {
            if Instant::now() >= deadline {
                let _ = self.child.kill();
            }
            thread::sleep(LOOK);
        }
        if let Some(relay) = self.relay.take() {
            // It ends with tracer's standard error, and panics nowhere.
            let _ = relay.join();
        }
        self.child.wait().context("cannot wait for tracer")
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            say(format_args!("demo: {error:#}"));
        }
    }
}

/// Waits until tracer watches or has ended, or until Ctrl-C.
fn wait_ready(watches: &Receiver<()>) -> Result<()> {
    let deadline = Instant::now() + READY;
    while !interrupt::came() {
        match watches.recv_timeout(LOOK) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
            Err(RecvTimeoutError::Timeout) => bail!("tracer does not watch after {READY:?}"),
        }
    }
    Ok(())
}

/// Passes tracer's standard error on, and tells when it watches.
fn relay(stderr: ChildStderr, watching: &Sender<()>) {
    for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        say(&line);
        if line.starts_with(WATCHING) {
            // Who waits has gone only if it waited too long.
            let _ = watching.send(());
        }
    }
}
