//! What each event does to a connection.

use super::{
    ABANDONED_NS, ACTIVE, ADOPTED, ALERT_LENGTHS, ASKED, Acknowledgement, BEHIND, BODY, CHANGED, CLOSED_AT_ONCE_NS,
    CLOSED_BY_APPLICATION, CLOSED_BY_PEER, CONTINUES, Change, Connection, ENDED_UNANSWERED, ENDS, IGNORED, MIDWAY,
    OPENING, OPENING_SHIFT, OPENINGS, OPENINGS_SHIFT, OVERLAPPED, PEEKED, REOPENED, RESET_ARRIVED, RESET_BY_HOST,
    RESET_BY_PEER, RIGHT_BEHIND_NS, Report, Request, SENT_ON, SWITCHED, SWITCHED_BEHIND, Segment, TIMED_OUT,
    TIMED_OUT_AT_LAST, TLS_OPENINGS, Tcp, Times, pending, state,
};
use crate::{opening::Opening, process::How, sequence::after, stage::RequestMoments};

/// The first pieces of a response are reported as they are acknowledged, and those that come after a pause: few responses
/// have more. Only the end of those that have is looked for by the sweep, which costs a look at every connection.
const AT_ONCE: u32 = 3;
/// Nanoseconds.
const PAUSE_NS: u64 = 100_000_000;
/// The longest response that is taken for an interim one: `HTTP/1.1 100 Continue` and an empty line. No final response with
/// a length or a body is as short.
const INTERIM: u64 = 25;
/// The lengths of a response that switches to WebSocket (`101 Switching Protocols`), in bytes. The status line and the three header
/// fields that RFC 6455 requires take 129; few such responses have more than 400.
const SWITCHING: core::ops::Range<u64> = 129..401;
/// The shortest request for that switch, in bytes: RFC 6455 requires five header fields.
const UPGRADE: u64 = 140;
/// The lengths of an encrypted ping of HTTP/2 and of its answer: a frame of 17 bytes (RFC 9113, section 6.7), and what TLS 1.3 and the
/// ciphers of TLS 1.2 that are in use add to it. No response of HTTP/1 is as short.
const PINGS: [u64; 3] = [39, 46, 38];
/// What comes within this many nanoseconds of the response before it may have been on its way before that response.
const BEHIND_NS: u64 = 100_000_000;
/// The set of openings of a connection that has carried HTTP/1 and has not been upgraded.
const HTTP: u32 = 1 << (OPENINGS_SHIFT + Opening::Http as u32);
const UPGRADED: u32 = TLS_OPENINGS | 1 << (OPENINGS_SHIFT + Opening::WebSocket as u32);

impl Request {
    /// Begins as a request of which the first byte arrived at one moment and was queued at another.
    #[inline(always)]
    fn begin(&self, arrived: u64, queued: u64) {
        self.moments.set(RequestMoments { arrived, queued, ..RequestMoments::default() });
        self.bytes_in.set(0);
        self.bytes_out.set(0);
        self.zero_window.set(0);
        self.held.set(0);
        self.reports.set(0);
        self.retransmits.set(0);
        self.resent.set(0);
    }
}

impl Connection {
    /// Starts to follow the streams at `tcp`: nothing received or written so far counts.
    #[inline(always)]
    pub fn follow(&self, tcp: Tcp) {
        self.input_end.set(tcp.expected);
        self.answer_start.set(tcp.written);
        self.written_end.set(tcp.written);
        self.output_end.set(tcp.written);
        self.acknowledged_end.set(tcp.written);
    }

    /// Follows a connection whose request came with the SYN (TCP Fast Open), before the handshake is over: `received` bytes
    /// were queued at about `queued`, and what was written from `answered` on is the response.
    #[inline(always)]
    pub fn follow_fast_open(&self, tcp: Tcp, received: u32, answered: u32, queued: u64) {
        self.follow(Tcp { expected: tcp.expected.wrapping_sub(received), written: answered, window: tcp.window });
        self.begin_request(0, queued);
        self.count_received(tcp.expected);
    }

    /// Joins in the middle of a request, of which nothing is reported. `answered` is whether part of the response was
    /// written already.
    #[inline(always)]
    pub fn follow_midway(&self, tcp: Tcp, answered: bool) {
        self.follow(tcp);
        self.flags.insert(ACTIVE | MIDWAY);
        if answered {
            self.answer_start.set(tcp.written.wrapping_sub(1));
        }
    }

    /// Whether the current request was answered, and all of the answer acknowledged.
    #[inline(always)]
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.request.bytes_out.get() != 0 && self.acknowledged_end.get() == self.written_end.get()
    }

    /// Whether there is something about the current request that was not reported, and may not be soon.
    #[inline(always)]
    #[must_use]
    pub fn is_to_be_looked_at(&self) -> bool {
        let is_reported = self.request.reports.get() != 0 && !self.flags.has(CHANGED) && self.is_answered();
        self.flags.get() & (ACTIVE | IGNORED | MIDWAY) == ACTIVE && !is_reported
    }

    /// A segment arrived on the established connection; `times` tells when. `report` is called for each request that it
    /// ends, with the time.
    #[inline(always)]
    pub fn segment(&self, segment: Segment, tcp: Tcp, times: impl Fn() -> Times, report: impl Fn(&Self, Report, u64)) {
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
        if payload && after(segment.end, self.input_end.get()) {
            if !self.flags.has(ACTIVE) || (all && self.is_answering()) {
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
    fn sent_on(&self) {
        self.flags.insert(SENT_ON);
        if self.flags.get() & OPENING == (Opening::TlsData as u32) << OPENING_SHIFT && self.sequence.get() > 2 {
            self.flags.insert(OVERLAPPED);
        }
    }

    /// The application read; `now` is when the read returned. If it was the first read of a request, whose reader is then
    /// to be noted, that moment.
    #[inline(always)]
    pub fn read(&self, tcp: Tcp, now: impl FnOnce() -> u64) -> Option<u64> {
        // Once a side has closed, the numbers count its FIN, and every byte before it has been counted.
        if !self.flags.has(ENDS) {
            self.count_written(tcp.written);
            self.count_unseen(tcp.expected);
        }
        let moments = &self.request.moments;
        if !self.flags.has(ACTIVE)
            || moments.first_write.get() != 0
            || self.written_end.get() != self.answer_start.get()
        {
            return None;
        }
        let now = now();
        moments.last_read.set(now);
        if moments.first_read.get() != 0 {
            return None;
        }
        moments.first_read.set(now);
        Some(now)
    }

    /// The sequence number of the first byte of the current turn.
    #[inline(always)]
    #[must_use]
    pub fn turn_start(&self) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "sequence numbers wrap")]
        let received = self.request.bytes_in.get() as u32;
        self.input_end.get().wrapping_sub(received)
    }

    /// Whether the first bytes of the current turn are worth a look, which costs as much as the rest of a read. On a
    /// connection that has carried nothing but HTTP/1, a turn as long as most requests is one: only every eighth is looked
    /// at, and each one behind a response that may have switched protocols. Bodies come in full segments or behind an interim
    /// response, and control data is short.
    #[inline(always)]
    #[must_use]
    pub fn is_opening_wanted(&self) -> bool {
        let is_http = self.flags.get() & OPENINGS == HTTP;
        let is_plain = self.request.bytes_in.get() > 32 && self.request.bytes_in.get() <= 1400;
        let number = self.flags.get() & OPENING;
        let may_differ = number == ASKED << OPENING_SHIFT
            || number == SWITCHED << OPENING_SHIFT
            || number == SWITCHED_BEHIND << OPENING_SHIFT;
        !is_http || !is_plain || may_differ || self.sequence.get() <= 2 || self.sequence.get().is_multiple_of(8)
    }

    /// Whether a read shows the first bytes of the current turn; `next` is the sequence number of the next byte to be read. A
    /// read that took only what came before the turn, such as the rest of an upload that was answered early, does not: the
    /// next read is then looked at.
    #[inline(always)]
    #[must_use]
    pub fn shows_opening(&self, next: u32) -> bool {
        let start = self.turn_start();
        if !after(next, start) {
            self.flags.insert(PEEKED);
        }
        !after(start.wrapping_add(3), next)
    }

    /// The first bytes of the current turn were of that class.
    #[inline(always)]
    pub fn opened_with(&self, opening: Opening) {
        if matches!(opening, Opening::Unknown) {
            return;
        }
        let class = opening.class();
        let is_asked =
            self.flags.get() & OPENING == ASKED << OPENING_SHIFT && self.flags.get() & (HTTP | UPGRADED) == HTTP;
        self.flags.remove(OPENING);
        if is_asked && !matches!(class, Opening::Http) {
            // A body says nothing about the protocol.
            self.flags.insert(BODY << OPENING_SHIFT);
        } else {
            self.flags.insert((opening as u32) << OPENING_SHIFT | 1 << (OPENINGS_SHIFT + class as u32));
        }
    }

    /// The application is about to write. Later writes of the same response change nothing.
    #[inline(always)]
    pub fn write(&self, now: impl FnOnce() -> u64) {
        if self.flags.has(ACTIVE) && self.request.moments.first_write.get() == 0 {
            self.request.moments.first_write.set(now());
        }
    }

    /// A packet with the payload `start..end` was given to the device. What was sent before is a retransmission and
    /// moves nothing. TCP had passed it on at `passed_on`; 0: not known.
    #[inline(always)]
    pub fn sent(&self, start: u32, end: u32, passed_on: u64, now: impl FnOnce() -> u64) {
        if !self.flags.has(ACTIVE) || start == end || !after(end, self.output_end.get()) {
            return;
        }
        let now = now();
        self.output_end.set(end);
        let moments = &self.request.moments;
        if moments.first_out.get() == 0 {
            moments.first_out.set(now);
        } else if passed_on != 0 && passed_on < now {
            // Where packets wait one behind the other, the time counts once.
            let since = if passed_on > moments.last_out.get() { passed_on } else { moments.last_out.get() };
            self.request.held.add(now.saturating_sub(since));
        }
        moments.last_out.set(now);
    }

    /// A packet left that tells the peer whether there is room for more. Not under the socket's lock: only packets
    /// that leave change these fields.
    #[inline(always)]
    pub fn advertised(&self, is_zero: bool, now: impl FnOnce() -> u64) {
        if is_zero {
            if self.zero_since.get() == 0 && self.flags.get() & (ACTIVE | ENDS) == ACTIVE {
                self.zero_since.set(now());
            }
        } else if self.zero_since.get() != 0 {
            self.request.zero_window.add(now().saturating_sub(self.zero_since.get()));
            self.zero_since.set(0);
        }
    }

    /// Nanoseconds for which the window was closed during the current request.
    #[inline(always)]
    #[must_use]
    pub fn zero_window(&self, now: u64) -> u64 {
        let open = if self.zero_since.get() == 0 { 0 } else { now.saturating_sub(self.zero_since.get()) };
        self.request.zero_window.get().saturating_add(open)
    }

    /// What became of the current request, one of [`pending`].
    #[inline(always)]
    #[must_use]
    pub fn pending(&self) -> u32 {
        if self.flags.has(MIDWAY) {
            pending::UNKNOWN
        } else if self.sequence.get() == 0 {
            pending::NOTHING
        } else if self.request.bytes_out.get() == 0 {
            pending::UNANSWERED
        } else if self.acknowledged_end.get() != self.written_end.get() {
            pending::CUT
        } else {
            pending::NOTHING
        }
    }

    /// The end of the response, as a sequence number: a peer that acknowledges less has not got all of it. What the
    /// application writes behind a response that was acknowledged, before it closes, is no part of it.
    #[inline(always)]
    #[must_use]
    pub fn response_end(&self) -> u32 {
        if self.farewell.get() == 0 && self.request.reports.get() != 0 {
            self.acknowledged_end.get()
        } else {
            self.written_end.get().wrapping_sub(self.farewell.get())
        }
    }

    /// Whether the peer's FIN or reset came right behind the first byte of the current turn.
    #[inline(always)]
    #[must_use]
    pub fn peer_left_right_behind(&self) -> bool {
        self.ended_within(CLOSED_BY_PEER | RESET_BY_PEER, RIGHT_BEHIND_NS)
    }

    /// Whether nobody had read the current turn when the peer ended the connection, or the application with a reset, soon
    /// after that turn began.
    #[inline(always)]
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.request.moments.first_read.get() == 0
            && (self.ended_within(CLOSED_BY_PEER | RESET_BY_PEER, ABANDONED_NS) || self.is_closed_at_once())
    }

    /// Whether the application closed as the current turn began. A process that dies does so at any moment.
    fn is_closed_at_once(&self) -> bool {
        self.by.how.get() == How::Closed as u16 && self.ended_within(RESET_BY_HOST, CLOSED_AT_ONCE_NS)
    }

    #[inline(always)]
    fn ended_within(&self, ends: u32, nanoseconds: u64) -> bool {
        let queued = self.request.moments.queued.get();
        self.flags.has(ends) && queued != 0 && self.ended.get().saturating_sub(queued) < nanoseconds
    }

    /// A packet of the response with that many bytes was sent again.
    #[inline(always)]
    pub fn retransmitted(&self, length: u32) {
        if self.flags.has(ACTIVE) {
            self.request.retransmits.set(self.request.retransmits.get().saturating_add(1));
            #[expect(clippy::cast_possible_truncation, reason = "asked before")]
            let length = if length < 0xffff { length as u16 } else { 0xffff };
            self.request.resent.set(length);
        }
    }

    /// `accept()` returned the connection.
    #[inline(always)]
    pub fn accepted(&self, now: u64) {
        if self.moments.accepted.get() == 0 {
            self.moments.accepted.set(now);
        }
    }

    /// A reset arrived.
    #[inline(always)]
    pub fn reset_received(&self, now: u64) {
        self.flags.insert(RESET_ARRIVED);
        self.ended_by(RESET_BY_PEER, now);
    }

    /// The TCP state changes. `report` is called for the request that this ends.
    #[inline(always)]
    pub fn state_changed(
        &self,
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
            if unacknowledged == self.written_end.get() && self.acknowledged_end.get() != self.written_end.get() {
                // Acknowledged after a FIN, where no hook sees it.
                self.acknowledged_end.set(self.written_end.get());
                self.request.moments.acknowledged.set(latest);
                self.flags.insert(CHANGED);
            }
        }
        // A process that works off the packets which came while it held the lock ends nothing itself.
        let by_peer = new == state::CLOSE_WAIT || timed_out || self.flags.has(RESET_ARRIVED);
        if matches!(old, state::ESTABLISHED | state::CLOSE_WAIT) && !by_peer && self.by.pid.get() == 0 {
            self.by.set(change.by);
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
                    self.flags.insert(TIMED_OUT_AT_LAST);
                }
                let is_finishing = matches!(old, state::FIN_WAIT1 | state::FIN_WAIT2 | state::CLOSING);
                // The peer's FIN ends the connection in order: the application may still read what has come, and no reset
                // is sent if it does not.
                let in_order = is_finishing && change.received != tcp.expected;
                self.unread.set(if in_order { 0 } else { change.unread });
                if self.flags.has(CLOSED_BY_APPLICATION) && after(change.received, self.input_end.get()) {
                    self.late.set(change.received.wrapping_sub(self.input_end.get()));
                }
                let end = match old {
                    _ if timed_out => TIMED_OUT,
                    // The FIN was before tracing began.
                    state::CLOSE_WAIT | state::LAST_ACK => CLOSED_BY_PEER,
                    state::FIN_WAIT1 | state::FIN_WAIT2 | state::CLOSING => CLOSED_BY_APPLICATION,
                    _ => RESET_BY_HOST,
                };
                self.ended_by(end, now);
                if self.leaves_more_unread_than_came() {
                    self.flags.insert(CONTINUES);
                }
                self.end_request(now, &report);
                self.flags.remove(ACTIVE);
            }
            _ => {}
        }
    }

    /// Whether the application closed and had not even read all of the request before the current turn, which it had answered.
    /// The FIN of the peer may be counted. A process that dies does so at any moment.
    #[inline(always)]
    fn leaves_more_unread_than_came(&self) -> bool {
        let is_http = self.flags.has(HTTP | TLS_OPENINGS) && !self.flags.has(OVERLAPPED);
        let is_unanswered = self.flags.has(ACTIVE) && self.sequence.get() > 1 && self.request.bytes_out.get() == 0;
        let is_closed = self.by.how.get() == How::Closed as u16;
        is_http && is_unanswered && is_closed && u64::from(self.unread.get()) > self.request.bytes_in.get() + 1
    }

    /// On a connection with TLS, what the application writes last, after all of its response was acknowledged, is a
    /// close alert if it is as long as one. Nobody waits for it.
    #[inline(always)]
    fn dismiss_farewell(&self) {
        if self.is_alert_pending() {
            self.farewell.set(self.written_end.get().wrapping_sub(self.acknowledged_end.get()));
            self.acknowledged_end.set(self.written_end.get());
        } else if self.flags.has(ACTIVE)
            && self.before_alert.get() != 0
            && self.alert_end.get() == self.written_end.get()
        {
            // The peer has acknowledged it already, and a report took it for the end of the response.
            self.request.moments.acknowledged.set(self.before_alert.get());
            self.request.bytes_out.set(self.request.bytes_out.get().saturating_sub(self.alert_length.get().into()));
            self.farewell.set(self.alert_length.get());
            self.flags.insert(CHANGED);
        } else {
            return;
        }
        // It is no sign of life either: the response had left before it was acknowledged.
        let moments = &self.request.moments;
        if moments.acknowledged.get() != 0 && moments.last_out.get() > moments.acknowledged.get() {
            moments.last_out.set(moments.acknowledged.get());
        }
    }

    /// Whether what was written and is not acknowledged is as long as a TLS close alert, behind a response that was
    /// acknowledged.
    #[inline(always)]
    fn is_alert_pending(&self) -> bool {
        let unacknowledged = self.written_end.get().wrapping_sub(self.acknowledged_end.get());
        self.flags.has(ACTIVE)
            && self.flags.has(TLS_OPENINGS)
            && self.request.reports.get() != 0
            && ALERT_LENGTHS.contains(&unacknowledged)
    }

    #[inline(always)]
    fn ended_by(&self, end: u32, now: u64) {
        if !self.flags.has(ENDS) {
            self.flags.insert(end);
            if self.flags.has(ACTIVE) && !self.is_answering() {
                self.flags.insert(ENDED_UNANSWERED);
            }
            self.ended.set(now);
            let last = self.last_event();
            self.idle.set(if last == 0 { 0 } else { now.saturating_sub(last) });
        }
    }

    /// The latest moment that is known of it.
    #[inline(always)]
    fn last_event(&self) -> u64 {
        let m = &self.request.moments;
        let mut last = self.moments.established.get();
        if m.queued.get() > last {
            last = m.queued.get();
        }
        if m.last_read.get() > last {
            last = m.last_read.get();
        }
        if m.last_out.get() > last {
            last = m.last_out.get();
        }
        if m.acknowledged.get() > last { m.acknowledged.get() } else { last }
    }

    #[inline(always)]
    fn is_answering(&self) -> bool {
        self.written_end.get() != self.answer_start.get()
    }

    /// Whether something was written in the current request that was not seen acknowledged.
    #[inline(always)]
    fn has_unacknowledged(&self) -> bool {
        self.flags.has(ACTIVE) && self.acknowledged_end.get() != self.written_end.get()
    }

    /// All that was written is acknowledged, which it was not before.
    #[inline(always)]
    fn acknowledge(&self, moment: u64, now: u64, report: &impl Fn(&Self, Report, u64)) {
        let since = moment.saturating_sub(self.request.moments.acknowledged.get());
        if self.is_alert_pending() {
            self.before_alert.set(self.request.moments.acknowledged.get());
            self.alert_end.set(self.written_end.get());
            self.alert_length.set(self.written_end.get().wrapping_sub(self.acknowledged_end.get()));
        }
        self.acknowledged_end.set(self.written_end.get());
        self.request.moments.acknowledged.set(moment);
        self.flags.insert(CHANGED);
        if self.request.reports.get() < AT_ONCE || since > PAUSE_NS {
            self.report(Report::Answered, now, report);
        } else {
            self.flags.insert(REOPENED);
        }
    }

    /// The current request is over: nothing can follow.
    #[inline(always)]
    fn end_request(&self, now: u64, report: &impl Fn(&Self, Report, u64)) {
        if self.flags.has(ACTIVE) {
            if self.acknowledged_end.get() != self.written_end.get() {
                // Part of the response was never acknowledged, as far as was seen.
                self.request.moments.acknowledged.set(0);
                self.flags.insert(CHANGED);
            }
            if self.flags.has(CHANGED) || self.request.reports.get() == 0 {
                self.report(Report::Over, now, report);
            }
        }
    }

    #[inline(always)]
    fn report(&self, why: Report, now: u64, report: &impl Fn(&Self, Report, u64)) {
        if self.is_ping() {
            self.flags.insert(OVERLAPPED);
        }
        if !self.flags.has(MIDWAY) {
            report(self, why, now);
        }
        self.request.reports.add(1);
        self.flags.remove(CHANGED | REOPENED);
    }

    /// Whether the current turn is a ping of HTTP/2 in TLS, and its answer.
    #[inline(always)]
    fn is_ping(&self) -> bool {
        let (bytes_in, bytes_out) = (self.request.bytes_in.get(), self.request.bytes_out.get());
        bytes_in == bytes_out && PINGS.contains(&bytes_in) && self.flags.has(TLS_OPENINGS)
    }

    #[inline(always)]
    fn begin_request(&self, arrived: u64, queued: u64) {
        let origin = self.origin(queued) << OPENING_SHIFT;
        self.request.begin(arrived, queued);
        if self.zero_since.get() != 0 && queued > self.zero_since.get() {
            self.zero_since.set(queued);
        }
        self.sequence.add(1);
        self.answer_start.set(self.written_end.get());
        self.output_end.set(self.written_end.get());
        self.acknowledged_end.set(self.written_end.get());
        let continues = if self.flags.has(SENT_ON) { CONTINUES } else { 0 };
        let gone = CHANGED | REOPENED | MIDWAY | SENT_ON | CONTINUES | OPENING | PEEKED;
        self.flags.set((self.flags.get() & !gone) | ACTIVE | continues | origin);
    }

    /// What is known of a turn that begins now, before anybody has read it: how it follows the response before it.
    #[inline(always)]
    fn origin(&self, queued: u64) -> u32 {
        let (moments, bytes_out) = (&self.request.moments, self.request.bytes_out.get());
        let acknowledged = moments.acknowledged.get();
        let is_behind = acknowledged != 0 && queued.saturating_sub(acknowledged) < BEHIND_NS;
        if bytes_out != 0 && bytes_out <= INTERIM {
            ASKED
        } else if SWITCHING.contains(&bytes_out) && self.request.bytes_in.get() >= UPGRADE {
            if is_behind { SWITCHED_BEHIND } else { SWITCHED }
        } else if is_behind {
            BEHIND
        } else {
            0
        }
    }

    /// Bytes that `segment` did not see: they came with the handshake's last ACK, and hence when the connection was
    /// established.
    #[inline(always)]
    fn count_unseen(&self, expected: u32) {
        if after(expected, self.input_end.get()) {
            if !self.flags.has(ACTIVE) {
                let first = self.sequence.get() == 0 && !self.flags.has(ADOPTED);
                self.begin_request(0, if first { self.moments.established.get() } else { 0 });
            }
            self.count_received(expected);
        }
    }

    #[inline(always)]
    fn count_received(&self, end: u32) {
        self.flags.insert(CHANGED);
        self.request.bytes_in.add(u64::from(end.wrapping_sub(self.input_end.get())));
        self.input_end.set(end);
    }

    #[inline(always)]
    fn count_written(&self, written: u32) {
        if written == self.written_end.get() {
            return;
        }
        if self.flags.has(ACTIVE) {
            self.request.bytes_out.add(u64::from(written.wrapping_sub(self.written_end.get())));
        }
        self.written_end.set(written);
    }
}
