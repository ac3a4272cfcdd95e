//! Child processes that end with their guard, and waiting for a condition.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{
    Pid, Resource, Rlimit, WaitId, WaitIdOptions, getrlimit, kill_process, kill_process_group,
    set_parent_process_death_signal, setrlimit, waitid,
};

pub use rustix::process::Signal;

/// How long a process may take to end after SIGTERM before it gets SIGKILL.
const GRACE: Duration = Duration::from_secs(3);

/// A child process in a process group of its own. On drop it and its children are ended and reaped. If the lab's process
/// is killed, the kernel sends SIGTERM. After a panic, the drop shows the end of what the process wrote on stderr.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    status: Option<ExitStatus>,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Starts `command`. What it writes goes to `NAME.stdout` and `NAME.stderr` in `directory`.
    ///
    /// # Errors
    /// Where the program cannot be started, or the files cannot be made.
    pub fn start(name: &str, mut command: Command, directory: &Path) -> Result<Self> {
        let file = |suffix: &str| directory.join(format!("{name}.{suffix}"));
        let (stdout, stderr) = (file("stdout"), file("stderr"));
        let create = |path: &Path| File::create(path).with_context(|| format!("cannot make {}", path.display()));
        command.stdin(Stdio::null()).stdout(create(&stdout)?).stderr(create(&stderr)?).process_group(0);
        let die_with_parent = || set_parent_process_death_signal(Some(Signal::TERM)).map_err(Into::into);
        // SAFETY: the closure makes one system call and allocates nothing, so it may run between fork and exec.
        unsafe { command.pre_exec(die_with_parent) };
        let program = command.get_program().to_string_lossy().into_owned();
        let child = spawn(command)?.with_context(|| format!("cannot start {program} for {name}: is it installed?"))?;
        Ok(Self { name: name.to_owned(), child, status: None, stdout, stderr })
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The file that gets what it writes on stdout.
    #[must_use]
    pub fn stdout_path(&self) -> &Path {
        &self.stdout
    }

    /// What it wrote on stdout so far.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn stdout(&self) -> Result<String> {
        read(&self.stdout)
    }

    /// What it wrote on stderr so far.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn stderr(&self) -> Result<String> {
        read(&self.stderr)
    }

    /// Sends `signal` to the process alone.
    ///
    /// # Errors
    /// Where the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal)
            .with_context(|| format!("cannot send {signal:?} to {}", self.name))
    }

    /// The exit status, if it has ended. What is left of its process group, such as the workers of a killed master, is
    /// ended too.
    ///
    /// # Errors
    /// Where it cannot be waited for.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        if self.status.is_none() {
            let pid = Pid::from_child(&self.child);
            let peek = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            let ended = waitid(WaitId::Pid(pid), peek).with_context(|| format!("cannot wait for {}", self.name))?;
            if ended.is_some() {
                // Before the pid is reaped: until then no other process group can have its number.
                let _ = kill_process_group(pid, Signal::KILL);
                self.status = Some(self.child.wait().with_context(|| format!("cannot wait for {}", self.name))?);
            }
        }
        Ok(self.status)
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// Where it still runs after `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!("{} still runs after {timeout:?}", self.name);
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until `ready` holds; stops waiting as soon as the process has ended.
    ///
    /// # Errors
    /// Where it ended or `timeout` passed first; with the end of its stderr.
    pub fn wait_ready(&mut self, timeout: Duration, mut ready: impl FnMut(&Self) -> bool) -> Result<()> {
        let deadline = Instant::now() + timeout;
        while !ready(self) {
            if let Some(status) = self.try_wait()? {
                bail!("{} ended ({status}) before it was ready:\n{}", self.name, self.tail());
            }
            if Instant::now() >= deadline {
                bail!("{} was not ready after {timeout:?}:\n{}", self.name, self.tail());
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Ends it with `signal`, and with SIGKILL if it does not obey, and reaps it.
    ///
    /// # Errors
    /// Where it cannot be waited for.
    pub fn stop(&mut self, signal: Signal) -> Result<ExitStatus> {
        if let Some(status) = self.try_wait()? {
            return Ok(status);
        }
        self.signal(signal)?;
        // A stopped process does not see the signal until it goes on.
        self.signal(Signal::CONT)?;
        if let Ok(status) = self.wait(GRACE) {
            return Ok(status);
        }
        self.signal(Signal::KILL)?;
        self.wait(GRACE)
    }

    fn tail(&self) -> String {
        let text = self.stderr().unwrap_or_default() + &self.stdout().unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("lab: {} (pid {}) wrote last:\n{}", self.name, self.pid(), self.tail());
        }
        if let Err(error) = self.stop(Signal::TERM) {
            eprintln!("lab: {error:#}");
        }
    }
}

/// Waits until `condition` holds, looking every two milliseconds.
///
/// # Errors
/// Where it does not hold within `timeout`; `what` says what was waited for.
pub fn wait_until(what: &str, timeout: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + timeout;
    while !condition() {
        if Instant::now() >= deadline {
            bail!("waited {timeout:?} in vain: {what}");
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

type Job = (Command, Sender<std::io::Result<Child>>);

/// Starts the command from a thread that lives as long as the process: the death signal is sent when the *thread* that
/// started the child ends, and a test's thread may end before those who share its lab.
fn spawn(command: Command) -> Result<std::io::Result<Child>> {
    static SPAWNER: OnceLock<Sender<Job>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, jobs) = channel::<Job>();
        // Servers inherit it.
        raise_file_limit();
        thread::spawn(move || {
            for (mut command, reply) in jobs {
                // Who asked has gone only if its thread has panicked.
                let _ = reply.send(command.spawn());
            }
        });
        sender
    });
    let (reply, answer) = channel();
    spawner.send((command, reply)).map_err(|_| anyhow!("the thread that starts processes has ended"))?;
    answer.recv().context("the thread that starts processes has ended")
}

fn read(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Allows this process as many open files as the host grants it: thousands of connections are no rare wish here.
pub fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Within the hard limit this is always allowed; where it is not, the first socket too many says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
