//! BPF programs of two instructions that drop every packet, and where they are attached. They are attached by links and
//! go with their guard, or with this process.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::netns::Namespace;

/// From `linux/bpf.h`.
mod abi {
    pub const PROG_LOAD: i64 = 5;
    pub const LINK_CREATE: i64 = 28;
    pub const XDP_SKB_MODE: u32 = 2;
    pub const XDP_DRV_MODE: u32 = 4;
}

/// A BPF program that drops every packet where it is attached.
#[derive(Debug)]
pub struct DropProgram {
    _link: OwnedFd,
}

/// A kind of program: its number, the number of its place, and what it returns for a packet to be dropped.
struct Kind {
    program: u32,
    attach: u32,
    verdict: i32,
}

const XDP: Kind = Kind { program: 6, attach: 37, verdict: 1 };
const TCX_INGRESS: Kind = Kind { program: 3, attach: 46, verdict: 2 };
const CGROUP_INGRESS: Kind = Kind { program: 8, attach: 0, verdict: 0 };

impl DropProgram {
    /// An XDP program in generic mode on `interface` of `namespace`: drops what comes in, ARP and all.
    ///
    /// # Errors
    /// Where the kernel refuses it.
    pub fn xdp(namespace: &Namespace, interface: &CStr) -> Result<Self> {
        namespace.enter(|| Self::attach(&XDP, interface_index(interface)?, abi::XDP_SKB_MODE))
    }

    /// The same in native mode: the driver of the interface runs it, before there is a packet for the kernel.
    ///
    /// # Errors
    /// Where the kernel refuses it, or the driver has no such mode.
    pub fn native_xdp(namespace: &Namespace, interface: &CStr) -> Result<Self> {
        namespace.enter(|| Self::attach(&XDP, interface_index(interface)?, abi::XDP_DRV_MODE))
    }

    /// A program of traffic control on `interface` of `namespace`, behind those that are there: drops what comes in.
    ///
    /// # Errors
    /// Where the kernel refuses it: it is older than 6.6.
    pub fn tc(namespace: &Namespace, interface: &CStr) -> Result<Self> {
        namespace.enter(|| Self::attach(&TCX_INGRESS, interface_index(interface)?, 0))
    }

    /// A program on a control group: drops what comes for the sockets that its processes have made.
    ///
    /// # Errors
    /// Where the kernel refuses it.
    pub fn cgroup(cgroup: &Cgroup) -> Result<Self> {
        let directory = File::open(&cgroup.0).context("cannot open the control group")?;
        Self::attach(&CGROUP_INGRESS, directory.as_raw_fd(), 0)
    }

    /// `target` is the index of an interface or an open control group.
    fn attach(kind: &Kind, target: i32, flags: u32) -> Result<Self> {
        let program = load(kind)?;
        // `link_create`: program, target, place, flags; the rest is of no use here.
        let mut link = [0; 16];
        for (word, value) in link.iter_mut().zip([program.as_raw_fd(), target]) {
            *word = u32::try_from(value)?;
        }
        (link[2], link[3]) = (kind.attach, flags);
        let link = bpf(abi::LINK_CREATE, &mut link).context("cannot attach a BPF program")?;
        Ok(Self { _link: link })
    }
}

/// Loads a program that returns the verdict.
fn load(kind: &Kind) -> Result<OwnedFd> {
    /// `prog_load`, as far as it is of use here.
    #[repr(C)]
    struct Load {
        kind: u32,
        instructions: u32,
        code: u64,
        license: u64,
        log: [u32; 4],
        version: u32,
        flags: u32,
        name: [u8; 16],
        interface: u32,
        attach: u32,
    }
    // r0 = verdict; exit.
    let code = [0xb7 | u64::from(kind.verdict.cast_unsigned()) << 32, 0x95];
    let license = c"MIT";
    let mut attributes = Load {
        kind: kind.program,
        instructions: u32::try_from(code.len())?,
        code: code.as_ptr().expose_provenance() as u64,
        license: license.as_ptr().expose_provenance() as u64,
        log: [0; 4],
        version: 0,
        flags: 0,
        name: *b"lab_drop\0\0\0\0\0\0\0\0",
        interface: 0,
        attach: kind.attach,
    };
    bpf(abi::PROG_LOAD, &mut attributes).context("cannot load a BPF program")
}

/// `bpf(2)`, for commands that return a descriptor.
fn bpf<T>(command: i64, attributes: &mut T) -> Result<OwnedFd> {
    // SAFETY: `attributes` is as long as is said, and what it points to outlives the call.
    let descriptor = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>()) };
    ensure!(descriptor >= 0, io::Error::last_os_error());
    let descriptor = i32::try_from(descriptor)?;
    // SAFETY: the descriptor is new and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// The index of an interface in the namespace of the calling thread.
fn interface_index(name: &CStr) -> Result<i32> {
    // SAFETY: the name ends with a NUL.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    ensure!(index > 0, "there is no interface {name:?}");
    Ok(i32::try_from(index)?)
}

/// A control group (v2) of our own; removed on drop, when no process is left in it.
#[derive(Debug)]
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// Makes the control group `name` right below the root.
    ///
    /// # Errors
    /// Where none are mounted, or the name is taken.
    pub fn new(name: &str) -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read the mounts")?;
        let mut mounts = mounts.lines().map(|line| line.split(' ').skip(1).take(2).collect::<Vec<_>>());
        let mount = mounts.find(|mount| mount.last() == Some(&"cgroup2")).context("no control groups are mounted")?;
        let root = mount[0];
        let path = Path::new(root).join(name);
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    /// The file to which a process writes its id to join.
    #[must_use]
    pub fn processes(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.0) {
            eprintln!("lab: cannot remove {}: {error}", self.0.display());
        }
    }
}
