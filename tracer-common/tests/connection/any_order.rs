//! Whatever comes, in whatever order: no panic, nothing negative, nothing lost, nothing reported twice or backwards.

use crate::scenario::{Scenario, WINDOW, is_complete, split};
use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};
use std::cell::RefCell;
use tracer_common::{
    connection::{ACTIVE, ADOPTED, Acknowledgement, Change, Connection, Report, Segment, Tcp, Times, state},
    record::RequestRecord,
    rejection::Ender,
};

/// An event with any numbers in it, also such as no TCP would give.
#[derive(Clone, Debug)]
enum Event {
    Segment { start: u32, end: u32, acknowledges: u32, arrived: u64 },
    Read,
    Write,
    Sent { start: u32, end: u32 },
    Retransmitted,
    Accepted,
    Reset,
    State { states: (u8, u8), unacknowledged: u32, latest: u64, timed_out: bool },
}

/// Numbers that are often equal or near each other, or to where sequence numbers wrap.
fn number() -> impl Strategy<Value = u32> {
    prop_oneof![0..8_u32, (0..8_u32).prop_map(|near| u32::MAX - near), Just(1 << 31), any::<u32>()]
}

fn moment() -> impl Strategy<Value = u64> {
    prop_oneof![0..20_u64, any::<u64>().prop_map(|any| any >> 1)]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (number(), number(), number(), moment())
            .prop_map(|(start, end, acknowledges, arrived)| Event::Segment { start, end, acknowledges, arrived }),
        2 => Just(Event::Read),
        2 => Just(Event::Write),
        2 => (number(), number()).prop_map(|(start, end)| Event::Sent { start, end }),
        1 => Just(Event::Retransmitted),
        1 => Just(Event::Accepted),
        1 => Just(Event::Reset),
        2 => ((0..14_u8, 0..14_u8), number(), moment(), any::<bool>()).prop_map(
            |(states, unacknowledged, latest, timed_out)| Event::State { states, unacknowledged, latest, timed_out }
        ),
    ]
}

/// What holds for every report, given those before it.
fn check_reports(reports: &[RequestRecord]) {
    for pair in reports.windows(2) {
        let [earlier, later] = pair else { unreachable!() };
        let again = later.sequence == earlier.sequence && later.revision == earlier.revision + 1;
        assert!(again || (later.sequence == earlier.sequence + 1 && later.revision == 0), "{pair:#?}");
    }
    for report in reports {
        let split = split(report).split;
        assert_eq!(split.stages.iter().flatten().sum::<u64>(), split.total);
        assert!(!is_complete(report) || report.bytes_out > 0);
    }
}

proptest! {
    #[test]
    fn any_events_with_any_numbers(
        flags in prop_oneof![Just(0), Just(ADOPTED)],
        begin in (number(), number()),
        events in prop::collection::vec((event(), (number(), number()), moment()), 0..40),
    ) {
        let connection = Connection::default();
        connection.flags.set(flags);
        connection.follow(Tcp { expected: begin.0, written: begin.1, window: WINDOW });
        let reports = RefCell::new(Vec::new());
        let report = |connection: &Connection, why, _| {
            reports.borrow_mut().push(RequestRecord::of(connection, why == Report::Over, 0, 0));
        };
        let close = Event::State { states: (state::ESTABLISHED, state::CLOSE), unacknowledged: 0, latest: 0, timed_out: false };
        for (event, (expected, written), now) in events.into_iter().chain([(close, (0, 0), 9)]) {
            let tcp = Tcp { expected, written, window: WINDOW };
            match event {
                Event::Segment { start, end, acknowledges, arrived } => {
                    let times = || Times { arrived, queued: now };
                    connection.segment(Segment { start, end, acknowledges }, tcp, times, report);
                }
                Event::Read => {
                    connection.read(tcp, || now);
                }
                Event::Write => connection.write(|| now),
                Event::Sent { start, end } => connection.sent(start, end, now.saturating_sub(1), || now),
                Event::Retransmitted => connection.retransmitted(1448),
                Event::Accepted => connection.accepted(now),
                Event::Reset => connection.reset_received(now),
                Event::State { states, unacknowledged, latest, timed_out } => {
                    let acknowledgement = Acknowledgement { unacknowledged, latest };
                    let (old, new) = states;
                    let change = Change { old, new, timed_out, by: Ender::default(), unread: 0, received: expected };
                    connection.state_changed(change, (acknowledgement, tcp), now, report);
                }
            }
        }
        let reports = reports.into_inner();
        check_reports(&reports);
        assert_eq!(reports.last().map_or(0, |last| last.sequence), connection.sequence.get(), "every request was reported");
        assert_eq!(connection.flags.get() & ACTIVE, 0);
    }

    #[test]
    fn bytes_add_up_in_any_conversation(
        begin in (number(), number()),
        steps in prop::collection::vec((0..9_u8, 1..100_000_u32), 0..60),
        end in 0..6_u8,
    ) {
        let mut scenario = Scenario::at(begin.0, begin.1);
        scenario.handshake();
        let (mut received, mut written) = (0, 0);
        for (step, length) in steps {
            match step {
                0 | 1 => {
                    received += u64::from(length);
                    scenario.request(length)
                }
                2 => scenario.read(),
                3 | 4 => {
                    // Before the first request there is nothing to answer.
                    written += if scenario.connection.sequence.get() == 0 { 0 } else { u64::from(length) };
                    scenario.write(length)
                }
                5 => scenario.send(),
                6 => scenario.retransmit(),
                7 => scenario.acknowledge(),
                _ => scenario.keep_alive_probe(),
            };
        }
        match end {
            0 => scenario.peer_resets(),
            1 => scenario.gone(),
            2 => scenario.times_out(),
            3 => scenario.peer_closes().close().fin_acknowledged(),
            4 => scenario.close().fin_acknowledged().gone(),
            _ => scenario.close().times_out(),
        };
        check_reports(&scenario.reports());
        let requests = scenario.requests();
        assert_eq!(requests.len(), scenario.connection.sequence.get() as usize);
        assert_eq!(requests.iter().map(|request| request.bytes_in).sum::<u64>(), received);
        assert_eq!(requests.iter().map(|request| request.bytes_out).sum::<u64>(), written);
        let (last, earlier) = requests.split_last().map_or((None, requests.as_slice()), |(last, rest)| (Some(last), rest));
        assert!(earlier.iter().all(is_complete), "the peer asks again only when it has the response");
        // A close in order leaves nothing unacknowledged.
        assert!(!matches!(end, 3 | 4) || last.is_none_or(|last| is_complete(last) || last.bytes_out == 0));
        for request in &requests {
            let moments = request.moments;
            let last = [moments.acknowledged, moments.last_out, moments.first_write, moments.last_read, moments.queued];
            assert!(split(request).split.total <= last.into_iter().max().unwrap() - moments.arrived);
        }
    }
}
