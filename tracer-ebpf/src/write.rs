//! The application writing: one of these hooks is attached, the first that can be.

use aya_ebpf::{
    macros::{btf_tracepoint, fentry},
    programs::{BtfTracePointContext, FEntryContext},
};

use crate::{
    kernel::{Sock, now},
    maps::is_known_port,
    traced::find,
};

/// If bytes wait to be sent, as a response's head waits for its body, this is not the first write of the response, and the
/// connection need not be looked up: a request begins only when all that was written is acknowledged. The first request of a
/// connection on which the server speaks first is the exception (see the traps in `docs/architecture.md`).
#[inline(always)]
fn written(sock: Sock) {
    if is_known_port(sock.local_port())
        && sock.as_tcp().is_some_and(|tcp| !tcp.has_unsent())
        && let Some(connection) = find(sock)
    {
        connection.write(now);
    }
}

/// `tcp_sendmsg_locked(const struct sock *sk, const struct msghdr *msg, const struct sk_buff *skb, int size_goal)`,
/// before each buffer that is filled; Linux 6.16 (commit 0f08335ade71).
#[btf_tracepoint(function = "tcp_sendmsg_locked")]
pub fn tcp_sendmsg_locked(context: BtfTracePointContext) -> u32 {
    written(Sock::new(context.arg(0)));
    0
}

/// `int tcp_sendmsg(struct sock *sk, struct msghdr *msg, size_t size)`, before the socket's lock is taken.
#[fentry(function = "tcp_sendmsg")]
pub fn tcp_sendmsg(context: FEntryContext) -> u32 {
    written(Sock::new(context.arg(0)));
    0
}

/// `int tcp_sendpage(struct sock *sk, struct page *page, int offset, size_t size, int flags)`: `sendfile` before
/// Linux 6.5 (commit dc97391e6610), beside `tcp_sendmsg`.
#[fentry(function = "tcp_sendpage")]
pub fn tcp_sendpage(context: FEntryContext) -> u32 {
    written(Sock::new(context.arg(0)));
    0
}
