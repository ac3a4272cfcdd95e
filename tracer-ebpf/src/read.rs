//! The application reading.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{
    kernel::Sock,
    traced::{counted, find_or_adopt, in_use, note_reader, now},
};

/// `tcp_rcv_space_adjust(struct sock *sk)`: after each buffer that a read copied to the application. In the reader's
/// own context, under the socket's lock.
#[btf_tracepoint(function = "tcp_rcv_space_adjust")]
pub fn tcp_rcv_space_adjust(context: BtfTracePointContext) -> u32 {
    let sock = Sock::new(context.arg(0));
    if let Some((connection, tcp)) = find_or_adopt(&context, sock)
        && let Some(now) = counted(connection, |connection| connection.read(tcp.tcp(), now))
    {
        note_reader(&context, connection);
        in_use(connection, now);
    }
    0
}
