use super::*;
use crate::{
    decode::tests::{connection as connection_record, request as request_record},
    samples::{self, marks},
};
use proptest::prelude::*;
use tracer_common::{opening::Opening, record::Kind, stage::RequestMoments};

const SECOND: u64 = 1_000_000_000;

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Request(u64, u32, u32),
    Amended(u64, u32, u32),
    Counted(u64, u32, u32),
    Connection(u64),
    Closed(u64),
    Survived(u64, u32, u64),
}

/// Notes the events in `seen`. A request that counts when it is shown is noted twice.
fn collect_all(seen: &mut Vec<Seen>) -> impl FnMut(Event<'_>) {
    |event| {
        let counted = |record: &RequestRecord| Seen::Counted(record.connection, record.sequence, record.revision);
        let event = match event {
            Event::Request { record, amends, counts } => {
                if counts == Counts::Now {
                    seen.push(counted(record));
                }
                let shown = if amends { Seen::Amended } else { Seen::Request };
                shown(record.connection, record.sequence, record.revision)
            }
            Event::Settled(record) => counted(record),
            Event::Connection(record) => Seen::Connection(record.connection),
            Event::Closed(record) => Seen::Closed(record.connection),
            Event::Survived { record, idle } => Seen::Survived(record.connection, record.sequence, idle),
        };
        seen.push(event);
    }
}

/// The same without what counts.
fn collect(seen: &mut Vec<Seen>) -> impl FnMut(Event<'_>) {
    |event| {
        collect_all(seen)(event);
        seen.retain(|it| !matches!(it, Seen::Counted(..)));
    }
}

/// Shows and counts what is due at `now`.
fn tick(tracker: &mut Tracker, now: u64, on: &mut impl FnMut(Event<'_>)) {
    while tracker.step(now, on) {}
}

fn request(connection: u64, sequence: u32, revision: u32, reported: u64, last: bool) -> Record {
    let mut record = request_record();
    (record.connection, record.sequence, record.revision, record.reported) = (connection, sequence, revision, reported);
    record.bytes_out = 100 * u64::from(revision + 1);
    record.flags = RequestRecord::COMPLETE | if last { RequestRecord::FINAL } else { 0 };
    Record::Request(record)
}

fn closed(id: u64, opened: bool) -> Record {
    let mut record = connection_record(Kind::Closed);
    record.connection = id;
    record.flags = if opened { connection::OPENED } else { 0 };
    Record::Closed(record)
}

fn opened(id: u64) -> Record {
    let mut record = connection_record(Kind::Opened);
    record.connection = id;
    Record::Opened(record)
}

fn run(records: &[Record]) -> Vec<Seen> {
    let mut tracker = Tracker::default();
    let mut seen = Vec::new();
    for record in records {
        tracker.record(record, &mut collect(&mut seen));
    }
    seen
}

#[test]
fn a_request_is_held_until_the_next_one_the_close_or_quiet() {
    let mut tracker = Tracker::default();
    let mut seen = Vec::new();
    tracker.record(&request(1, 1, 0, 10, false), &mut collect(&mut seen));
    assert_eq!(seen, []);
    tracker.record(&request(1, 2, 0, 20, false), &mut collect(&mut seen));
    assert_eq!(seen, [Seen::Request(1, 1, 0)]);
    tick(&mut tracker, 20 + QUIET, &mut collect(&mut seen));
    assert_eq!(seen.len(), 1);
    tick(&mut tracker, 21 + QUIET, &mut collect(&mut seen));
    assert_eq!(seen[1..], [Seen::Request(1, 2, 0)]);
    tracker.record(&request(1, 3, 0, 30, true), &mut collect(&mut seen));
    assert_eq!(seen[2..], [Seen::Request(1, 3, 0)]);
    tracker.record(&request(1, 4, 0, 40, false), &mut collect(&mut seen));
    tracker.record(&closed(1, false), &mut collect(&mut seen));
    assert_eq!(seen[3..], [Seen::Request(1, 4, 0), Seen::Connection(1), Seen::Closed(1)]);
}

#[test]
fn a_later_report_replaces_one_that_is_held_and_amends_one_that_was_released() {
    assert_eq!(run(&[request(1, 1, 0, 10, false), request(1, 1, 1, 20, true)]), [Seen::Request(1, 1, 1)]);

    let mut tracker = Tracker::default();
    let mut seen = Vec::new();
    tracker.record(&request(1, 1, 0, 10, false), &mut collect(&mut seen));
    tick(&mut tracker, 2 * SECOND, &mut collect(&mut seen));
    tracker.record(&request(1, 1, 1, 3 * SECOND, false), &mut collect(&mut seen));
    assert_eq!(seen, [Seen::Request(1, 1, 0)]);
    tracker.record(&request(1, 1, 2, 4 * SECOND, false), &mut collect(&mut seen));
    tracker.finish(&mut collect(&mut seen));
    assert_eq!(seen[1..], [Seen::Amended(1, 1, 2)]);
}

/// The response is reported when it is acknowledged, often before the application has closed.
#[test]
fn a_close_right_behind_the_response_is_noted() {
    let flags = |requests, idle, flags| {
        let mut end = connection_record(Kind::Closed);
        (end.connection, end.requests, end.idle, end.flags) = (1, requests, idle, flags);
        let mut tracker = Tracker::default();
        let mut seen = 0;
        for record in [request(1, 2, 0, 10, false), Record::Closed(end)] {
            tracker.record(&record, &mut |event| {
                if let Event::Request { record, .. } = event {
                    seen = record.flags;
                }
            });
        }
        seen & RequestRecord::CLOSED != 0
    };
    assert!(flags(2, 50_000, connection::CLOSED_BY_APPLICATION));
    // An idle connection; one that the peer closed; the close of a later turn.
    assert!(!flags(2, SECOND, connection::CLOSED_BY_APPLICATION));
    assert!(!flags(2, 50_000, connection::CLOSED_BY_PEER));
    assert!(!flags(3, 50_000, connection::CLOSED_BY_APPLICATION));
}

#[test]
fn a_report_that_tells_nothing_new_amends_nothing() {
    let Record::Request(first) = request(1, 1, 0, 10, false) else { unreachable!() };
    let again =
        RequestRecord { revision: 1, reported: 20, srtt_us: 7, flags: first.flags | RequestRecord::FINAL, ..first };
    let mut tracker = Tracker::default();
    let mut seen = Vec::new();
    tracker.record(&Record::Request(first), &mut collect(&mut seen));
    tick(&mut tracker, 2 * SECOND, &mut collect(&mut seen));
    tracker.record(&Record::Request(again), &mut collect(&mut seen));
    tracker.finish(&mut collect(&mut seen));
    assert_eq!(seen, [Seen::Request(1, 1, 0)]);
}

#[test]
fn a_report_that_was_overtaken_changes_nothing() {
    let late = [request(1, 1, 1, 20, false), request(1, 1, 0, 10, false), request(1, 2, 0, 30, true)];
    assert_eq!(run(&late), [Seen::Request(1, 1, 1), Seen::Request(1, 2, 0)]);
    let later = [request(1, 2, 0, 30, false), request(1, 1, 0, 20, true), closed(1, false)];
    assert_eq!(run(&later)[..2], [Seen::Request(1, 1, 0), Seen::Request(1, 2, 0)]);
}

/// The sweep's report came first, and then the next request.
#[test]
fn a_first_report_that_was_overtaken_counts_no_second_time() {
    let records = [request(1, 1, 1, 20, false), request(1, 2, 0, 30, false), request(1, 1, 0, 10, true)];
    assert_eq!(run(&records), [Seen::Request(1, 1, 1)]);
}

#[test]
fn a_request_counts_at_the_next_one_the_close_or_when_nothing_has_followed_for_long() {
    let mut tracker = Tracker::default();
    let mut seen = Vec::new();
    {
        let mut on = collect_all(&mut seen);
        tracker.record(&request(1, 1, 0, 10, true), &mut on);
        tracker.record(&request(1, 2, 0, 20, false), &mut on);
        tick(&mut tracker, 21 + QUIET, &mut on);
        tracker.record(&request(1, 2, 1, 22 + QUIET, false), &mut on);
        tick(&mut tracker, 22 + QUIET + SETTLED, &mut on);
        tick(&mut tracker, 23 + QUIET + SETTLED, &mut on);
        // It has been counted.
        tracker.record(&request(1, 2, 2, 24 + QUIET + SETTLED, true), &mut on);
        tracker.record(&request(1, 3, 0, 25 + QUIET + SETTLED, true), &mut on);
        tracker.record(&closed(1, true), &mut on);
    }
    let expected = [
        Seen::Request(1, 1, 0),
        Seen::Counted(1, 1, 0),
        Seen::Request(1, 2, 0),
        Seen::Amended(1, 2, 1),
        Seen::Counted(1, 2, 1),
        Seen::Amended(1, 2, 2),
        Seen::Request(1, 3, 0),
        Seen::Counted(1, 3, 0),
        Seen::Connection(1),
        Seen::Closed(1),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn a_request_is_current_until_the_next_one_or_the_close() {
    let of = |sequence| {
        let Record::Request(record) = request(1, sequence, 1, 20, false) else { unreachable!() };
        record
    };
    let mut tracker = Tracker::default();
    let mut current = |record: &Record| {
        tracker.record(record, &mut |_| {});
        (tracker.is_current(&of(1)), tracker.is_current(&of(2)))
    };
    assert_eq!(current(&opened(1)), (true, true));
    assert_eq!(current(&request(1, 1, 0, 10, false)), (true, true));
    assert_eq!(current(&request(1, 2, 0, 30, false)), (false, true));
    assert_eq!(current(&closed(1, true)), (false, false));
}

#[test]
fn reports_of_one_revision_replace_each_other_by_their_time() {
    // Two sweeps, and the kernel's own last report: all of them were made after the first report and before the next.
    let at = |reported, bytes_out, last| {
        let Record::Request(record) = request(1, 1, 1, reported, last) else { unreachable!() };
        RequestRecord { bytes_out, ..record }
    };
    let reports = [at(20, 200, false), at(30, 300, false), at(40, 400, true), at(35, 350, false)];
    for quiet in [false, true] {
        let mut tracker = Tracker::default();
        let mut bytes = Vec::new();
        let mut on = |event: Event<'_>| {
            if let Event::Request { record, .. } = event {
                bytes.push(record.bytes_out);
            }
        };
        tracker.record(&request(1, 1, 0, 10, false), &mut on);
        for report in reports {
            tracker.record(&Record::Request(report), &mut on);
            tick(&mut tracker, if quiet { report.reported + 2 * SECOND } else { 0 }, &mut on);
        }
        tracker.finish(&mut on);
        assert_eq!(bytes.last(), Some(&400), "{bytes:?}");
        assert_eq!(bytes.len(), if quiet { 3 } else { 1 }, "{bytes:?}");
    }
}

#[test]
fn sweeps_that_tell_nothing_new_do_not_delay_a_request() {
    let mut tracker = Tracker::default();
    let mut seen = Vec::new();
    for sweep in 0..4 {
        let now = 10 + sweep * SECOND / 2;
        tracker.record(&request(1, 1, 1, now, false), &mut collect(&mut seen));
        tick(&mut tracker, now, &mut collect(&mut seen));
        assert_eq!(seen.is_empty(), sweep < 3, "{sweep}");
    }
    tracker.finish(&mut collect(&mut seen));
    assert_eq!(seen, [Seen::Request(1, 1, 1)]);
}

#[test]
fn connection_stages_count_once_also_when_the_first_record_was_lost() {
    assert_eq!(run(&[opened(1), closed(1, true)]), [Seen::Connection(1), Seen::Closed(1)]);
    assert_eq!(run(&[closed(1, false)]), [Seen::Connection(1), Seen::Closed(1)]);
    assert_eq!(run(&[closed(1, true)]), [Seen::Connection(1), Seen::Closed(1)]);
    assert_eq!(run(&[request(1, 1, 0, 1, true), closed(1, true)])[1..], [Seen::Connection(1), Seen::Closed(1)]);
}

/// A request in the clear, or what `opening` says, as the kernel reports it at its end.
fn turn(sequence: u32, opening: Opening, bytes_in: u64, reported: u64) -> RequestRecord {
    let Record::Request(record) = request(1, sequence, 0, reported, true) else { unreachable!() };
    RequestRecord { marks: marks(&[Opening::Http], opening), bytes_in, ..record }
}

/// What is left of an upload after its answer.
fn rest(sequence: u32, bytes_in: u64, reported: u64) -> RequestRecord {
    RequestRecord { bytes_out: 0, flags: RequestRecord::FINAL, ..turn(sequence, Opening::Text, bytes_in, reported) }
}

/// The bytes received of each request that is shown, and whether that amends what was shown before.
fn sizes(tracker: &mut Tracker, record: RequestRecord) -> Vec<(u64, bool)> {
    let mut sizes = Vec::new();
    tracker.record(&Record::Request(record), &mut |event| {
        if let Event::Request { record, amends, .. } = event {
            assert_eq!(record.sequence, 1, "{record:?}");
            sizes.push((record.bytes_in, amends));
        }
    });
    sizes
}

#[test]
fn the_rest_of_an_upload_is_part_of_the_request_before_it() {
    // That request is held until the next one.
    let mut tracker = Tracker::default();
    let held = RequestRecord { flags: RequestRecord::COMPLETE, ..turn(1, Opening::Http, 1000, 10) };
    assert_eq!(sizes(&mut tracker, held), []);
    assert_eq!(sizes(&mut tracker, rest(2, 90_000, 20)), []);
    assert_eq!(sizes(&mut tracker, rest(3, 5000, 30)), []);
    let mut seen = Vec::new();
    tracker.record(&Record::Request(turn(4, Opening::Http, 500, 40)), &mut |event| {
        if let Event::Request { record, amends, .. } = event {
            seen.push((record.sequence, record.bytes_in, amends));
        }
    });
    assert_eq!(seen, [(1, 96_000, false), (4, 500, false)]);

    // It was released: the rest amends it.
    let mut tracker = Tracker::default();
    assert_eq!(sizes(&mut tracker, turn(1, Opening::Http, 1000, 10)), [(1000, false)]);
    assert_eq!(sizes(&mut tracker, rest(2, 90_000, 20)), [(91_000, true)]);
    assert_eq!(sizes(&mut tracker, rest(3, 5000, 30)), [(96_000, true)]);
    let mut seen = Vec::new();
    tracker.finish(&mut collect_all(&mut seen));
    assert_eq!(seen, [Seen::Counted(1, 1, 2)]);
}

/// The body of a request whose head, of 200 bytes, had an interim response of 25.
fn body(sequence: u32, revision: u32, bytes_out: u64, reported: u64) -> RequestRecord {
    let marks = marks(&[Opening::Http], Opening::Unknown) | connection::BODY << connection::OPENING_SHIFT;
    let flags = if bytes_out == 0 { RequestRecord::FINAL } else { RequestRecord::COMPLETE };
    RequestRecord { marks, revision, bytes_out, flags, ..turn(sequence, Opening::Http, 300, reported) }
}

#[test]
fn a_body_that_was_asked_for_is_part_of_the_request_before_it() {
    let head = || RequestRecord {
        bytes_out: 25,
        flags: RequestRecord::COMPLETE,
        accepted: 5,
        moments: RequestMoments { arrived: 1, queued: 2, first_read: 3, last_read: 3, ..RequestMoments::default() },
        ..turn(1, Opening::Http, 200, 10)
    };
    let moments = RequestMoments {
        arrived: 20,
        queued: 21,
        first_read: 22,
        last_read: 23,
        first_write: 24,
        first_out: 25,
        last_out: 26,
        acknowledged: 27,
    };
    for is_released in [false, true] {
        let mut tracker = Tracker::default();
        let mut seen = Vec::new();
        let mut on = |event: Event<'_>| {
            if let Event::Request { record, amends, .. } = event {
                seen.push((record.sequence, record.bytes_in, record.bytes_out, amends, record.moments));
            }
        };
        tracker.record(&Record::Request(head()), &mut on);
        tick(&mut tracker, if is_released { 10 + 2 * SECOND } else { 0 }, &mut on);
        tracker.record(&Record::Request(RequestRecord { moments, ..body(2, 0, 400, 3 * SECOND) }), &mut on);
        // The response goes on: that is not added to what was joined before, but replaces it.
        tracker.record(&Record::Request(RequestRecord { moments, ..body(2, 1, 900, 3 * SECOND + 1) }), &mut on);
        tracker.record(&Record::Request(turn(3, Opening::Http, 500, 4 * SECOND)), &mut on);
        let joined = RequestMoments { arrived: 1, queued: 2, first_read: 3, ..moments };
        let seen = &seen[usize::from(is_released)..];
        assert_eq!(seen[0], (1, 500, 900, is_released, joined));
        assert_eq!((seen.len(), seen[1].0), (2, 3));
    }
}

/// The upload that `100 Continue` asked for may take long.
#[test]
fn what_may_have_an_interim_response_counts_with_its_body() {
    for (bytes_out, expected) in [(25, (500, 400)), (26, (200, 26))] {
        let mut tracker = Tracker::default();
        let mut counted = Vec::new();
        let mut on = |event: Event<'_>| match event {
            Event::Settled(record) | Event::Request { record, counts: Counts::Now, .. } => {
                counted.push((record.bytes_in, record.bytes_out));
            }
            _ => {}
        };
        let head = RequestRecord { bytes_out, flags: RequestRecord::COMPLETE, ..turn(1, Opening::Http, 200, 10) };
        tracker.record(&Record::Request(head), &mut on);
        tick(&mut tracker, 3 * SETTLED, &mut on);
        tracker.record(&Record::Request(body(2, 0, 400, 3 * SETTLED)), &mut on);
        tracker.finish(&mut on);
        assert_eq!(counted, [expected]);
    }
}

#[test]
fn a_body_without_a_response_leaves_its_request_unanswered() {
    let mut tracker = Tracker::default();
    let head = RequestRecord { bytes_out: 25, flags: RequestRecord::COMPLETE, ..turn(1, Opening::Http, 200, 10) };
    tracker.record(&Record::Request(head), &mut |event| panic!("{event:?}"));
    let mut seen = Vec::new();
    tracker.record(&Record::Request(body(2, 0, 0, 20)), &mut |event| {
        if let Event::Request { record, amends: false, .. } = event {
            assert!(record.turn().turn().is_request());
            seen.push((record.sequence, record.bytes_in, record.bytes_out, record.flags & RequestRecord::COMPLETE));
        }
    });
    assert_eq!(seen, [(1, 500, 0, 0)]);
    // Without its head it stands for itself.
    let mut tracker = Tracker::default();
    let mut alone = Vec::new();
    tracker.record(&Record::Request(body(2, 0, 0, 20)), &mut |event| {
        if let Event::Request { record, .. } = event {
            alone.push((record.sequence, record.bytes_in));
        }
    });
    assert_eq!(alone, [(2, 300)]);
}

#[test]
fn the_rest_of_an_upload_counts_once_all_of_it_is_known() {
    let mut tracker = Tracker::default();
    assert_eq!(sizes(&mut tracker, turn(1, Opening::Http, 1000, 10)), [(1000, false)]);
    // The sweep's look at it, and the kernel's last word.
    assert_eq!(sizes(&mut tracker, RequestRecord { flags: 0, ..rest(2, 40_000, 20) }), []);
    assert_eq!(sizes(&mut tracker, rest(2, 90_000, 30)), [(91_000, true)]);
    // Of a request that was not seen there is nothing to be told.
    let mut tracker = Tracker::default();
    assert_eq!(sizes(&mut tracker, rest(2, 90_000, 20)), []);
    tracker.finish(&mut |event| panic!("{event:?}"));
}

/// The number and the bytes of each request that is shown, and whether that amends what was shown before.
fn released(tracker: &mut Tracker, record: RequestRecord) -> Vec<(u32, u64, bool)> {
    let mut released = Vec::new();
    let record = RequestRecord { flags: RequestRecord::COMPLETE | RequestRecord::FINAL, ..record };
    tracker.record(&Record::Request(record), &mut |event| {
        if let Event::Request { record, amends, .. } = event {
            released.push((record.sequence, record.bytes_in, amends));
        }
    });
    released
}

/// The records of turns between were lost.
#[test]
fn what_does_not_follow_joins_no_other_request() {
    let mut tracker = Tracker::default();
    assert_eq!(released(&mut tracker, turn(1, Opening::Http, 200, 10)), [(1, 200, false)]);
    assert_eq!(released(&mut tracker, rest(3, 40_000, 20)), []);
    assert_eq!(tracker.unmatched, 1);
    // A body stands for itself then, and its own rest follows it.
    assert_eq!(released(&mut tracker, body(5, 0, 900, 30)), [(5, 300, false)]);
    assert_eq!(released(&mut tracker, rest(6, 40_000, 40)), [(5, 40_300, true)]);
    assert_eq!(released(&mut tracker, rest(7, 1_000, 50)), [(5, 41_300, true)]);
    assert_eq!(tracker.unmatched, 1);
}

/// The report of a body that is overtaken by the next request: it is part of a request that was shown already.
#[test]
fn a_late_body_is_no_request() {
    let mut tracker = Tracker::default();
    assert_eq!(released(&mut tracker, turn(1, Opening::Http, 200, 10)), [(1, 200, false)]);
    assert_eq!(released(&mut tracker, turn(3, Opening::Http, 100, 30)), [(3, 100, false)]);
    assert_eq!(released(&mut tracker, body(2, 0, 900, 20)), []);
    assert_eq!(tracker.unmatched, 1);
}

#[test]
fn a_connection_that_was_idle_for_a_second_has_survived_that() {
    let of = |idle: u64, sequence: u32| {
        let mut tracker = Tracker::default();
        let mut seen = Vec::new();
        let first = samples::request(10 * SECOND, [1, 2, 3, 4, 5, 6, 7]);
        let next = samples::request(first.moments.acknowledged + idle, [0; 7]);
        for record in [first, RequestRecord { sequence, ..next }] {
            tracker.record(&Record::Request(record), &mut collect(&mut seen));
        }
        seen.retain(|it| matches!(it, Seen::Survived(..)));
        seen
    };
    assert_eq!(of(SECOND - 1, 2), []);
    assert_eq!(of(SECOND, 2), [Seen::Survived(0x1a2b, 2, SECOND)]);
    assert_eq!(of(30 * SECOND, 5), [Seen::Survived(0x1a2b, 5, 30 * SECOND)]);
    // Another report of the same request.
    assert_eq!(of(30 * SECOND, 1), []);
}

#[test]
fn what_was_not_measured_proves_no_idle_time() {
    let first = samples::request(10 * SECOND, [0; 7]);
    let next = RequestRecord { sequence: 2, ..samples::request(40 * SECOND, [0; 7]) };
    let without = |record: RequestRecord| RequestRecord { moments: RequestMoments::default(), ..record };
    for (first, next, expected) in [
        (first, next, &[Seen::Survived(0x1a2b, 2, 30 * SECOND)][..]),
        (without(first), next, &[]),
        (first, without(next), &[]),
    ] {
        let mut tracker = Tracker::default();
        let mut seen = Vec::new();
        for record in [first, next] {
            tracker.record(&Record::Request(record), &mut collect(&mut seen));
        }
        seen.retain(|it| matches!(it, Seen::Survived(..)));
        assert_eq!(seen, expected);
    }
}

#[test]
fn too_many_connections_lose_memory_but_no_request() {
    let mut tracker = Tracker::with_capacity(2);
    let mut seen = Vec::new();
    for id in 1..=3 {
        tracker.record(&opened(id), &mut collect(&mut seen));
        tracker.record(&request(id, 1, 0, id, false), &mut collect(&mut seen));
    }
    assert_eq!(tracker.evicted, 1);
    assert!(seen.contains(&Seen::Request(1, 1, 0)));
    tracker.record(&closed(1, true), &mut collect(&mut seen));
    tracker.finish(&mut collect(&mut seen));
    for id in 1..=3 {
        assert_eq!(seen.iter().filter(|&it| *it == Seen::Request(id, 1, 0)).count(), 1);
        assert_eq!(seen.iter().filter(|&it| *it == Seen::Connection(id)).count(), 1);
    }
}

/// The records of a connection in their order: each request is reported once or more, gaps of up to 3 s between.
fn connection_records(id: u64) -> impl Strategy<Value = Vec<(u64, Record)>> {
    let requests = prop::collection::vec((1u32..4, any::<bool>()), 0..6);
    (requests, any::<bool>(), any::<bool>(), prop::collection::vec(0..3 * SECOND, 32)).prop_map(
        move |(requests, opens, closes, gaps)| {
            let mut records = Vec::new();
            if opens {
                records.push(opened(id));
            }
            for (index, (reports, last)) in requests.into_iter().enumerate() {
                let sequence = u32::try_from(index + 1).unwrap();
                records.extend((0..reports).map(|it| request(id, sequence, it, 0, last && it + 1 == reports)));
            }
            if closes {
                records.push(closed(id, opens));
            }
            let mut now = SECOND;
            let stamped = records.into_iter().zip(gaps).map(|(mut record, gap)| {
                now += gap;
                if let Record::Request(record) = &mut record {
                    record.reported = now;
                }
                (now, record)
            });
            stamped.collect()
        },
    )
}

proptest! {
    #[test]
    fn every_request_is_released_once_and_amended_to_its_last_report(
        connections in (1..5u64).prop_map(|it| (1..=it).map(connection_records).collect::<Vec<_>>()).prop_flat_map(|it| it),
        ticks in any::<bool>(),
    ) {
        let mut records: Vec<_> = connections.into_iter().flatten().collect();
        records.sort_by_key(|it| it.0);
        let mut tracker = Tracker::default();
        let mut seen = Vec::new();
        for (now, record) in &records {
            if ticks {
                tick(&mut tracker, *now, &mut collect(&mut seen));
            }
            tracker.record(record, &mut collect(&mut seen));
        }
        tracker.finish(&mut collect(&mut seen));
        let mut last = std::collections::BTreeMap::new();
        for (_, record) in &records {
            if let Record::Request(it) = record {
                last.insert((it.connection, it.sequence), it.revision);
            }
        }
        for ((connection, sequence), revision) in last {
            let shown: Vec<_> = seen.iter().filter_map(|it| match it {
                Seen::Request(c, s, r) if (*c, *s) == (connection, sequence) => Some((false, *r)),
                Seen::Amended(c, s, r) if (*c, *s) == (connection, sequence) => Some((true, *r)),
                _ => None,
            }).collect();
            prop_assert!(!shown[0].0 && shown[1..].iter().all(|it| it.0), "{shown:?}");
            prop_assert_eq!(shown.last().unwrap().1, revision);
            prop_assert!(ticks || shown.len() == 1);
        }
        let counted = seen.iter().filter(|it| matches!(it, Seen::Connection(_))).count();
        let expected: std::collections::BTreeSet<_> = records.iter().filter_map(|(_, it)| match it {
            Record::Opened(it) | Record::Closed(it) => Some(it.connection),
            Record::Request(_) | Record::Rejection(_) | Record::Listener(_) => None,
        }).collect();
        prop_assert_eq!(counted, expected.len());
        prop_assert_eq!((tracker.unmatched, tracker.evicted), (0, 0));
    }
}
