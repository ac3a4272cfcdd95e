//! The size of the programs: what the verifier has to walk through at each start, and what is left of it.

use anyhow::Result;
use lab::bpf::{self, Program};

use crate::{Bill, Scene};

/// A program, and how many instructions of it the verifier may look at, and may be left.
struct Budget(&'static str, u64, u64);

/// The programs, by name, those in whose place others are on some kernels included. Verifiers look at the same code in
/// different ways (an earlier `tc_ingress`: Linux 6.1 23 271 instructions, 6.12 6 925, 6.18 17 930, 7.3 7 398): a tenth
/// more than on the worst of these. What is left differs by their types only: a fifth more than on 6.18.
const BUDGETS: &[Budget] = &[
    Budget("inet_csk_accept_2", 250, 220),
    Budget("inet_csk_accept_4", 250, 220),
    Budget("inet_csk_accept_return", 300, 300),
    Budget("kfree_skb", 16_100, 4250),
    Budget("net_dev_start_xmit", 9200, 3280),
    Budget("state_changed", 8900, 4000),
    Budget("state_changed_by_process", 14_500, 4350),
    Budget("sweep", 2150, 545),
    Budget("sys_exit_accept", 450, 450),
    Budget("sys_exit_accept4", 450, 450),
    Budget("tc_ingress", 25_600, 2370),
    Budget("tcp_probe", 6100, 1480),
    Budget("tcp_rcv_space_adjust", 5800, 2950),
    Budget("tcp_receive_reset", 140, 100),
    Budget("tcp_retransmit_skb", 210, 180),
    Budget("tcp_retransmit_synack", 2950, 1280),
    Budget("tcp_send_reset", 420, 380),
    Budget("tcp_sendmsg", 95, 105),
    Budget("tcp_sendmsg_locked", 95, 105),
    Budget("tcp_sendpage", 95, 105),
];

#[test]
fn instructions_are_within_the_budget() -> Result<()> {
    let scene = Scene::new()?;
    let tracer = scene.trace(&[])?;
    let programs = bpf::programs(tracer.pid())?;
    tracer.stop()?;
    let mut bill = Bill::default();
    for Program { name, verified, translated, .. } in &programs {
        let Some(Budget(_, most_verified, most_translated)) = BUDGETS.iter().find(|budget| budget.0 == name) else {
            bill.objection(format!("{name}: {verified} instructions verified, {translated} left, and no budget"));
            continue;
        };
        bill.item(format_args!("{name}, instructions verified"), *verified, *most_verified);
        bill.item(format_args!("{name}, instructions left"), *translated, *most_translated);
        // The former is told from Linux 5.16 on.
        assert!(*translated > 0, "the kernel does not tell of {name}");
    }
    bill.assert_within();
    Ok(())
}
