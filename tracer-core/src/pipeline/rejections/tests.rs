//! Tests of when something is a rejection, of when that is decided, and of what is counted.

mod orders;

use super::{ANSWER, Close, HOLD, ProcessQuestion, Rejections, WAITING};
use crate::{
    model::{
        application::Application,
        facts::HostFacts,
        rejection::{Cause, CloseReason, Evidence, ProcessName, Rejection, Rule, Setting},
    },
    samples::{MS, S, US, closed, marks, request, unanswered, v4},
};
use tracer_common::{
    connection::{CLOSED_BY_APPLICATION, CLOSED_BY_PEER, RESET_BY_HOST},
    endpoint::Endpoint,
    opening::Opening,
    record::{ConnectionRecord, Kind, ListenerRecord, RequestRecord},
    rejection::{Ended, Ender, Event, Folded, How, Key, PacketKind, RejectionRecord, Tally},
};

const NETNS: u32 = 4_026_531_840;
/// When the data of [`late`] came.
const NOW: u64 = 20 * S;

const fn nginx(how: How, signal: u16) -> Ender {
    Ender { pid: 77, how: how as u16, signal, comm: *b"nginx\0\0\0\0\0\0\0\0\0\0\0" }
}

fn key(event: Event) -> Key {
    let ends = v4();
    Key {
        netns: NETNS,
        event: event as u8,
        packet: PacketKind::Data as u8,
        local: ends.local,
        network: Key::network_of(&ends.peer),
        ..Key::default()
    }
}

/// A request for a connection that nginx had closed 200 us before, after 5 s without one.
fn late(connection: u64) -> RejectionRecord {
    let ended = Ended {
        connection,
        ended: NOW - 200 * US,
        idle: 5 * S,
        by: nginx(How::Closed, 0),
        netns: NETNS,
        requests: 2,
        flags: CLOSED_BY_APPLICATION | marks(&[], Opening::Http),
        ..Ended::default()
    };
    RejectionRecord {
        key: key(Event::DataAfterClose),
        peer: v4().peer,
        payload: 400,
        reported: NOW,
        count: 1,
        ended,
        opening: Opening::Http as u32,
        ..RejectionRecord::EMPTY
    }
}

/// A close alert of TLS 1.3 for such a connection: encrypted, so that only its FIN tells it from a request.
fn alert(connection: u64) -> RejectionRecord {
    let mut record = RejectionRecord { payload: 60, opening: Opening::TlsData as u32, ..late(connection) };
    record.ended.flags = CLOSED_BY_APPLICATION | marks(&[Opening::TlsHandshake], Opening::TlsData);
    record
}

fn fin(of: &RejectionRecord) -> RejectionRecord {
    RejectionRecord { key: key(Event::FinAfterData), reported: of.reported + US, ..*of }
}

/// A connection that nginx closed at `at`, after `idle` without a request.
fn idle(connection: u64, at: u64, idle: u64) -> ConnectionRecord {
    let flags = CLOSED_BY_APPLICATION | marks(&[], Opening::Http);
    ConnectionRecord { connection, ended: at, reported: at, idle, flags, by: nginx(How::Closed, 0), ..closed() }
}

fn listener(at: u64) -> ListenerRecord {
    let (by, local) = (nginx(How::Closed, 0), Endpoint::v4([0, 0, 0, 0], 8080));
    ListenerRecord { kind: Kind::Listener as u32, netns: NETNS, reported: at, by, local, padding: 0 }
}

/// What a host says of a server that goes on.
fn runs() -> Application {
    Application { is_alive: true, listens: true, ..Application::default() }
}

fn tick(rejections: &mut Rejections, now: u64) -> Vec<Rejection> {
    rejections.tick(now);
    rejections.ready()
}

fn causes(found: &[Rejection]) -> Vec<(Cause, u64)> {
    found.iter().map(|it| (it.cause, it.count)).collect()
}

/// The race of [`late`], decided with `answer` after `before` has happened.
fn race(before: impl FnOnce(&mut Rejections), answer: Application) -> Rejection {
    let mut rejections = Rejections::default();
    before(&mut rejections);
    rejections.event(&late(7), HostFacts::default());
    rejections.tick(NOW + HOLD);
    rejections.ready().clear();
    assert!(rejections.questions().iter().any(|it| it.number == 7));
    rejections.answer(7, answer);
    let found = tick(&mut rejections, NOW + HOLD);
    assert_eq!(causes(&found), [(Cause::KeepaliveRace, 1)]);
    found.into_iter().next().unwrap()
}

#[test]
fn a_race_is_held_until_it_shows_why_the_connection_was_closed() {
    let mut rejections = Rejections::default();
    rejections.event(&late(7), HostFacts::default());
    assert!(!rejections.is_empty());
    for now in [NOW, NOW + HOLD - 1] {
        assert!(!rejections.is_due(now));
        assert_eq!(tick(&mut rejections, now), []);
        assert_eq!(rejections.questions(), []);
    }
    assert!(rejections.is_due(NOW + HOLD));
    assert_eq!(tick(&mut rejections, NOW + HOLD), []);
    let local = "10.0.2.5:8080".parse().unwrap();
    assert_eq!(rejections.questions(), [ProcessQuestion { number: 7, pid: 77, netns: NETNS, local }]);
    assert_eq!(rejections.questions(), [], "it is asked once");
    assert!(!rejections.is_due(NOW + HOLD));
    rejections.answer(7, runs());
    assert!(rejections.is_due(NOW + HOLD));
    let found = tick(&mut rejections, NOW + HOLD);
    assert_eq!(causes(&found), [(Cause::KeepaliveRace, 1)]);
    assert_eq!((found[0].evidence, found[0].last, found[0].connection), (Evidence::Observed, NOW, Some(7)));
    assert_eq!((found[0].facts.idle_ns, found[0].facts.late_ns), (Some(5 * S), Some(200 * US)));
    assert_eq!((rejections.counted(NETNS, Cause::KeepaliveRace), rejections.is_due(u64::MAX)), (1, false));
}

#[test]
fn a_race_says_why_the_connection_was_closed() {
    let nothing = |_: &mut Rejections| {};
    let reason = |before: fn(&mut Rejections), answer| race(before, answer).facts.closed_because;
    assert_eq!(reason(nothing, runs()), None);
    assert_eq!(reason(nothing, Application { is_alive: false, ..runs() }), Some(CloseReason::WorkerEnded));
    // It would have kept the connection, idle for 5 seconds, for a minute; or for little longer than it did.
    let keeps = |value: &str| {
        let setting = Setting { name: "--keep-alive".to_owned(), value: value.to_owned(), source: String::new() };
        Application { keep_alive: Some(setting), ..runs() }
    };
    assert_eq!(reason(nothing, keeps("60")), Some(CloseReason::Early));
    assert_eq!(reason(nothing, keeps("8")), None);
    assert_eq!(reason(nothing, keeps("$time")), None);
    // Nothing listens any more, either: the server ended within that second, which explains no earlier close.
    assert_eq!(reason(nothing, Application { is_alive: false, listens: false, ..runs() }), None);
    let stops = |it: &mut Rejections| it.listener_closed(&listener(NOW - 300 * MS));
    assert_eq!(reason(stops, Application::default()), Some(CloseReason::Stopped));
    assert_eq!(reason(stops, runs()), Some(CloseReason::Replaced));
    // One of several listeners of that port (`SO_REUSEPORT`): a worker ends, or another one, which is no reason.
    let elders = |elders: &[u32]| Application { elders: elders.to_vec(), ..runs() };
    let other = |it: &mut Rejections| {
        it.listener_closed(&ListenerRecord { by: Ender { pid: 78, ..nginx(How::Closed, 0) }, ..listener(NOW) });
    };
    assert_eq!(reason(stops, elders(&[77])), Some(CloseReason::Replaced), "it listens again");
    assert_eq!(reason(stops, elders(&[77, 79])), Some(CloseReason::WorkerEnded));
    assert_eq!(reason(other, elders(&[77])), None);
    assert_eq!(reason(other, elders(&[79])), None);
    assert_eq!(reason(other, Application { is_alive: false, ..elders(&[79]) }), Some(CloseReason::WorkerEnded));
    // The last listener of the port, and one that was there for a moment only.
    assert_eq!(reason(other, Application::default()), Some(CloseReason::Stopped));
    assert_eq!(reason(other, runs()), Some(CloseReason::Replaced));
    let stop: fn(&mut Rejections) = |it| {
        for (connection, time) in [(4, 9 * S), (5, 5 * S), (6, 2 * S)] {
            it.closed(&idle(connection, NOW - MS, time));
        }
    };
    assert_eq!(reason(stop, runs()), Some(CloseReason::Together));
    assert_eq!(race(stop, runs()).facts.closed_together, Some(3));
    let keep_alive: fn(&mut Rejections) = |it| {
        for (connection, at) in [(5, 10 * S), (6, 12 * S), (7, NOW - 200 * US)] {
            it.closed(&idle(connection, at, 5 * S));
        }
        // The warning is for another test.
        it.decide_all();
        it.ready();
    };
    let found = race(keep_alive, runs());
    assert_eq!((found.facts.closed_because, found.facts.same_idle), (Some(CloseReason::KeepAlive), Some(3)));
    assert_eq!(reason(keep_alive, Application { is_alive: false, ..runs() }), Some(CloseReason::WorkerEnded));
    let outlived: fn(&mut Rejections) = |it| {
        let record = RequestRecord { reported: 9 * S, ..request(9 * S, [0; 7]) };
        it.survived(&record, 30 * S);
    };
    // With and without closes that look like a keep-alive time.
    for before in [&[outlived][..], &[keep_alive, outlived]] {
        let found = race(|it| before.iter().for_each(|happens| happens(it)), runs());
        assert_eq!((found.facts.closed_because, found.facts.outlived_ns), (None, Some(30 * S)));
    }
}

#[test]
fn what_happens_while_a_race_is_held_counts() {
    let mut rejections = Rejections::default();
    rejections.event(&late(7), HostFacts::default());
    rejections.listener_closed(&listener(late(7).ended.ended + 50 * MS));
    rejections.tick(NOW + HOLD);
    rejections.answer(7, Application::default());
    let found = tick(&mut rejections, NOW + HOLD);
    assert_eq!(found[0].facts.closed_because, Some(CloseReason::Stopped));
}

#[test]
fn a_process_that_has_died_needs_no_other_reason() {
    let mut rejections = Rejections::default();
    let mut record = late(7);
    record.ended.by = nginx(How::Killed, 9);
    rejections.event(&record, HostFacts::default());
    rejections.listener_closed(&listener(NOW));
    rejections.decide_all();
    assert_eq!(rejections.ready()[0].facts.closed_because, Some(CloseReason::ProcessEnded));
}

/// A master asks a worker to end, and others go on: a reload. A crash, or the only process of a port, is none.
#[test]
fn a_worker_that_was_told_to_end_is_no_crash() {
    let reason = |how, signal, elders: &[u32]| {
        let mut rejections = Rejections::default();
        let mut data = late(7);
        data.ended.by = nginx(how, signal);
        rejections.event(&data, HostFacts::default());
        rejections.tick(NOW + HOLD);
        rejections.answer(7, Application { is_alive: false, elders: elders.to_vec(), ..runs() });
        tick(&mut rejections, NOW + HOLD)[0].facts.closed_because
    };
    assert_eq!(reason(How::Killed, 15, &[76]), Some(CloseReason::WorkerEnded));
    assert_eq!(reason(How::Killed, 15, &[]), Some(CloseReason::ProcessEnded));
    for (how, signal) in [(How::Killed, 9), (How::Killed, 11), (How::Exited, 0), (How::OutOfMemory, 9)] {
        assert_eq!(reason(how, signal, &[76]), Some(CloseReason::ProcessEnded), "{how:?} {signal}");
    }
}

#[test]
fn the_answer_names_server_and_setting() {
    let setting = Setting {
        name: "keepalive_timeout".to_owned(),
        value: "5s".to_owned(),
        source: "/etc/nginx/nginx.conf".to_owned(),
    };
    let answer = Application {
        server: Some("nginx".to_owned()),
        keep_alive: Some(setting.clone()),
        open_files: Some((1024, 1024)),
        threads: Some(4),
        ..runs()
    };
    let facts = race(|_| {}, answer.clone()).facts;
    assert_eq!((facts.server.as_deref(), facts.setting), (Some("nginx"), Some(setting)));
    // Open files are why new connections are closed, not why idle ones are.
    assert_eq!((facts.open_files, facts.threads), (None, None));
    let mut rejections = Rejections::default();
    let mut first = late(7);
    first.ended.requests = 0;
    rejections.event(&first, HostFacts::default());
    // Asked at once: it may have other files open later.
    assert_eq!(tick(&mut rejections, NOW), []);
    assert_eq!(rejections.questions().len(), 1);
    rejections.answer(7, answer);
    assert_eq!(tick(&mut rejections, NOW + HOLD - 1), [], "a FIN may come");
    let found = tick(&mut rejections, NOW + HOLD);
    assert_eq!(causes(&found), [(Cause::ResetBeforeResponse, 1)]);
    assert_eq!((found[0].facts.open_files, found[0].facts.threads), (Some((1024, 1024)), Some(4)));
}

#[test]
fn without_an_answer_it_is_decided_all_the_same() {
    let mut rejections = Rejections::default();
    rejections.event(&late(7), HostFacts::default());
    rejections.tick(NOW + HOLD);
    assert_eq!(rejections.questions().len(), 1);
    let due = NOW + HOLD + ANSWER;
    assert!(!rejections.is_due(due - 1) && rejections.is_due(due));
    assert_eq!(tick(&mut rejections, due - 1), []);
    let found = tick(&mut rejections, due);
    assert_eq!(causes(&found), [(Cause::KeepaliveRace, 1)]);
    assert_eq!(found[0].facts.closed_because, None, "that nobody answered does not mean that it has ended");
    // Where no process is known, nobody can be asked.
    let mut nobody = RejectionRecord { count: 2, ..late(8) };
    nobody.ended.by = Ender::default();
    rejections.event(&nobody, HostFacts::default());
    assert_eq!(causes(&tick(&mut rejections, NOW + HOLD)), [(Cause::KeepaliveRace, 1)]);
    assert_eq!(rejections.questions(), []);
}

#[test]
fn a_fin_behind_short_data_takes_the_race_back() {
    let mut rejections = Rejections::default();
    rejections.event(&alert(7), HostFacts::default());
    rejections.event(&RejectionRecord { count: 2, ..alert(8) }, HostFacts::default());
    rejections.event(&fin(&alert(7)), HostFacts::default());
    rejections.tick(NOW + HOLD);
    rejections.answer(7, runs());
    rejections.answer(8, runs());
    let found = tick(&mut rejections, NOW + HOLD);
    assert_eq!(causes(&found), [(Cause::KeepaliveRace, 1)]);
    assert_eq!((found[0].connection, found[0].evidence), (Some(8), Evidence::Inferred));
    // A FIN is no event of its own, and a request stays one.
    rejections.event(&RejectionRecord { count: 3, ..late(9) }, HostFacts::default());
    rejections.event(&fin(&late(9)), HostFacts::default());
    rejections.event(&fin(&late(10)), HostFacts::default());
    rejections.decide_all();
    assert_eq!(causes(&rejections.ready()), [(Cause::KeepaliveRace, 1)]);
}

/// What the data was is known of its own connection only: the records that were lost are counted apart.
#[test]
fn a_lost_record_of_data_after_the_close_is_not_counted_to_the_next_one() {
    let mut rejections = Rejections::default();
    for (count, connection) in [(4, 7), (9, 8)] {
        rejections.event(&RejectionRecord { count, ..late(connection) }, HostFacts::default());
    }
    rejections.decide_all();
    let found = rejections.ready();
    assert_eq!(causes(&found), [(Cause::KeepaliveRace, 1); 2]);
    assert_eq!([found[0].connection, found[1].connection], [Some(7), Some(8)]);
}

#[test]
fn data_that_asks_for_nothing_is_not_held_and_yet_reported() {
    let mut rejections = Rejections::default();
    rejections.event(&RejectionRecord { opening: Opening::TlsAlert as u32, ..alert(7) }, HostFacts::default());
    assert!(rejections.is_empty() && !rejections.is_due(u64::MAX));
}

/// A request in two pieces: the socket took the first one behind this host's FIN, the second one came when it was gone.
#[test]
fn what_comes_for_a_request_that_is_lost_already_is_not_another_one() {
    let half_closed = ConnectionRecord { late: 100, pending: ConnectionRecord::NOTHING, ..idle(7, NOW - MS, 5 * S) };
    let early = idle(7, NOW - MS, 0);
    let early = ConnectionRecord { unread: 9000, flags: early.flags | RESET_BY_HOST, ..early };
    for (record, cause) in [(half_closed, Cause::KeepaliveRace), (early, Cause::ResetDuringUpload)] {
        let mut rejections = Rejections::default();
        rejections.closed(&record);
        rejections.event(&late(7), HostFacts::default());
        rejections.event(&fin(&late(7)), HostFacts::default());
        rejections.tick(NOW + HOLD);
        rejections.tick(NOW + HOLD + ANSWER);
        assert_eq!(causes(&rejections.ready()), [(cause, 1)]);
        // That of another connection is.
        rejections.event(&RejectionRecord { count: 2, ..late(8) }, HostFacts::default());
        rejections.tick(NOW + HOLD);
        rejections.tick(NOW + HOLD + ANSWER);
        assert_eq!(causes(&rejections.ready()), [(Cause::KeepaliveRace, 1)]);
    }
}

#[test]
fn the_count_of_records_that_were_lost_is_kept() {
    let mut rejections = Rejections::default();
    let full = |count, reported| {
        let key = Key { packet: PacketKind::Syn as u8, ..key(Event::AcceptQueueFull) };
        RejectionRecord { key, count, reported, ..late(0) }
    };
    let mut event = |count, reported| rejections.event(&full(count, reported), HostFacts::default());
    event(1, NOW);
    // Four were not recorded, and then one report was overtaken by the next.
    event(6, NOW + S);
    event(5, NOW + S - 1);
    event(8, NOW + 3 * S);
    assert_eq!(causes(&rejections.ready()), [1, 5, 2].map(|count| (Cause::AcceptQueueFull, count)));
    assert_eq!(rejections.counted(NETNS, Cause::AcceptQueueFull), 8);
    let tally = Tally { count: 10, first: NOW, last: NOW + 4 * S, recorded: NOW + 3 * S, ..Tally::default() };
    let key = full(1, NOW).key;
    let unreported = rejections.unreported(&key, &tally).unwrap();
    assert_eq!((unreported.count, unreported.since, unreported.is_known), (2, NOW + 3 * S, true));
    assert_eq!(unreported.latest.map(|it| it.cause), Some(Cause::AcceptQueueFull));
    // Of another key nothing was reported.
    let other = Key { netns: 1, ..key };
    let unreported = rejections.unreported(&other, &tally).unwrap();
    assert_eq!((unreported.count, unreported.since, unreported.is_known), (10, 0, false));
    // SYNs that were dropped before they came to the full queue are none.
    assert_eq!(rejections.unreported(&other, &Tally { taken_back: 4, ..tally }).map(|it| it.count), Some(6));
    assert!(rejections.unreported(&other, &Tally { taken_back: 10, ..tally }).is_none());
}

#[test]
fn the_connections_of_a_process_that_died_are_one_line() {
    let mut rejections = Rejections::default();
    let died = |connection, at, idle_ns, by| ConnectionRecord { by, ..idle(connection, at, idle_ns) };
    let by = nginx(How::Killed, 11);
    for (connection, idle) in [(1, 30 * S), (2, 20 * MS), (3, 9 * S)] {
        rejections.closed(&died(connection, NOW, idle, by));
    }
    // So long ago that every response was whole.
    rejections.closed(&died(4, NOW, 60 * S, by));
    let other = Ender { pid: 78, ..by };
    rejections.closed(&died(5, NOW, S, other));
    assert!(!rejections.is_due(NOW + HOLD - 1) && rejections.is_due(NOW + HOLD));
    assert_eq!(tick(&mut rejections, NOW + HOLD - 1), []);
    let found = tick(&mut rejections, NOW + HOLD);
    assert_eq!(causes(&found), [(Cause::ProcessDied, 3), (Cause::ProcessDied, 1)]);
    // The least time since the last byte is the greatest doubt.
    let facts = &found[0].facts;
    assert_eq!((facts.idle_ns, facts.closed_together, found[0].connection), (Some(20 * MS), Some(3), Some(2)));
    assert_eq!(facts.ended_by.as_ref().map(|by| by.pid), Some(77));
    assert_eq!(found[1].facts.ended_by.as_ref().map(|by| by.pid), Some(78));
    assert_eq!(rejections.counted(NETNS, Cause::ProcessDied), 4);
    assert_eq!(tick(&mut rejections, NOW + 9 * S), []);
    // At the end nothing waits.
    rejections.closed(&died(6, NOW + 10 * S, S, by));
    rejections.decide_all();
    assert_eq!(causes(&rejections.ready()), [(Cause::ProcessDied, 1)]);
}

#[test]
fn a_keep_alive_time_is_too_short_from_the_third_close_on() {
    let mut rejections = Rejections::default();
    for (connection, at) in [(1, 10 * S), (2, 12 * S)] {
        rejections.closed(&idle(connection, at, 5 * S));
        assert!(!rejections.is_due(u64::MAX) && rejections.is_empty());
    }
    rejections.closed(&idle(3, 14 * S, 5 * S));
    assert_eq!(tick(&mut rejections, 15 * S - 1), []);
    assert_eq!(tick(&mut rejections, 15 * S), []);
    assert_eq!(rejections.questions().len(), 1);
    rejections.answer(3, runs());
    let found = tick(&mut rejections, 15 * S);
    assert_eq!(causes(&found), [(Cause::KeepaliveTooShort, 1)]);
    assert_eq!((found[0].evidence, found[0].facts.idle_ns), (Evidence::Inferred, Some(5 * S)));
    assert_eq!((found[0].facts.same_idle, found[0].facts.closed_because), (Some(3), Some(CloseReason::KeepAlive)));
    rejections.closed(&idle(4, 20 * S, 5 * S));
    rejections.decide_all();
    assert_eq!(rejections.ready()[0].facts.same_idle, Some(4));
}

#[test]
fn a_keep_alive_time_is_not_too_short_if_the_server_stops_or_another_connection_lives_on() {
    let of = |meanwhile: fn(&mut Rejections), answer: Application| {
        let mut rejections = Rejections::default();
        for (connection, at) in [(1, 10 * S), (2, 12 * S), (3, 14 * S)] {
            rejections.closed(&idle(connection, at, 5 * S));
        }
        meanwhile(&mut rejections);
        rejections.tick(15 * S);
        rejections.answer(3, answer);
        causes(&tick(&mut rejections, 15 * S))
    };
    assert_eq!(of(|_| {}, runs()), [(Cause::KeepaliveTooShort, 1)]);
    assert_eq!(of(|_| {}, Application { is_alive: false, ..runs() }), []);
    assert_eq!(of(|it| it.listener_closed(&listener(14_050 * MS)), runs()), []);
    // The listener of another worker says nothing about this one.
    let other = |it: &mut Rejections| {
        let by = Ender { pid: 78, ..nginx(How::Closed, 0) };
        it.listener_closed(&ListenerRecord { by, ..listener(14_050 * MS) });
    };
    assert_eq!(of(other, Application { elders: vec![77], ..runs() }), [(Cause::KeepaliveTooShort, 1)]);
    assert_eq!(of(other, Application::default()), []);
    // Half a second after the connection, it is another matter.
    assert_eq!(of(|it| it.listener_closed(&listener(14_500 * MS)), runs()), [(Cause::KeepaliveTooShort, 1)]);
    // By a request after 30 s, and by the peer's close after 30 s.
    assert_eq!(of(|it| it.survived(&request(14_500 * MS, [0; 7]), 30 * S), runs()), []);
    let left = |it: &mut Rejections| {
        let record = idle(9, 14_500 * MS, 30 * S);
        it.closed(&ConnectionRecord { flags: CLOSED_BY_PEER | marks(&[], Opening::Http), ..record });
    };
    assert_eq!(of(left, runs()), []);
}

#[test]
fn a_stop_is_no_keep_alive_time_however_many_connections_it_closes() {
    let mut rejections = Rejections::default();
    for connection in 0..500 {
        rejections.closed(&idle(connection, NOW + connection * 100 * US, 2 * S + connection * 100 * MS));
    }
    rejections.tick(NOW + 9 * S);
    assert!(rejections.is_empty(), "{:?}", rejections.ready());
}

#[test]
fn what_is_lost_with_its_connection_is_decided_with_the_answer() {
    let unanswered = |flags, unread| {
        let record = idle(7, NOW, 5 * S);
        let flags = flags | marks(&[], Opening::Http);
        let queued = NOW - 300 * MS;
        ConnectionRecord { pending: ConnectionRecord::UNANSWERED, flags, unread, queued, bytes_out: 0, ..record }
    };
    for (record, cause, ask_at) in [
        (unanswered(CLOSED_BY_APPLICATION, 0), Cause::ClosedBeforeResponse, NOW + HOLD),
        (unanswered(RESET_BY_HOST, 0), Cause::ResetBeforeResponse, NOW + HOLD),
        // It was not read: the reason shows in what else is closed.
        (unanswered(RESET_BY_HOST, 512), Cause::KeepaliveRace, NOW + HOLD),
    ] {
        let mut rejections = Rejections::default();
        rejections.closed(&record);
        assert_eq!((tick(&mut rejections, ask_at - 1), rejections.questions()), (vec![], vec![]), "{cause:?}");
        assert_eq!((tick(&mut rejections, ask_at), rejections.questions().len()), (vec![], 1), "{cause:?}");
        rejections.answer(7, Application { is_alive: false, ..runs() });
        let found = tick(&mut rejections, ask_at);
        assert_eq!(causes(&found), [(cause, 1)]);
        assert_eq!((found[0].connection, found[0].sequence), (Some(7), Some(2)));
        // A request under way may have been what ended the process.
        let reason = (cause == Cause::KeepaliveRace).then_some(CloseReason::WorkerEnded);
        assert_eq!(found[0].facts.closed_because, reason, "{cause:?}");
    }
    // A peer that gave up is no question for this host.
    let mut rejections = Rejections::default();
    rejections.closed(&unanswered(CLOSED_BY_PEER, 0));
    assert_eq!(causes(&rejections.ready()), [(Cause::PeerGaveUp, 1)]);
}

#[test]
fn a_request_that_waits_is_reported_once() {
    let mut rejections = Rejections::default();
    let waiting = |reported| RequestRecord { flags: 0, reported, ..unanswered() };
    assert!(!rejections.waits(&waiting(20 * S)));
    assert!(rejections.waits(&waiting(80 * S)));
    assert!(!rejections.waits(&waiting(81 * S)));
    assert_eq!(causes(&rejections.ready()), [(Cause::NoResponse, 1)]);
    // Its end is explained by that. The end of the next request is not.
    let record = unanswered();
    let ended = ConnectionRecord {
        connection: record.connection,
        requests: record.sequence,
        pending: ConnectionRecord::UNANSWERED,
        flags: CLOSED_BY_PEER,
        ..closed()
    };
    rejections.closed(&ended);
    assert_eq!(causes(&rejections.ready()), []);
    rejections.closed(&ConnectionRecord { requests: record.sequence + 1, ..ended });
    assert_eq!(causes(&rejections.ready()), [(Cause::PeerGaveUp, 1)]);
    assert_eq!(rejections.counted(NETNS, Cause::NoResponse), 1);
}

#[test]
fn a_request_that_was_told_to_wait_is_reported_once() {
    let mut rejections = Rejections::default();
    let record = RequestRecord { zero_window: 2 * S, ..request(NOW, [0; 7]) };
    assert!(Rejections::is_of_interest(&record) && !Rejections::is_of_interest(&request(NOW, [0; 7])));
    rejections.ended(&record);
    rejections.ended(&RequestRecord { zero_window: 3 * S, revision: 1, ..record });
    assert!(!rejections.waits(&record));
    assert_eq!(causes(&rejections.ready()), [(Cause::ApplicationNotReading, 1)]);
}

#[test]
fn at_the_end_everything_is_asked_and_decided() {
    let mut rejections = Rejections::default();
    rejections.event(&late(7), HostFacts::default());
    rejections.closed(&ConnectionRecord { by: nginx(How::Exited, 0), ..idle(8, NOW, 10 * MS) });
    for (connection, at) in [(1, 10 * S), (2, 12 * S), (3, 14 * S)] {
        rejections.closed(&idle(connection, at, 5 * S));
    }
    rejections.ask_all();
    let numbers: Vec<_> = rejections.questions().iter().map(|it| it.number).collect();
    assert_eq!((numbers, rejections.ready()), (vec![7, 3], vec![]), "to ask decides nothing");
    rejections.ask_all();
    assert_eq!(rejections.questions(), []);
    rejections.answer(7, Application { server: Some("nginx".to_owned()), ..runs() });
    rejections.decide_all();
    let found = rejections.ready();
    let expected = [(Cause::KeepaliveRace, 1), (Cause::KeepaliveTooShort, 1), (Cause::ProcessDied, 1)];
    assert_eq!(causes(&found), expected);
    assert_eq!([&found[0], &found[1]].map(|it| it.facts.server.as_deref()), [Some("nginx"), None]);
    rejections.finish();
    assert_eq!((rejections.ready(), rejections.is_due(u64::MAX)), (vec![], false));
}

#[test]
fn beyond_a_bound_the_oldest_verdict_is_given_with_what_is_known() {
    let mut rejections = Rejections::default();
    let all = WAITING as u64 + 5;
    for number in 1..=all {
        rejections.event(&RejectionRecord { count: number, ..late(number) }, HostFacts::default());
    }
    assert_eq!(rejections.waiting.len(), WAITING);
    rejections.decide_all();
    rejections.finish();
    assert_eq!(rejections.ready().iter().map(|it| it.count).sum::<u64>(), all);
    assert_eq!(rejections.counted(NETNS, Cause::KeepaliveRace), all);
}

#[test]
fn a_close_is_noted_for_others_by_what_it_was() {
    let mut rejections = Rejections::default();
    let unanswered = ConnectionRecord { pending: ConnectionRecord::UNANSWERED, bytes_out: 0, ..idle(1, NOW, 5 * S) };
    // Three that were not idle do not make a keep-alive time; but they closed.
    for (connection, at) in [(1, NOW), (2, NOW + 2 * S), (3, NOW + 4 * S)] {
        rejections.closed(&ConnectionRecord { connection, ended: at, ..unanswered });
    }
    let close = Close { at: NOW + 4 * S, idle: 5 * S, pid: 77 };
    let local = "10.0.2.5:8080".parse().unwrap();
    let found = rejections.closes.witnesses(NETNS, local, close, rejections.limits);
    assert_eq!((found.reason, found.together), (None, 1));
}

/// Nobody has read the request, so no process is known: whoever listens is asked about.
#[test]
fn who_does_not_accept_is_asked_about() {
    let mut rejections = Rejections::default();
    let record = unanswered();
    let moments = tracer_common::stage::RequestMoments { first_read: 0, last_read: 0, ..record.moments };
    let record = RequestRecord {
        moments,
        flags: 0,
        process: tracer_common::record::Process::default(),
        sequence: 1,
        reported: 100 * S,
        ..record
    };
    assert!(rejections.waits(&record) && !rejections.waits(&record));
    rejections.tick(100 * S);
    assert!(rejections.ready().is_empty(), "the answer has not come");
    let questions = rejections.questions();
    let [ProcessQuestion { number, pid: 0, .. }] = questions[..] else { panic!("{questions:?}") };
    let process = Some(ProcessName { pid: 7, comm: "web".to_owned(), how: None });
    let answer = Application { process: process.clone(), open_files: Some((20, 20)), ..Application::default() };
    rejections.answer(number, answer);
    rejections.tick(100 * S + MS);
    let ready = rejections.ready();
    assert_eq!(causes(&ready), [(Cause::NoResponse, 1)]);
    assert_eq!((&ready[0].facts.process, ready[0].facts.open_files), (&process, Some((20, 20))));
}

/// The listener closes with a request under way. What died is said to have died, whatever became of the listener.
#[test]
fn a_request_under_way_is_lost_with_a_stop() {
    for (how, listens, expected) in [
        (How::Closed, false, Some(CloseReason::Stopped)),
        (How::Closed, true, Some(CloseReason::Replaced)),
        (How::Killed, false, None),
    ] {
        let mut rejections = Rejections::default();
        let listener = ListenerRecord {
            kind: Kind::Listener as u32,
            netns: NETNS,
            reported: NOW - MS,
            by: nginx(how, 9),
            local: v4().local,
            padding: 0,
        };
        rejections.listener_closed(&listener);
        let pending = ConnectionRecord::UNANSWERED;
        rejections.closed(&ConnectionRecord { pending, bytes_out: 0, by: nginx(how, 9), ..idle(1, NOW, S) });
        rejections.tick(NOW + HOLD);
        rejections.questions();
        rejections.answer(1, Application { listens, ..Application::default() });
        rejections.tick(NOW + HOLD + MS);
        let ready = rejections.ready();
        assert_eq!(causes(&ready), [(Cause::ClosedBeforeResponse, 1)]);
        assert_eq!(ready[0].facts.closed_because, expected, "{how:?}");
    }
}

/// Without an answer it is not known who else listens: only the listener of the process itself tells of a stop.
#[test]
fn without_an_answer_the_listener_of_another_process_tells_nothing() {
    for (pid, expected) in [(77, Some(CloseReason::Stopped)), (78, None)] {
        let mut rejections = Rejections::default();
        let by = Ender { pid, ..nginx(How::Closed, 0) };
        rejections.listener_closed(&ListenerRecord { by, ..listener(NOW) });
        rejections.event(&late(7), HostFacts::default());
        rejections.tick(NOW + HOLD);
        assert_eq!(rejections.questions().len(), 1);
        let found = tick(&mut rejections, NOW + HOLD + ANSWER);
        assert_eq!(causes(&found), [(Cause::KeepaliveRace, 1)]);
        assert_eq!(found[0].facts.closed_because, expected, "{pid}");
    }
}

/// An answer is for the questions of its moment.
#[test]
fn answers_are_forgotten_with_what_was_decided_by_them() {
    let mut rejections = Rejections::default();
    for (count, connection) in [(1, 7), (2, 8)] {
        rejections.event(&RejectionRecord { count, ..late(connection) }, HostFacts::default());
    }
    rejections.tick(NOW + HOLD);
    rejections.answer(7, runs());
    assert_eq!(causes(&tick(&mut rejections, NOW + HOLD)), [(Cause::KeepaliveRace, 1)]);
    assert_eq!((rejections.answers.len(), rejections.waiting.len()), (0, 1));
}

/// A SYN to a port on which nothing listens, as one of `count` that are counted together.
fn unserved(port: u16, count: u64, generation: u8) -> RejectionRecord {
    let mut record =
        RejectionRecord { generation, count, folded: Folded::PORT, reported: NOW, ..RejectionRecord::EMPTY };
    record.key = Key { packet: PacketKind::Syn as u8, local: Endpoint { port, ..v4().local }, ..key(Event::Dropped) };
    record.peer = v4().peer;
    record
}

fn no_socket() -> HostFacts {
    HostFacts { reason: Some("NO_SOCKET".to_owned()), ..HostFacts::default() }
}

/// Ports are named where they are known: one by one, and where all of a report are the same.
#[test]
fn several_ports_are_no_port() {
    let mut rejections = Rejections::default();
    let mut found = |record: RejectionRecord| {
        rejections.event(&record, no_socket());
        let [ref found] = rejections.ready()[..] else { panic!("not one") };
        (found.local.port(), found.count)
    };
    assert_eq!(found(unserved(81, 1, 0)), (81, 1));
    assert_eq!(found(unserved(82, 2, 0)), (82, 1));
    assert_eq!(found(unserved(83, 9, 0)), (83, 7));
    let mut rejections = Rejections::default();
    rejections.event(&RejectionRecord { mixed: Folded::PORT, ..unserved(84, 20, 0) }, no_socket());
    let [ref several] = rejections.ready()[..] else { panic!("not one") };
    assert_eq!((several.local.port(), several.count, several.cause), (0, 20, Cause::NoListener));
    assert!(!several.local.ip().is_unspecified());
}

/// What is counted in two generations is counted once, whenever the tallies of the first are taken.
#[test]
fn generations_are_counted_one_by_one() {
    let tally = |record: &RejectionRecord, count| Tally { count, local: record.key.local, ..Tally::default() };
    let mut rejections = Rejections::default();
    let (before, after) = (unserved(81, 3, 255), unserved(81, 1, 0));
    rejections.event(&before, no_socket());
    rejections.event(&after, no_socket());
    rejections.generation_ends(255);
    let rest = rejections.unreported(&before.counted_by(), &tally(&before, 10)).unwrap();
    assert_eq!((rest.count, rest.is_known), (7, true));
    // A record that comes too late is a part of what was taken.
    rejections.event(&RejectionRecord { count: 5, ..before }, no_socket());
    rejections.event(&RejectionRecord { count: 2, ..after }, no_socket());
    assert!(rejections.unreported(&after.counted_by(), &tally(&after, 2)).is_none());
    assert_eq!(rejections.counted(NETNS, Cause::NoListener), 5);
    assert!(rejections.reported.is_empty());
}

/// A replay takes no tallies: what was reported is forgotten all the same.
#[test]
fn generations_are_forgotten_when_two_have_followed() {
    let mut rejections = Rejections::default();
    for generation in (0..=255).chain(0..=255) {
        rejections.event(&unserved(81, 1, generation), no_socket());
        assert!(rejections.reported.len() <= 2);
    }
    assert_eq!(rejections.counted(NETNS, Cause::NoListener), 512);
}

/// `count` packets dropped by netfilter until now, the latest of them by the rule with that handle.
fn by_rule(count: u64, handle: u64) -> (RejectionRecord, HostFacts) {
    let rule = Rule { chain: "inet f input".to_owned(), handle: Some(handle), text: "drop".to_owned() };
    let key = Key { location: 1, reason: 12, ..key(Event::Dropped) };
    let record = RejectionRecord { key, peer: v4().peer, reported: count * S, count, ..RejectionRecord::EMPTY };
    let host = HostFacts { reason: Some("NETFILTER_DROP".to_owned()), rule: Some(rule), ..HostFacts::default() };
    (record, host)
}

#[test]
fn what_happens_between_the_drops_of_two_rules_may_be_of_either() {
    let mut rejections = Rejections::default();
    for (count, handle) in [(1, 2), (3, 2), (10, 3), (12, 3)] {
        let (record, host) = by_rule(count, handle);
        rejections.event(&record, host);
    }
    let (record, _) = by_rule(14, 3);
    let rest = rejections.unreported(&record.counted_by(), &Tally { count: 14, ..Tally::default() }).unwrap();
    let rest = Rejection { count: rest.count, ..rest.latest.unwrap() };
    rejections.finish();
    let mut counts = std::collections::BTreeMap::<_, u64>::new();
    for rejection in rejections.ready().iter().chain([&rest]) {
        let handles = |rules: &[Rule]| rules.iter().filter_map(|it| it.handle).collect::<Vec<_>>();
        let facts = &rejection.facts;
        *counts.entry((facts.rule.as_ref().and_then(|it| it.handle), handles(&facts.candidates))).or_default() +=
            rejection.count;
    }
    let expected = [((None, vec![2, 3]), 6 + 1 + 2), ((Some(2), vec![]), 3), ((Some(3), vec![]), 2)];
    assert_eq!(counts, expected.into());
}
