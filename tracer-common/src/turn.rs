//! What a turn of a connection is: a request, or something that only looks like one.
//!
//! The state machine cuts a connection into turns by direction and sequence numbers alone. This is the one place that
//! decides what a turn is. It uses these facts and no others:
//!
//! | fact | from |
//! |---|---|
//! | class of the turn's first bytes ([`Opening`]) | the reader's own buffer, at its first read |
//! | classes of all turns on the connection so far | the same |
//! | the peer went on sending while the response was under way, in this turn or the one before | sequence numbers |
//! | the turn is the first one of its connection | the state machine |
//! | bytes received, whether anything was written | sequence numbers |
//! | the peer's FIN or reset came right behind the first byte | the state machine |
//! | the turn began right behind the response before it, or behind one as short as `100 Continue` | the state machine |
//! | nobody had read it when the connection was ended, soon after it began | the state machine |
//! | the application closed with part of the turn before it unread | the socket |
//! | a turn as long as a ping of HTTP/2 in TLS, and its answer as long, on the connection so far | sequence numbers |
//! | time from the first packet of the response to the last one, and how often it was reported | the state machine |

use crate::{
    connection::{
        BEHIND, BODY, CONTINUES, OPENING_SHIFT, OPENINGS, OPENINGS_SHIFT, OVERLAPPED, SENT_ON, SWITCHED_BEHIND,
    },
    opening::Opening,
};

/// What the flags of a connection say about its turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks(pub u32);

impl Marks {
    /// The class of the current turn's first bytes.
    #[must_use]
    pub const fn opening(self) -> Opening {
        Opening::numbered(self.number()).class()
    }

    /// Whether the current turn is known to be an HTTP request without a body.
    #[must_use]
    pub const fn is_bodiless(self) -> bool {
        matches!(Opening::numbered(self.number()), Opening::Bodiless)
    }

    /// An [`Opening`], or [`BEHIND`] and the like.
    const fn number(self) -> u32 {
        self.0 >> OPENING_SHIFT & 15
    }

    /// Whether any turn of the connection so far, the current one included, began with that class.
    #[must_use]
    pub const fn has_seen(self, opening: Opening) -> bool {
        self.0 >> (OPENINGS_SHIFT + opening as u32) & 1 == 1 && opening as u32 != 0
    }

    /// Whether the connection is known to carry TLS.
    #[must_use]
    pub const fn is_tls(self) -> bool {
        self.has_seen(Opening::TlsHandshake)
            || self.has_seen(Opening::TlsCiphers)
            || self.has_seen(Opening::TlsAlert)
            || self.has_seen(Opening::TlsData)
    }

    /// Whether the connection is known to carry text in the clear, such as HTTP/1.
    #[must_use]
    pub const fn is_text(self) -> bool {
        self.has_seen(Opening::Http) || self.has_seen(Opening::Text)
    }

    /// The turn began right behind the response before it, and how it begins is not known.
    #[must_use]
    pub const fn is_behind(self) -> bool {
        matches!(self.number(), BEHIND | SWITCHED_BEHIND)
    }

    const fn has(self, mark: u32) -> bool {
        self.0 & mark != 0
    }
}

/// What is known of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "facts that do not exclude each other")]
pub struct Facts {
    /// What the flags of its connection say.
    pub marks: Marks,
    /// It is the first turn of its connection, from the connection's beginning.
    pub is_first: bool,
    /// Payload bytes received.
    pub bytes_in: u64,
    /// The application wrote something.
    pub is_answered: bool,
    /// The peer's FIN or reset came right behind its first byte.
    pub peer_left: bool,
    /// Nobody had read it when the connection was ended, soon after it began.
    pub is_abandoned: bool,
    /// Nanoseconds from the first packet of the response to the last one.
    pub download: u64,
    /// How often it was reported before.
    pub reports: u32,
}

/// What a turn is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Turn {
    /// A request and its response, or a request that waits for one.
    Request,
    /// A request whose response goes on for long, in pieces: server-sent events, a progress report.
    Stream,
    /// A message that needs no answer of its own: WebSocket, HTTP/2 control frames, one-way protocols.
    Message,
    /// Part of a TLS handshake.
    Control,
    /// A TLS close alert: the peer says that nothing will follow.
    Farewell,
    /// The rest of an upload that was answered before all of it had come.
    Rest,
    /// The body of a request whose head got an interim response (`100 Continue`). It belongs to that request, and so does
    /// its response.
    Body,
}

/// What cannot be more than control data, if it is encrypted: HTTP/2 settings, window updates and pings take 31 to 39
/// bytes per frame, and the end of a TLS handshake less than 100.
const CONTROL: u64 = 100;
/// An encrypted close alert of TLS 1.3, in bytes: a head of five, two of content, one that says that it is an alert, and a
/// check of sixteen (RFC 8446, section 5.2). No request and no frame of HTTP/2 or WebSocket has two bytes of content only.
pub const ALERT: u64 = 24;
/// `GET / HTTP/1.0` and two line ends: no request of HTTP/1 is shorter, in bytes.
pub const SHORTEST_REQUEST: u64 = 18;
/// Uploads come in full segments, requests seldom do, in bytes.
const FULL_SEGMENT: u64 = 1400;
/// A response that takes so long and comes in pieces is a stream, in nanoseconds.
const STREAM: u64 = 10_000_000_000;
/// The reports of a stream: the first three pieces are reported at once, of the later ones only those after a pause.
const PIECES: u32 = 4;

impl Facts {
    /// What the turn is.
    #[must_use]
    pub const fn turn(&self) -> Turn {
        let marks = self.marks;
        let is_method = matches!(marks.opening(), Opening::Http);
        if marks.number() == BODY {
            return Turn::Body;
        }
        if marks.has_seen(Opening::WebSocket) && !self.is_first && !is_method {
            return Turn::Message;
        }
        match marks.opening() {
            Opening::TlsHandshake => Turn::Control,
            Opening::TlsCiphers if self.bytes_in <= CONTROL => Turn::Control,
            Opening::TlsAlert => Turn::Farewell,
            Opening::TlsData => self.encrypted(),
            // A connection that carries HTTP/1 begins each request with a method.
            Opening::Text | Opening::Binary if marks.has_seen(Opening::Http) && !self.is_answered => Turn::Rest,
            Opening::Http | Opening::Bodiless | Opening::TlsCiphers | Opening::Text => self.request(),
            Opening::WebSocket | Opening::Binary if self.is_answered => self.request(),
            Opening::WebSocket | Opening::Binary => Turn::Message,
            Opening::Unknown => self.unread(),
        }
    }

    /// A record of encrypted data: of HTTP/1 it is a request, of HTTP/2 it may be anything.
    const fn encrypted(&self) -> Turn {
        if self.bytes_in == ALERT && !self.is_first {
            return Turn::Farewell;
        }
        let is_short = self.bytes_in <= CONTROL && !self.is_first;
        if is_short && !self.is_answered {
            return if self.peer_left { Turn::Farewell } else { Turn::Message };
        }
        if self.marks.has(OVERLAPPED) {
            return Turn::Message;
        }
        if self.marks.has(CONTINUES) && !self.is_answered { Turn::Rest } else { self.request() }
    }

    /// Nobody has read it, or nobody saw how it begins.
    const fn unread(&self) -> Turn {
        if self.is_answered || self.is_first {
            return self.request();
        }
        let is_alert = self.marks.is_tls() && self.bytes_in == ALERT;
        if is_alert || self.peer_left && self.bytes_in <= CONTROL && !self.marks.is_text() {
            Turn::Farewell
        } else if self.marks.has(CONTINUES) || self.is_given_up() {
            Turn::Rest
        } else if self.marks.has(OVERLAPPED) || self.is_too_short_for_http() {
            Turn::Message
        } else {
            Turn::Request
        }
    }

    /// Whether the connection has carried HTTP/1 in the clear, and the turn is shorter than any request of that: the first frame
    /// behind an upgrade of which only the host has sent something.
    const fn is_too_short_for_http(&self) -> bool {
        self.marks.has_seen(Opening::Http) && !self.marks.is_tls() && self.bytes_in < SHORTEST_REQUEST
    }

    /// Whether the peer sent at length right behind a response, and the connection ended before anybody had read that. The peer
    /// had begun to send before the response came. It leaves as that response says that the rest is not wanted, or the
    /// application closes behind its response.
    const fn is_given_up(&self) -> bool {
        let is_http = self.marks.has_seen(Opening::Http) || self.marks.is_tls();
        self.is_abandoned && self.marks.is_behind() && self.bytes_in > FULL_SEGMENT && is_http
    }

    const fn request(&self) -> Turn {
        if self.is_answered && self.download >= STREAM && self.reports >= PIECES { Turn::Stream } else { Turn::Request }
    }

    /// Whether it is certain that the turn is what it is taken for: a request in the clear says so itself, and not every
    /// turn is looked at on a connection that has carried nothing else.
    #[must_use]
    pub const fn is_certain(&self) -> bool {
        match self.marks.opening() {
            Opening::Http => true,
            Opening::Unknown => self.marks.0 & OPENINGS == 1 << (OPENINGS_SHIFT + Opening::Http as u32),
            _ => false,
        }
    }

    /// Whether the turn is as short as control data may be, on a connection that carries TLS: nobody can see that it is a request.
    #[must_use]
    pub const fn may_be_control(&self) -> bool {
        self.marks.is_tls() && !self.is_first && self.bytes_in <= CONTROL
    }

    /// Whether the peer sent on while it was answered.
    #[must_use]
    pub const fn was_answered_early(&self) -> bool {
        self.is_answered && self.marks.has(SENT_ON)
    }
}

impl Turn {
    /// Whether it counts as a request.
    #[must_use]
    pub const fn is_request(self) -> bool {
        matches!(self, Self::Request)
    }
}

#[cfg(test)]
mod tests {
    use super::{ALERT, CONTROL, FULL_SEGMENT, Facts, Marks, SHORTEST_REQUEST, STREAM, Turn};
    use crate::{
        connection::{ASKED, BEHIND, BODY, CONTINUES, OPENING_SHIFT, OPENINGS, OPENINGS_SHIFT, OVERLAPPED},
        opening::Opening::{self, Binary, Http, Text, TlsAlert, TlsCiphers, TlsData, TlsHandshake, Unknown, WebSocket},
    };
    use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_assert_ne, prop_oneof, proptest};

    fn marks(seen: &[Opening], opening: Opening, more: u32) -> Marks {
        let bit = |opening: Opening| if opening == Unknown { 0 } else { 1 << (OPENINGS_SHIFT + opening as u32) };
        let seen = seen.iter().chain([&opening]).fold(0, |all, it| all | bit(*it));
        Marks(seen | (opening as u32) << OPENING_SHIFT | more)
    }

    fn facts(marks: Marks) -> Facts {
        let (is_first, is_answered, peer_left, is_abandoned) = (false, false, false, false);
        Facts { marks, is_first, bytes_in: 500, is_answered, peer_left, is_abandoned, download: 0, reports: 0 }
    }

    #[test]
    fn marks_are_read_back() {
        let both = marks(&[Http], WebSocket, 0);
        assert_eq!(both.opening(), WebSocket);
        assert!(both.has_seen(Http) && both.has_seen(WebSocket) && !both.has_seen(Binary) && !both.has_seen(Unknown));
        assert!(both.is_text() && !both.is_tls());
        assert!(marks(&[TlsHandshake], Unknown, 0).is_tls());
    }

    /// What was seen before, the opening, other marks, bytes, answered, the peer left; and what that is.
    #[test]
    fn turns_are_told_apart() {
        use Turn::{Control, Farewell, Message, Request, Rest};
        type Case = (&'static [Opening], Opening, u32, u64, bool, bool, Turn);
        let cases: &[Case] = &[
            (&[Http], Http, 0, 27, false, true, Request),
            (&[Http], Http, CONTINUES, 500, false, false, Request),
            (&[Text], Text, 0, 6, false, true, Request),
            // The body of a request that was answered early; the body that `100 Continue` asked for.
            (&[Http], Text, 0, 90_000, false, false, Rest),
            (&[Http], Binary, 0, 90_000, false, true, Rest),
            (&[Http], Text, 0, 90_000, true, false, Request),
            (&[Http], Unknown, CONTINUES, 90_000, false, false, Rest),
            // Nobody has read it: it may well be the next request.
            (&[Http], Unknown, 0, 400, false, false, Request),
            (&[Http], Unknown, 0, 40, false, true, Request),
            (&[Http], Unknown, 0, 18, false, false, Request),
            (&[Http], Unknown, 0, 8, false, false, Message),
            // Upgraded.
            (&[Http], WebSocket, 0, 12, false, false, Message),
            (&[Http], WebSocket, 0, 12, true, false, Message),
            (&[Http, WebSocket], Unknown, 0, 5000, false, false, Message),
            // TLS.
            (&[], TlsHandshake, 0, 517, true, false, Control),
            (&[TlsHandshake], TlsHandshake, 0, 126, true, false, Control),
            (&[TlsHandshake], TlsCiphers, 0, 80, true, false, Control),
            (&[TlsHandshake], TlsCiphers, 0, 380, true, false, Request),
            (&[TlsHandshake], TlsData, 0, 400, true, false, Request),
            (&[TlsHandshake], TlsData, 0, 60, true, false, Request),
            (&[TlsHandshake], TlsData, 0, 400, false, false, Request),
            (&[TlsHandshake, TlsData], TlsAlert, 0, 31, false, false, Farewell),
            (&[TlsHandshake, TlsData], TlsData, 0, 24, false, true, Farewell),
            // The peer waits for the answer to its alert; the server answers it with its own.
            (&[TlsHandshake, TlsData], TlsData, 0, 24, false, false, Farewell),
            (&[TlsHandshake, TlsData], TlsData, 0, 24, true, false, Farewell),
            (&[TlsHandshake, TlsData], TlsData, 0, 25, true, false, Request),
            (&[TlsHandshake, TlsData], TlsData, 0, 31, false, false, Message),
            (&[TlsHandshake, TlsData], TlsData, 0, 48, false, false, Message),
            (&[TlsHandshake, TlsData], Unknown, 0, 24, false, true, Farewell),
            (&[TlsHandshake, TlsData], Unknown, 0, ALERT, false, false, Farewell),
            (&[TlsHandshake, TlsData], Unknown, 0, 28, false, false, Request),
            (&[TlsHandshake, TlsData], TlsData, OVERLAPPED, 400, true, false, Message),
            (&[TlsHandshake, TlsData], TlsData, CONTINUES, 9000, false, false, Rest),
            (&[TlsHandshake, TlsData], Unknown, OVERLAPPED, 400, false, false, Message),
            // Another protocol: with answers it has requests.
            (&[], Binary, 0, 40, true, false, Request),
            (&[], Binary, 0, 40, false, false, Message),
        ];
        for &(seen, opening, more, bytes_in, is_answered, peer_left, expected) in cases {
            let facts = Facts { bytes_in, is_answered, peer_left, ..facts(marks(seen, opening, more)) };
            assert_eq!(facts.turn(), expected, "{seen:?} {facts:?}");
        }
    }

    /// The rest of an upload that nobody reads, because it was answered: the peer has left by itself.
    #[test]
    fn what_is_sent_at_length_behind_a_response_and_given_up_is_the_rest_of_an_upload() {
        let behind = marks(&[Http], Unknown, BEHIND << OPENING_SHIFT);
        let rest = Facts { bytes_in: 50_000, is_abandoned: true, ..facts(behind) };
        assert_eq!(rest.turn(), Turn::Rest);
        let encrypted = marks(&[TlsHandshake, TlsData], Unknown, BEHIND << OPENING_SHIFT);
        assert_eq!(Facts { marks: encrypted, ..rest }.turn(), Turn::Rest);
        for request in [
            // A peer that waits for the response, a request of ordinary length, and one that came after a pause.
            Facts { is_abandoned: false, ..rest },
            Facts { bytes_in: 1400, ..rest },
            Facts { marks: marks(&[Http], Unknown, 0), ..rest },
            Facts { marks: marks(&[Http], Unknown, ASKED << OPENING_SHIFT), ..rest },
            Facts { is_first: true, ..rest },
            Facts { is_answered: true, ..rest },
        ] {
            assert_eq!(request.turn(), Turn::Request, "{request:?}");
        }
    }

    #[test]
    fn a_body_that_was_asked_for_is_part_of_its_request() {
        let body = marks(&[Http], Unknown, BODY << OPENING_SHIFT);
        for is_answered in [false, true] {
            let body = Facts { is_answered, ..facts(body) };
            assert_eq!((body.turn(), body.is_certain()), (Turn::Body, true));
        }
    }

    #[test]
    fn the_first_turn_is_no_farewell_and_no_message_of_an_upgrade() {
        for (opening, expected) in [(Unknown, Turn::Request), (TlsData, Turn::Request), (Http, Turn::Request)] {
            let facts = Facts { is_first: true, bytes_in: 24, peer_left: true, ..facts(marks(&[], opening, 0)) };
            assert_eq!(facts.turn(), expected, "{opening:?}");
        }
    }

    #[test]
    fn a_response_that_goes_on_is_a_stream() {
        let short = Facts { is_answered: true, download: 9_000_000_000, reports: 9, ..facts(marks(&[], Http, 0)) };
        assert_eq!(short.turn(), Turn::Request);
        let long = Facts { download: 10_000_000_000, ..short };
        assert_eq!(long.turn(), Turn::Stream);
        // A large download over a slow network, without a pause.
        assert_eq!(Facts { reports: 1, ..long }.turn(), Turn::Request);
    }

    /// Whatever a connection has carried, nothing that begins as an HTTP request in the clear is taken for something else.
    #[test]
    fn a_request_in_the_clear_is_one() {
        for bits in 0..1_u32 << 12 {
            let seen = (bits & 0xff) << (OPENINGS_SHIFT + 1);
            let facts = Facts {
                is_first: bits & 1 << 8 != 0,
                bytes_in: if bits & 1 << 9 == 0 { 27 } else { 5000 },
                is_answered: bits & 1 << 10 != 0,
                peer_left: bits & 1 << 11 != 0,
                ..facts(Marks(seen | (Http as u32) << OPENING_SHIFT))
            };
            assert_eq!(facts.turn(), Turn::Request, "{facts:?}");
        }
    }

    fn anything() -> impl Strategy<Value = Facts> {
        let numbers = prop_oneof![0..9_u32, Just(BEHIND), Just(ASKED), Just(BODY), Just(12), 13..16_u32];
        let lengths = prop_oneof![0..120_u64, Just(CONTROL), Just(CONTROL + 1), Just(FULL_SEGMENT + 1), any::<u64>()];
        let answered = (any::<bool>(), 0..2 * STREAM, 0..9_u32);
        (any::<u32>(), numbers, lengths, answered, any::<[bool; 3]>()).prop_map(
            |(flags, number, bytes_in, (is_answered, download, reports), [is_first, peer_left, is_abandoned])| {
                let marks = Marks(flags & !(15 << OPENING_SHIFT) | number << OPENING_SHIFT);
                Facts { marks, is_first, bytes_in, is_answered, peer_left, is_abandoned, download, reports }
            },
        )
    }

    proptest! {
        /// The peer may leave behind anything: only short data is a farewell for it.
        #[test]
        fn that_the_peer_left_makes_a_farewell_of_short_data_or_changes_nothing(facts in anything()) {
            let turn = |peer_left| Facts { peer_left, ..facts }.turn();
            let is_farewell = facts.bytes_in <= CONTROL && turn(true) == Turn::Farewell;
            prop_assert!(turn(true) == turn(false) || is_farewell, "{facts:?}");
        }

        /// What is longer than control data may be cannot be dismissed for its length.
        #[test]
        fn only_an_alert_in_the_clear_is_a_long_farewell(facts in anything()) {
            if facts.turn() == Turn::Farewell && facts.bytes_in > CONTROL {
                prop_assert_eq!(facts.marks.opening(), TlsAlert);
            }
        }

        #[test]
        fn an_answered_turn_is_not_the_rest_of_one(facts in anything()) {
            prop_assert_ne!(Facts { is_answered: true, ..facts }.turn(), Turn::Rest);
        }

        /// Nobody is told that a response was a stream of which there was none.
        #[test]
        fn a_stream_was_answered(facts in anything()) {
            prop_assert!(facts.turn() != Turn::Stream || facts.is_answered);
        }

        /// A connection that has carried HTTP/1 in the clear and nothing else: what nobody has read is the next request, unless it
        /// came while the one before was answered.
        #[test]
        fn what_nobody_read_of_http_is_a_request(facts in anything()) {
            let marks = Marks(1 << (OPENINGS_SHIFT + Http as u32));
            let unread = Facts { marks, bytes_in: facts.bytes_in.max(SHORTEST_REQUEST), ..facts };
            prop_assert!(matches!(unread.turn(), Turn::Request | Turn::Stream), "{unread:?}");
            prop_assert!(unread.is_certain() && !unread.may_be_control());
        }

        /// Whatever is certain is a request, one that goes on, or its body.
        #[test]
        fn what_is_certain_is_a_request(facts in anything()) {
            let only_http = facts.marks.0 & OPENINGS == 1 << (OPENINGS_SHIFT + Http as u32);
            if facts.is_certain() && (only_http || facts.marks.opening() == Http) && facts.is_answered {
                prop_assert!(matches!(facts.turn(), Turn::Request | Turn::Stream | Turn::Body), "{facts:?}");
            }
        }
    }
}
