//! `tcx` links that belong to whoever asks for them: aya's belong to the program, of which there is one.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

use super::link::{Command, create};

/// `union bpf_attr` as `BPF_LINK_CREATE` reads it for `tcx` (include/uapi/linux/bpf.h).
#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
    relative: u32,
    padding: u32,
    expected_revision: u64,
}

const BPF_TCX_INGRESS: u32 = 46;
/// Before whatever else is there.
const BPF_F_BEFORE: u32 = 1 << 3;

/// Attaches `program` to ingress of the interface with that index in the calling thread's network namespace, before all
/// other programs: what these do not pass on is to be seen as well. Dropping the link detaches it.
pub fn attach(program: BorrowedFd<'_>, interface: u32) -> io::Result<OwnedFd> {
    let program = u32::try_from(program.as_raw_fd()).map_err(io::Error::other)?;
    let (attach_type, flags) = (BPF_TCX_INGRESS, BPF_F_BEFORE);
    let attributes = LinkCreate { program, interface, attach_type, flags, ..LinkCreate::default() };
    create(Command::LinkCreate, &attributes)
}
