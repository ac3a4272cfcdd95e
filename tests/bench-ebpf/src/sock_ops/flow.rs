//! The program, and what it keeps.

use aya_ebpf::{
    bindings::{
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_RETRANS_CB,
        BPF_SOCK_OPS_RETRANS_CB_FLAG, BPF_SOCK_OPS_RTT_CB, BPF_SOCK_OPS_RTT_CB_FLAG, BPF_SOCK_OPS_STATE_CB,
        BPF_SOCK_OPS_STATE_CB_FLAG, bpf_sock_ops,
    },
    helpers::generated::bpf_get_socket_cookie,
    macros::{map, sock_ops},
    maps::LruHashMap,
    programs::SockOpsContext,
};

/// A connection so far.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Flow {
    received: u64,
    acknowledged: u64,
    retransmits: u64,
    /// In units of an eighth of a microsecond.
    srtt: u32,
    state: u32,
}

/// By the socket's cookie.
#[map]
static FLOWS: LruHashMap<u64, Flow> = LruHashMap::with_max_entries(65_536, 0);

/// Called at every measured round trip, every retransmission and every change of state of every connection.
#[sock_ops]
pub fn flow(context: SockOpsContext) -> u32 {
    // SAFETY: the kernel's own context, valid for as long as the program runs.
    let ops = unsafe { &*context.ops };
    match ops.op {
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB | BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => {
            let wanted = BPF_SOCK_OPS_RTT_CB_FLAG | BPF_SOCK_OPS_RETRANS_CB_FLAG | BPF_SOCK_OPS_STATE_CB_FLAG;
            let _ = context.set_cb_flags(wanted.cast_signed());
            seen(ops);
        }
        BPF_SOCK_OPS_RTT_CB | BPF_SOCK_OPS_RETRANS_CB | BPF_SOCK_OPS_STATE_CB => seen(ops),
        _ => {}
    }
    1
}

#[inline(always)]
fn seen(ops: &bpf_sock_ops) {
    // SAFETY: the helper takes the program's context.
    let cookie = unsafe { bpf_get_socket_cookie((&raw const *ops).cast_mut().cast()) };
    let retransmitted = u64::from(ops.op == BPF_SOCK_OPS_RETRANS_CB);
    if let Some(flow) = FLOWS.get_ptr_mut(cookie) {
        // SAFETY: the map keeps the value's memory while the program runs.
        let flow = unsafe { &mut *flow };
        flow.received = ops.bytes_received;
        flow.acknowledged = ops.bytes_acked;
        flow.retransmits += retransmitted;
        flow.srtt = ops.srtt_us;
        flow.state = ops.state;
    } else {
        let flow = Flow {
            received: ops.bytes_received,
            acknowledged: ops.bytes_acked,
            retransmits: retransmitted,
            srtt: ops.srtt_us,
            state: ops.state,
        };
        let _ = FLOWS.insert(cookie, flow, 0);
    }
}
