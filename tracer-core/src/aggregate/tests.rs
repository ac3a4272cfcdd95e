use super::*;
use crate::samples::{MS, S, closed, counters_of, request};
use proptest::prelude::*;
use tracer_common::{endpoint::Endpoint, record::RequestRecord};

/// A request or a connection, from one of 250 networks to one of three ports.
fn records() -> impl Strategy<Value = (bool, u8, u16, [u64; 7], u32)> {
    (any::<bool>(), 0..250_u8, 8080..8083_u16, prop::array::uniform7(0..MS), 0..200_u32)
}

/// A group that made way and came back says nothing of how much was traced of it: the verdict gives no share then.
#[test]
fn how_much_was_traced_is_known_only_of_a_group_that_was_always_kept() {
    let mut summary = Summary::default();
    let mut use_once = |network: u8| {
        let mut record = request(S, [MS; 7]);
        record.tuple.peer = Endpoint::v4([10, 0, network, 1], 41_234);
        summary.request(&Request::of(&record));
        let group = Group::of(record.netns, &record.tuple, Network::of(&record.tuple.peer));
        summary.traced(group).map(|totals| totals.requests)
    };
    assert_eq!((use_once(250), use_once(250)), (Some(1), Some(2)));
    for network in 0..63 {
        assert_eq!(use_once(network), Some(1));
    }
    // From here on all groups are in use, and others come and go.
    for round in 0..100 {
        let all: Vec<_> = (100..200).map(&mut use_once).collect();
        assert!(all.iter().all(Option::is_none), "{round}");
    }
    assert_eq!(use_once(250), None, "it made way");
    for _ in 0..100 {
        assert_eq!(use_once(250), None, "it is kept again, from now on only");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn groups_and_processes_add_up_for_any_traffic(records in prop::collection::vec(records(), 0..1000)) {
        let mut summary = Summary::default();
        for (is_connection, network, port, stages, pid) in records {
            let peer = Endpoint::v4([10, 0, network, 1], 41_234);
            if is_connection {
                let mut record = closed();
                (record.tuple.peer, record.tuple.local.port) = (peer, port);
                summary.connection(&record);
            } else {
                let mut record: RequestRecord = request(S, stages);
                (record.tuple.peer, record.tuple.local.port) = (peer, port);
                (record.process.pid, record.process.cgroup) = (pid + 1, pid.into());
                summary.request(&Request::of(&record));
            }
        }
        let groups = summary.groups();
        prop_assert!(groups.len() <= GROUPS);
        let all = counters_of(&summary.all.picture());
        let mut sums = vec![0; all.len()];
        for figures in groups.into_iter().map(|(_, figures)| figures).chain(&summary.other_groups) {
            for (sum, counter) in sums.iter_mut().zip(counters_of(&figures.picture())) {
                *sum += counter;
            }
        }
        prop_assert_eq!(sums, all);
        let processes = summary.processes();
        prop_assert!(processes.len() <= GROUPS);
        let requests = processes.iter().map(|it| it.requests).sum::<u64>() + summary.other_processes;
        prop_assert_eq!(requests, summary.all.requests);
    }
}
