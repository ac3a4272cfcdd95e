//! Processes, as the programs see them in their own context.

use crate::shared::{Shared, shared};

/// The process that read the request, seen in its own context at the read.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// The id of its control group (inode number in the cgroup v2 hierarchy).
    pub cgroup: u64,
    /// Thread group id in the initial pid namespace; 0: nobody has read yet.
    pub pid: u32,
    /// Always 0.
    pub padding: u32,
    /// The name of the thread that read first, of those of this process on the connection; NUL-terminated.
    pub comm: [u8; 16],
}

/// How a process ended a connection.
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// No process did: it was the kernel, or the peer.
    Unknown = 0,
    /// It closed or shut it down.
    Closed = 1,
    /// It exited.
    Exited = 2,
    /// A signal killed it; the signal's number is in [`Ender::signal`].
    Killed = 3,
    /// The kernel killed it because memory was short.
    OutOfMemory = 4,
}

/// The process that ended a connection on this side, seen in its own context.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ender {
    /// Thread group id in the initial pid namespace; 0: no process did.
    pub pid: u32,
    /// A [`How`].
    pub how: u16,
    /// The signal that killed it, otherwise 0.
    pub signal: u16,
    /// The name of its thread; NUL-terminated.
    pub comm: [u8; 16],
}

shared! {
    /// [`Process`] in a map.
    SharedProcess of Process {
        cgroup: Shared<u64>,
        pid: Shared<u32>,
        padding: Shared<u32>,
        comm: Shared<[u8; 16]>,
    }
    /// An [`Ender`] in a map.
    SharedEnder of Ender {
        pid: Shared<u32>,
        how: Shared<u16>,
        signal: Shared<u16>,
        comm: Shared<[u8; 16]>,
    }
}

const _: () = assert!(size_of::<Process>() == 32 && size_of::<Ender>() == 24);
