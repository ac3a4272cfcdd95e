//! Packets leaving, and leaving again.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use tracer_common::connection::state;

use crate::{
    drops, handshake,
    kernel::{Packet, Sock},
    rejections::in_namespace,
    traced::{find, now},
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
        handshake::synack_sent(sock, now());
    } else if let Some(connection) = find(sock) {
        if let Some(sent) = packet.sent(sock) {
            connection.sent(sent.start, sent.end, now);
            if let Some(window) = sent.window {
                connection.advertised(window == 0, now);
            }
        }
    } else if sock.is_icmp() {
        drops::icmp_error(packet);
    }
    0
}

/// `tcp_retransmit_skb(const struct sock *sk, const struct sk_buff *skb[, int err])`, under the socket's lock.
#[btf_tracepoint(function = "tcp_retransmit_skb")]
pub fn tcp_retransmit_skb(context: BtfTracePointContext) -> u32 {
    let sock = Sock::new(context.arg(0));
    in_namespace(sock.netns(), |tally| &mut tally.retransmits);
    if let Some(connection) = find(sock) {
        connection.retransmitted();
    }
    0
}
