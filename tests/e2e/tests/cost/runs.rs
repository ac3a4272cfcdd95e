//! How often programs run for a request: unlike the time that they take, that is the same on every machine.

use std::collections::BTreeMap;

use anyhow::Result;
use lab::bpf;

use crate::{Bill, Scene, request, settle};

const REQUESTS: u64 = 2_000;

/// A program, and how often it may run for a hundred requests.
struct Budget(&'static str, u64);

/// The programs, by name. Client and server are on this host, so both sides' packets, reads and writes count: on a host
/// that serves only it is half of this.
const BUDGETS: &[Budget] = &[
    Budget("inet_csk_accept_2", 2),
    Budget("inet_csk_accept_4", 2),
    Budget("inet_csk_accept_return", 2),
    Budget("kfree_skb", 100),
    Budget("net_dev_start_xmit", 480),
    Budget("state_changed", 40),
    Budget("state_changed_by_process", 40),
    Budget("sweep", 20),
    Budget("sys_exit_accept", 10),
    Budget("sys_exit_accept4", 10),
    Budget("tc_ingress", 220),
    Budget("tcp_probe", 480),
    Budget("tcp_rcv_space_adjust", 330),
    Budget("tcp_receive_reset", 10),
    Budget("tcp_retransmit_skb", 40),
    Budget("tcp_retransmit_synack", 2),
    Budget("tcp_send_reset", 10),
    Budget("tcp_sendmsg", 330),
    Budget("tcp_sendmsg_locked", 330),
    Budget("tcp_sendpage", 2),
];

/// How often each program has run. Programs of the same name together.
fn runs(pid: u32) -> Result<BTreeMap<String, u64>> {
    let mut runs = BTreeMap::new();
    for program in bpf::programs(pid)? {
        *runs.entry(program.name).or_default() += program.runs;
    }
    Ok(runs)
}

#[test]
fn runs_a_request_are_within_the_budget() -> Result<()> {
    let scene = Scene::new()?;
    let tracer = scene.trace(&[])?;
    let mut connection = scene.connect(1)?.remove(0);
    let counting = bpf::count_runs()?;
    let before = runs(tracer.pid())?;
    for _ in 0..REQUESTS {
        assert_eq!(connection.request(&request())?.status, 200);
    }
    let after = runs(tracer.pid())?;
    drop(counting);
    let trace = settle(tracer)?;
    assert_eq!(trace.status.requests, Some(REQUESTS));
    assert!(after["tcp_probe"] - before["tcp_probe"] >= REQUESTS, "the kernel does not count: {after:?}");
    let mut bill = Bill::default();
    for (name, runs) in after {
        let runs = runs - before[&name];
        let Some(Budget(_, budget)) = BUDGETS.iter().find(|budget| budget.0 == name) else {
            bill.objection(format!("{name}: {runs} runs for {REQUESTS} requests, and no budget"));
            continue;
        };
        bill.item(format_args!("{name}, runs for {REQUESTS} requests"), runs, budget * REQUESTS / 100);
    }
    bill.assert_within();
    Ok(())
}
