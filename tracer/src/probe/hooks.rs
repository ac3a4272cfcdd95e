//! The hook table: which fact comes through which hook, and what is lost without it.

/// A fact that the kernel tells through one of several hooks.
pub struct Hook {
    /// The name in every output.
    pub name: &'static str,
    /// Without it nothing can be traced.
    pub essential: bool,
    /// What is lost without it.
    pub lost: &'static str,
    /// The ways to it, best first: the first that attaches wins.
    pub ways: &'static [Way],
}

/// One way to attach.
pub struct Way {
    /// How the kernel's documentation calls it, and to what.
    pub name: &'static str,
    /// What to attach.
    pub attach: Attach,
}

/// How programs are attached. The programs are named as in the BPF object.
#[derive(Clone, Copy)]
pub enum Attach {
    /// `tp_btf`: a tracepoint with typed arguments, and the programs for it.
    TypedTracepoint(&'static str, &'static [&'static str]),
    /// `fentry`: the entry of a function, and of others where the kernel has them. The programs have their names.
    FunctionEntry(&'static str, Option<&'static str>),
    /// `fexit`: the return of a function. The program has its name and, after an underscore, how many arguments the
    /// running kernel's has.
    FunctionExit(&'static str),
    /// A return probe: the program, the function.
    ReturnProbe(&'static str, &'static str),
    /// The exit tracepoints of system calls. The programs have their names.
    SystemCallExits(&'static [&'static str]),
    /// `tcx` on each interface: a link that dies with its owner (Linux 6.6).
    Tcx(&'static str),
    /// A filter in the `clsact` qdisc of each interface, removed by a guard process if its owner is killed.
    Clsact(&'static str),
    /// An iterator over the state of the connections.
    SocketStorageIterator(&'static str),
    /// Socket diagnostics, which list the state of the connections.
    SocketDiagnostics,
    /// A socket that asks for receive timestamps: the kernel then stamps every packet at the device.
    ReceiveTimestamps,
}

/// The hooks that can be left out: from the silence of any other something would be concluded that is not so.
const DISPENSABLE: [&str; 5] = [ACCEPT, "device_time", "write", "synack_again", "sweep"];

/// The hook that sees `accept()` return.
pub const ACCEPT: &str = "accept";

/// The hooks that can be left out.
pub fn optional() -> impl Iterator<Item = &'static Hook> {
    HOOKS.iter().filter(|hook| DISPENSABLE.contains(&hook.name))
}

macro_rules! typed {
    ($tracepoint:literal) => {
        Way { name: concat!("tp_btf ", $tracepoint), attach: Attach::TypedTracepoint($tracepoint, &[$tracepoint]) }
    };
    ($tracepoint:literal, $($program:literal),+) => {
        Way { name: concat!("tp_btf ", $tracepoint), attach: Attach::TypedTracepoint($tracepoint, &[$($program),+]) }
    };
}

/// The hook that sees SYNs at the interfaces.
pub const SYN: &str = "syn";

/// All hooks, in the order of a connection's life.
pub const HOOKS: &[Hook] = &[
    Hook {
        name: SYN,
        essential: false,
        lost: "connection stage synack",
        ways: &[
            Way { name: "tcx ingress", attach: Attach::Tcx("tc_ingress") },
            Way { name: "clsact ingress", attach: Attach::Clsact("tc_ingress") },
        ],
    },
    Hook {
        name: "state",
        essential: true,
        lost: "connections: how they begin and end",
        ways: &[typed!("inet_sock_set_state", "state_changed", "state_changed_by_process")],
    },
    Hook {
        name: ACCEPT,
        essential: false,
        lost: "connection stage accept; it counts as pickup of the first request",
        ways: &[
            Way { name: "fexit inet_csk_accept", attach: Attach::FunctionExit("inet_csk_accept") },
            Way {
                name: "kretprobe inet_csk_accept",
                attach: Attach::ReturnProbe("inet_csk_accept_return", "inet_csk_accept"),
            },
            Way {
                name: "tracepoint sys_exit_accept4, sys_exit_accept",
                attach: Attach::SystemCallExits(&["sys_exit_accept4", "sys_exit_accept"]),
            },
        ],
    },
    Hook {
        name: "device_time",
        essential: false,
        lost: "request stage ingress",
        ways: &[Way { name: "SO_TIMESTAMPNS", attach: Attach::ReceiveTimestamps }],
    },
    Hook { name: "receive", essential: true, lost: "requests", ways: &[typed!("tcp_probe")] },
    Hook {
        name: "read",
        essential: false,
        lost: "request stages pickup and upload; the process that read the request",
        ways: &[typed!("tcp_rcv_space_adjust")],
    },
    Hook {
        name: "write",
        essential: false,
        lost: "request stage egress; it counts as service",
        ways: &[
            typed!("tcp_sendmsg_locked"),
            Way { name: "fentry tcp_sendmsg", attach: Attach::FunctionEntry("tcp_sendmsg", Some("tcp_sendpage")) },
        ],
    },
    Hook {
        name: "transmit",
        essential: false,
        lost: "connection stage handshake; request stages egress and download, and where drain begins",
        ways: &[typed!("net_dev_start_xmit")],
    },
    Hook {
        name: "retransmit",
        essential: false,
        lost: "the number of retransmits",
        ways: &[typed!("tcp_retransmit_skb")],
    },
    Hook {
        name: "synack_again",
        essential: false,
        lost: "cause synack_unanswered",
        ways: &[typed!("tcp_retransmit_synack")],
    },
    Hook {
        name: "drop",
        essential: false,
        lost: "every cause that the kernel tells by dropping a packet, and the keep-alive race",
        ways: &[typed!("kfree_skb")],
    },
    Hook {
        name: "reset_sent",
        essential: false,
        lost: "how many resets this host sent",
        ways: &[typed!("tcp_send_reset")],
    },
    Hook { name: "reset", essential: false, lost: "who reset a connection", ways: &[typed!("tcp_receive_reset")] },
    Hook {
        name: "sweep",
        essential: false,
        lost: "the list of waiting requests; responses with long pauses are shown when the next request begins",
        ways: &[
            Way { name: "iter bpf_sk_storage_map", attach: Attach::SocketStorageIterator("sweep") },
            Way { name: "sock_diag", attach: Attach::SocketDiagnostics },
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::{DISPENSABLE, optional};

    #[test]
    fn what_can_be_left_out_is_not_essential() {
        assert_eq!(optional().count(), DISPENSABLE.len());
        assert!(optional().all(|hook| !hook.essential));
    }
}
