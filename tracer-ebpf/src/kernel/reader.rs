//! The buffer that the current task has just read to, through the arguments of its system call.

use core::ptr::{addr_of, read_volatile};

use aya_ebpf::{
    cty::c_void,
    helpers::generated::{bpf_get_current_task_btf, bpf_probe_read_user, bpf_task_pt_regs},
};
use tracer_common::offsets::MISSING;

use super::{OFFSETS, Object, SETTINGS};

/// `struct msghdr` of user space: `void *name`, `socklen_t namelen`, then `struct iovec *iov`.
const MESSAGE_VECTOR: u64 = 16;

/// The first three bytes of what the current task has read. `None` if its system call is none that reads, or the bytes
/// are not there.
///
/// Only for a task that has just read at least three bytes through that call: what lies behind them in the buffer is
/// its own.
#[inline(always)]
pub fn first_bytes() -> Option<[u8; 3]> {
    // SAFETY: no argument; the current task.
    let registers = unsafe { Object(bpf_task_pt_regs(bpf_get_current_task_btf()) as *const u8) };
    if registers.0.is_null() {
        return None;
    }
    let (number, argument) = call(registers)?;
    let [read, receive] = setting!(reads);
    let buffer = if number == read || number == receive {
        argument
    } else if number == setting!(vector_read) {
        user(argument)?
    } else if number == setting!(message_read) {
        user(user::<u64>(argument + MESSAGE_VECTOR)?)?
    } else {
        return None;
    };
    user(buffer)
}

/// The number of the system call, and its second argument.
#[inline(always)]
fn call(registers: Object) -> Option<(u32, u64)> {
    if offset!(regs_orig_ax) != MISSING {
        Some((registers.load::<u64>(offset!(regs_orig_ax))? as u32, registers.load(offset!(regs_si))?))
    } else if offset!(regs_regs) != MISSING {
        Some((registers.load(offset!(regs_syscallno))?, registers.load(offset!(regs_regs) + 8)?))
    } else {
        None
    }
}

/// Reads the current task's memory at `address`.
#[inline(always)]
fn user<T: Copy + Default>(address: u64) -> Option<T> {
    let mut value = T::default();
    // SAFETY: the helper checks the address and fills exactly the destination.
    let failed =
        unsafe { bpf_probe_read_user((&raw mut value).cast(), size_of::<T>() as u32, address as *const c_void) };
    (failed == 0).then_some(value)
}
