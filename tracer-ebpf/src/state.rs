//! A connection's birth and end.

use aya_ebpf::{EbpfContext, macros::btf_tracepoint, programs::BtfTracePointContext};
use aya_log_ebpf::debug;
use tracer_common::{
    connection::{self, Change, state},
    rejection::Ender,
    sequence::after,
};

use crate::{
    drops,
    kernel::{Packet, Sock, now},
    maps::{by_process, not_by_process},
    rejections::in_namespace,
    traced::{
        GET, born, counted, find, ignore_outgoing, known, note_unseen_accept, report_closed, report_listener_closed,
        report_request, storage, take_accept_time,
    },
};

/// `inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate)`, under the socket's lock: what packets
/// and timers do to a connection.
///
/// Two programs, because the kernel does not enter one that it has interrupted on the same CPU: what a process does to one
/// socket must not hide what the softirq above it does to others.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn state_changed(context: BtfTracePointContext) -> u32 {
    let (sock, old, new) = change(&context);
    if !sock.is_owned() {
        not_by_process();
        began(sock, old, new);
        changed(&context, sock, old, new);
    }
    0
}

/// The same, for what processes do: they hold the socket's lock.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn state_changed_by_process(context: BtfTracePointContext) -> u32 {
    let (sock, old, new) = change(&context);
    if sock.is_owned() {
        by_process(true);
        // Only a listener goes this way. A child begins as a copy of its listener, in LISTEN, but leaves that in a softirq.
        if old == state::LISTEN && new == state::CLOSE {
            report_listener_closed(sock);
        } else {
            began(sock, old, new);
            changed(&context, sock, old, new);
        }
        by_process(false);
    }
    0
}

/// The socket, its old state and its new one.
#[inline(always)]
fn change(context: &BtfTracePointContext) -> (Sock, u8, u8) {
    (Sock::new(context.arg(0)), context.arg::<u64>(1) as u8, context.arg::<u64>(2) as u8)
}

/// Notes a listener or a connection that begins with this change, if one does.
#[inline(always)]
fn began(sock: Sock, old: u8, new: u8) {
    match (old, new) {
        // The only other way for a TCP socket from SYN_RECV to ESTABLISHED than as a listener's child is a simultaneous open,
        // which no server takes part in.
        (state::SYN_RECV, state::ESTABLISHED) => born(sock),
        (state::SYN_SENT, state::ESTABLISHED) => ignore_outgoing(sock),
        (_, state::LISTEN) => drops::serve(sock.local_port()),
        _ => {}
    }
}

/// A connection's state changed; what comes before its birth is for [`began`]. Not inlined: two programs call it, so the
/// compiler would make functions of parts of it, and all their stacks together may have 512 bytes.
#[inline(never)]
fn changed(context: &impl EbpfContext, sock: Sock, old: u8, new: u8) {
    if matches!(old, state::LISTEN | state::SYN_SENT | state::SYN_RECV) {
        return;
    }
    // A socket that closes has given back its port already.
    let found = if new == state::CLOSE { storage(sock, GET) } else { known(sock) };
    let Some(connection) = found else { return };
    if new == state::CLOSE || connection.moments.accepted.get() == 0 {
        take_accept_time(connection);
        note_unseen_accept(sock, connection);
    }
    if connection.flags.has(connection::IGNORED) || connection.id.get() == 0 {
        return;
    }
    let Some(tcp) = sock.as_tcp() else { return };
    let now = now();
    let view = (tcp.acknowledgement(), tcp.tcp());
    counted(connection, |connection| {
        let received = view.1.expected.wrapping_sub(u32::from(sock.has_received_fin()));
        // The peer's FIN counts as a byte, in what was received and in what was read.
        let unread = if after(received, tcp.unread()) { received.wrapping_sub(tcp.unread()) } else { 0 };
        let can_end = matches!(old, state::ESTABLISHED | state::CLOSE_WAIT);
        let by = if can_end { sock.ender() } else { Ender::default() };
        let change = Change { old, new, timed_out: sock.has_timed_out(), by, unread, received };
        connection.state_changed(change, view, now, |connection, why, now| {
            report_request(connection, why, tcp, now);
        });
    });
    if new == state::CLOSE {
        drops::remember(connection, view.1.expected, now);
        report_closed(connection, now);
        debug!(context, "closed connection {} with flags {:x}", connection.id.get(), connection.flags.get());
    }
}

/// `tcp_receive_reset(struct sock *sk)`: TCP treats the connection as reset by the peer. In the keep-alive race it
/// does so although no reset arrived, but then the application closed first.
#[btf_tracepoint(function = "tcp_receive_reset")]
pub fn tcp_receive_reset(context: BtfTracePointContext) -> u32 {
    if let Some(connection) = find(Sock::new(context.arg(0))) {
        connection.reset_received(now());
    }
    0
}

/// `tcp_send_reset(const struct sock *sk, const struct sk_buff *skb[, enum sk_rst_reason reason])`: TCP sends a reset. On
/// kernels before 6.10 (commit 19822a980e19) only for a full socket; after that `sk` may be null, for a packet that has none.
#[btf_tracepoint(function = "tcp_send_reset")]
pub fn tcp_send_reset(context: BtfTracePointContext) -> u32 {
    let (sock, packet) = (Sock::new(context.arg(0)), Packet::new(context.arg(1)));
    let netns = if !sock.is_null() {
        sock.netns()
    } else if !packet.is_null() {
        packet.netns()
    } else {
        return 0;
    };
    in_namespace(netns, |tally| &tally.resets);
    if !sock.is_null() && !packet.is_null() && sock.state() == state::LISTEN {
        drops::reset_by_listener(packet);
    }
    0
}
