//! Tests of what the end of a connection is, and of what data is that comes after the close.

use super::{Ending, Late, of_connection, of_late};
use crate::{
    explain::entry,
    model::rejection::{
        Cause::{
            self, ClosedBeforeResponse, KeepaliveRace, PeerGaveUp, ResetBeforeResponse, ResetDuringUpload,
            ResetMidResponse, ResponseNotAcknowledged,
        },
        Evidence::{Inferred, Observed},
    },
    samples::{MS, S, closed, marks, v4},
};
use proptest::prelude::*;
use tracer_common::{
    connection::{
        ADOPTED, BEHIND, BODY, CLOSED_BY_APPLICATION, CLOSED_BY_PEER, ENDED_UNANSWERED, OPENING_SHIFT, RESET_ARRIVED,
        RESET_BY_HOST, RESET_BY_PEER, SENT_ON, TIMED_OUT, TIMED_OUT_AT_LAST, TURN_MARKS,
    },
    opening::Opening::{self, Binary, Http, Text, TlsAlert, TlsCiphers, TlsData, TlsHandshake, Unknown, WebSocket},
    record::ConnectionRecord,
    rejection::{Ended, Ender, Event, How, Key, RejectionRecord},
};

const UNANSWERED: u32 = ConnectionRecord::UNANSWERED;
const CUT: u32 = ConnectionRecord::CUT;
const NOTHING: u32 = ConnectionRecord::NOTHING;
const UNKNOWN: u32 = ConnectionRecord::UNKNOWN;

/// The first ends of a connection.
const WAYS: [u32; 5] = [CLOSED_BY_APPLICATION, CLOSED_BY_PEER, RESET_BY_PEER, RESET_BY_HOST, TIMED_OUT];
const CLOSED: Ender = by(How::Closed, 0);

const fn by(how: How, signal: u16) -> Ender {
    Ender { pid: 77, how: how as u16, signal, comm: *b"nginx\0\0\0\0\0\0\0\0\0\0\0" }
}

/// A connection whose latest turn is the second one, of 512 bytes that came half a second before the end.
fn ended(pending: u32, ways: u32, turn: u32) -> ConnectionRecord {
    let bytes_out = if pending == UNANSWERED { 0 } else { 20_480 };
    ConnectionRecord {
        pending,
        flags: ways | turn,
        bytes_out,
        queued: 19_500 * MS,
        idle: 5 * S,
        by: CLOSED,
        ..closed()
    }
}

fn http() -> u32 {
    marks(&[Http], Http)
}

fn tls() -> u32 {
    marks(&[TlsHandshake, TlsCiphers], TlsData)
}

fn tls_alert() -> u32 {
    marks(&[TlsHandshake, TlsData], TlsAlert)
}

fn frame() -> u32 {
    marks(&[Http], WebSocket)
}

fn rest() -> u32 {
    marks(&[Http], Text)
}

fn handshake() -> u32 {
    marks(&[], TlsHandshake)
}

/// What is pending, how it ended first, the latest turn, the bytes unread, who ended it; and what that is.
type Row = (u32, u32, u32, u32, Ender, Ending);

fn check(rows: &[Row]) {
    for &(pending, ways, turn, unread, by, expected) in rows {
        let record = ConnectionRecord { unread, by, ..ended(pending, ways, turn) };
        assert_eq!(of_connection(&record), expected, "{pending} {ways:#x} {turn:#x} {unread} {by:?}");
    }
}

const fn lost(cause: Cause) -> Ending {
    Ending::Lost(cause, Observed)
}

#[test]
fn a_turn_without_an_answer_was_lost_if_it_asked_for_one() {
    for turn in [http(), tls(), 0] {
        // What does not say that it is a request may have been a message, if the peer closes in order.
        let evidence = if turn == http() { Observed } else { Inferred };
        check(&[
            (UNANSWERED, CLOSED_BY_APPLICATION, turn, 0, CLOSED, lost(ClosedBeforeResponse)),
            (UNANSWERED, CLOSED_BY_APPLICATION | RESET_ARRIVED, turn, 0, CLOSED, lost(ClosedBeforeResponse)),
            (UNANSWERED, CLOSED_BY_APPLICATION, turn, 0, by(How::Exited, 0), lost(ClosedBeforeResponse)),
            (UNANSWERED, RESET_BY_HOST, turn, 0, CLOSED, lost(ResetBeforeResponse)),
            (UNANSWERED, RESET_BY_HOST, turn, 511, CLOSED, lost(ResetBeforeResponse)),
            (UNANSWERED, RESET_BY_HOST, turn, 512, CLOSED, lost(KeepaliveRace)),
            (UNANSWERED, RESET_BY_HOST | ADOPTED, turn, 512, CLOSED, lost(KeepaliveRace)),
            (UNANSWERED, CLOSED_BY_PEER, turn, 0, CLOSED, Ending::Lost(PeerGaveUp, evidence)),
            (UNANSWERED, RESET_BY_PEER, turn, 0, CLOSED, lost(PeerGaveUp)),
            (UNANSWERED, TIMED_OUT, turn, 0, CLOSED, Ending::InOrder),
        ]);
    }
}

#[test]
fn a_turn_that_needs_no_answer_is_not_lost() {
    for turn in [tls_alert(), frame(), marks(&[], Binary)] {
        for ways in WAYS {
            for unread in [0, 512] {
                check(&[(UNANSWERED, ways, turn, unread, CLOSED, Ending::InOrder)]);
            }
        }
    }
}

#[test]
fn the_rest_of_an_upload_is_lost_if_it_was_not_read() {
    check(&[
        (UNANSWERED, CLOSED_BY_APPLICATION, rest(), 512, CLOSED, lost(ResetDuringUpload)),
        (UNANSWERED, RESET_BY_HOST, rest(), 1, CLOSED, lost(ResetDuringUpload)),
        (UNANSWERED, CLOSED_BY_APPLICATION, rest(), 0, CLOSED, Ending::InOrder),
        (UNANSWERED, RESET_BY_HOST, rest(), 0, CLOSED, Ending::InOrder),
        (UNANSWERED, CLOSED_BY_PEER, rest(), 512, CLOSED, Ending::InOrder),
        (UNANSWERED, RESET_BY_PEER, rest(), 512, CLOSED, Ending::InOrder),
    ]);
}

#[test]
fn a_handshake_of_tls_is_lost_only_by_this_host() {
    check(&[
        (UNANSWERED, CLOSED_BY_APPLICATION, handshake(), 0, CLOSED, lost(ClosedBeforeResponse)),
        (UNANSWERED, RESET_BY_HOST, handshake(), 0, CLOSED, lost(ResetBeforeResponse)),
        (UNANSWERED, RESET_BY_HOST, handshake(), 512, CLOSED, lost(ResetBeforeResponse)),
        // Peers look whether a port speaks TLS.
        (UNANSWERED, CLOSED_BY_PEER, handshake(), 0, CLOSED, Ending::InOrder),
        (UNANSWERED, RESET_BY_PEER, handshake(), 0, CLOSED, Ending::InOrder),
        (UNANSWERED, TIMED_OUT, handshake(), 0, CLOSED, Ending::InOrder),
    ]);
}

/// `100 Continue` is no response: the body that it asked for is lost as any request is.
#[test]
fn a_body_that_was_asked_for_is_lost_like_a_request() {
    let body = marks(&[Http], Unknown) | BODY << OPENING_SHIFT;
    check(&[
        (UNANSWERED, CLOSED_BY_APPLICATION, body, 0, CLOSED, lost(ClosedBeforeResponse)),
        (UNANSWERED, RESET_BY_HOST, body, 1, CLOSED, lost(ResetBeforeResponse)),
        (UNANSWERED, CLOSED_BY_PEER, body, 0, CLOSED, lost(PeerGaveUp)),
        (UNANSWERED, RESET_BY_PEER, body, 0, CLOSED, lost(PeerGaveUp)),
        (NOTHING, CLOSED_BY_APPLICATION, body, 0, CLOSED, Ending::Idle),
        (NOTHING, RESET_BY_HOST, body, 300, CLOSED, lost(ResetDuringUpload)),
        (CUT, RESET_BY_PEER, body, 0, CLOSED, lost(PeerGaveUp)),
    ]);
}

/// Sent at length right behind a response, read by nobody, given up at once: the rest of an upload, and nothing is lost. Who
/// waits for longer has sent a request.
#[test]
fn an_upload_that_the_peer_gives_up_is_no_lost_request() {
    let behind = marks(&[Http], Unknown) | BEHIND << OPENING_SHIFT;
    for way in [CLOSED_BY_PEER, RESET_BY_PEER] {
        let record = ConnectionRecord { requests: 2, ..ended(UNANSWERED, way, behind) };
        let given_up = ConnectionRecord { queued: record.ended - 100 * MS, bytes_in: 50_000, unread: 50_000, ..record };
        assert_eq!(of_connection(&given_up), Ending::InOrder);
        for request in [
            ConnectionRecord { queued: record.ended - S, ..given_up },
            ConnectionRecord { unread: 49_999, ..given_up },
            ConnectionRecord { bytes_in: 1400, ..given_up },
        ] {
            assert_eq!(of_connection(&request), lost(PeerGaveUp), "{request:?}");
        }
    }
}

/// Sent at length right behind a response, read by nobody, and the application closes at once, as node does when it destroys a
/// socket. Later it was the next request.
#[test]
fn an_upload_that_meets_the_close_behind_an_early_response_is_no_keep_alive_race() {
    let behind = marks(&[Http], Unknown) | BEHIND << OPENING_SHIFT;
    let record = ConnectionRecord { requests: 2, ..ended(UNANSWERED, RESET_BY_HOST, behind) };
    let rest = ConnectionRecord { queued: record.ended - MS, bytes_in: 10_000, unread: 10_000, ..record };
    assert_eq!(of_connection(&rest), Ending::Lost(ResetDuringUpload, Inferred));
    for request in [
        ConnectionRecord { queued: record.ended - 100 * MS, ..rest },
        ConnectionRecord { bytes_in: 900, unread: 900, ..rest },
        ConnectionRecord { flags: RESET_BY_HOST | marks(&[Http], Unknown), ..rest },
    ] {
        assert_eq!(of_connection(&request), lost(KeepaliveRace), "{request:?}");
    }
    let killed = ConnectionRecord { by: by(How::Killed, 9), ..rest };
    assert_eq!(of_connection(&killed), lost(KeepaliveRace));
}

#[test]
fn a_response_that_is_not_whole_was_lost_by_whoever_ended_it() {
    for turn in [http(), tls(), 0, rest()] {
        check(&[
            (CUT, CLOSED_BY_APPLICATION, turn, 5000, CLOSED, lost(ResetDuringUpload)),
            (CUT, RESET_BY_HOST, turn, 5000, CLOSED, lost(ResetDuringUpload)),
            (CUT, RESET_BY_HOST, turn, 0, CLOSED, lost(ResetMidResponse)),
            // The kernel resets what a process leaves unread when it dies.
            (CUT, RESET_BY_HOST, turn, 512, by(How::Killed, 9), lost(ResetMidResponse)),
            (CUT, CLOSED_BY_PEER, turn, 0, CLOSED, lost(PeerGaveUp)),
            (CUT, RESET_BY_PEER | RESET_ARRIVED, turn, 0, CLOSED, lost(PeerGaveUp)),
            (CUT, TIMED_OUT, turn, 0, CLOSED, lost(ResponseNotAcknowledged)),
            (CUT, CLOSED_BY_APPLICATION | TIMED_OUT_AT_LAST, turn, 0, CLOSED, lost(ResponseNotAcknowledged)),
            // Health checkers reset what they have seen enough of.
            (CUT, CLOSED_BY_APPLICATION, turn, 0, CLOSED, Ending::InOrder),
            (CUT, CLOSED_BY_APPLICATION | RESET_ARRIVED, turn, 0, CLOSED, Ending::InOrder),
        ]);
    }
}

#[test]
fn whoever_listens_to_a_stream_leaves_when_it_wants_to() {
    let stream = |ways| ConnectionRecord { download: 10 * S, reports: 4, ..ended(CUT, ways, http()) };
    for ways in [CLOSED_BY_PEER, RESET_BY_PEER] {
        assert_eq!(of_connection(&stream(ways)), Ending::InOrder);
        assert_eq!(of_connection(&ConnectionRecord { reports: 3, ..stream(ways) }), lost(PeerGaveUp));
        check(&[
            (CUT, ways, frame(), 0, CLOSED, Ending::InOrder),
            (CUT, ways, handshake(), 0, CLOSED, Ending::InOrder),
        ]);
    }
    // This host cut it.
    assert_eq!(of_connection(&stream(RESET_BY_HOST)), lost(ResetMidResponse));
}

#[test]
fn an_answered_connection_ends_in_order_or_was_idle() {
    for turn in [http(), tls(), 0, frame(), tls_alert()] {
        check(&[
            (NOTHING, CLOSED_BY_APPLICATION, turn, 0, CLOSED, Ending::Idle),
            (NOTHING, CLOSED_BY_APPLICATION | RESET_ARRIVED, turn, 0, CLOSED, Ending::Idle),
            (NOTHING, RESET_BY_HOST, turn, 0, CLOSED, Ending::Idle),
            // Who closed it is not known.
            (NOTHING, CLOSED_BY_APPLICATION, turn, 0, Ender::default(), Ending::Idle),
            (NOTHING, CLOSED_BY_PEER, turn, 0, CLOSED, Ending::InOrder),
            (NOTHING, RESET_BY_PEER, turn, 0, CLOSED, Ending::InOrder),
            (NOTHING, TIMED_OUT, turn, 0, CLOSED, Ending::InOrder),
        ]);
    }
    for turn in [http(), tls(), 0] {
        check(&[
            (NOTHING, CLOSED_BY_APPLICATION, turn, 1000, CLOSED, lost(ResetDuringUpload)),
            (NOTHING, RESET_BY_HOST, turn, 1000, CLOSED, lost(ResetDuringUpload)),
            // As short as a request: it may have been pipelined.
            (NOTHING, CLOSED_BY_APPLICATION, turn, 999, CLOSED, Ending::Lost(ResetDuringUpload, Inferred)),
            (NOTHING, RESET_BY_HOST, turn, 1, CLOSED, Ending::Lost(ResetDuringUpload, Inferred)),
            (NOTHING, CLOSED_BY_PEER, turn, 1, CLOSED, Ending::InOrder),
            (NOTHING, RESET_BY_HOST, turn, 1, by(How::Exited, 0), Ending::InOrder),
        ]);
    }
    // Unread frames are no upload.
    check(&[(NOTHING, RESET_BY_HOST, frame(), 1, CLOSED, Ending::Idle)]);
}

#[test]
fn a_connection_without_a_request_ends_in_order() {
    for ways in WAYS {
        for unread in [0, 512] {
            // What is unread of one that was open before came when nobody looked.
            let flags = ways | ADOPTED;
            let record = ConnectionRecord { requests: 0, unread, flags, ..ended(NOTHING, ways, 0) };
            assert_eq!(of_connection(&record), Ending::InOrder, "{ways:#x} {unread}");
        }
    }
}

#[test]
fn a_process_that_died_soon_after_the_last_byte_leaves_a_doubt() {
    for (how, signal, limit) in [
        (How::Exited, 0, S),
        (How::Killed, 1, S),
        (How::Killed, 2, S),
        (How::Killed, 15, S),
        (How::Killed, 9, 60 * S),
        (How::Killed, 11, 60 * S),
        (How::OutOfMemory, 9, 60 * S),
        (How::OutOfMemory, 15, 60 * S),
    ] {
        let of = |idle| {
            let by = by(how, signal);
            of_connection(&ConnectionRecord { idle, by, ..ended(NOTHING, CLOSED_BY_APPLICATION, http()) })
        };
        assert_eq!([of(1), of(limit - 1)], [Ending::Doubt; 2], "{how:?} {signal}");
        // When the last byte was is not known, or long ago.
        assert_eq!([of(0), of(limit)], [Ending::InOrder; 2], "{how:?} {signal}");
    }
}

#[test]
fn a_request_that_met_the_close_is_a_race_only_on_a_used_connection_and_at_once() {
    let record = ConnectionRecord { unread: 512, ..ended(UNANSWERED, RESET_BY_HOST, http()) };
    assert_eq!(of_connection(&record), lost(KeepaliveRace));
    for (other, why) in [
        (ConnectionRecord { requests: 1, ..record }, "the first request"),
        (ConnectionRecord { queued: 19 * S, ..record }, "it waited for a second"),
        (ConnectionRecord { queued: 0, ..record }, "when it came is not known"),
        (ConnectionRecord { unread: 511, ..record }, "somebody read of it"),
        (ConnectionRecord { bytes_in: 0, unread: 0, ..record }, "nothing came"),
    ] {
        assert_eq!(of_connection(&other), lost(ResetBeforeResponse), "{why}");
    }
    let adopted = ConnectionRecord { requests: 1, flags: record.flags | ADOPTED, ..record };
    assert_eq!(of_connection(&adopted), lost(KeepaliveRace));
}

/// Data for a connection that had two turns, the latest one like `turn`, and was closed after 5 s.
fn late(opening: Opening, payload: u32, turn: u32) -> RejectionRecord {
    let ends = v4();
    let key = Key { event: Event::DataAfterClose as u8, local: ends.local, ..Key::default() };
    let ended =
        Ended { connection: 7, ended: 20 * S, idle: 5 * S, by: CLOSED, requests: 2, flags: turn, ..Ended::default() };
    RejectionRecord {
        key,
        payload,
        peer: ends.peer,
        reported: 20 * S + MS,
        ended: Ended { written: 5000, ..ended },
        acknowledges: 5000,
        opening: opening as u32,
        ..RejectionRecord::EMPTY
    }
}

#[test]
fn the_next_request_met_the_close() {
    for (opening, payload, turn, evidence) in [
        (Http, 27, http(), Observed),
        (Http, 27, 0, Observed),
        // Somewhere in a page.
        (Unknown, 27, http(), Observed),
        (Unknown, 27, 0, Observed),
        (Text, 14, marks(&[Text], Text), Observed),
        (Binary, 14, marks(&[], Binary), Observed),
        (TlsData, 101, tls(), Observed),
        // It may be a close alert whose FIN was lost, or a frame of control data.
        (TlsData, 100, tls(), Inferred),
        (Unknown, 100, tls(), Inferred),
        // `PING` of Redis with TLS 1.3, twice, and with TLS 1.2.
        (TlsData, 28, tls(), Inferred),
        (TlsData, 36, tls(), Inferred),
        (TlsData, 43, tls(), Inferred),
        (Unknown, 28, tls(), Inferred),
    ] {
        let record = late(opening, payload, turn);
        assert_eq!(of_late(&record, false), Late::Request(evidence), "{opening:?} {payload} {turn:#x}");
    }
}

#[test]
fn a_fin_right_behind_short_data_says_that_it_asks_for_nothing_where_it_may_be_an_alert() {
    for (opening, turn) in
        [(TlsData, tls()), (TlsHandshake, tls()), (TlsCiphers, tls()), (Unknown, tls()), (Unknown, 0)]
    {
        assert_eq!(of_late(&late(opening, 100, turn), true), Late::Harmless, "{opening:?}");
        assert_eq!(of_late(&late(opening, 101, turn), true), Late::Request(Observed), "{opening:?}");
        assert_ne!(of_late(&late(opening, 100, turn), false), Late::Harmless, "{opening:?}");
    }
    // In the clear there are no alerts: whoever sends a request may close behind it.
    for (opening, turn) in
        [(Http, http()), (Unknown, http()), (Text, marks(&[Text], Text)), (Binary, marks(&[], Binary))]
    {
        assert_eq!(of_late(&late(opening, 24, turn), true), Late::Request(Observed), "{opening:?}");
    }
}

#[test]
fn alerts_and_frames_ask_for_nothing() {
    for has_fin in [false, true] {
        assert_eq!(of_late(&late(TlsAlert, 31, tls()), has_fin), Late::Harmless);
        // The alert of TLS 1.3; SETTINGS, WINDOW_UPDATE and GOAWAY of HTTP/2, with TLS 1.3 and 1.2; alerts that nobody could look at.
        for (opening, lengths) in [(TlsData, &[24, 31, 35, 39, 38, 42, 46][..]), (Unknown, &[23, 24, 31, 35, 39])] {
            for &length in lengths {
                assert_eq!(of_late(&late(opening, length, tls()), has_fin), Late::Harmless, "{opening:?} {length}");
            }
        }
        for opening in [WebSocket, Binary, Unknown, Text] {
            assert_eq!(of_late(&late(opening, 500, frame()), has_fin), Late::Harmless, "{opening:?}");
        }
        // The peer's first frame after an upgrade of which only the host has sent something.
        assert_eq!(of_late(&late(WebSocket, 8, http()), has_fin), Late::Harmless);
        assert_eq!(of_late(&late(Unknown, 8, http()), has_fin), Late::Harmless, "shorter than any request");
        assert_eq!(of_late(&late(Unknown, 18, http()), has_fin), Late::Request(Observed));
        assert_eq!(of_late(&late(Unknown, 8, http() | SENT_ON), has_fin), Late::Upload(Inferred));
        assert_eq!(
            of_late(&late(WebSocket, 400, http()), has_fin),
            Late::Upload(Observed),
            "no method, no control frame"
        );
    }
}

#[test]
fn the_first_data_of_a_connection_is_the_first_request() {
    let mut first = late(Http, 400, 0);
    first.ended.requests = 0;
    assert_eq!(of_late(&first, false), Late::FirstRequest);
    first.opening = Unknown as u32;
    assert_eq!(of_late(&first, false), Late::FirstRequest);
    // It had others before tracing began.
    first.ended.flags = ADOPTED;
    assert_eq!(of_late(&first, false), Late::Request(Observed));
}

#[test]
fn the_rest_of_an_upload_is_no_request() {
    // Each request of HTTP/1 begins with a method.
    for opening in [Text, Binary] {
        assert_eq!(of_late(&late(opening, 400, http()), false), Late::Upload(Observed), "{opening:?}");
    }
    // It was sent before all of the response had come.
    for (opening, turn) in [(Unknown, http()), (Unknown, 0), (TlsData, tls())] {
        let early = RejectionRecord { acknowledges: 4000, ..late(opening, 400, turn) };
        assert_eq!(of_late(&early, false), Late::Upload(Observed), "{opening:?}");
        let wrapped =
            RejectionRecord { ended: Ended { written: 500, ..early.ended }, acknowledges: u32::MAX - 9, ..early };
        assert_eq!(of_late(&wrapped, false), Late::Upload(Observed), "{opening:?}");
        // The FIN of this host is acknowledged, too.
        let whole = RejectionRecord { acknowledges: 5001, ..early };
        assert_eq!(of_late(&whole, false), Late::Request(Observed), "{opening:?}");
    }
    // The peer had sent on while it was answered, or the close followed the response at once.
    for (opening, turn) in [(Unknown, http()), (Unknown, 0), (TlsData, tls())] {
        let sent_on = late(opening, 400, turn | SENT_ON);
        assert_eq!(of_late(&sent_on, false), Late::Upload(Inferred), "{opening:?}");
        let mut at_once = late(opening, 1000, turn);
        at_once.ended.idle = 10 * MS - 1;
        assert_eq!(of_late(&at_once, false), Late::Upload(Inferred), "{opening:?}");
        let short = RejectionRecord { payload: 999, ..at_once };
        assert_eq!(of_late(&short, false), Late::Request(Observed), "{opening:?}");
        at_once.ended.idle = 10 * MS;
        assert_eq!(of_late(&at_once, false), Late::Request(Observed), "{opening:?}");
    }
    // A method says that it is a request.
    let mut request = late(Http, 1400, http() | SENT_ON);
    request.ended.idle = MS;
    assert_eq!(of_late(&request, false), Late::Request(Observed));
}

/// The server writes its alert and closes; the next request had left before the alert came.
#[test]
fn a_close_alert_of_the_server_is_no_part_of_the_response() {
    for (alert, opening) in [(24, TlsData), (31, TlsData), (100, Unknown)] {
        let record = RejectionRecord { acknowledges: 5000 - alert, ..late(opening, 400, tls()) };
        assert_eq!(of_late(&record, false), Late::Request(Observed), "{alert}");
        let in_the_clear = RejectionRecord { acknowledges: 5000 - alert, ..late(Unknown, 400, http()) };
        assert_eq!(of_late(&in_the_clear, false), Late::Upload(Observed), "{alert}");
    }
    let record = RejectionRecord { acknowledges: 5000 - 101, ..late(TlsData, 400, tls()) };
    assert_eq!(of_late(&record, false), Late::Upload(Observed));
}

/// Any connection that ended in one of `ways`.
fn connections(ways: &'static [u32]) -> impl Strategy<Value = ConnectionRecord> {
    let flags = (prop::sample::select(ways), any::<u32>());
    let more = TURN_MARKS | ADOPTED | RESET_ARRIVED | TIMED_OUT_AT_LAST | ENDED_UNANSWERED;
    let flags = flags.prop_map(move |(way, others)| way | (others & more));
    let sizes = (prop::sample::select(&[0_u64, 24, 100, 512, 90_000][..]), prop::sample::select(&[0_u32, 24, 512][..]));
    let late = prop::sample::select(&[0_u16, 24, 300, u16::MAX][..]);
    let sizes = (sizes, late).prop_map(|((bytes_in, unread), late)| (bytes_in, unread, late));
    let times = (0..80 * S, 0..20 * S, 0..12 * S);
    let by = (0..5_u16, prop::sample::select(&[0_u16, 1, 9, 11, 15][..]));
    (flags, 0..4_u32, 0..4_u32, sizes, times, by, 0..6_u32, 0..2_u16).prop_map(
        |(
            flags,
            pending,
            requests,
            (bytes_in, unread, late),
            (idle, queued, download),
            (how, signal),
            reports,
            peer_left,
        )| {
            // As the state machine has them.
            let bytes_out = if pending == CUT || pending == NOTHING { 20_480 } else { 0 };
            let by = Ender { how, signal, ..CLOSED };
            let ended =
                ConnectionRecord { flags, pending, requests, bytes_in, bytes_out, unread, idle, queued, ..closed() };
            ConnectionRecord { download, by, reports, peer_left, late, ..ended }
        },
    )
}

/// Any data for any connection that was closed.
fn late_data() -> impl Strategy<Value = RejectionRecord> {
    let opening = prop::sample::select(&Opening::ALL[..]);
    let numbers = prop::sample::select(&[0_u32, 24, 4000, 5000, 5001, u32::MAX][..]);
    (opening, 1..1500_u32, any::<u32>(), 0..4_u32, 0..80 * S, numbers).prop_map(
        |(opening, payload, flags, requests, idle, acknowledges)| {
            let mut record = RejectionRecord { acknowledges, ..late(opening, payload, flags & (TURN_MARKS | ADOPTED)) };
            (record.ended.requests, record.ended.idle) = (requests, idle);
            record
        },
    )
}

proptest! {
    #[test]
    fn what_is_lost_has_an_evidence_that_its_cause_may_have(record in connections(&WAYS)) {
        if let Ending::Lost(cause, evidence) = of_connection(&record) {
            prop_assert!(entry(cause).evidence.contains(&evidence), "{cause:?} {evidence:?} {record:?}");
        }
    }

    #[test]
    fn what_was_answered_acknowledged_and_read_ends_in_order_if_the_peer_closes(
        record in connections(&[CLOSED_BY_PEER, RESET_BY_PEER])
    ) {
        let record = ConnectionRecord { pending: NOTHING, unread: 0, ..record };
        prop_assert_eq!(of_connection(&record), Ending::InOrder);
    }

    #[test]
    fn of_what_is_not_known_nothing_is_said(record in connections(&WAYS)) {
        let record = ConnectionRecord { pending: UNKNOWN, ..record };
        prop_assert_eq!(of_connection(&record), Ending::InOrder);
    }

    #[test]
    fn only_an_application_that_closes_an_answered_connection_leaves_it_idle_or_in_doubt(
        record in connections(&WAYS)
    ) {
        if matches!(of_connection(&record), Ending::Idle | Ending::Doubt) {
            prop_assert_eq!(record.pending, NOTHING);
            prop_assert!(record.requests != 0 && record.flags & (CLOSED_BY_APPLICATION | RESET_BY_HOST) != 0);
        }
    }

    #[test]
    fn a_peer_loses_only_what_it_gave_up(record in connections(&[CLOSED_BY_PEER, RESET_BY_PEER])) {
        let ending = of_connection(&record);
        let is_its_own = ending == Ending::InOrder || matches!(ending, Ending::Lost(PeerGaveUp, _));
        // Never acknowledged to the end: the network, and not the peer.
        let has_timed_out = record.flags & TIMED_OUT_AT_LAST != 0 && ending == lost(ResponseNotAcknowledged);
        prop_assert!(is_its_own || has_timed_out, "{ending:?} {record:?}");
    }

    #[test]
    fn a_method_in_the_clear_is_never_harmless(record in late_data(), has_fin: bool) {
        let mut record = RejectionRecord { opening: Http as u32, ..record };
        record.ended.requests = record.ended.requests.max(1);
        prop_assert_ne!(of_late(&record, has_fin), Late::Harmless);
    }

    #[test]
    fn a_fin_makes_data_harmless_or_changes_nothing(record in late_data()) {
        let (without, with) = (of_late(&record, false), of_late(&record, true));
        prop_assert!(with == Late::Harmless || with == without, "{without:?} {with:?}");
        // More than an alert never becomes harmless by it.
        prop_assert!(record.payload <= 100 || with == without);
    }

    #[test]
    fn only_the_first_data_is_the_first_request(record in late_data(), has_fin: bool) {
        if of_late(&record, has_fin) == Late::FirstRequest {
            prop_assert!(record.ended.requests == 0 && record.ended.flags & ADOPTED == 0);
        }
    }
}

/// Data that came after this host's FIN, while the application kept the socket.
#[test]
fn a_request_meets_a_half_close() {
    let late = |late, turn| ConnectionRecord { late, ..ended(NOTHING, CLOSED_BY_APPLICATION, turn) };
    assert_eq!(of_connection(&late(300, http())), Ending::Lost(KeepaliveRace, Observed));
    // In another protocol the peer may go on by right.
    for turn in [marks(&[], Text), marks(&[], Binary)] {
        let answered = ConnectionRecord { bytes_out: 7, ..late(6, turn) };
        assert_eq!(of_connection(&answered), Ending::Lost(KeepaliveRace, Inferred));
    }
    assert_eq!(of_connection(&late(300, tls())), Ending::Lost(KeepaliveRace, Inferred));
    assert_eq!(of_connection(&late(60, tls())), Ending::Lost(KeepaliveRace, Inferred));
    // Whether it was read or not.
    let unread = ConnectionRecord { unread: 300, ..late(300, http()) };
    assert_eq!(of_connection(&unread), Ending::Lost(KeepaliveRace, Observed));
    // An alert, an answer to a close frame, nothing at all.
    for record in [late(24, tls()), late(7, tls_alert()), late(6, frame()), late(0, http())] {
        assert_eq!(of_connection(&record), Ending::Idle, "{record:?}");
    }
    // The FIN belongs to the response: the rest of an upload, read or not.
    let upload = ConnectionRecord { idle: 20 * MS, ..late(20_000, http()) };
    assert_eq!(of_connection(&upload), Ending::Idle);
    let unread = ConnectionRecord { unread: 20_000, ..upload };
    assert_eq!(of_connection(&unread), Ending::Lost(ResetDuringUpload, Observed));
    let sent_on = late(20_000, http() | SENT_ON);
    assert_eq!(of_connection(&sent_on), Ending::Idle);
    // The peer left first: what came after that is nothing that this host has lost.
    let peer_first = ConnectionRecord { late: 300, ..ended(NOTHING, CLOSED_BY_PEER, http()) };
    assert_eq!(of_connection(&peer_first), Ending::InOrder);
}
