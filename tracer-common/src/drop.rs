//! What a dropped packet means, by the class of its reason, what kind of packet it is, and what is known of its connection.

use crate::{
    connection::{CLOSED_BY_APPLICATION, Connection, RESET_BY_HOST, pending},
    packet::PacketKind,
    rejection::{Ended, Key, SharedEnded},
    settings::class,
};

/// Netfilter, or a listener, drops a packet within this many nanoseconds of the answer to it.
const ANSWER_NS: u64 = 100_000_000;
/// A connection that was closed is remembered no longer than its port is (`TIME_WAIT` and a little more), in nanoseconds.
const CLOSED_NS: u64 = 130_000_000_000;
/// A request that is under way when the connection closes comes within this many nanoseconds.
const MEETS_NS: u64 = 2_000_000_000;
/// A FIN that comes within this many milliseconds of data was sent together with it.
const TOGETHER_MS: u32 = 100;

/// A dropped packet.
#[derive(Clone, Copy, Debug)]
pub struct Dropped {
    /// What became of packets with that reason: a set of [`class::ALWAYS`] and the like.
    pub class: u8,
    /// What kind of packet it is.
    pub kind: PacketKind,
    /// This host made it.
    pub is_own: bool,
}

/// What a dropped packet means, unless it [came after the close](Dropped::may_be_after_close).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Nothing.
    Nothing,
    /// A rejection.
    Rejection {
        /// Netfilter dropped the packet, and may have answered it.
        by_firewall: bool,
        /// A SYN that comes again although it was answered is dropped for the same reason, and that is harmless.
        unless_answered: bool,
    },
    /// A rejection if the packet belongs to a handshake whose listener's accept queue is full.
    LastAck,
}

impl Dropped {
    #[inline(always)]
    const fn has(self, classes: u8) -> bool {
        self.class & classes != 0
    }

    #[inline(always)]
    const fn is_syn(self) -> bool {
        matches!(self.kind, PacketKind::Syn)
    }

    /// Whether it is a SYN for which nothing listens.
    #[inline(always)]
    #[must_use]
    pub const fn is_refused(self) -> bool {
        self.has(class::SYN) && self.is_syn()
    }

    #[inline(always)]
    const fn is_late(self) -> bool {
        self.has(class::LATE) && !self.is_own
    }

    /// Whether it may have come for a connection that this host had closed.
    #[inline(always)]
    #[must_use]
    pub const fn may_be_after_close(self) -> bool {
        self.is_late() && matches!(self.kind, PacketKind::Data | PacketKind::Fin)
    }

    /// Whether it may end a handshake: with the last ACK, or with data behind a last ACK that was lost.
    #[inline(always)]
    #[must_use]
    pub const fn may_end_handshake(self) -> bool {
        self.is_late() && self.carries_ack()
    }

    /// Whether it is a bare ACK, or has data.
    #[inline(always)]
    #[must_use]
    pub const fn carries_ack(self) -> bool {
        matches!(self.kind, PacketKind::Ack | PacketKind::Data)
    }

    /// What it means.
    #[inline(always)]
    #[must_use]
    pub const fn meaning(self) -> Meaning {
        if self.has(class::ALWAYS) || (self.has(class::SYN | class::PLACE) && self.is_syn()) {
            let by_firewall = self.has(class::FIREWALL);
            // Who resets wants nothing more: a stray reset that a rule drops harms nobody.
            if by_firewall && matches!(self.kind, PacketKind::Reset) && !self.is_own {
                return Meaning::Nothing;
            }
            Meaning::Rejection { by_firewall, unless_answered: !self.has(class::ALWAYS | class::SYN) }
        } else if self.may_end_handshake() {
            Meaning::LastAck
        } else {
            Meaning::Nothing
        }
    }
}

/// An answer to a packet that is dropped just after.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// When it left.
    pub sent: u64,
    /// [`Key::REJECTED_WITH_RESET`], [`Key::REJECTED_WITH_ICMP`] or [`Key::RESET_BY_LISTENER`].
    pub flag: u64,
}

impl Answer {
    /// The flag of the key of a packet that is dropped `now`; 0 if the answer was to an earlier packet.
    #[inline(always)]
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "a flag of a key")]
    pub const fn flag(&self, now: u64) -> u16 {
        if now.wrapping_sub(self.sent) < ANSWER_NS { self.flag as u16 } else { 0 }
    }

    /// The flags that say how a firewall answered.
    pub const OF_FIREWALL: u16 = Key::REJECTED_WITH_RESET | Key::REJECTED_WITH_ICMP;
}

/// What came for a connection that this host had closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterClose {
    /// The first data: to be reported, and the peer's FIN behind it, if it has one.
    Data,
    /// The peer's FIN, right behind data that was reported.
    Fin,
    /// Something that belongs to what was reported, or nothing that is lost.
    Nothing,
}

impl SharedEnded {
    /// Whether what comes `now` may be for the connection: its port may have been used again since.
    #[inline(always)]
    #[must_use]
    pub fn is_current(&self, now: u64) -> bool {
        now.wrapping_sub(self.ended.get()) < CLOSED_NS
    }

    /// A packet came for the connection.
    #[inline(always)]
    pub fn meets(&self, kind: PacketKind, is_fin: bool, now: u64) -> AfterClose {
        // Never 0, which stands for "not yet".
        #[expect(clippy::cast_possible_truncation, reason = "the low bits are meant")]
        let moment = (now / 1_000_000) as u32 | 1;
        let met = self.met.get();
        if met == 0 && matches!(kind, PacketKind::Data) {
            self.met.set(moment);
            AfterClose::Data
        } else if is_fin && met != 0 && moment.wrapping_sub(met) <= TOGETHER_MS {
            AfterClose::Fin
        } else {
            AfterClose::Nothing
        }
    }
}

impl Ended {
    /// Whether `connection`, which is gone, is to be remembered: this host ended it, and no request waited for its response. What comes
    /// for it now is lost, and no other event reports that.
    #[inline(always)]
    #[must_use]
    pub fn is_of(connection: &Connection) -> bool {
        connection.flags.has(CLOSED_BY_APPLICATION | RESET_BY_HOST)
            && matches!(connection.pending(), pending::NOTHING | pending::CUT)
    }

    /// What is remembered of `connection`. `expected` is the sequence number behind the last byte received.
    #[inline(always)]
    #[must_use]
    pub fn of(connection: &Connection, expected: u32) -> Self {
        Self {
            connection: connection.id.get(),
            ended: connection.ended.get(),
            idle: connection.idle.get(),
            by: connection.by.get(),
            netns: connection.netns.get(),
            requests: connection.sequence.get(),
            flags: connection.flags.get(),
            expected,
            written: connection.response_end(),
            met: 0,
        }
    }
}

/// Whether it is a loss that a connection which ended at `ended` is forgotten `now`; 0: none is forgotten.
#[inline(always)]
#[must_use]
pub const fn is_forgotten_too_soon(ended: u64, now: u64) -> bool {
    ended != 0 && now.saturating_sub(ended) < MEETS_NS
}

/// Whether any connection may be remembered, if the latest one was at `latest`; 0: none was.
#[inline(always)]
#[must_use]
pub const fn is_any_remembered(latest: u64, now: u64) -> bool {
    latest != 0 && now.saturating_sub(latest) < CLOSED_NS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        connection::{CLOSED_BY_PEER, Tcp},
        settings::class::{ALWAYS, FIREWALL, LATE, PLACE, SYN},
    };
    use proptest::prelude::{any, proptest};

    const KINDS: [PacketKind; 7] = [
        PacketKind::Syn,
        PacketKind::SynAck,
        PacketKind::Ack,
        PacketKind::Data,
        PacketKind::Fin,
        PacketKind::Reset,
        PacketKind::Other,
    ];

    fn meaning(class: u8, kind: PacketKind) -> Meaning {
        Dropped { class, kind, is_own: false }.meaning()
    }

    const REJECTION: Meaning = Meaning::Rejection { by_firewall: false, unless_answered: false };

    #[test]
    fn some_reasons_refuse_every_packet_and_some_only_a_syn() {
        for kind in KINDS {
            assert_eq!(meaning(ALWAYS, kind), REJECTION);
            let is_syn = kind == PacketKind::Syn;
            assert_eq!(meaning(SYN, kind), if is_syn { REJECTION } else { Meaning::Nothing });
            assert_eq!(Dropped { class: SYN, kind, is_own: false }.is_refused(), is_syn);
            assert!(!Dropped { class: ALWAYS | LATE, kind, is_own: false }.is_refused());
            let place = Meaning::Rejection { by_firewall: false, unless_answered: true };
            assert_eq!(meaning(PLACE, kind), if is_syn { place } else { Meaning::Nothing });
            assert_eq!(meaning(0, kind), Meaning::Nothing);
        }
    }

    #[test]
    fn a_stray_reset_that_a_rule_drops_harms_nobody() {
        let class = ALWAYS | FIREWALL;
        let by_firewall = Meaning::Rejection { by_firewall: true, unless_answered: false };
        for kind in KINDS {
            let is_stray = kind == PacketKind::Reset;
            assert_eq!(meaning(class, kind), if is_stray { Meaning::Nothing } else { by_firewall });
            assert_eq!(Dropped { class, kind, is_own: true }.meaning(), by_firewall, "the peer waits for it");
        }
    }

    #[test]
    fn what_comes_late_ends_a_handshake_or_meets_a_close() {
        for kind in KINDS {
            let late = Dropped { class: LATE, kind, is_own: false };
            let carries_ack = matches!(kind, PacketKind::Ack | PacketKind::Data);
            assert_eq!((late.meaning() == Meaning::LastAck, late.may_end_handshake()), (carries_ack, carries_ack));
            assert_eq!(late.may_be_after_close(), matches!(kind, PacketKind::Data | PacketKind::Fin));
            let own = Dropped { is_own: true, ..late };
            assert_eq!(own.meaning(), Meaning::Nothing);
            assert!(!own.may_be_after_close() && !own.may_end_handshake());
        }
    }

    fn closed() -> SharedEnded {
        let ended = SharedEnded::default();
        ended.ended.set(1_000_000);
        ended
    }

    #[test]
    fn the_first_data_is_reported_and_the_fin_right_behind_it() {
        let ended = closed();
        assert_eq!(ended.meets(PacketKind::Fin, true, 2_000_000), AfterClose::Nothing);
        assert_eq!(ended.meets(PacketKind::Data, false, 3_000_000), AfterClose::Data);
        assert_eq!(ended.meets(PacketKind::Data, false, 4_000_000), AfterClose::Nothing, "it is sent again");
        assert_eq!(ended.meets(PacketKind::Data, true, 5_000_000), AfterClose::Fin);
        assert_eq!(ended.meets(PacketKind::Fin, true, 103_000_000), AfterClose::Fin);
        assert_eq!(ended.meets(PacketKind::Fin, true, 104_000_000), AfterClose::Nothing);
    }

    #[test]
    fn a_close_is_remembered_for_as_long_as_the_port_is() {
        let (ended, at) = (closed(), 1_000_000);
        assert!(ended.is_current(at + CLOSED_NS - 1) && !ended.is_current(at + CLOSED_NS));
        assert!(is_any_remembered(at, at + CLOSED_NS - 1) && !is_any_remembered(at, at + CLOSED_NS));
        assert!(!is_any_remembered(0, 1), "none was ever remembered");
        assert!(is_forgotten_too_soon(at, at + MEETS_NS - 1) && !is_forgotten_too_soon(at, at + MEETS_NS));
        assert!(!is_forgotten_too_soon(0, 1), "none made way");
    }

    #[test]
    fn only_what_this_host_closed_without_a_request_that_waits_is_remembered() {
        for (flags, requests, is_kept) in [
            (CLOSED_BY_APPLICATION, 0, true),
            (RESET_BY_HOST, 0, true),
            (CLOSED_BY_PEER, 0, false),
            (RESET_BY_HOST, 1, false),
        ] {
            let connection = Connection::default();
            connection.follow(Tcp { expected: 1, written: 9, window: 100 });
            connection.flags.insert(flags);
            connection.sequence.set(requests);
            assert_eq!(Ended::is_of(&connection), is_kept, "{flags:x} {requests}");
            assert_eq!((Ended::of(&connection, 5).expected, Ended::of(&connection, 5).written), (5, 9));
        }
    }

    proptest! {
        /// Data is reported once per connection, and a FIN only within a tenth of a second of that, whenever packets come.
        #[test]
        fn data_after_a_close_is_reported_once(packets in proptest::collection::vec((0..7_usize, any::<bool>(), 0..1_u64 << 28), 0..30)) {
            let ended = closed();
            let (mut now, mut reported) = (1_000_000, None);
            for (kind, is_fin, wait) in packets {
                now += wait;
                match ended.meets(KINDS[kind], is_fin, now) {
                    AfterClose::Data => {
                        assert!(reported.is_none() && KINDS[kind] == PacketKind::Data);
                        reported = Some(now);
                    }
                    AfterClose::Fin => {
                        let since = now - reported.expect("data was reported");
                        assert!(is_fin && since <= u64::from(TOGETHER_MS + 2) * 1_000_000, "{since}");
                    }
                    AfterClose::Nothing => {}
                }
            }
        }
    }

    #[test]
    fn an_answer_is_to_the_packet_that_is_dropped_just_after() {
        let answer = Answer { sent: 5, flag: Key::RESET_BY_LISTENER.into() };
        assert_eq!((answer.flag(4 + ANSWER_NS), answer.flag(5 + ANSWER_NS)), (Key::RESET_BY_LISTENER, 0));
        assert_eq!(Answer::OF_FIREWALL & Key::RESET_BY_LISTENER, 0);
    }
}
