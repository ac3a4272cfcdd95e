//! Packets leaving, and leaving again.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use tracer_common::connection::state;

use crate::{
    handshake,
    kernel::{Packet, Sock},
    traced::{find, now},
};

/// `net_dev_start_xmit(const struct sk_buff *skb, const struct net_device *dev)`: after the queueing discipline, as
/// the driver gets the packet. Not under the socket's lock.
#[btf_tracepoint(function = "net_dev_start_xmit")]
pub fn net_dev_start_xmit(context: BtfTracePointContext) -> u32 {
    let packet = Packet::new(context.arg(0));
    let Some(sock) = packet.sock() else { return 0 };
    if sock.state() == state::NEW_SYN_RECV {
        // A SYN-ACK belongs to the request socket, which has no storage.
        handshake::synack_sent(sock.local_port(), sock, now());
    } else if let Some(connection) = find(sock)
        && let Some((start, end)) = packet.payload(&connection.tuple)
    {
        connection.sent(start, end, now());
    }
    0
}

/// `tcp_retransmit_skb(const struct sock *sk, const struct sk_buff *skb[, int err])`, under the socket's lock.
#[btf_tracepoint(function = "tcp_retransmit_skb")]
pub fn tcp_retransmit_skb(context: BtfTracePointContext) -> u32 {
    if let Some(connection) = find(Sock::new(context.arg(0))) {
        connection.retransmitted();
    }
    0
}
