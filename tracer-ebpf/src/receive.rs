//! Request bytes and acknowledgements arriving.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use tracer_common::connection::{Segment, Times};

use crate::{
    kernel::{Packet, Sock, now},
    maps::monotonic,
    traced::{counted, find_or_adopt, report_request},
};

/// `tcp_probe(struct sock *sk, const struct sk_buff *skb)`: at the top of `tcp_rcv_established`, for every segment of
/// an established connection, before TCP has looked at it. Under the socket's lock.
#[btf_tracepoint(function = "tcp_probe")]
pub fn tcp_probe(context: BtfTracePointContext) -> u32 {
    let sock = Sock::new(context.arg(0));
    if let Some((connection, tcp)) = find_or_adopt(&context, sock)
        && let packet = Packet::new(context.arg(1))
        && let Some(received) = packet.received()
    {
        let segment = Segment { start: received.start, end: received.end, acknowledges: received.acknowledges };
        let times = || {
            let queued = now();
            Times { arrived: monotonic(packet.stamped(), queued), queued }
        };
        counted(connection, |connection| {
            connection
                .segment(segment, tcp.tcp(), times, |connection, why, now| report_request(connection, why, tcp, now));
        });
    }
    0
}
