//! The system call `bpf()`, for the links that aya does not make.

use std::{
    io,
    os::fd::{FromRawFd, OwnedFd},
};

/// Commands of `bpf()` that make a descriptor (include/uapi/linux/bpf.h).
#[derive(Clone, Copy, Debug)]
pub enum Command {
    /// A program is attached; dropping the descriptor detaches it.
    LinkCreate = 28,
    /// A walk over what an attached iterator lists.
    IterCreate = 33,
}

/// Makes a descriptor. `attributes` are the members of `union bpf_attr` for this command.
pub fn create<T>(command: Command, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads as many bytes as it is told there are, and returns a new file descriptor or an error.
    unsafe {
        let result =
            libc::syscall(libc::SYS_bpf, command as libc::c_long, std::ptr::from_ref(attributes), size_of::<T>());
        let descriptor = i32::try_from(result).map_err(io::Error::other)?;
        if descriptor < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(descriptor)) }
    }
}
