//! A container, as far as the network goes: the target in a network namespace of its own that has no name, so that it goes
//! with its processes, however they end.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::netns;
use crate::process::Process;
use crate::target;

/// The target on one port of its own `127.0.0.1`.
#[derive(Debug)]
pub struct Container {
    process: Process,
    address: SocketAddr,
}

impl Container {
    /// Starts the target and waits until it listens on `port`. Its files in `directory` are named after `name`.
    ///
    /// # Errors
    /// Where the process is not root, or the program is not built or does not listen.
    pub fn start(directory: &Path, name: &str, port: u16) -> Result<Self> {
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        let mut command = Command::new(target::program()?);
        command.args(["--listen", &address.to_string()]);
        // SAFETY: the function makes system calls and allocates nothing, so it may run between fork and exec.
        unsafe { command.pre_exec(move_to_new_namespace) };
        let mut process = Process::start(name, command, directory)?;
        process.wait_ready(Duration::from_secs(5), |process| process.stdout().is_ok_and(|text| text.contains('\n')))?;
        Ok(Self { process, address })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The inode number of its network namespace.
    ///
    /// # Errors
    /// Where it has ended.
    pub fn inum(&self) -> Result<u64> {
        Ok(fs::metadata(self.namespace()).context("the container has ended")?.ino())
    }

    /// Runs `action` in its network namespace, on a thread of its own.
    ///
    /// # Errors
    /// Those of `action`, and where the container has ended.
    pub fn enter<T: Send>(&self, action: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let file = File::open(self.namespace()).context("the container has ended")?;
        netns::enter(&file, "a container", action)
    }

    fn namespace(&self) -> String {
        format!("/proc/{}/ns/net", self.process.pid())
    }
}

/// Puts the calling process into a new network namespace with `lo` up.
fn move_to_new_namespace() -> io::Result<()> {
    /// `SIOCSIFFLAGS`: the constants of musl and glibc differ in their type.
    const SET_FLAGS: libc::Ioctl = 0x8914;
    // SAFETY: takes a number, and concerns this process alone.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) })?;
    // SAFETY: all bytes of the structure may be zero.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP).unwrap_or(1);
    // SAFETY: makes a descriptor, which is closed at exec.
    let socket = check(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the structure is the one that this request reads, and outlives the call.
    check(unsafe { libc::ioctl(socket, SET_FLAGS, &raw const request) }).map(drop)
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
