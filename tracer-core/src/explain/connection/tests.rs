//! Tests of the causes of connections and requests.

use super::{may_have_gone_wrong, nothing_arrived, of_closed, of_ended, of_listener, of_request, of_waiting};
use crate::{
    explain::{Limits, ending::of_connection, entry, explain, tests::process},
    model::rejection::{
        Cause,
        Evidence::{self, Inferred, NotSeen, Observed},
        Rejection,
    },
    samples::{MS, S, closed, marks, request, unanswered},
};
use tracer_common::{
    connection::{
        ACCEPT_UNSEEN, ADOPTED, CLOSED_BY_APPLICATION, CLOSED_BY_PEER, RESET_ARRIVED, RESET_BY_HOST, RESET_BY_PEER,
        TIMED_OUT, TIMED_OUT_AT_LAST,
    },
    endpoint::Endpoint,
    opening::Opening,
    record::{ConnectionRecord, Process, RequestRecord},
    rejection::{Ender, How, ListenerKey, ListenerTally, Queue},
};

const UNANSWERED: u32 = ConnectionRecord::UNANSWERED;
const CUT: u32 = ConnectionRecord::CUT;

fn ended(pending: u32, flags: u32) -> ConnectionRecord {
    let bytes_out = if pending == UNANSWERED { 0 } else { 20_480 };
    ConnectionRecord { pending, flags, bytes_out, queued: 19 * S, idle: 300 * MS, ..closed() }
}

fn of(record: &ConnectionRecord) -> Option<Rejection> {
    let found = of_closed(record, of_connection(record));
    if let Some(Rejection { cause, evidence, .. }) = found {
        assert!(entry(cause).evidence.contains(&evidence), "{cause:?} {evidence:?}");
    }
    found
}

fn cause(pending: u32, flags: u32) -> Option<(Cause, Evidence)> {
    of(&ended(pending, flags)).map(|it| (it.cause, it.evidence))
}

#[test]
fn the_first_end_of_a_connection_says_what_became_of_its_request() {
    use Cause::{ClosedBeforeResponse, PeerGaveUp, ResetBeforeResponse, ResetMidResponse, ResponseNotAcknowledged};
    for (pending, flags, expected) in [
        (UNANSWERED, CLOSED_BY_APPLICATION, ClosedBeforeResponse),
        (UNANSWERED, CLOSED_BY_APPLICATION | RESET_ARRIVED, ClosedBeforeResponse),
        (UNANSWERED, RESET_BY_HOST, ResetBeforeResponse),
        (CUT, RESET_BY_HOST, ResetMidResponse),
        (UNANSWERED, RESET_BY_PEER, PeerGaveUp),
        (CUT, CLOSED_BY_PEER, PeerGaveUp),
        (CUT, RESET_BY_PEER | RESET_ARRIVED, PeerGaveUp),
        (CUT, TIMED_OUT, ResponseNotAcknowledged),
        (CUT, CLOSED_BY_APPLICATION | TIMED_OUT_AT_LAST, ResponseNotAcknowledged),
    ] {
        assert_eq!(cause(pending, flags), Some((expected, Observed)), "{pending} {flags:#x}");
    }
    // It was answered before: this may have been a message that needs no answer.
    assert_eq!(cause(UNANSWERED, CLOSED_BY_PEER), Some((PeerGaveUp, Inferred)));
    for (pending, flags) in [
        (CUT, CLOSED_BY_APPLICATION),
        (CUT, CLOSED_BY_APPLICATION | RESET_ARRIVED),
        (UNANSWERED, TIMED_OUT),
        (ConnectionRecord::UNKNOWN, CLOSED_BY_APPLICATION),
        (ConnectionRecord::UNKNOWN, RESET_BY_HOST),
        (ConnectionRecord::NOTHING, CLOSED_BY_PEER),
        (ConnectionRecord::NOTHING, RESET_BY_PEER),
    ] {
        assert_eq!(cause(pending, flags), None, "{pending} {flags:#x}");
    }
}

#[test]
fn a_broken_request_has_its_figures() {
    let by = Ender { pid: 812, how: How::Killed as u16, signal: 9, comm: *b"gunicorn\0\0\0\0\0\0\0\0" };
    let record = ConnectionRecord { by, unread: 100, bytes_out: 0, ..ended(UNANSWERED, RESET_BY_HOST) };
    let found = of(&record).unwrap();
    assert_eq!((found.count, found.first, found.last), (1, 20 * S, 20 * S));
    assert_eq!((found.connection, found.sequence), (Some(0x1a2b), Some(2)));
    let facts = found.facts;
    assert_eq!((facts.waited_ns, facts.unread, facts.bytes_in, facts.idle_ns), (Some(S), Some(100), Some(512), None));
    assert_eq!(facts.ended_by, Some(process("gunicorn", 812, Some("killed by signal 9"))));
    assert!(!facts.never_read && !facts.never_accepted);
    let found = of(&ConnectionRecord { queued: 0, ..record }).unwrap();
    assert_eq!(found.facts.waited_ns, None);
    // Whoever closes after the peer did has not ended it.
    let found = of(&ConnectionRecord { flags: CLOSED_BY_PEER, ..record }).unwrap();
    assert_eq!((found.facts.ended_by, found.facts.packet.as_deref()), (None, Some("FIN")));
}

#[test]
fn a_request_whose_bytes_are_all_unread_was_never_read() {
    let mut record = ended(UNANSWERED, RESET_BY_HOST);
    (record.unread, record.process, record.requests, record.moments.accepted) = (512, Process::default(), 1, 0);
    let facts = |record: &ConnectionRecord| of(record).unwrap().facts;
    assert!(facts(&record).never_read && facts(&record).never_accepted);
    let later = ConnectionRecord { requests: 2, ..record };
    let adopted = ConnectionRecord { flags: RESET_BY_HOST | ADOPTED, ..record };
    let unseen = ConnectionRecord { flags: RESET_BY_HOST | ACCEPT_UNSEEN, ..record };
    for record in [later, adopted, unseen] {
        assert!(facts(&record).never_read && !facts(&record).never_accepted);
    }
}

#[test]
fn a_tls_farewell_is_no_request() {
    let alert = marks(&[Opening::TlsHandshake, Opening::TlsData], Opening::TlsAlert);
    for flags in [CLOSED_BY_PEER, RESET_BY_PEER, CLOSED_BY_APPLICATION, RESET_BY_HOST] {
        let farewell = ConnectionRecord { bytes_in: 31, idle: 5 * S, ..ended(UNANSWERED, flags | alert) };
        assert_eq!(of(&farewell), None, "{flags:#x}");
        // As few bytes of something else are a request.
        assert!(of(&ConnectionRecord { flags, ..farewell }).is_some(), "{flags:#x}");
        assert!(of(&ConnectionRecord { flags: flags | marks(&[], Opening::Http), ..farewell }).is_some(), "{flags:#x}");
    }
    // TLS 1.3 encrypts alerts, and nobody may have read it: then the FIN right behind it tells.
    for opening in [Opening::TlsData, Opening::Unknown] {
        let flags = CLOSED_BY_PEER | marks(&[Opening::TlsHandshake, Opening::TlsData], opening);
        let farewell = ConnectionRecord { bytes_in: 24, peer_left: 1, ..ended(UNANSWERED, flags) };
        assert_eq!(of(&farewell), None, "{opening:?}");
        assert!(of(&ConnectionRecord { bytes_in: 400, ..farewell }).is_some(), "{opening:?}");
        // The first bytes of a connection are none.
        let first = ConnectionRecord { requests: 1, ..farewell };
        assert!(of(&first).is_some(), "{opening:?}");
        // They are not its first bytes if it was open before.
        assert_eq!(of(&ConnectionRecord { flags: flags | ADOPTED, ..first }), None, "{opening:?}");
    }
}

/// Whether it closes them too soon is seen in other closes: `closes.rs`.
#[test]
fn an_application_that_closes_an_idle_connection_may_do_so_too_soon() {
    let idle = |flags, idle| ConnectionRecord { idle, ..ended(ConnectionRecord::NOTHING, flags) };
    for flags in [CLOSED_BY_APPLICATION, RESET_BY_HOST] {
        let found = of(&idle(flags, 5 * S)).unwrap();
        assert_eq!((found.cause, found.evidence), (Cause::KeepaliveTooShort, Inferred));
        assert_eq!((found.facts.idle_ns, found.facts.waited_ns, found.sequence), (Some(5 * S), None, None));
        assert_eq!(of(&idle(flags, 0)).unwrap().facts.idle_ns, None, "is not known");
    }
    let record = idle(CLOSED_BY_APPLICATION, S);
    assert!(of(&record).is_some());
    // Nothing was asked on it.
    assert_eq!(of(&ConnectionRecord { requests: 0, ..record }), None);
}

#[test]
fn a_process_that_died_may_have_been_in_the_middle_of_a_response() {
    let died = |how: How, signal, idle| {
        let by = Ender { pid: 7, how: how as u16, signal, ..Ender::default() };
        of(&ConnectionRecord { idle, by, ..ended(ConnectionRecord::NOTHING, CLOSED_BY_APPLICATION) })
    };
    let found = died(How::Killed, 11, 5 * S).unwrap();
    assert_eq!((found.cause, found.evidence), (Cause::ProcessDied, Inferred));
    assert_eq!((found.facts.idle_ns, found.facts.waited_ns, found.sequence), (Some(5 * S), None, None));
    assert_eq!(found.facts.ended_by, Some(process("", 7, Some("killed by signal 11"))));
    // The last byte was long ago, or nobody knows when it was.
    for (how, signal, idle) in [
        (How::Killed, 11, 60 * S),
        (How::OutOfMemory, 9, 60 * S),
        (How::Exited, 0, S),
        (How::Killed, 15, S),
        (How::Killed, 2, S),
        (How::Killed, 9, 0),
        (How::Exited, 0, 0),
    ] {
        assert_eq!(died(how, signal, idle), None, "{how:?} {signal} {idle}");
    }
    for (how, signal, idle) in [(How::OutOfMemory, 9, 59 * S), (How::Exited, 0, S - 1), (How::Killed, 15, S - 1)] {
        assert!(died(how, signal, idle).is_some(), "{how:?} {signal} {idle}");
    }
}

#[test]
fn a_request_that_was_accepted_and_closed_unread_says_so() {
    let mut record = ended(UNANSWERED, RESET_BY_HOST);
    (record.unread, record.requests) = (512, 1);
    let closed_unread = |record: &ConnectionRecord| of(record).unwrap().facts.closed_unread;
    assert!(closed_unread(&record));
    for other in [
        ConnectionRecord { unread: 511, ..record },
        ConnectionRecord { requests: 2, ..record },
        ConnectionRecord { flags: RESET_BY_HOST | ADOPTED, ..record },
        ConnectionRecord { by: Ender { pid: 7, how: How::Exited as u16, ..Ender::default() }, ..record },
    ] {
        assert!(!closed_unread(&other), "{other:?}");
    }
    record.moments.accepted = 0;
    assert!(!closed_unread(&record), "it was never accepted");
}

#[test]
fn how_long_nothing_came_is_told_of_what_was_closed_without_a_response() {
    let silent = |flags| of(&ended(UNANSWERED, flags)).unwrap().facts.silent_ns;
    assert_eq!(silent(CLOSED_BY_APPLICATION), Some(300 * MS));
    assert_eq!([silent(RESET_BY_HOST), silent(CLOSED_BY_PEER)], [None, None]);
}

fn causes(record: &RequestRecord) -> Vec<(Cause, Evidence)> {
    of_waiting(record, Limits::default()).into_iter().map(|it| (it.cause, it.evidence)).collect()
}

#[test]
fn a_request_that_waits_for_the_idle_timeout_has_no_response() {
    let read = unanswered().moments.last_read;
    let http = marks(&[], Opening::Http);
    let waiting = |reported| RequestRecord { flags: 0, marks: http, reported, ..unanswered() };
    assert_eq!(causes(&waiting(read + 60 * S - 1)), []);
    let overdue = waiting(read + 60 * S);
    assert_eq!(causes(&overdue), [(Cause::NoResponse, Observed)]);
    let [found] = of_waiting(&overdue, Limits::default()).try_into().unwrap();
    assert_eq!((found.facts.waited_ns, found.connection, found.sequence), (Some(60 * S), Some(0x3c4d), Some(1)));
    assert_eq!(found.last, overdue.reported);
    assert!(!found.facts.never_read && !found.facts.never_accepted);
    assert_eq!(found.facts.process, Some(process("gunicorn", 812, None)));
    // An answer has begun, or it is a farewell.
    assert_eq!(causes(&RequestRecord { bytes_out: 1, ..overdue }), []);
    let farewell = marks(&[Opening::TlsData], Opening::TlsAlert);
    assert_eq!(causes(&RequestRecord { marks: farewell, bytes_in: 24, sequence: 2, ..overdue }), []);
    let message = marks(&[Opening::Http], Opening::WebSocket);
    assert_eq!(causes(&RequestRecord { marks: message, sequence: 2, ..overdue }), []);
    // What was read and does not say that it is a request may be a message that needs no answer.
    let unknown = RequestRecord { marks: 0, ..overdue };
    assert_eq!(causes(&unknown), [(Cause::NoResponse, Inferred)]);
    let mut unread = unknown;
    (unread.moments.first_read, unread.moments.last_read) = (0, 0);
    assert_eq!(causes(&unread), [(Cause::NoResponse, Observed)]);
}

#[test]
fn a_request_that_nobody_read_or_accepted_says_so() {
    let mut record = RequestRecord { flags: 0, reported: 200 * S, process: Process::default(), ..unanswered() };
    (record.moments.first_read, record.moments.last_read) = (0, 0);
    let facts = |record: &RequestRecord| of_waiting(record, Limits::default())[0].facts.clone();
    assert!(facts(&record).never_read && facts(&record).never_accepted);
    assert_eq!(facts(&record).process, None);
    for record in [
        RequestRecord { accepted: 14 * S, ..record },
        RequestRecord { sequence: 2, ..record },
        RequestRecord { flags: RequestRecord::ADOPTED, ..record },
        RequestRecord { flags: RequestRecord::ACCEPT_UNSEEN, ..record },
    ] {
        assert!(facts(&record).never_read && !facts(&record).never_accepted);
    }
}

/// Multipath TCP, kernel TLS and sockmaps: the application may have read the request at once.
#[test]
fn where_no_hook_sees_reads_nobody_is_said_not_to_read() {
    let mut record =
        RequestRecord { flags: RequestRecord::READ_UNSEEN, reported: 200 * S, accepted: 14 * S, ..unanswered() };
    let text = |record: &RequestRecord| explain(&of_waiting(record, Limits::default())[0], Limits::default());
    let reads = |record: &RequestRecord| of_waiting(record, Limits::default())[0].facts.reads_unseen;
    assert!(!reads(&record), "it was seen");
    (record.moments.first_read, record.moments.last_read, record.process) = (0, 0, Process::default());
    let explained = text(&record);
    assert!(reads(&record) && !of_waiting(&record, Limits::default())[0].facts.never_read);
    assert!(
        explained.text.contains("A request has not been answered") && explained.text.contains("not told apart"),
        "{explained:?}"
    );
    assert!(!explained.advice.contains("read sooner"), "{explained:?}");
}

#[test]
fn a_response_that_is_sent_again_and_again_is_not_acknowledged() {
    let mut record = RequestRecord { flags: 0, retransmits: 6, ..request(S, [0; 7]) };
    record.moments.acknowledged = 0;
    record.reported = 11 * S;
    assert_eq!(causes(&record), [(Cause::ResponseNotAcknowledged, Inferred)]);
    let facts = of_waiting(&record, Limits::default())[0].facts.clone();
    assert_eq!((facts.waited_ns, facts.retransmits, facts.bytes_out), (Some(10 * S), Some(6), Some(20_480)));
    for harmless in [
        RequestRecord { retransmits: 0, ..record },
        RequestRecord { reported: 11 * S - 1, ..record },
        RequestRecord { flags: RequestRecord::COMPLETE, ..record },
    ] {
        assert_eq!(causes(&harmless), []);
    }
}

#[test]
fn a_response_that_was_not_acknowledged_until_the_peer_left_is_told_as_that() {
    let limits = Limits::default();
    let causes = |record: &RequestRecord| of_ended(record, limits).iter().map(|it| it.cause).collect::<Vec<_>>();
    let mut record = RequestRecord { flags: RequestRecord::FINAL, retransmits: 3, resent: 1448, ..request(S, [0; 7]) };
    record.moments.acknowledged = 0;
    record.reported = 2 * S;
    assert_eq!(causes(&record), [Cause::ResponseNotAcknowledged]);
    assert!(may_have_gone_wrong(&record));
    assert_eq!(of_ended(&record, limits)[0].facts.resent_bytes, Some(1448));
    // A small packet is lost for another reason than its size.
    let small = RequestRecord { resent: 400, ..record };
    assert_eq!(of_ended(&small, limits)[0].facts.resent_bytes, None);
    for harmless in [
        RequestRecord { retransmits: 2, ..record },
        RequestRecord { reported: 2 * S - 1, ..record },
        RequestRecord { flags: 0, ..record },
        RequestRecord { flags: RequestRecord::COMPLETE | RequestRecord::FINAL, ..record },
        RequestRecord { bytes_out: 0, ..record },
    ] {
        assert_eq!(causes(&harmless), []);
    }
}

#[test]
fn a_second_of_zero_window_is_an_application_that_does_not_read() {
    let record = |zero_window| RequestRecord { zero_window, ..request(S, [0, 0, 0, 0, 0, 0, 0]) };
    let limits = Limits::default();
    assert_eq!(of_request(&record(S - 1), limits), None);
    let found = of_request(&record(S), limits).unwrap();
    assert_eq!((found.cause, found.evidence), (Cause::ApplicationNotReading, Observed));
    assert_eq!(found.facts.zero_window_ns, Some(S));
    assert_eq!(causes(&record(2 * S)), [(Cause::ApplicationNotReading, Observed)]);
}

#[test]
fn an_accept_queue_is_filling_from_half_its_limit_on() {
    let key = ListenerKey { netns: 7, local: Endpoint::v4([0, 0, 0, 0], 8080) };
    let of = |length, limit| {
        let tally = ListenerTally { syns: 9, last: S, queue: Queue::default(), longest: Queue { length, limit } };
        of_listener(&key, &tally)
    };
    let found = of(64, 128).unwrap();
    assert_eq!((found.cause, found.evidence), (Cause::AcceptQueueFilling, Observed));
    assert_eq!((found.facts.queue_length, found.facts.queue_limit), (Some(64), Some(128)));
    assert_eq!((found.local, found.netns, found.last), ("0.0.0.0:8080".parse().unwrap(), 7, S));
    assert!(of(128, 128).is_some());
    // Beyond its limit it is full, which is told otherwise.
    for (length, limit) in [(63, 128), (129, 128), (0, 0), (0, 1)] {
        assert_eq!(of(length, limit), None, "{length}/{limit}");
    }
}

#[test]
fn nothing_is_not_seen() {
    let found = nothing_arrived("[::]:8080".parse().unwrap(), 7, (S, 31 * S), Vec::new());
    assert_eq!((found.cause, found.evidence, found.netns), (Cause::NothingArrived, NotSeen, 7));
    assert_eq!((found.first, found.last, found.facts.waited_ns), (S, 31 * S, Some(30 * S)));
    let text = explain(&found, Limits::default()).text;
    assert_eq!(text, "Nothing arrived here for :8080 in 30.0s: no SYN, no request, no connection.");
}
