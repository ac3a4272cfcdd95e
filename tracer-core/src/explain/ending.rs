//! What the end of a connection is: in order, a stop, a keep-alive time, a crash, or a request that was lost.
//!
//! This is the one place that decides it, for connections that are gone and for data that came after the close. It is pure
//! and uses these facts:
//!
//! | fact | from |
//! |---|---|
//! | who ended the connection first, with a FIN or a reset | the state machine |
//! | how the process did it: closed, exited, killed by a signal, killed for memory | the task, in its own context |
//! | what became of the latest turn: answered, cut, not answered | sequence numbers |
//! | what that turn is ([`Turn`]) | `tracer_common::turn` |
//! | bytes that the application had not read | the socket |
//! | how long nothing had happened before | the state machine |
//! | bytes that came after this host's FIN while the application kept the socket | sequence numbers |
//! | for data after the close: its sequence number, what it acknowledges, its first bytes, the FIN behind it | the packet |
//!
//! Why an idle connection was closed is for `closes.rs`, which sees the other connections too.

use super::tls;
use crate::model::rejection::{
    Cause::{self, ClosedBeforeResponse, KeepaliveRace, PeerGaveUp, ResetBeforeResponse, ResetDuringUpload},
    Evidence::{self, Inferred, Observed},
};
use tracer_common::{
    connection::CLOSED_AT_ONCE_NS,
    connection::{
        ADOPTED, CLOSED_BY_APPLICATION, CLOSED_BY_PEER, RESET_BY_HOST, RESET_BY_PEER, SENT_ON, TIMED_OUT,
        TIMED_OUT_AT_LAST,
    },
    opening::Opening,
    record::ConnectionRecord,
    rejection::{Ended, How, RejectionRecord},
    sequence::after,
    turn::{ALERT, Marks, SHORTEST_REQUEST, Turn},
};

/// What the end of a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Nothing was lost, as far as it can be told.
    InOrder,
    /// The application closed an idle connection: because of its keep-alive time, or because it stops.
    Idle,
    /// The process died after a response that may not have been whole.
    Doubt,
    /// A request was lost.
    Lost(Cause, Evidence),
}

/// The least time for which a request that nobody read has to wait to be more than bad luck, in nanoseconds.
const UNREAD_FOR_LONG: u64 = 1_000_000_000;
/// A process that exits, or is told to end, so soon after its last byte may have done so in the middle of a response.
const DOUBT_EXITED: u64 = 1_000_000_000;
/// For one that is killed: it had no chance to finish anything.
const DOUBT_KILLED: u64 = 60_000_000_000;
/// The signals that ask a process to end.
pub const REQUESTS_TO_END: [u16; 3] = [1, 2, 15];

/// What the end of the connection in `record` is.
pub fn of_connection(record: &ConnectionRecord) -> Ending {
    let ended = |ways: u32| record.flags & ways != 0;
    let by_application = ended(CLOSED_BY_APPLICATION | RESET_BY_HOST);
    match record.pending {
        ConnectionRecord::UNANSWERED => unanswered(record),
        ConnectionRecord::NOTHING if met_a_half_close(record) => {
            Ending::Lost(KeepaliveRace, half_close_evidence(record))
        }
        ConnectionRecord::CUT | ConnectionRecord::NOTHING if by_application && is_upload_unread(record) => {
            // What is as short as a request may be one that was sent before the response came (pipelined).
            let may_be_next = record.turn().turn() == Turn::Request && record.unread < FULL_SEGMENT;
            Ending::Lost(ResetDuringUpload, if may_be_next { Inferred } else { Observed })
        }
        ConnectionRecord::CUT if ended(RESET_BY_HOST) => Ending::Lost(Cause::ResetMidResponse, Observed),
        ConnectionRecord::CUT if ended(CLOSED_BY_PEER | RESET_BY_PEER) => match record.turn().turn() {
            // Whoever listens to a stream leaves when it wants to, and nobody waits for the answer to a close alert.
            Turn::Stream | Turn::Message | Turn::Control | Turn::Farewell => Ending::InOrder,
            Turn::Request | Turn::Rest | Turn::Body => Ending::Lost(PeerGaveUp, Observed),
        },
        ConnectionRecord::CUT if ended(TIMED_OUT | TIMED_OUT_AT_LAST) => {
            Ending::Lost(Cause::ResponseNotAcknowledged, Observed)
        }
        ConnectionRecord::NOTHING if by_application && record.requests != 0 => idle(record),
        // A reset that comes after the application has closed tells nothing: health checkers end so, and TCP takes
        // data that comes after the close for one.
        _ => Ending::InOrder,
    }
}

/// Whether the application closed with the rest of an answered request unread: the kernel answers that with a reset. Of a
/// connection without a request that was seen, and of messages, unread bytes say nothing about an upload.
fn is_upload_unread(record: &ConnectionRecord) -> bool {
    let is_upload = record.requests != 0 && matches!(record.turn().turn(), Turn::Request | Turn::Rest | Turn::Body);
    is_upload && record.unread != 0 && !has_died(record)
}

/// The latest turn was not answered.
fn unanswered(record: &ConnectionRecord) -> Ending {
    let ended = |ways: u32| record.flags & ways != 0;
    let turn = record.turn();
    match turn.turn() {
        Turn::Rest if ended(CLOSED_BY_APPLICATION | RESET_BY_HOST) && record.unread != 0 => {
            Ending::Lost(ResetDuringUpload, Observed)
        }
        Turn::Request | Turn::Body | Turn::Control if ended(CLOSED_BY_APPLICATION) => {
            Ending::Lost(ClosedBeforeResponse, Observed)
        }
        Turn::Request if ended(CLOSED_BY_APPLICATION | RESET_BY_HOST) && goes_on_with_an_upload(record) => {
            Ending::Lost(ResetDuringUpload, Inferred)
        }
        Turn::Request if ended(RESET_BY_HOST) && met_the_close(record) => {
            let (is_short, length) = (turn.may_be_control(), u32::try_from(turn.bytes_in).unwrap_or(u32::MAX));
            match is_short {
                true if is_control(length) => Ending::InOrder,
                true => Ending::Lost(KeepaliveRace, Inferred),
                false => Ending::Lost(KeepaliveRace, Observed),
            }
        }
        Turn::Request | Turn::Body | Turn::Control if ended(RESET_BY_HOST) => {
            Ending::Lost(ResetBeforeResponse, Observed)
        }
        Turn::Request if ended(CLOSED_BY_PEER) && !turn.is_first && !turn.is_certain() => {
            // It may have been a message that needs no answer.
            Ending::Lost(PeerGaveUp, Inferred)
        }
        Turn::Request | Turn::Body if ended(CLOSED_BY_PEER | RESET_BY_PEER) => Ending::Lost(PeerGaveUp, Observed),
        // Farewells, messages and streams need no answer. The rest of an upload has had one. With the beginning of a
        // handshake, peers look whether a port speaks TLS.
        _ => Ending::InOrder,
    }
}

/// Whether the request came just as the application closed a connection that had served others before: nobody read it.
fn met_the_close(record: &ConnectionRecord) -> bool {
    let is_used = record.requests > 1 || record.flags & ADOPTED != 0;
    let waited = record.ended.saturating_sub(record.queued);
    is_used && is_unread(record) && record.queued != 0 && waited < UNREAD_FOR_LONG
}

/// Whether what nobody read is more of the request before it: it came right behind the response, in full segments, and the
/// application closed at once. A server that answers early ends the connection so; one that stops does it at any time.
fn goes_on_with_an_upload(record: &ConnectionRecord) -> bool {
    let is_behind = record.turn().marks.is_behind();
    let waited = record.ended.saturating_sub(record.queued);
    is_behind && !has_died(record) && is_unread(record) && record.bytes_in > u64::from(FULL_SEGMENT) && waited < AT_ONCE
}

/// Whether a request came after this host's FIN, on a connection whose socket the application kept: it closed one half, and
/// discards what still comes (a lingering close). The rest of an upload that was answered early comes so, too.
pub fn met_a_half_close(record: &ConnectionRecord) -> bool {
    let is_used = record.requests != 0 && record.flags & CLOSED_BY_APPLICATION != 0 && !has_died(record);
    let turn = record.turn();
    let is_alert = turn.marks.is_tls() && tls::is_farewell(record.late.into());
    let is_upload = record.flags & SENT_ON != 0 || record.idle < WITH_RESPONSE;
    let is_in_turns = matches!(turn.turn(), Turn::Request | Turn::Body | Turn::Control);
    record.late != 0 && is_used && is_in_turns && !is_alert && !is_upload
}

/// In HTTP a server that has closed its half answers nothing more. In another protocol the peer may go on by right, and what
/// TLS carries is not known.
const fn half_close_evidence(record: &ConnectionRecord) -> Evidence {
    let marks = record.turn().marks;
    if marks.has_seen(Opening::Http) && !marks.is_tls() { Observed } else { Inferred }
}

/// Whether all of the latest turn was still unread when the connection closed.
pub fn is_unread(record: &ConnectionRecord) -> bool {
    record.bytes_in != 0 && u64::from(record.unread) >= record.bytes_in
}

/// All that was asked for was answered.
fn idle(record: &ConnectionRecord) -> Ending {
    let how = record.by.how;
    let killed =
        how == How::OutOfMemory as u16 || (how == How::Killed as u16 && !REQUESTS_TO_END.contains(&record.by.signal));
    let limit = if killed { DOUBT_KILLED } else { DOUBT_EXITED };
    match (has_died(record), record.idle) {
        (true, idle) if idle != 0 && idle < limit => Ending::Doubt,
        (true, _) => Ending::InOrder,
        (false, _) => Ending::Idle,
    }
}

/// Whether the process ended the connection by ending itself.
pub fn has_died(record: &ConnectionRecord) -> bool {
    [How::Exited, How::Killed, How::OutOfMemory].iter().any(|&how| record.by.how == how as u16)
}

/// What data is that came for a connection which this host had closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// It asks for nothing: a TLS close alert, a frame that answers the close.
    Harmless,
    /// The first data of a connection that the application closed without having read anything on it.
    FirstRequest,
    /// The rest of an upload that was answered early.
    Upload(Evidence),
    /// The next request: it met the close.
    Request(Evidence),
}

/// What cannot be more than a close alert or a frame of control data, if it is encrypted, in bytes.
const CONTROL: u32 = 100;
/// A control frame of WebSocket from a client is no longer, in bytes: a head of six and 125 of content (RFC 6455, section 5.5).
const CONTROL_FRAME: u32 = 131;
/// A record of a TLS handshake that asks for nothing, such as a change of ciphers, is shorter, in bytes.
const HANDSHAKE: u32 = 40;
/// A response and the close right behind it, in nanoseconds: the response said `Connection: close`, most likely.
const AT_ONCE: u64 = CLOSED_AT_ONCE_NS;
/// A FIN so soon after the last byte of the response belongs to that response, in nanoseconds.
const WITH_RESPONSE: u64 = 100_000_000;
/// Uploads come in full segments, requests seldom do, in bytes.
const FULL_SEGMENT: u32 = 1000;

/// What the data in `record` is; `has_fin` says that the peer's FIN came right behind it.
pub fn of_late(record: &RejectionRecord, has_fin: bool) -> Late {
    let ended = &record.ended;
    let (marks, opening) = (Marks(ended.flags), Opening::numbered(record.opening).class());
    if asks_for_nothing(record, marks, opening, has_fin) {
        return Late::Harmless;
    }
    if ended.requests == 0 && ended.flags & ADOPTED == 0 {
        return Late::FirstRequest;
    }
    let is_body =
        marks.has_seen(Opening::Http) && matches!(opening, Opening::Text | Opening::Binary | Opening::WebSocket);
    if is_body || has_part_only(record, marks) {
        return Late::Upload(Observed);
    }
    if opening != Opening::Http && (marks.0 & SENT_ON != 0 || follows_at_once(record, ended)) {
        return Late::Upload(Inferred);
    }
    if opening == Opening::Unknown && marks.has_seen(Opening::Http) && u64::from(record.payload) < SHORTEST_REQUEST {
        return Late::Harmless;
    }
    let is_certain = opening == Opening::Http || marks.is_text() || record.payload > CONTROL || !marks.is_tls();
    Late::Request(if is_certain { Observed } else { Inferred })
}

/// Whether the peer sent the data before it had the whole response: then the data is not the next request. On TLS the last
/// bytes that the application wrote may be its close alert, which is no part of a response.
const fn has_part_only(record: &RejectionRecord, marks: Marks) -> bool {
    let missing = record.ended.written.wrapping_sub(record.acknowledges);
    after(record.ended.written, record.acknowledges) && !(marks.is_tls() && missing <= CONTROL)
}

/// Whether `bytes` are as many as those of a close alert of any version of TLS, or of a frame of HTTP/2 that needs no answer.
fn is_control(bytes: u32) -> bool {
    tls::is_alert(bytes) || tls::is_frame(bytes)
}

fn asks_for_nothing(record: &RejectionRecord, marks: Marks, opening: Opening, has_fin: bool) -> bool {
    let is_short = record.payload <= CONTROL;
    match opening {
        // A request in the clear says so itself.
        Opening::Http => false,
        _ if marks.has_seen(Opening::WebSocket) => true,
        // Each request of HTTP/1 begins with a method. The peer may have been upgraded and send its first frame.
        Opening::WebSocket if marks.has_seen(Opening::Http) => record.payload <= CONTROL_FRAME,
        Opening::TlsAlert => true,
        Opening::TlsHandshake | Opening::TlsCiphers => is_short && has_fin || record.payload < HANDSHAKE,
        // Only TLS 1.3 has alerts that look like data.
        Opening::TlsData => is_short && has_fin || u64::from(record.payload) == ALERT || tls::is_frame(record.payload),
        // What lies in pages cannot be looked at. Where the reset is faster than the peer's FIN, no FIN comes.
        Opening::Unknown if marks.is_tls() => is_short && has_fin || is_control(record.payload),
        Opening::Unknown => is_short && has_fin && !marks.is_text(),
        Opening::Text | Opening::WebSocket | Opening::Binary | Opening::Bodiless => false,
    }
}

/// Whether the application closed right behind its response, and a full segment came: the upload goes on.
const fn follows_at_once(record: &RejectionRecord, ended: &Ended) -> bool {
    ended.idle < AT_ONCE && record.payload >= FULL_SEGMENT
}

#[cfg(test)]
mod tests;
