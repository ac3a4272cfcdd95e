//! The handshake of a connection for which there is no socket yet: what becomes of its SYNs and SYN-ACKs, and why nothing comes of some.

use crate::{
    at_limit::Verdict,
    packet::PacketKind,
    rejection::{Event, Queue},
    shared::{Shared, shared},
};

/// A SYN that passes another interface of this host within this many nanoseconds is the same packet: no SYN is sent again so soon.
const SAME_NS: u64 = 10_000_000;
/// A SYN-ACK is sent for at most about two minutes. One that is older belongs to an earlier attempt from the same port.
const STALE_NS: u64 = 130_000_000_000;
/// A SYN-ACK that was sent again so often is reported. One packet may be lost, as happens.
const RESENT: u8 = 2;

/// Whether it is known why a handshake failed. As a number in [`Handshake::explained`].
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Explained {
    /// It is not known.
    No = 0,
    /// A drop or a full queue explains it.
    Yes = 1,
    /// It is not known, and that was reported.
    Reported = 2,
}

/// The handshake of a connection for which there is no socket yet.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The first SYN arrived.
    pub syn: u64,
    /// The first SYN-ACK was given to the device.
    pub synack: u64,
    /// The address of the listener; 0: not known.
    pub listener: u64,
    /// When the latest SYN passed an interface.
    pub seen: u64,
    /// The SYN's sequence number: one that is sent again has the same, another attempt from the same port has not.
    pub sequence: u32,
    /// The port that the peer asked for, if this host maps it to another one; otherwise 0.
    pub asked: u16,
    /// How often the SYN-ACK was sent again.
    pub resent: u8,
    /// An [`Explained`].
    pub explained: u8,
    /// The SYN came when the listener's SYN queue was as long as it may be.
    pub at_limit: bool,
    /// The [`Event`] of the full queue by which the latest SYN was counted; 0: it was not counted.
    pub counted: u8,
    /// Always 0. Linux 6.1 refuses a program that copies what was not written.
    pub padding: [u8; 6],
    /// When a listener that waits for the first data (`TCP_DEFER_ACCEPT`) dropped the handshake's last ACK; 0: it did not.
    pub acknowledged: u64,
}

impl Handshake {
    /// A handshake of which nothing is known.
    pub const NONE: Self = Self {
        syn: 0,
        synack: 0,
        listener: 0,
        seen: 0,
        sequence: 0,
        resent: 0,
        explained: 0,
        asked: 0,
        at_limit: false,
        counted: 0,
        padding: [0; 6],
        acknowledged: 0,
    };
}

shared! {
    /// A [`Handshake`] in a map.
    SharedHandshake of Handshake {
        syn: Shared<u64>,
        synack: Shared<u64>,
        listener: Shared<u64>,
        seen: Shared<u64>,
        sequence: Shared<u32>,
        asked: Shared<u16>,
        resent: Shared<u8>,
        explained: Shared<u8>,
        at_limit: Shared<bool>,
        counted: Shared<u8>,
        padding: Shared<[u8; 6]>,
        acknowledged: Shared<u64>,
    }
}

/// A SYN for a listener of this host.
#[derive(Clone, Copy, Debug)]
pub struct Syn {
    /// Its sequence number.
    pub sequence: u32,
    /// The address of the listener; 0: not known.
    pub listener: u64,
    /// A BPF program picks the listener, so it may be another one for each look-up.
    pub is_steered: bool,
    /// The listener's SYN queue is as long as it may be.
    pub at_limit: bool,
}

/// A count of a SYN that has to be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakenBack {
    /// The [`Event`].
    pub event: u8,
    /// When it was counted.
    pub since: u64,
}

/// A SYN of which nothing comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unserved {
    /// Why.
    pub event: Event,
    /// SYNs before it that are counted with it.
    pub before: u32,
}

/// The full queue because of which TCP drops a SYN, as `syn_queue` and the length of the accept queue tell.
#[inline(always)]
#[must_use]
pub const fn full(syn_queue: Verdict, accept_queue: Queue) -> Option<Unserved> {
    if syn_queue.drops {
        Some(Unserved { event: Event::SynQueueFull, before: syn_queue.before })
    } else if accept_queue.is_full() {
        Some(Unserved { event: Event::AcceptQueueFull, before: 0 })
    } else {
        None
    }
}

impl Handshake {
    /// The handshake that `syn` begins, which came at `now`, and met the full queue `full`.
    #[inline(always)]
    #[must_use]
    pub const fn begun(syn: &Syn, full: Option<Unserved>, now: u64) -> Self {
        let (explained, counted) = match full {
            Some(full) => (Explained::Yes, full.event as u8),
            None => (Explained::No, 0),
        };
        Self {
            counted,
            syn: now,
            seen: now,
            listener: syn.listener,
            sequence: syn.sequence,
            explained: explained as u8,
            at_limit: syn.at_limit,
            ..Self::NONE
        }
    }
}

impl SharedHandshake {
    /// Whether `syn` is a packet that was seen at another interface: a bridge's port and the bridge, or a VLAN's two devices, pass on the
    /// same packet. A packet that is forwarded into a container meets another listener there.
    #[inline(always)]
    #[must_use]
    pub fn has_seen(&self, syn: &Syn, now: u64) -> bool {
        self.sequence.get() == syn.sequence
            && now.wrapping_sub(self.seen.get()) < SAME_NS
            && (syn.is_steered || self.listener.get() == syn.listener)
    }

    /// A SYN came that [was not seen](Self::has_seen) before, and met the full queue `full`. Returns that queue, or that the SYN before was
    /// never answered although nothing is known to have refused it.
    #[inline(always)]
    pub fn syn(&self, syn: &Syn, full: Option<Unserved>, now: u64) -> Option<Unserved> {
        let is_same = self.sequence.get() == syn.sequence;
        if !is_same || now.wrapping_sub(self.seen.get()) < SAME_NS {
            // Another attempt from the same port, or a packet that was forwarded: that arrived when it was first seen.
            let arrived = if is_same { self.syn.get() } else { now };
            self.set(Handshake { syn: arrived, ..Handshake::begun(syn, full, now) });
            return full;
        }
        self.seen.set(now);
        if let Some(queue) = full {
            self.explained.set(Explained::Yes as u8);
            self.counted.set(queue.event as u8);
            return full;
        }
        self.counted.set(0);
        let explained = self.explained.get();
        if self.synack.get() != 0 || explained == Explained::Yes as u8 {
            return None;
        }
        self.explained.set(Explained::Reported as u8);
        Some(Unserved { event: Event::SynUnanswered, before: u32::from(explained == Explained::No as u8) })
    }

    /// A SYN-ACK left that has a socket. `first` is what the SYN-ACK tells by itself. Returns the listener whose SYN queue was as
    /// long as it may be when the SYN came: it had room.
    #[inline(always)]
    pub fn synack(&self, first: Handshake, now: u64) -> Option<u64> {
        if self.synack.get() != 0 {
            if self.syn.get() == 0 && now.saturating_sub(self.synack.get()) > STALE_NS {
                self.set(first);
            }
            return None;
        }
        self.synack.set(now);
        let looked_up = self.listener.get();
        // A BPF program may have picked another listener than the look-up by the SYN found.
        self.listener.set(first.listener);
        if first.syn != 0 {
            self.syn.set(first.syn);
            self.asked.set(first.asked);
        }
        if self.at_limit.get() { Some(looked_up) } else { None }
    }

    /// A SYN-ACK with a SYN cookie left, which has no socket.
    #[inline(always)]
    pub fn cookie(&self, now: u64) {
        if self.synack.get() == 0 {
            self.synack.set(now);
        }
    }

    /// The SYN-ACK was sent again. Returns the event to report. A SYN-ACK that never left this host, or whose ACK was dropped here, has
    /// another cause.
    #[inline(always)]
    pub fn resent(&self) -> Option<Event> {
        let resent = self.resent.get().saturating_add(1);
        self.resent.set(resent);
        let is_unexplained = self.synack.get() != 0 && self.explained.get() == Explained::No as u8;
        if resent == RESENT && is_unexplained { Some(Event::SynackUnanswered) } else { None }
    }

    /// A packet of that kind was dropped. True if that explains why nothing comes of the handshake: without a SYN-ACK, an ACK belongs
    /// to something else.
    #[inline(always)]
    pub fn dropped(&self, kind: PacketKind) -> bool {
        let is_part = matches!(kind, PacketKind::Syn | PacketKind::SynAck) || self.synack.get() != 0;
        if is_part {
            self.explained.set(Explained::Yes as u8);
        }
        is_part
    }

    /// Something drops the latest SYN before that SYN comes to the full queue by which it was counted. Returns what is to be taken back,
    /// once.
    #[inline(always)]
    pub fn take_back(&self, now: u64) -> Option<TakenBack> {
        let (event, since) = (self.counted.get(), self.seen.get());
        self.counted.set(0);
        if event == 0 || now.wrapping_sub(since) >= SAME_NS {
            return None;
        }
        Some(TakenBack { event, since })
    }

    /// The handshake's last ACK was dropped although the accept queue has room: the listener waits for the first data
    /// (`TCP_DEFER_ACCEPT`).
    #[inline(always)]
    pub fn deferred(&self, now: u64) {
        if self.acknowledged.get() == 0 {
            self.acknowledged.set(now);
        }
    }

    /// When one of its packets last passed.
    #[inline(always)]
    #[must_use]
    pub fn latest(&self) -> u64 {
        let (seen, synack) = (self.seen.get(), self.synack.get());
        if seen > synack { seen } else { synack }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};

    const SYN: Syn = Syn { sequence: 7, listener: 0xa, is_steered: false, at_limit: false };
    const SECOND: u64 = 1_000_000_000;
    const ACCEPT_QUEUE: Option<Unserved> = Some(Unserved { event: Event::AcceptQueueFull, before: 0 });

    const fn unanswered(before: u32) -> Unserved {
        Unserved { event: Event::SynUnanswered, before }
    }

    /// The handshake that [`SYN`] began at 1.
    fn begun(full: Option<Unserved>) -> SharedHandshake {
        let handshake = SharedHandshake::default();
        handshake.set(Handshake::begun(&SYN, full, 1));
        handshake
    }

    fn first(now: u64) -> Handshake {
        Handshake { synack: now, listener: 0xb, ..Handshake::NONE }
    }

    #[test]
    fn a_packet_that_passes_two_interfaces_is_one_syn() {
        let handshake = begun(None);
        assert!(handshake.has_seen(&SYN, SAME_NS));
        assert!(!handshake.has_seen(&SYN, SAME_NS + 1), "it was sent again");
        assert!(!handshake.has_seen(&Syn { sequence: 8, ..SYN }, 2), "another attempt");
        // Into a container: another listener gets it, and the handshake began when the packet was first seen.
        let inside = Syn { listener: 0xc, ..SYN };
        assert!(!handshake.has_seen(&inside, 2));
        assert!(handshake.has_seen(&Syn { is_steered: true, ..inside }, 2));
        assert_eq!(handshake.syn(&inside, None, 2), None);
        assert_eq!(handshake.get(), Handshake { syn: 1, ..Handshake::begun(&inside, None, 2) });
    }

    #[test]
    fn a_syn_that_is_dropped_before_the_full_queue_is_taken_back_once() {
        let event = Event::AcceptQueueFull as u8;
        let handshake = begun(ACCEPT_QUEUE);
        assert_eq!(handshake.take_back(2), Some(TakenBack { event, since: 1 }));
        assert_eq!(handshake.take_back(2), None);
        assert_eq!(handshake.syn(&SYN, ACCEPT_QUEUE, SECOND), ACCEPT_QUEUE);
        assert_eq!(handshake.take_back(SECOND + 1), Some(TakenBack { event, since: SECOND }));
        // What is dropped later is another packet.
        assert_eq!(handshake.syn(&SYN, ACCEPT_QUEUE, 2 * SECOND), ACCEPT_QUEUE);
        assert_eq!(handshake.take_back(2 * SECOND + SAME_NS), None);
        // A SYN that found room was not counted.
        assert_eq!(handshake.syn(&SYN, None, 3 * SECOND), None);
        assert_eq!((handshake.take_back(3 * SECOND), begun(None).take_back(2)), (None, None));
    }

    #[test]
    fn another_attempt_from_the_same_port_begins_anew() {
        let handshake = begun(ACCEPT_QUEUE);
        handshake.synack(first(5), 5);
        let other = Syn { sequence: 8, at_limit: true, ..SYN };
        assert_eq!(handshake.syn(&other, None, SECOND), None);
        assert_eq!(handshake.get(), Handshake::begun(&other, None, SECOND));
    }

    #[test]
    fn a_syn_that_comes_again_unanswered_is_reported_and_the_first_report_counts_the_one_before() {
        let handshake = begun(None);
        assert_eq!(handshake.syn(&SYN, None, SECOND), Some(unanswered(1)));
        assert_eq!(handshake.syn(&SYN, None, 3 * SECOND), Some(unanswered(0)));
        // A full queue, a drop, or a SYN-ACK explains it.
        let explanations: [fn(&SharedHandshake); 4] = [
            |it| {
                it.syn(&SYN, ACCEPT_QUEUE, 7 * SECOND);
            },
            |it| {
                it.dropped(PacketKind::Syn);
            },
            |it| {
                it.synack(first(4), 4);
            },
            |it| it.cookie(4),
        ];
        for explain in explanations {
            let handshake = begun(None);
            explain(&handshake);
            assert_eq!(handshake.syn(&SYN, None, 15 * SECOND), None, "{handshake:?}");
        }
    }

    #[test]
    fn the_second_syn_ack_that_is_sent_again_is_reported() {
        let handshake = begun(None);
        handshake.synack(first(2), 2);
        assert_eq!(
            [handshake.resent(), handshake.resent(), handshake.resent()],
            [None, Some(Event::SynackUnanswered), None]
        );
        // Not where it never left, nor where the last ACK was dropped here.
        let handshake = begun(None);
        assert_eq!([handshake.resent(), handshake.resent()], [None; 2]);
        let handshake = begun(None);
        handshake.synack(first(2), 2);
        assert!(handshake.dropped(PacketKind::Ack));
        assert_eq!([handshake.resent(), handshake.resent()], [None; 2]);
    }

    #[test]
    fn an_ack_that_is_dropped_before_the_syn_ack_explains_nothing() {
        let handshake = begun(None);
        assert!(!handshake.dropped(PacketKind::Ack) && !handshake.dropped(PacketKind::Data));
        assert_eq!(handshake.explained.get(), Explained::No as u8);
        assert!(handshake.dropped(PacketKind::SynAck));
        assert_eq!(handshake.explained.get(), Explained::Yes as u8);
    }

    #[test]
    fn a_syn_ack_names_the_listener_that_had_room() {
        let handshake = SharedHandshake::default();
        handshake.set(Handshake::begun(&Syn { at_limit: true, ..SYN }, None, 1));
        assert_eq!((handshake.synack(first(2), 2), handshake.synack(first(3), 3)), (Some(0xa), None));
        // A BPF program picked another one than the look-up by the SYN found.
        assert_eq!((handshake.synack.get(), handshake.listener.get()), (2, 0xb));
    }

    #[test]
    fn a_syn_ack_of_an_earlier_attempt_makes_way() {
        let handshake = SharedHandshake::default();
        handshake.set(first(1));
        handshake.synack(first(STALE_NS), STALE_NS);
        assert_eq!(handshake.synack.get(), 1, "it is sent again");
        handshake.synack(first(STALE_NS + 2), STALE_NS + 2);
        assert_eq!(handshake.synack.get(), STALE_NS + 2);
    }

    #[derive(Clone, Copy, Debug)]
    enum Seen {
        Syn(u32, Option<Unserved>),
        SynAck,
        Resent,
        Dropped(PacketKind),
    }

    fn seen() -> impl Strategy<Value = Seen> {
        let full = prop_oneof![Just(None), Just(ACCEPT_QUEUE)];
        let kind =
            prop_oneof![Just(PacketKind::Syn), Just(PacketKind::SynAck), Just(PacketKind::Ack), Just(PacketKind::Data)];
        prop_oneof![
            4 => (0..2_u32, full).prop_map(|(sequence, full)| Seen::Syn(sequence, full)),
            1 => Just(Seen::SynAck),
            1 => Just(Seen::Resent),
            1 => kind.prop_map(Seen::Dropped),
        ]
    }

    proptest! {
        /// Whatever comes, in whatever order: what was explained is never reported as unexplained, no SYN counts twice, and moments
        /// never go back.
        #[test]
        fn nothing_that_is_explained_is_reported(all in prop::collection::vec((seen(), any::<u32>()), 0..40)) {
            let handshake = begun(None);
            let (mut now, mut syns, mut counted) = (1, 1_u64, 0_u64);
            let mut sequence = SYN.sequence;
            for (event, wait) in all {
                now += u64::from(wait);
                let before = handshake.get();
                let is_open = before.synack == 0 && before.explained != Explained::Yes as u8;
                match event {
                    Seen::Syn(number, full) => {
                        let syn = Syn { sequence: number, ..SYN };
                        if handshake.has_seen(&syn, now) {
                            continue;
                        }
                        if number != sequence {
                            (syns, counted, sequence) = (0, 0, number);
                        }
                        syns += 1;
                        let told = handshake.syn(&syn, full, now);
                        assert!(full.is_none() || told == full);
                        let told = told.filter(|_| full.is_none());
                        assert!(told.is_none() || (is_open && number == before.sequence), "{told:?} {before:?}");
                        counted += told.map_or(0, |it| u64::from(it.before) + 1);
                        assert!(counted <= syns, "{counted} of {syns}");
                        assert!(full.is_none() || handshake.explained.get() == Explained::Yes as u8);
                    }
                    Seen::SynAck => {
                        handshake.synack(first(now), now);
                        assert!(handshake.synack.get() != 0);
                    }
                    Seen::Resent => {
                        let told = handshake.resent();
                        assert!(told.is_none() || (before.synack != 0 && before.explained == Explained::No as u8));
                    }
                    Seen::Dropped(kind) => {
                        handshake.dropped(kind);
                    }
                }
                let after = handshake.get();
                assert!(after.syn >= before.syn || after.sequence != before.sequence);
                assert!(after.seen.max(after.synack) <= now);
            }
        }
    }
}
