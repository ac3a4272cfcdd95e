//! Packets leaving, and leaving again.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use tracer_common::connection::state;

use crate::{
    drops, handshake,
    kernel::{self, Packet, Sock, now},
    rejections::in_namespace,
    traced::find,
};

/// `net_dev_start_xmit(const struct sk_buff *skb, const struct net_device *dev)`: after the queueing discipline, as
/// the driver gets the packet. Not under the socket's lock.
#[btf_tracepoint(function = "net_dev_start_xmit")]
pub fn net_dev_start_xmit(context: BtfTracePointContext) -> u32 {
    let packet = Packet::new(context.arg(0));
    let Some(sock) = packet.sock() else {
        drops::sent_without_socket(packet);
        return 0;
    };
    if sock.state() == state::NEW_SYN_RECV {
        // A SYN-ACK belongs to the request socket, which has no storage.
        handshake::synack_sent(packet, sock, now());
    } else if let Some(connection) = find(sock) {
        if let Some(sent) = packet.sent(sock) {
            connection.sent(sent.start, sent.end, packet.stamped(), now);
            if let Some(window) = sent.window {
                connection.advertised(window == 0, now);
            }
        }
    } else if sock.state() == state::SYN_RECV {
        // The SYN-ACK of a connection whose request came with the SYN: its socket exists, and nobody has read from it.
        handshake::synack_sent(packet, sock, now());
    } else if sock.is_icmp() {
        drops::icmp_error(packet);
    }
    0
}

/// `tcp_retransmit_skb(const struct sock *sk, const struct sk_buff *skb[, int err])`, under the socket's lock. With `err` it is
/// called for attempts that failed, too.
#[btf_tracepoint(function = "tcp_retransmit_skb")]
pub fn tcp_retransmit_skb(context: BtfTracePointContext) -> u32 {
    // While the packet still waits in a queue of this host, the kernel sends nothing again.
    if kernel::are_retransmit_errors_known() && context.arg::<u64>(2) as i32 != 0 {
        return 0;
    }
    let sock = Sock::new(context.arg(0));
    in_namespace(sock.netns(), |tally| &tally.retransmits);
    if let Some(connection) = find(sock) {
        connection.retransmitted(Packet::new(context.arg(1)).length());
    }
    0
}
