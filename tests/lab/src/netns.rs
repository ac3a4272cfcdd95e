//! Network namespaces and the veth pairs between them, removed on drop.

use std::fs::{self, File};
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The kernel's numbers of the states of TCP.
#[expect(missing_docs, reason = "the states are those of TCP (RFC 9293)")]
pub mod state {
    pub const FIN_WAIT1: u8 = 4;
    pub const FIN_WAIT2: u8 = 5;
    pub const LISTEN: u8 = 10;
}

/// Where `ip netns` keeps its namespaces.
const DIRECTORY: &str = "/run/netns";
/// First letters of every name that the lab gives; the owner's pid follows.
pub const PREFIX: &str = "trl";

/// A network namespace with `lo` up; deleted on drop.
///
/// It is gone for good when the last process and socket in it is: start processes under [`crate::Process`] and declare
/// them after the namespace, so that they are dropped before it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    file: File,
}

impl Namespace {
    /// Makes the namespace `name`, which must start with [`PREFIX`] and the pid of the owner for
    /// [`Namespace::delete_stale`] to find it.
    ///
    /// # Errors
    /// Where the process is not root, or the name is taken.
    pub fn new(name: &str) -> Result<Self> {
        ip(&["netns", "add", name])?;
        let path = PathBuf::from(DIRECTORY).join(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) => {
                delete(name);
                return Err(error).with_context(|| format!("cannot open the namespace {}", path.display()));
            }
        };
        let namespace = Self { name: name.to_owned(), file };
        ip(&["-n", name, "link", "set", "lo", "up"])?;
        // Duplicate address detection would keep a link-local address unusable for its first second.
        namespace.sysctl("net.ipv6.conf.default.accept_dad", "0")?;
        Ok(namespace)
    }

    /// The name, as `ip netns` shows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for the namespace.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(DIRECTORY).join(&self.name)
    }

    /// The inode number by which the kernel and `/proc/PID/ns/net` know the namespace.
    ///
    /// # Errors
    /// Where the file cannot be examined.
    pub fn inum(&self) -> Result<u64> {
        Ok(self.file.metadata().with_context(|| format!("cannot examine the namespace {}", self.name))?.ino())
    }

    /// Runs `action` inside the namespace, in a thread of its own: the caller's thread stays where it is. Sockets that
    /// `action` returns stay in the namespace. A panic goes on in the caller.
    ///
    /// # Errors
    /// Where the namespace cannot be entered, or `action` fails.
    pub fn enter<T: Send>(&self, action: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        enter(&self.file, &self.name, action)
    }

    /// A command that starts `program` inside the namespace. Only the network namespace changes: unlike under
    /// `ip netns exec`, `/sys` with its control groups and tracefs stays visible.
    ///
    /// # Errors
    /// Where the process has no file descriptor left.
    pub fn command(&self, program: &str) -> Result<Command> {
        let namespace: OwnedFd = self.file.as_fd().try_clone_to_owned().context("cannot duplicate the namespace")?;
        let mut command = Command::new(program);
        let enter =
            move || move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).map_err(Into::into);
        // SAFETY: the closure makes one system call and allocates nothing, so it may run between fork and exec.
        unsafe { command.pre_exec(enter) };
        Ok(command)
    }

    /// Runs `program` inside the namespace to its end and returns what it wrote on stdout.
    ///
    /// # Errors
    /// Where it cannot be started or fails; with its stderr.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = self.command(program)?;
        command.args(arguments);
        output(command)
    }

    /// Sets a sysctl, such as `net.ipv4.tcp_syncookies`, for this namespace only.
    ///
    /// # Errors
    /// Where the kernel does not have it, or refuses the value.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        self.enter(|| fs::write(&path, value).with_context(|| format!("cannot set {name} to {value} in {}", self.name)))
    }

    /// Whether a TCP socket listens on `port`: asked of the kernel, so that no connection is made for it.
    ///
    /// # Errors
    /// Where `/proc` cannot be read.
    pub fn is_listening(&self, port: u16) -> Result<bool> {
        Ok(self.tcp_state(port, 0)? == Some(state::LISTEN))
    }

    /// The [`state`] of the TCP socket between two ports.
    ///
    /// # Errors
    /// Where `/proc` cannot be read.
    pub fn tcp_state(&self, local_port: u16, peer_port: u16) -> Result<Option<u8>> {
        let tables = self.enter(|| {
            let read = |table: &str| fs::read_to_string(format!("/proc/thread-self/net/{table}"));
            Ok(read("tcp")? + &read("tcp6")?)
        })?;
        let ends = [format!(":{local_port:04X}"), format!(":{peer_port:04X}")];
        // Fields: slot, local address, remote address, state.
        let state = tables.lines().find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().skip(1).take(3).collect();
            let is_it = fields.iter().zip(&ends).all(|(field, end)| field.ends_with(end));
            u8::from_str_radix(fields.get(2).filter(|_| is_it)?, 16).ok()
        });
        Ok(state)
    }

    /// Deletes the namespaces whose owner, named by its pid in their name, is dead.
    ///
    /// # Errors
    /// Where the directory of namespaces cannot be read.
    pub fn delete_stale() -> Result<()> {
        let entries = match fs::read_dir(DIRECTORY) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).context("cannot list the network namespaces"),
        };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| has_dead_owner(name)).for_each(|name| delete(&name));
        Ok(())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        delete(&self.name);
    }
}

/// One end of a veth pair: its namespace, the interface's name there (at most 15 characters), and its addresses.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// Where the interface is.
    pub namespace: &'a Namespace,
    /// What it is called there.
    pub interface: &'a str,
    /// Its addresses, each with the length of its prefix.
    pub addresses: &'a [(IpAddr, u8)],
}

/// Joins two namespaces with a veth pair that is up and has its addresses. It goes with either namespace.
///
/// # Errors
/// Where a name is taken or too long, or an address is refused.
pub fn join(one: End, other: End) -> Result<()> {
    let (a, b) = (one.namespace.name(), other.namespace.name());
    // Made in place: neither end ever shows up in the host's own namespace.
    ip(&["-n", a, "link", "add", one.interface, "type", "veth", "peer", "name", other.interface, "netns", b])?;
    for End { namespace, interface, addresses } in [one, other] {
        for (address, length) in addresses {
            let address = format!("{address}/{length}");
            let mut arguments = vec!["-n", namespace.name(), "address", "add", &address, "dev", interface];
            if address.contains(':') {
                arguments.push("nodad");
            }
            ip(&arguments)?;
        }
        ip(&["-n", namespace.name(), "link", "set", interface, "up"])?;
    }
    Ok(())
}

/// Runs `action` in the network namespace behind `file`, which errors call `name`, on a thread of its own.
pub(crate) fn enter<T: Send>(file: &File, name: &str, action: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let run = || {
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .with_context(|| format!("cannot enter the namespace {name}: run as root"))?;
        action()
    };
    match thread::scope(|scope| scope.spawn(run).join()) {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Whether `name` was given by the lab and the process that gave it is gone.
pub(crate) fn has_dead_owner(name: &str) -> bool {
    let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
    owner.is_some_and(|pid| !PathBuf::from(format!("/proc/{pid}")).exists())
}

fn delete(name: &str) {
    if let Err(error) = ip(&["netns", "delete", name]) {
        eprintln!("lab: {error:#}");
    }
}

fn ip(arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("ip");
    command.args(arguments);
    output(command)
}

fn output(mut command: Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {}", command.get_program().display()))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} failed ({}): {}", output.status, stderr.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
