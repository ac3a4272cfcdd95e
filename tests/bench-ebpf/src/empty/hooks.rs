//! A program a hook.

use aya_ebpf::{
    bindings::TC_ACT_UNSPEC,
    macros::{btf_tracepoint, classifier, tracepoint},
    programs::{BtfTracePointContext, TcContext, TracePointContext},
};

/// Programs for typed tracepoints, each with its name and its tracepoint's.
macro_rules! typed {
    ($($program:ident: $tracepoint:literal),+ $(,)?) => {$(
        #[doc = concat!("`", $tracepoint, "`.")]
        #[btf_tracepoint(function = $tracepoint)]
        pub fn $program(_: BtfTracePointContext) -> u32 {
            0
        }
    )+};
}

typed! {
    state_changed: "inet_sock_set_state",
    state_changed_by_process: "inet_sock_set_state",
    tcp_probe: "tcp_probe",
    tcp_rcv_space_adjust: "tcp_rcv_space_adjust",
    tcp_sendmsg_locked: "tcp_sendmsg_locked",
    net_dev_start_xmit: "net_dev_start_xmit",
    tcp_retransmit_skb: "tcp_retransmit_skb",
    tcp_retransmit_synack: "tcp_retransmit_synack",
    kfree_skb: "kfree_skb",
    tcp_send_reset: "tcp_send_reset",
    tcp_receive_reset: "tcp_receive_reset",
}

/// `accept(2)` returned.
#[tracepoint]
pub fn sys_exit_accept(_: TracePointContext) -> u32 {
    0
}

/// `accept4(2)` returned.
#[tracepoint]
pub fn sys_exit_accept4(_: TracePointContext) -> u32 {
    0
}

/// A packet arrived; it goes its way.
#[classifier]
pub fn tc_ingress(_: TcContext) -> i32 {
    TC_ACT_UNSPEC
}
