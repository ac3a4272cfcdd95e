//! What each event does to a connection.

use super::{
    ACTIVE, ADOPTED, ALERT_LENGTHS, ASKED, Acknowledgement, BEHIND, BODY, CHANGED, CLOSED_BY_APPLICATION,
    CLOSED_BY_PEER, CONTINUES, Change, Connection, ENDED_UNANSWERED, ENDS, IGNORED, MIDWAY, OPENING, OPENING_SHIFT,
    OPENINGS, OPENINGS_SHIFT, OVERLAPPED, PEEKED, REOPENED, RESET_ARRIVED, RESET_BY_HOST, RESET_BY_PEER, Report,
    Request, SENT_ON, Segment, TIMED_OUT, TIMED_OUT_AT_LAST, TLS_OPENINGS, Tcp, Times, state,
};
use crate::{
    opening::Opening,
    record::{ABANDONED_NS, CLOSED_AT_ONCE_NS, ConnectionRecord, RIGHT_BEHIND_NS},
    rejection::How,
    sequence::after,
};

/// The first pieces of a response are reported as they are acknowledged, and those that come after a pause: few responses
/// have more. Only the end of those that have is looked for by the sweep, which costs a look at every connection.
const AT_ONCE: u32 = 3;
/// Nanoseconds.
const PAUSE_NS: u64 = 100_000_000;
/// The longest response that is taken for an interim one: `HTTP/1.1 100 Continue` and an empty line. No final response with
/// a length or a body is as short.
const INTERIM: u64 = 25;
/// What comes within this many nanoseconds of the response before it may have been on its way before that response.
const BEHIND_NS: u64 = 100_000_000;
/// The set of openings of a connection that has carried HTTP/1 and has not been upgraded.
const HTTP: u32 = 1 << (OPENINGS_SHIFT + Opening::Http as u32);
const UPGRADED: u32 = TLS_OPENINGS | 1 << (OPENINGS_SHIFT + Opening::WebSocket as u32);

impl Connection {
    /// Starts to follow the streams at `tcp`: nothing received or written so far counts.
    #[inline(always)]
    pub fn follow(&mut self, tcp: Tcp) {
        self.input_end = tcp.expected;
        self.answer_start = tcp.written;
        self.written_end = tcp.written;
        self.output_end = tcp.written;
        self.acknowledged_end = tcp.written;
    }

    /// Follows a connection whose request came with the SYN (TCP Fast Open), before the handshake is over: `received` bytes
    /// were queued at about `queued`, and what was written from `answered` on is the response.
    #[inline(always)]
    pub fn follow_fast_open(&mut self, tcp: Tcp, received: u32, answered: u32, queued: u64) {
        self.follow(Tcp { expected: tcp.expected.wrapping_sub(received), written: answered, window: tcp.window });
        self.begin_request(0, queued);
        self.count_received(tcp.expected);
    }

    /// Joins in the middle of a request, of which nothing is reported. `answered` is whether part of the response was
    /// written already.
    #[inline(always)]
    pub fn follow_midway(&mut self, tcp: Tcp, answered: bool) {
        self.follow(tcp);
        self.flags |= ACTIVE | MIDWAY;
        if answered {
            self.answer_start = tcp.written.wrapping_sub(1);
        }
    }

    /// Whether the current request was answered, and all of the answer acknowledged.
    #[inline(always)]
    #[must_use]
    pub const fn is_answered(&self) -> bool {
        self.request.bytes_out != 0 && self.acknowledged_end == self.written_end
    }

    /// Whether there is something about the current request that was not reported, and may not be soon.
    #[inline(always)]
    #[must_use]
    pub const fn is_to_be_looked_at(&self) -> bool {
        let is_reported = self.request.reports != 0 && self.flags & CHANGED == 0 && self.is_answered();
        self.flags & (ACTIVE | IGNORED | MIDWAY) == ACTIVE && !is_reported
    }

    /// A segment arrived on the established connection; `times` tells when. `report` is called for each request that it
    /// ends, with the time.
    #[inline(always)]
    pub fn segment(
        &mut self,
        segment: Segment,
        tcp: Tcp,
        times: impl Fn() -> Times,
        report: impl Fn(&Self, Report, u64),
    ) {
        self.count_written(tcp.written);
        let all = segment.acknowledges == tcp.written;
        // Not an `Option`: the verifier of Linux 6.1 lets nobody read what was not written, not even to copy it.
        let mut known = Times { arrived: 0, queued: 0 };
        if all && self.has_unacknowledged() {
            known = times();
            let Times { arrived, queued } = known;
            self.acknowledge(if arrived == 0 { queued } else { arrived }, queued, &report);
        }
        self.count_unseen(tcp.expected);
        // TCP refuses what begins beyond its window.
        let refused = after(segment.start, tcp.expected.wrapping_add(tcp.window));
        let payload = segment.end != segment.start && after(segment.end, tcp.expected) && !refused;
        if payload && after(segment.end, self.input_end) {
            if self.flags & ACTIVE == 0 || (all && self.is_answering()) {
                if known.queued == 0 {
                    known = times();
                }
                let Times { arrived, queued } = known;
                self.end_request(queued, &report);
                self.begin_request(arrived, queued);
            } else if self.is_answering() {
                self.sent_on();
            }
            self.count_received(segment.end);
        }
    }

    /// The peer sends more before it has the whole response. On TLS that is a sign of HTTP/2, except in the first two
    /// turns: the server's session tickets cross the first request.
    #[inline(always)]
    fn sent_on(&mut self) {
        self.flags |= SENT_ON;
        if self.flags & OPENING == (Opening::TlsData as u32) << OPENING_SHIFT && self.sequence > 2 {
            self.flags |= OVERLAPPED;
        }
    }

    /// The application read; `now` is when the read returned. If it was the first read of a request, whose reader is then
    /// to be noted, that moment.
    #[inline(always)]
    pub fn read(&mut self, tcp: Tcp, now: impl FnOnce() -> u64) -> Option<u64> {
        // Once a side has closed, the numbers count its FIN, and every byte before it has been counted.
        if self.flags & ENDS == 0 {
            self.count_written(tcp.written);
            self.count_unseen(tcp.expected);
        }
        let moments = &mut self.request.moments;
        if self.flags & ACTIVE == 0 || moments.first_write != 0 || self.written_end != self.answer_start {
            return None;
        }
        let now = now();
        moments.last_read = now;
        if moments.first_read != 0 {
            return None;
        }
        moments.first_read = now;
        Some(now)
    }

    /// The sequence number of the first byte of the current turn.
    #[inline(always)]
    #[must_use]
    pub const fn turn_start(&self) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "sequence numbers wrap")]
        let received = self.request.bytes_in as u32;
        self.input_end.wrapping_sub(received)
    }

    /// Whether the first bytes of the current turn are worth a look, which costs as much as the rest of a read. On a
    /// connection that has carried nothing but HTTP/1, a turn as long as most requests is one: only every fourth is looked
    /// at, to see an upgrade. Bodies come in full segments or behind an interim response, and control data is short.
    #[inline(always)]
    #[must_use]
    pub const fn is_opening_wanted(&self) -> bool {
        let is_http = self.flags & OPENINGS == HTTP;
        let is_plain = self.request.bytes_in > 32 && self.request.bytes_in <= 1400;
        let is_asked = self.flags & OPENING == ASKED << OPENING_SHIFT;
        !is_http || !is_plain || is_asked || self.sequence <= 2 || self.sequence.is_multiple_of(4)
    }

    /// The first bytes of the current turn were of that class.
    #[inline(always)]
    pub fn opened_with(&mut self, opening: Opening) {
        if matches!(opening, Opening::Unknown) {
            return;
        }
        let class = opening.class();
        let is_asked = self.flags & OPENING == ASKED << OPENING_SHIFT && self.flags & (HTTP | UPGRADED) == HTTP;
        self.flags &= !OPENING;
        if is_asked && !matches!(class, Opening::Http) {
            // A body says nothing about the protocol.
            self.flags |= BODY << OPENING_SHIFT;
        } else {
            self.flags |= (opening as u32) << OPENING_SHIFT | 1 << (OPENINGS_SHIFT + class as u32);
        }
    }

    /// The application is about to write. Later writes of the same response change nothing.
    #[inline(always)]
    pub fn write(&mut self, now: impl FnOnce() -> u64) {
        if self.flags & ACTIVE != 0 && self.request.moments.first_write == 0 {
            self.request.moments.first_write = now();
        }
    }

    /// A packet with the payload `start..end` was given to the device. What was sent before is a retransmission and
    /// moves nothing. TCP had passed it on at `passed_on`; 0: not known.
    #[inline(always)]
    pub fn sent(&mut self, start: u32, end: u32, passed_on: u64, now: impl FnOnce() -> u64) {
        if self.flags & ACTIVE == 0 || start == end || !after(end, self.output_end) {
            return;
        }
        let now = now();
        self.output_end = end;
        let moments = &mut self.request.moments;
        if moments.first_out == 0 {
            moments.first_out = now;
        } else if passed_on != 0 && passed_on < now {
            // Where packets wait one behind the other, the time counts once.
            let since = if passed_on > moments.last_out { passed_on } else { moments.last_out };
            self.request.held += now.saturating_sub(since);
        }
        moments.last_out = now;
    }

    /// A packet left that tells the peer whether there is room for more. Not under the socket's lock: only packets
    /// that leave change these fields.
    #[inline(always)]
    pub fn advertised(&mut self, is_zero: bool, now: impl FnOnce() -> u64) {
        if is_zero {
            if self.zero_since == 0 && self.flags & (ACTIVE | ENDS) == ACTIVE {
                self.zero_since = now();
            }
        } else if self.zero_since != 0 {
            self.request.zero_window += now().saturating_sub(self.zero_since);
            self.zero_since = 0;
        }
    }

    /// Nanoseconds for which the window was closed during the current request.
    #[inline(always)]
    #[must_use]
    pub const fn zero_window(&self, now: u64) -> u64 {
        let open = if self.zero_since == 0 { 0 } else { now.saturating_sub(self.zero_since) };
        self.request.zero_window.saturating_add(open)
    }

    /// What became of the current request, as in [`ConnectionRecord::pending`].
    #[inline(always)]
    #[must_use]
    pub const fn pending(&self) -> u32 {
        if self.flags & MIDWAY != 0 {
            ConnectionRecord::UNKNOWN
        } else if self.sequence == 0 {
            ConnectionRecord::NOTHING
        } else if self.request.bytes_out == 0 {
            ConnectionRecord::UNANSWERED
        } else if self.acknowledged_end != self.written_end {
            ConnectionRecord::CUT
        } else {
            ConnectionRecord::NOTHING
        }
    }

    /// The end of the response, as a sequence number: a peer that acknowledges less has not got all of it. What the
    /// application writes behind a response that was acknowledged, before it closes, is no part of it.
    #[inline(always)]
    #[must_use]
    pub const fn response_end(&self) -> u32 {
        if self.farewell == 0 && self.request.reports != 0 {
            self.acknowledged_end
        } else {
            self.written_end.wrapping_sub(self.farewell)
        }
    }

    /// Whether the peer's FIN or reset came right behind the first byte of the current turn.
    #[inline(always)]
    #[must_use]
    pub const fn peer_left_right_behind(&self) -> bool {
        self.ended_within(CLOSED_BY_PEER | RESET_BY_PEER, RIGHT_BEHIND_NS)
    }

    /// Whether nobody had read the current turn when the peer ended the connection, or the application with a reset, soon
    /// after that turn began.
    #[inline(always)]
    #[must_use]
    pub const fn is_abandoned(&self) -> bool {
        self.request.moments.first_read == 0
            && (self.ended_within(CLOSED_BY_PEER | RESET_BY_PEER, ABANDONED_NS) || self.is_closed_at_once())
    }

    /// Whether the application closed as the current turn began. A process that dies does so at any moment.
    const fn is_closed_at_once(&self) -> bool {
        self.by.how == How::Closed as u16 && self.ended_within(RESET_BY_HOST, CLOSED_AT_ONCE_NS)
    }

    #[inline(always)]
    const fn ended_within(&self, ends: u32, nanoseconds: u64) -> bool {
        let queued = self.request.moments.queued;
        self.flags & ends != 0 && queued != 0 && self.ended.saturating_sub(queued) < nanoseconds
    }

    /// A packet of the response with that many bytes was sent again.
    #[inline(always)]
    pub fn retransmitted(&mut self, length: u32) {
        if self.flags & ACTIVE != 0 {
            self.request.retransmits = self.request.retransmits.saturating_add(1);
            #[expect(clippy::cast_possible_truncation, reason = "asked before")]
            let length = if length < 0xffff { length as u16 } else { 0xffff };
            self.request.resent = length;
        }
    }

    /// `accept()` returned the connection.
    #[inline(always)]
    pub fn accepted(&mut self, now: u64) {
        if self.moments.accepted == 0 {
            self.moments.accepted = now;
        }
    }

    /// A reset arrived.
    #[inline(always)]
    pub fn reset_received(&mut self, now: u64) {
        self.flags |= RESET_ARRIVED;
        self.ended_by(RESET_BY_PEER, now);
    }

    /// The TCP state changes. `report` is called for the request that this ends.
    #[inline(always)]
    pub fn state_changed(
        &mut self,
        change: Change,
        (acknowledgement, tcp): (Acknowledgement, Tcp),
        now: u64,
        report: impl Fn(&Self, Report, u64),
    ) {
        let Change { old, new, timed_out, .. } = change;
        // Once a FIN is queued, `write_seq` counts it too: the bytes written are known before that.
        let Acknowledgement { unacknowledged, latest } = acknowledgement;
        let finishing = matches!(old, state::FIN_WAIT1 | state::CLOSING | state::LAST_ACK);
        if finishing && unacknowledged == tcp.written {
            if self.has_unacknowledged() {
                self.acknowledge(now, now, &report);
            }
        } else {
            if matches!(old, state::ESTABLISHED | state::CLOSE_WAIT) {
                self.count_written(tcp.written);
            }
            if unacknowledged == self.written_end && self.acknowledged_end != self.written_end {
                // Acknowledged after a FIN, where no hook sees it.
                self.acknowledged_end = self.written_end;
                self.request.moments.acknowledged = latest;
                self.flags |= CHANGED;
            }
        }
        // A process that works off the packets which came while it held the lock ends nothing itself.
        let by_peer = new == state::CLOSE_WAIT || timed_out || self.flags & RESET_ARRIVED != 0;
        if matches!(old, state::ESTABLISHED | state::CLOSE_WAIT) && !by_peer && self.by.pid == 0 {
            self.by = change.by;
        }
        match (old, new) {
            (state::ESTABLISHED, state::FIN_WAIT1) => {
                self.dismiss_farewell();
                self.ended_by(CLOSED_BY_APPLICATION, now);
            }
            (state::ESTABLISHED, state::CLOSE_WAIT) => {
                self.count_unseen(tcp.expected.wrapping_sub(1));
                self.ended_by(CLOSED_BY_PEER, now);
            }
            (_, state::CLOSE) => {
                if timed_out {
                    self.flags |= TIMED_OUT_AT_LAST;
                }
                let is_finishing = matches!(old, state::FIN_WAIT1 | state::FIN_WAIT2 | state::CLOSING);
                // The peer's FIN ends the connection in order: the application may still read what has come, and no reset
                // is sent if it does not.
                let in_order = is_finishing && change.received != tcp.expected;
                self.unread = if in_order { 0 } else { change.unread };
                if self.flags & CLOSED_BY_APPLICATION != 0 && after(change.received, self.input_end) {
                    self.late = change.received.wrapping_sub(self.input_end);
                }
                let end = match old {
                    _ if timed_out => TIMED_OUT,
                    // The FIN was before tracing began.
                    state::CLOSE_WAIT | state::LAST_ACK => CLOSED_BY_PEER,
                    state::FIN_WAIT1 | state::FIN_WAIT2 | state::CLOSING => CLOSED_BY_APPLICATION,
                    _ => RESET_BY_HOST,
                };
                self.ended_by(end, now);
                self.end_request(now, &report);
                self.flags &= !ACTIVE;
            }
            _ => {}
        }
    }

    /// On a connection with TLS, what the application writes last, after all of its response was acknowledged, is a
    /// close alert if it is as long as one. Nobody waits for it.
    #[inline(always)]
    fn dismiss_farewell(&mut self) {
        if self.is_alert_pending() {
            self.farewell = self.written_end.wrapping_sub(self.acknowledged_end);
            self.acknowledged_end = self.written_end;
        } else if self.flags & ACTIVE != 0 && self.before_alert != 0 && self.alert_end == self.written_end {
            // The peer has acknowledged it already, and a report took it for the end of the response.
            self.request.moments.acknowledged = self.before_alert;
            self.request.bytes_out = self.request.bytes_out.saturating_sub(self.alert_length.into());
            self.farewell = self.alert_length;
            self.flags |= CHANGED;
        } else {
            return;
        }
        // It is no sign of life either: the response had left before it was acknowledged.
        let moments = &mut self.request.moments;
        if moments.acknowledged != 0 && moments.last_out > moments.acknowledged {
            moments.last_out = moments.acknowledged;
        }
    }

    /// Whether what was written and is not acknowledged is as long as a TLS close alert, behind a response that was
    /// acknowledged.
    #[inline(always)]
    fn is_alert_pending(&self) -> bool {
        let unacknowledged = self.written_end.wrapping_sub(self.acknowledged_end);
        self.flags & ACTIVE != 0
            && self.flags & TLS_OPENINGS != 0
            && self.request.reports != 0
            && ALERT_LENGTHS.contains(&unacknowledged)
    }

    #[inline(always)]
    fn ended_by(&mut self, end: u32, now: u64) {
        if self.flags & ENDS == 0 {
            self.flags |= end;
            if self.flags & ACTIVE != 0 && !self.is_answering() {
                self.flags |= ENDED_UNANSWERED;
            }
            self.ended = now;
            let last = self.last_event();
            self.idle = if last == 0 { 0 } else { now.saturating_sub(last) };
        }
    }

    /// The latest moment that is known of it.
    #[inline(always)]
    const fn last_event(&self) -> u64 {
        let m = &self.request.moments;
        let mut last = self.moments.established;
        if m.queued > last {
            last = m.queued;
        }
        if m.last_read > last {
            last = m.last_read;
        }
        if m.last_out > last {
            last = m.last_out;
        }
        if m.acknowledged > last { m.acknowledged } else { last }
    }

    #[inline(always)]
    const fn is_answering(&self) -> bool {
        self.written_end != self.answer_start
    }

    /// Whether something was written in the current request that was not seen acknowledged.
    #[inline(always)]
    const fn has_unacknowledged(&self) -> bool {
        self.flags & ACTIVE != 0 && self.acknowledged_end != self.written_end
    }

    /// All that was written is acknowledged, which it was not before.
    #[inline(always)]
    fn acknowledge(&mut self, moment: u64, now: u64, report: &impl Fn(&Self, Report, u64)) {
        let since = moment.saturating_sub(self.request.moments.acknowledged);
        if self.is_alert_pending() {
            self.before_alert = self.request.moments.acknowledged;
            self.alert_end = self.written_end;
            self.alert_length = self.written_end.wrapping_sub(self.acknowledged_end);
        }
        self.acknowledged_end = self.written_end;
        self.request.moments.acknowledged = moment;
        self.flags |= CHANGED;
        if self.request.reports < AT_ONCE || since > PAUSE_NS {
            self.report(Report::Answered, now, report);
        } else {
            self.flags |= REOPENED;
        }
    }

    /// The current request is over: nothing can follow.
    #[inline(always)]
    fn end_request(&mut self, now: u64, report: &impl Fn(&Self, Report, u64)) {
        if self.flags & ACTIVE != 0 {
            if self.acknowledged_end != self.written_end {
                // Part of the response was never acknowledged, as far as was seen.
                self.request.moments.acknowledged = 0;
                self.flags |= CHANGED;
            }
            if self.flags & CHANGED != 0 || self.request.reports == 0 {
                self.report(Report::Over, now, report);
            }
        }
    }

    #[inline(always)]
    fn report(&mut self, why: Report, now: u64, report: &impl Fn(&Self, Report, u64)) {
        if self.flags & MIDWAY == 0 {
            report(self, why, now);
        }
        self.request.reports += 1;
        self.flags &= !(CHANGED | REOPENED);
    }

    #[inline(always)]
    fn begin_request(&mut self, arrived: u64, queued: u64) {
        let origin = self.origin(queued) << OPENING_SHIFT;
        self.request = Request::default();
        self.request.moments.arrived = arrived;
        self.request.moments.queued = queued;
        if self.zero_since != 0 && queued > self.zero_since {
            self.zero_since = queued;
        }
        self.sequence += 1;
        self.answer_start = self.written_end;
        self.output_end = self.written_end;
        self.acknowledged_end = self.written_end;
        let continues = if self.flags & SENT_ON != 0 { CONTINUES } else { 0 };
        let gone = CHANGED | REOPENED | MIDWAY | SENT_ON | CONTINUES | OPENING | PEEKED;
        self.flags = (self.flags & !gone) | ACTIVE | continues | origin;
    }

    /// What is known of a turn that begins now, before anybody has read it: how it follows the response before it.
    #[inline(always)]
    const fn origin(&self, queued: u64) -> u32 {
        let Request { moments, bytes_out, .. } = &self.request;
        if *bytes_out != 0 && *bytes_out <= INTERIM {
            ASKED
        } else if moments.acknowledged != 0 && queued.saturating_sub(moments.acknowledged) < BEHIND_NS {
            BEHIND
        } else {
            0
        }
    }

    /// Bytes that `segment` did not see: they came with the handshake's last ACK, and hence when the connection was
    /// established.
    #[inline(always)]
    fn count_unseen(&mut self, expected: u32) {
        if after(expected, self.input_end) {
            if self.flags & ACTIVE == 0 {
                let first = self.sequence == 0 && self.flags & ADOPTED == 0;
                self.begin_request(0, if first { self.moments.established } else { 0 });
            }
            self.count_received(expected);
        }
    }

    #[inline(always)]
    fn count_received(&mut self, end: u32) {
        self.flags |= CHANGED;
        self.request.bytes_in += u64::from(end.wrapping_sub(self.input_end));
        self.input_end = end;
    }

    #[inline(always)]
    fn count_written(&mut self, written: u32) {
        if written == self.written_end {
            return;
        }
        if self.flags & ACTIVE != 0 {
            self.request.bytes_out += u64::from(written.wrapping_sub(self.written_end));
        }
        self.written_end = written;
    }
}
