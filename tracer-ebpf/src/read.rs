//! The application reading.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use tracer_common::{
    connection::{Connection, PEEKED},
    opening::Opening,
};

use crate::{
    kernel::{Sock, TcpSock, first_bytes, now},
    traced::{born_early, counted, find_or_adopt, in_use, note_reader},
};

/// `tcp_rcv_space_adjust(struct sock *sk)`: after each buffer that a read copied to the application. In the reader's
/// own context, under the socket's lock.
#[btf_tracepoint(function = "tcp_rcv_space_adjust")]
pub fn tcp_rcv_space_adjust(context: BtfTracePointContext) -> u32 {
    let sock = Sock::new(context.arg(0));
    born_early(sock);
    let Some((connection, tcp)) = find_or_adopt(&context, sock) else { return 0 };
    if let Some(now) = counted(connection, |connection| connection.read(tcp.tcp(), now)) {
        note_reader(&context, connection);
        if connection.is_opening_wanted() {
            note_opening(connection, tcp);
        }
        in_use(connection, now);
    } else if connection.flags.has(PEEKED) {
        connection.flags.remove(PEEKED);
        note_opening(connection, tcp);
    }
    0
}

/// Notes the class of the current turn's first bytes, which the current task has just read, or peeked at. Not inlined: most
/// reads are not looked at.
#[inline(never)]
fn note_opening(connection: &Connection, tcp: TcpSock) {
    if connection.shows_opening(tcp.unread()) && !tcp.is_read_by_kernel() {
        connection.opened_with(first_bytes().map_or(Opening::Unknown, Opening::of));
    }
}
