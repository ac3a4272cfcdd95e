//! `accept()` returning a connection: one of these hooks is attached, the first that can be.

use aya_ebpf::{
    helpers::generated::bpf_get_current_task,
    macros::{fexit, kretprobe, tracepoint},
    programs::{FExitContext, RetProbeContext, TracePointContext},
};
use tracer_common::{connection::state, counter::Counter};

use crate::{
    filter::{Filter, Filters, may_want},
    kernel::{Sock, is_tcp_at, local_port_at, now, tcp_sock_of_descriptor},
    maps::{ACCEPTS, ACCEPTS_MORE, ANY, count, is_tracing},
    traced::{CREATE, GET, storage},
};

/// `struct sock *inet_csk_accept(struct sock *sk, struct proto_accept_arg *arg)`: the return value follows the
/// arguments. Linux 6.10 (commit 92ef0fd55ac8).
#[fexit(function = "inet_csk_accept")]
pub fn inet_csk_accept_2(context: FExitContext) -> u32 {
    accepted(Sock::new(context.arg(2)))
}

/// `struct sock *inet_csk_accept(struct sock *sk, int flags, int *err, bool kern)`, before that. A program of its own,
/// because a program that reads arguments which a function does not have is refused.
#[fexit(function = "inet_csk_accept")]
pub fn inet_csk_accept_4(context: FExitContext) -> u32 {
    accepted(Sock::new(context.arg(4)))
}

#[inline(always)]
fn accepted(sock: Sock) -> u32 {
    if sock.is_null() {
        return 0;
    }
    match storage(sock, GET) {
        Some(connection) => connection.accepted(now()),
        // The kernel queues a connection for accept() just before it is established. When it is, perhaps at this moment on
        // another CPU, the rest is filled in: nothing else is to be written here.
        None if sock.state() == state::SYN_RECV && is_wanted(sock) => match storage(sock, CREATE) {
            Some(connection) => connection.accepted(now()),
            None => count(Counter::AcceptsLost),
        },
        None => {}
    }
    0
}

/// The same, where `fexit` is refused: the kernel gives a return probe the socket's address, but not its type.
#[kretprobe]
pub fn inet_csk_accept_return(context: RetProbeContext) -> u32 {
    let address: u64 = context.ret();
    if address != 0 && is_tcp_at(address) {
        store(address);
    }
    0
}

/// `accept4(2)` returned, where neither is to be had. It puts every system call of the host on its slow path.
#[tracepoint]
pub fn sys_exit_accept4(context: TracePointContext) -> u32 {
    returned(&context);
    0
}

/// `accept(2)` returned.
#[tracepoint]
pub fn sys_exit_accept(context: TracePointContext) -> u32 {
    returned(&context);
    0
}

#[inline(always)]
fn returned(context: &TracePointContext) {
    /// `struct trace_event_raw_sys_exit`: 8 bytes common to all events, `long id`, `long ret`.
    const RET: usize = 16;
    // SAFETY: inside the event.
    let Ok(descriptor) = (unsafe { context.read_at::<i64>(RET) }) else { return };
    if descriptor >= 0
        // SAFETY: no argument.
        && let Some(address) = tcp_sock_of_descriptor(unsafe { bpf_get_current_task() }, descriptor as u64)
    {
        store(address);
    }
}

#[inline(always)]
fn is_wanted(sock: Sock) -> bool {
    is_tracing() && may_want(sock.local_port()) && Filters.wants_netns(sock.netns())
}

#[inline(always)]
fn store(address: u64) {
    // Only the port is at hand. It is the first use that finds out about the rest.
    if !is_tracing() || !may_want(local_port_at(address)) {
        return;
    }
    // The address of a socket that is gone may come again.
    if let Some(moment) = ACCEPTS.find(&address) {
        moment.set(now());
    } else if !ACCEPTS.put_free(&address, |place| place.set(now())) && ACCEPTS_MORE.insert(address, now(), ANY).is_err()
    {
        count(Counter::AcceptsLost);
    }
}
