//! How a connection ended: what was pending, who ended it, how long it had been idle.

use crate::scenario::{STEP, Scenario};
use tracer_common::{
    connection::{
        CLOSED_BY_APPLICATION, CONTINUES, Connection, ENDED_UNANSWERED, PEEKED, RESET_ARRIVED, RESET_BY_HOST,
        RESET_BY_PEER, SENT_ON, Segment, TIMED_OUT_AT_LAST, Tcp, Times,
    },
    opening::Opening,
    record::{ConnectionRecord, Kind},
    rejection::{Ender, How},
};

const WORKER: Ender = Ender { pid: 812, how: How::Killed as u16, signal: 9, comm: [b'w'; 16] };

type Events = fn(&mut Scenario) -> &mut Scenario;

/// The record of the connection as it is.
pub fn closed(connection: &Connection) -> ConnectionRecord {
    let mut record = std::mem::MaybeUninit::<ConnectionRecord>::zeroed();
    // SAFETY: zeros are valid for integers, and every member is written.
    unsafe {
        ConnectionRecord::write(record.as_mut_ptr(), connection, Kind::Closed, 0);
        record.assume_init()
    }
}

#[test]
fn what_was_pending_is_told() {
    let cases: [(Events, u32); 7] = [
        (|it| it, ConnectionRecord::NOTHING),
        (|it| it.request(100), ConnectionRecord::UNANSWERED),
        (|it| it.request(100).read(), ConnectionRecord::UNANSWERED),
        (|it| it.request(100).read().write(50), ConnectionRecord::CUT),
        (|it| it.request(100).read().respond(50), ConnectionRecord::NOTHING),
        (|it| it.request(100).read().respond(50).write(50).send(), ConnectionRecord::CUT),
        (|it| it.request(100).read().respond(50).request(100), ConnectionRecord::UNANSWERED),
    ];
    for (index, (events, pending)) in cases.into_iter().enumerate() {
        let mut scenario = Scenario::new();
        scenario.by = WORKER;
        events(scenario.handshake());
        scenario.gone();
        let record = closed(&scenario.connection);
        assert_eq!(
            (record.pending, record.by, record.flags & RESET_BY_HOST),
            (pending, WORKER, RESET_BY_HOST),
            "{index}"
        );
    }
}

#[test]
fn a_tls_close_alert_is_not_waited_for() {
    let mut scenario = Scenario::new();
    scenario.handshake().request(100).read();
    scenario.connection.opened_with(Opening::TlsData);
    scenario.respond(5000).wait(5000 * STEP).write(24).send_lost().close().gone();
    let record = closed(&scenario.connection);
    assert_eq!(
        (record.pending, record.flags & CLOSED_BY_APPLICATION),
        (ConnectionRecord::NOTHING, CLOSED_BY_APPLICATION)
    );
    assert!(record.idle >= 5000 * STEP, "{}", record.idle);
    assert_eq!(scenario.requests()[0].bytes_out, 5000, "nothing of it is told of the response");
    // The peer acknowledges it before the application closes: the last report corrects the one that took it for a response.
    let mut scenario = Scenario::new();
    scenario.handshake().request(100).read();
    scenario.connection.opened_with(Opening::TlsData);
    scenario.respond(5000);
    let before = scenario.requests()[0];
    scenario.wait(5000 * STEP).respond(24).close().gone();
    let record = closed(&scenario.connection);
    assert!(record.idle >= 5000 * STEP, "{}", record.idle);
    assert_eq!(record.pending, ConnectionRecord::NOTHING);
    let last = scenario.requests()[0];
    assert_eq!((last.moments.acknowledged, last.bytes_out), (before.moments.acknowledged, 5000));
    assert_eq!((last.moments.last_out, last.revision), (before.moments.acknowledged, before.revision + 2));
    // More of the response follows it: it was a part.
    let mut scenario = Scenario::new();
    scenario.handshake().request(100).read();
    scenario.connection.opened_with(Opening::TlsData);
    scenario.respond(5000).wait(5000 * STEP).respond(24).respond(400).wait(7 * STEP).close().gone();
    assert!(closed(&scenario.connection).idle < 100 * STEP);
    assert_eq!(scenario.requests()[0].bytes_out, 5424);
    // A response as short as that, or a part of one, is waited for. Without TLS there is no alert.
    let cut = |opening, first, last| {
        let mut scenario = Scenario::new();
        scenario.handshake().request(100).read();
        scenario.connection.opened_with(opening);
        if first != 0 {
            scenario.respond(first);
        }
        scenario.write(last).send_lost().close().gone();
        assert_eq!(closed(&scenario.connection).pending, ConnectionRecord::CUT, "{opening:?} {first} {last}");
    };
    cut(Opening::TlsData, 0, 24);
    cut(Opening::TlsData, 5000, 400);
    cut(Opening::Http, 5000, 24);
}

#[test]
fn the_process_that_closes_is_noted_and_no_other() {
    // It closes: whoever works on the socket later has no part in it.
    let mut scenario = Scenario::new();
    scenario.handshake().request(10).read().respond(10);
    scenario.by = WORKER;
    scenario.close();
    scenario.by = Ender { pid: 1, ..WORKER };
    scenario.fin_acknowledged().gone();
    assert_eq!(scenario.connection.by.get(), WORKER);
    // The peer resets while a process holds the lock: the process ends nothing.
    let mut scenario = Scenario::new();
    scenario.by = WORKER;
    scenario.handshake().request(10).peer_resets();
    assert_eq!(
        (scenario.connection.by.get(), scenario.connection.flags.get() & RESET_BY_PEER),
        (Ender::default(), RESET_BY_PEER)
    );
    // The peer closes; then the application does.
    let mut scenario = Scenario::new();
    scenario.by = WORKER;
    scenario.handshake().peer_closes();
    assert_eq!(scenario.connection.by.get(), Ender::default());
    scenario.close();
    assert_eq!(scenario.connection.by.get(), WORKER);
}

#[test]
fn idle_is_the_time_since_the_last_event() {
    let mut scenario = Scenario::new();
    scenario.handshake().request(10).read().respond(10);
    let idle_since = scenario.now;
    scenario.wait(5000 * STEP).close();
    let record = closed(&scenario.connection);
    assert_eq!(record.ended, idle_since + 5000 * STEP);
    assert!((5000 * STEP..5003 * STEP).contains(&record.idle), "{}", record.idle);
    // Of a connection that was adopted and then did nothing, it is not known.
    let mut scenario = Scenario::new();
    scenario.adopted().wait(5000 * STEP).close();
    assert_eq!(closed(&scenario.connection).idle, 0);
}

#[test]
fn what_happened_after_the_first_end_is_told_too() {
    let mut scenario = Scenario::new();
    scenario.handshake().request(10).read().write(10).send_lost().close();
    scenario.unread = 7;
    scenario.times_out();
    let record = closed(&scenario.connection);
    assert_eq!(record.flags & (CLOSED_BY_APPLICATION | TIMED_OUT_AT_LAST), CLOSED_BY_APPLICATION | TIMED_OUT_AT_LAST);
    assert_eq!((record.pending, record.unread), (ConnectionRecord::CUT, 7));
    let mut scenario = Scenario::new();
    scenario.handshake().request(10).read().write(10).send_lost().close().peer_resets();
    assert_eq!(scenario.connection.flags.get() & RESET_ARRIVED, RESET_ARRIVED);
}

#[test]
fn the_time_with_a_closed_window_belongs_to_the_request() {
    let mut scenario = Scenario::new();
    scenario.handshake();
    // Nothing is under way: there is nobody to wait.
    scenario.connection.advertised(true, || scenario.now);
    assert_eq!(scenario.connection.zero_since.get(), 0);
    scenario.request(10);
    let begun = scenario.now;
    scenario.connection.advertised(true, || begun);
    scenario.connection.advertised(true, || begun + STEP);
    assert_eq!(scenario.connection.zero_window(begun + 3 * STEP), 3 * STEP);
    scenario.connection.advertised(false, || begun + 5 * STEP);
    scenario.connection.advertised(false, || begun + 6 * STEP);
    scenario.connection.advertised(true, || begun + 8 * STEP);
    scenario.connection.advertised(false, || begun + 9 * STEP);
    assert_eq!(scenario.connection.zero_window(begun + 20 * STEP), 6 * STEP);
    scenario.wait(20 * STEP).read().respond(5);
    assert_eq!(scenario.requests()[0].zero_window, 6 * STEP);
    scenario.request(10).read().respond(5);
    assert_eq!(scenario.requests()[1].zero_window, 0);
}

#[test]
fn whether_anything_was_written_before_the_end_is_told() {
    let mut scenario = Scenario::new();
    scenario.handshake().request(10).read().peer_closes().wait(5000 * STEP).write(50).send_lost().close().gone();
    let record = closed(&scenario.connection);
    assert_eq!((record.pending, record.bytes_out), (ConnectionRecord::CUT, 50));
    assert_ne!(record.flags & ENDED_UNANSWERED, 0);
    let mut scenario = Scenario::new();
    scenario.handshake().request(10).read().write(50).send_lost().peer_closes().gone();
    assert_eq!(closed(&scenario.connection).flags & ENDED_UNANSWERED, 0);
    // Nothing was under way.
    let mut scenario = Scenario::new();
    scenario.handshake().peer_closes().gone();
    assert_eq!(closed(&scenario.connection).flags & ENDED_UNANSWERED, 0);
}

#[test]
fn a_peer_that_sends_on_during_the_response_is_noted_for_the_next_turn() {
    let mut scenario = Scenario::new();
    scenario.handshake().request(1000).read().write(200).request(1000);
    assert_eq!(scenario.connection.flags.get() & (SENT_ON | CONTINUES), SENT_ON);
    scenario.send().request(1000);
    assert_eq!(
        (scenario.connection.sequence.get(), scenario.connection.flags.get() & (SENT_ON | CONTINUES)),
        (2, CONTINUES)
    );
    assert!(closed(&scenario.connection).turn().marks.0 & CONTINUES != 0);
    // The next request, which waits for the response, continues nothing.
    scenario.read().respond(10).request(1000);
    assert_eq!((scenario.connection.sequence.get(), scenario.connection.flags.get() & (SENT_ON | CONTINUES)), (3, 0));
}

#[test]
fn an_opening_is_that_of_its_turn_and_stays_known() {
    let mut scenario = Scenario::new();
    scenario.handshake().request(1000).read();
    scenario.connection.opened_with(Opening::Http);
    assert_eq!(closed(&scenario.connection).turn().marks.opening(), Opening::Http);
    scenario.respond(10).request(1000);
    let marks = closed(&scenario.connection).turn().marks;
    assert_eq!((marks.opening(), marks.has_seen(Opening::Http)), (Opening::Unknown, true));
}

#[test]
fn a_turn_starts_where_its_first_byte_is() {
    let mut scenario = Scenario::at(u32::MAX - 50, 5000);
    scenario.handshake().request(100).read().respond(10).request(70).request(30);
    assert_eq!(scenario.connection.turn_start(), (u32::MAX - 50).wrapping_add(100));
}

/// What was left of an upload that was answered early is read before what came behind the response.
#[test]
fn an_opening_is_looked_at_once_its_turn_is_read() {
    for start in [1000, u32::MAX - 50, u32::MAX - 101] {
        let mut scenario = Scenario::at(start, 5000);
        scenario.handshake().request(100).read().respond(10).request(70).read();
        let turn = scenario.connection.turn_start();
        for (next, shows, looks_again) in
            [(turn.wrapping_sub(20), false, true), (turn, false, true), (turn.wrapping_add(2), false, false)]
        {
            scenario.connection.flags.remove(PEEKED);
            assert_eq!(scenario.connection.shows_opening(next), shows, "{start} {next}");
            assert_eq!(scenario.connection.flags.has(PEEKED), looks_again, "{start} {next}");
        }
        assert!(scenario.connection.shows_opening(turn.wrapping_add(3)) && !scenario.connection.flags.has(PEEKED));
    }
}

#[test]
fn the_end_of_a_response_leaves_out_what_is_written_at_the_close() {
    // Not acknowledged yet: all of it is the response.
    let mut scenario = Scenario::new();
    scenario.handshake().request(100).read().write(200).send_lost().close();
    assert_eq!(scenario.connection.response_end(), 5200);
    // A time-out told in words, or a close alert, behind a response that was acknowledged.
    for (opening, last) in [(Opening::Http, 150), (Opening::TlsData, 24)] {
        let mut scenario = Scenario::new();
        scenario.handshake().request(100).read();
        scenario.connection.opened_with(opening);
        scenario.respond(200).wait(5000 * STEP).write(last).send_lost().close().peer_resets();
        assert_eq!(scenario.connection.response_end(), 5200, "{opening:?}");
    }
}

#[test]
fn most_requests_of_a_plain_connection_are_not_looked_at() {
    let looked_at = |opening, length: u32| {
        let mut scenario = Scenario::new();
        scenario.handshake();
        let mut looks = Vec::new();
        for _ in 0..8 {
            scenario.request(length).read();
            let wanted = scenario.connection.is_opening_wanted();
            if wanted {
                scenario.connection.opened_with(opening);
                looks.push(scenario.connection.sequence.get());
            }
            scenario.respond(40);
        }
        looks
    };
    assert_eq!(looked_at(Opening::Http, 500), [1, 2, 8]);
    // Control data, bodies, and whatever is not known to be HTTP.
    for (opening, length) in
        [(Opening::Http, 30), (Opening::Http, 1448), (Opening::TlsData, 500), (Opening::Unknown, 500)]
    {
        assert_eq!(looked_at(opening, length), [1, 2, 3, 4, 5, 6, 7, 8], "{opening:?} {length}");
    }
}

#[test]
fn what_comes_after_the_hosts_fin_is_counted_apart() {
    let mut scenario = Scenario::new();
    scenario.handshake().request(100).read().respond(50).close().fin_acknowledged();
    // TCP takes it, but no hook sees it.
    scenario.receives_unseen(300).gone();
    let record = closed(&scenario.connection);
    assert_eq!((record.late, record.bytes_in, record.requests), (300, 100, 1));
    // More than the record has room for.
    let mut scenario = Scenario::new();
    scenario.handshake().request(100).read().respond(50).close().fin_acknowledged().receives_unseen(70_000).gone();
    assert_eq!(closed(&scenario.connection).late, u16::MAX);
    // The peer's FIN behind it is no byte, and says that nothing is refused.
    let mut scenario = Scenario::new();
    scenario.handshake().request(100).read().respond(50).close().fin_acknowledged().receives_unseen(24);
    scenario.unread = 24;
    let record = closed(&scenario.peer_finishes().connection);
    assert_eq!((record.late, record.unread), (24, 0));
    // Without a FIN of this host nothing comes late.
    let mut scenario = Scenario::new();
    scenario.handshake().request(100).read().respond(50).receives_unseen(300).gone();
    assert_eq!(closed(&scenario.connection).late, 0);
}

#[test]
fn the_time_for_which_packets_wait_in_a_queue_of_this_host_counts_once() {
    const MS: u64 = 1_000_000;
    let mut scenario = Scenario::new();
    scenario.handshake().request(10).read();
    let mut send = |after: u64, waited: u64| {
        scenario.write(100).wait(after * MS - STEP);
        scenario.passed_on = scenario.now - waited * MS;
        scenario.send_lost();
        scenario.connection.request.held.get()
    };
    // Before the first packet leaves, the time is that of `egress`.
    assert_eq!(send(5, 5), 0);
    let held = [send(10, 4), send(2, 5), send(3, 0)];
    // The second packet waited longer than since the one before it had left.
    assert!(held[0] == 4 * MS && held[1].abs_diff(6 * MS) <= 3 * STEP && held[2] == held[1], "{held:?}");
    scenario.acknowledge();
    scenario.retransmit();
    assert_eq!((scenario.connection.request.resent.get(), scenario.connection.request.held.get()), (400, held[2]));
}

#[test]
fn a_request_in_the_syn_is_one() {
    let scenario = Scenario::new();
    // The socket has 200 bytes of the request, and nothing was written.
    let tcp = scenario.tcp();
    let early = Tcp { expected: tcp.expected.wrapping_add(200), ..tcp };
    scenario.connection.follow_fast_open(early, 200, early.written, 7);
    let request = &scenario.connection.request;
    assert_eq!((request.moments.queued.get(), request.bytes_in.get(), scenario.connection.sequence.get()), (7, 200, 1));
    assert_eq!(scenario.connection.input_end.get(), early.expected);
    // The application reads and answers before the handshake is over.
    assert_eq!(scenario.connection.read(early, || 9), Some(9));
    let answered = Tcp { written: early.written.wrapping_add(50), ..early };
    scenario.connection.write(|| 10);
    let segment = Segment { start: answered.expected, end: answered.expected, acknowledges: answered.written };
    scenario.connection.segment(segment, answered, || Times { arrived: 0, queued: 12 }, |_, _, _| {});
    let request = &scenario.connection.request;
    assert_eq!((request.bytes_out.get(), request.moments.acknowledged.get(), request.reports.get()), (50, 12, 1));
}
