//! What the kernel side tells of packets and connections that were refused: counted exactly, shown sampled.
//!
//! Every event is counted in a [`Tally`] under its [`Key`]. A [`RejectionRecord`] follows for the first few events of a key, and
//! then at most once per second, so a flood costs a count. What the kernel cannot know (names, rules, listeners) and
//! what it all means is for user space: nothing here is a cause yet.

use crate::{
    endpoint::{Address, Endpoint, Tuple},
    packet::flag::{ACK, FIN, RST, SYN},
    record::Kind,
    shared::{Shared, shared},
};

/// What happened.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The kernel dropped a packet from a peer, or one to it ([`Key::OUTGOING`]).
    Dropped = 1,
    /// A SYN came for a listener whose accept queue was full: TCP takes it and does nothing.
    AcceptQueueFull = 2,
    /// A SYN came for a listener whose SYN queue was full, without SYN cookies: likewise.
    SynQueueFull = 3,
    /// A SYN came again; no SYN-ACK has ever left, the listener had room, and nothing was seen to be dropped.
    SynUnanswered = 4,
    /// The SYN-ACK was sent again, for the second time: no ACK has come.
    SynackUnanswered = 5,
    /// Data came for a connection that this host had closed: most often the keep-alive race.
    DataAfterClose = 6,
    /// The peer's FIN came right behind such data. It belongs to a [`Event::DataAfterClose`] and is not counted.
    FinAfterData = 7,
}

impl Event {
    /// The event with that number.
    #[must_use]
    pub const fn of(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Dropped,
            2 => Self::AcceptQueueFull,
            3 => Self::SynQueueFull,
            4 => Self::SynUnanswered,
            5 => Self::SynackUnanswered,
            6 => Self::DataAfterClose,
            7 => Self::FinAfterData,
            _ => return None,
        })
    }
}

/// What kind of packet it was.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PacketKind {
    /// SYN without ACK.
    Syn = 1,
    /// SYN with ACK.
    SynAck = 2,
    /// ACK without payload, SYN, FIN or RST.
    Ack = 3,
    /// With payload.
    Data = 4,
    /// FIN without payload.
    Fin = 5,
    /// RST.
    Reset = 6,
    /// Anything else.
    Other = 7,
}

impl PacketKind {
    /// The kind of a packet with these TCP flags (as in the header) and so many bytes of payload.
    #[inline(always)]
    #[must_use]
    pub const fn of(flags: u8, payload: u32) -> Self {
        if flags & RST != 0 {
            Self::Reset
        } else if flags & (SYN | ACK) == SYN | ACK {
            Self::SynAck
        } else if flags & SYN != 0 {
            Self::Syn
        } else if payload != 0 {
            Self::Data
        } else if flags & FIN != 0 {
            Self::Fin
        } else if flags & ACK != 0 {
            Self::Ack
        } else {
            Self::Other
        }
    }

    /// The kind with that number.
    #[must_use]
    pub const fn numbered(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Syn,
            2 => Self::SynAck,
            3 => Self::Ack,
            4 => Self::Data,
            5 => Self::Fin,
            6 => Self::Reset,
            7 => Self::Other,
            _ => return None,
        })
    }
}

/// What events are counted by. Its cause is a function of it and of the host alone. In the maps it also holds the generation of
/// the tally, so that user space can read and delete the tallies of one generation while events are counted in the next.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Key {
    /// The address in the kernel at which the packet was dropped; 0: it was not dropped.
    pub location: u64,
    /// Network namespace, by inode number.
    pub netns: u32,
    /// The kernel's own number of the drop reason (`enum skb_drop_reason`); 0: it was not dropped.
    pub reason: u32,
    /// An [`Event`].
    pub event: u8,
    /// A [`PacketKind`].
    pub packet: u8,
    /// A set of [`Key::OUTGOING`] and the like.
    pub flags: u16,
    /// This host's side, as in the packet. In the maps without what is [`Folded`].
    pub local: Endpoint,
    /// The peer's network: the first 120 bits of an IPv4-mapped address (a /24), the first 64 of an IPv6 address. In the maps
    /// all zero where the network is [`Folded`].
    pub network: Address,
}

impl Key {
    /// Whether it is of a SYN for a port on which nothing listens, if the port is not a known one. Only if neither a port nor a peer
    /// was asked for: events of those are counted apart.
    #[inline(always)]
    pub fn is_for_no_listener(&self, asks_for_ends: impl FnOnce() -> bool, is_known: impl FnOnce(u16) -> bool) -> bool {
        self.event == Event::Dropped as u8
            && self.packet == PacketKind::Syn as u8
            && !asks_for_ends()
            && !is_known(self.local.port)
    }

    /// The packet was one of this host's own, on its way to the peer.
    pub const OUTGOING: u16 = 1;
    /// A reset without a socket was sent for the same connection just before: netfilter's.
    pub const REJECTED_WITH_RESET: u16 = 2;
    /// An ICMP error about the same connection was sent just before.
    pub const REJECTED_WITH_ICMP: u16 = 4;
    /// The listener's accept queue was full at that moment.
    pub const QUEUE_FULL: u16 = 8;
    /// A BPF program picks which of several listeners (`SO_REUSEPORT`) gets the SYN: whose queue it met is not known.
    pub const STEERED: u16 = 16;
    /// The listener had answered it with a reset just before (`net.ipv4.tcp_abort_on_overflow`).
    pub const RESET_BY_LISTENER: u16 = 32;
    /// The bits of the flags that hold the generation of a key in the maps. 0 in records.
    const GENERATION: u16 = 0xff00;

    /// The same key as it stands in the maps, for the generation `generation` of tallies, without what `folded` names.
    #[inline(always)]
    pub const fn fold(&mut self, generation: u8, folded: u8) {
        self.flags = self.flags & !Self::GENERATION | (generation as u16) << 8;
        if folded & Folded::PORT != 0 {
            self.local.port = 0;
        }
        if folded & Folded::LOCAL != 0 {
            self.local = Endpoint::NONE;
        }
        if folded & Folded::NETWORK != 0 {
            self.network = Address::NONE;
        }
    }

    /// The generation of tallies that a key of the maps belongs to.
    #[must_use]
    pub const fn generation(&self) -> u8 {
        (self.flags >> 8) as u8
    }

    /// The key of an event as in its record, with the parts of `tally` that the key of the maps does not hold.
    #[must_use]
    pub fn unfolded(&self, tally: &Tally) -> Self {
        let mut key = Self { flags: self.flags & !Self::GENERATION, ..*self };
        if key.local.port == 0 {
            key.local = tally.local;
        }
        if key.network == Address::NONE {
            key.network = tally.network;
        }
        key
    }

    /// The peer's network, as in [`Key::network`].
    #[inline(always)]
    #[must_use]
    pub const fn network_of(peer: &Endpoint) -> Address {
        let [a, b, ..] = peer.address.words();
        match peer.address.as_v4() {
            Some(word) => Address::v4(word & 0xffff_ff00_u32.to_be()),
            None => Address::v6([a, b, 0, 0]),
        }
    }
}

/// Parts of a [`Key`] by which events are not counted apart, as a set of bits.
pub struct Folded;

impl Folded {
    /// What is folded as well, step by step, where there is no room for another key.
    pub const STEPS: [u8; 2] = [Self::NETWORK, Self::LOCAL];
    /// The local port: that of a SYN for which nothing listens. A scan of all ports is one key.
    pub const PORT: u8 = 1;
    /// The local address and port.
    pub const LOCAL: u8 = 2;
    /// The peer's network.
    pub const NETWORK: u8 = 4;
}

/// How often, and when, what a [`Key`] says has happened. Moments are `CLOCK_MONOTONIC` nanoseconds.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events.
    pub count: u64,
    /// The first one.
    pub first: u64,
    /// The latest one.
    pub last: u64,
    /// When a record of it was last made.
    pub recorded: u64,
    /// Events until that record, it included.
    pub reported: u64,
    /// This host's side in the latest event.
    pub local: Endpoint,
    /// The peer's network in the latest event.
    pub network: Address,
    /// In what the events since the latest record differ: a set of [`Folded`].
    pub mixed: u8,
    /// Always 0.
    pub padding: [u8; 3],
}

/// This many events of a key are reported at once, and the rest once in [`REPORT_INTERVAL_NS`].
const AT_ONCE: u64 = 3;
/// Nanoseconds between two reports of a key.
const REPORT_INTERVAL_NS: u64 = 1_000_000_000;

shared! {
    /// A [`Tally`] in a map.
    SharedTally of Tally {
        count: Shared<u64>,
        first: Shared<u64>,
        last: Shared<u64>,
        recorded: Shared<u64>,
        reported: Shared<u64>,
        local: Shared<Endpoint>,
        network: Shared<Address>,
        mixed: Shared<u8>,
        padding: Shared<[u8; 3]>,
    }
    /// A [`ListenerTally`] in a map.
    SharedListenerTally of ListenerTally {
        syns: Shared<u64>,
        last: Shared<u64>,
        queue: Shared<Queue>,
        longest: Shared<Queue>,
    }
    /// An [`ArrivalTally`] in a map.
    SharedArrivalTally of ArrivalTally {
        syns: Shared<u64>,
        again: Shared<u64>,
        answered: Shared<u64>,
        forwarded: Shared<u64>,
        first: Shared<u64>,
        last: Shared<u64>,
        to: Shared<Endpoint>,
        padding: Shared<u32>,
    }
    /// A [`NamespaceTally`] in a map.
    SharedNamespaceTally of NamespaceTally {
        resets: Shared<u64>,
        retransmits: Shared<u64>,
    }
    /// An [`Ender`] in a map.
    SharedEnder of Ender {
        pid: Shared<u32>,
        how: Shared<u16>,
        signal: Shared<u16>,
        comm: Shared<[u8; 16]>,
    }
    /// An [`Ended`] in a map.
    SharedEnded of Ended {
        connection: Shared<u64>,
        ended: Shared<u64>,
        idle: Shared<u64>,
        by: SharedEnder,
        netns: Shared<u32>,
        requests: Shared<u32>,
        flags: Shared<u32>,
        expected: Shared<u32>,
        written: Shared<u32>,
        met: Shared<u32>,
    }
}

impl SharedTally {
    /// Notes the event of `record`, of which `count` are counted now. True if it is to be reported: then the record says in
    /// what the events since the report before differ.
    ///
    /// Fields besides the count are not exact where several CPUs count at once. That costs one report more or less.
    #[inline(always)]
    pub fn note(&self, record: &mut RejectionRecord, count: u64, now: u64) -> bool {
        let key = &record.key;
        // The first event since the latest report has nothing to differ from.
        if count.wrapping_sub(self.reported.get()) > u64::from(record.repeats) + 1 {
            let mut mixed = 0;
            let local = self.local.get();
            if local.address != key.local.address {
                mixed |= Folded::LOCAL | Folded::PORT;
            }
            if local.port != key.local.port {
                mixed |= Folded::PORT;
            }
            if self.network.get() != key.network {
                mixed |= Folded::NETWORK;
            }
            self.mixed.set(self.mixed.get() | mixed);
        }
        self.local.set(key.local);
        self.network.set(key.network);
        self.last.set(now);
        record.count = count;
        // Each of these belongs to a connection of its own, of which the end is reported, too: there are no more of them.
        let is_each_reported = key.event == Event::DataAfterClose as u8;
        if !is_each_reported && count > AT_ONCE && now.wrapping_sub(self.recorded.get()) < REPORT_INTERVAL_NS {
            return false;
        }
        record.mixed = self.mixed.get();
        self.recorded.set(now);
        self.reported.set(count);
        self.mixed.set(0);
        true
    }
}

/// An accept queue. Linux drops a SYN when `length > limit`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// Connections that wait for `accept()` (`sk_ack_backlog`).
    pub length: u32,
    /// The least of the application's backlog and `net.core.somaxconn` (`sk_max_ack_backlog`).
    pub limit: u32,
}

impl Queue {
    /// Whether TCP drops what comes for the listener.
    #[inline(always)]
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.length > self.limit
    }
}

/// How a process ended a connection.
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// No process did: it was the kernel, or the peer.
    Unknown = 0,
    /// It closed or shut it down.
    Closed = 1,
    /// It exited.
    Exited = 2,
    /// A signal killed it; the signal's number is in [`Ender::signal`].
    Killed = 3,
    /// The kernel killed it because memory was short.
    OutOfMemory = 4,
}

/// The process that ended a connection on this side, seen in its own context.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ender {
    /// Thread group id in the initial pid namespace; 0: no process did.
    pub pid: u32,
    /// A [`How`].
    pub how: u16,
    /// The signal that killed it, otherwise 0.
    pub signal: u16,
    /// The name of its thread; NUL-terminated.
    pub comm: [u8; 16],
}

/// A connection of this host that has ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Its socket cookie; 0: none is meant.
    pub connection: u64,
    /// When this host closed it.
    pub ended: u64,
    /// For how long nothing had happened on it before, in nanoseconds.
    pub idle: u64,
    /// Who closed it.
    pub by: Ender,
    /// Network namespace, by inode number.
    pub netns: u32,
    /// Requests begun on it.
    pub requests: u32,
    /// A set of the flags of a [`Connection`](crate::connection::Connection).
    pub flags: u32,
    /// The sequence number after the last byte that the peer had sent when it was gone.
    pub expected: u32,
    /// The sequence number after the last byte of the response.
    pub written: u32,
    /// When data was seen to come for it: milliseconds of `CLOCK_MONOTONIC`, the low 32 bits; 0: not yet.
    pub met: u32,
}

/// An event, as an example of those that its key counts.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RejectionRecord {
    /// [`Kind::Rejection`].
    pub kind: u32,
    /// Bytes of TCP payload in the packet.
    pub payload: u32,
    /// When it happened.
    pub reported: u64,
    /// The tally of its key, this event included.
    pub count: u64,
    /// What it is counted by.
    pub key: Key,
    /// The peer.
    pub peer: Endpoint,
    /// Packets of the same kind on the same connection before this one that are counted with it: for
    /// [`Event::SynUnanswered`] the SYN before.
    pub repeats: u32,
    /// The listener's accept queue at that moment; zero where it was not looked at.
    pub queue: Queue,
    /// For [`Event::DataAfterClose`] and [`Event::FinAfterData`] the connection that was closed. Where the event is about a
    /// listener, its `connection` is the inode number of the listener's socket ([`RejectionRecord::listener`]).
    pub ended: Ended,
    /// The packet's first sequence number; 0 for SYNs that were seen at the device.
    pub sequence: u32,
    /// What the packet acknowledges; 0 likewise.
    pub acknowledges: u32,
    /// The class of the payload's first bytes where they lie in the packet's head: an
    /// [`Opening`](crate::opening::Opening).
    pub opening: u32,
    /// Parts of the key by which the event is not counted apart: a set of [`Folded`].
    pub folded: u8,
    /// In what the events since the record before differ, of all that are counted together: a set of [`Folded`].
    pub mixed: u8,
    /// The generation of the tally.
    pub generation: u8,
    /// Always 0.
    pub padding: u8,
}

impl RejectionRecord {
    /// Both ends.
    #[must_use]
    pub const fn tuple(&self) -> Tuple {
        Tuple { peer: self.peer, local: self.key.local }
    }

    /// The key in the maps that counts the event.
    #[must_use]
    pub const fn counted_by(&self) -> Key {
        let mut key = self.key;
        key.fold(self.generation, self.folded);
        key
    }

    /// The inode number of the socket of the listener that the event is about, if that is known.
    #[must_use]
    pub fn listener(&self) -> Option<u32> {
        let is_late = matches!(Event::of(self.key.event), Some(Event::DataAfterClose | Event::FinAfterData));
        if is_late { None } else { u32::try_from(self.ended.connection).ok().filter(|&inode| inode != 0) }
    }

    /// An empty record.
    pub const EMPTY: Self = Self {
        kind: Kind::Rejection as u32,
        payload: 0,
        reported: 0,
        count: 0,
        key: Key {
            location: 0,
            netns: 0,
            reason: 0,
            event: 0,
            packet: 0,
            flags: 0,
            local: Endpoint::NONE,
            network: Address::NONE,
        },
        peer: Endpoint::NONE,
        repeats: 0,
        queue: Queue { length: 0, limit: 0 },
        ended: Ended {
            connection: 0,
            ended: 0,
            idle: 0,
            by: Ender { pid: 0, how: 0, signal: 0, comm: [0; 16] },
            netns: 0,
            requests: 0,
            flags: 0,
            expected: 0,
            written: 0,
            met: 0,
        },
        sequence: 0,
        acknowledges: 0,
        opening: 0,
        folded: 0,
        mixed: 0,
        generation: 0,
        padding: 0,
    };
}

/// A listener's accept queue over time, by network namespace and local endpoint.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenerTally {
    /// SYNs that came for it.
    pub syns: u64,
    /// When the latest SYN came.
    pub last: u64,
    /// The queue at the latest SYN.
    pub queue: Queue,
    /// The longest queue at any SYN.
    pub longest: Queue,
}

/// A listener.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ListenerKey {
    /// Network namespace, by inode number.
    pub netns: u32,
    /// Its address, which may be the wildcard, and port.
    pub local: Endpoint,
}

/// A SYN that no listener of this host got. The number is the index into the `STRAY_SYNS` map.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stray {
    /// No socket got it: nothing listens there.
    Nobody = 0,
    /// A connection got it, open or with its handshake under way: the SYN was sent again.
    Connection = 1,
}

impl Stray {
    /// How many kinds there are.
    pub const COUNT: u32 = 2;
}

/// SYNs for an end of this host at which nothing listens: the port is mapped to another one, the packet is forwarded, or it
/// is refused.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArrivalTally {
    /// SYNs of connection attempts.
    pub syns: u64,
    /// SYNs that came again, because nothing had answered.
    pub again: u64,
    /// Attempts that a socket of this host answered.
    pub answered: u64,
    /// Attempts that left through another interface.
    pub forwarded: u64,
    /// When the first SYN came.
    pub first: u64,
    /// When the latest one came.
    pub last: u64,
    /// Where the latest of those that left was for.
    pub to: Endpoint,
    /// Always 0.
    pub padding: u32,
}

/// What was seen in a network namespace, to be held against the kernel's own counters.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NamespaceTally {
    /// Resets that the host's TCP sent, as the tracepoint tells.
    pub resets: u64,
    /// Packets that TCP sent again.
    pub retransmits: u64,
}

const _: () = assert!(size_of::<Key>() == 56 && size_of::<Tally>() == 80);
const _: () = assert!(size_of::<Ender>() == 24 && size_of::<Ended>() == 72);
const _: () = assert!(size_of::<RejectionRecord>() == 24 + 56 + 20 + 4 + 8 + 72 + 16);
const _: () = assert!(size_of::<ListenerKey>() == 24 && size_of::<ListenerTally>() == 32);
const _: () = assert!(size_of::<NamespaceTally>() == 16 && size_of::<ArrivalTally>() == 72);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_those_that_peers_are_grouped_by() {
        let v4 = Endpoint::v4([10, 0, 1, 23], 41234);
        assert_eq!(Key::network_of(&v4), Endpoint::v4([10, 0, 1, 0], 0).address);
        let mut octets = [7; 16];
        let v6 = Endpoint::v6(octets, 1);
        octets[8..].fill(0);
        assert_eq!(Key::network_of(&v6).octets(), octets);
    }

    fn syn(port: u16, network: u8) -> RejectionRecord {
        let mut record = RejectionRecord::EMPTY;
        record.key.event = Event::Dropped as u8;
        record.key.flags = Key::QUEUE_FULL;
        record.key.local = Endpoint::v4([10, 0, 2, 5], port);
        record.key.network = Endpoint::v4([10, 0, network, 0], 0).address;
        record
    }

    #[test]
    fn only_syns_for_ports_that_nobody_serves_or_asked_for_are_folded() {
        let record = RejectionRecord {
            key: Key { packet: PacketKind::Syn as u8, ..syn(8080, 1).key },
            ..RejectionRecord::EMPTY
        };
        let key = record.key;
        assert!(key.is_for_no_listener(|| false, |_| false));
        assert!(!key.is_for_no_listener(|| true, |_| false) && !key.is_for_no_listener(|| false, |port| port == 8080));
        assert!(!Key { packet: PacketKind::Data as u8, ..key }.is_for_no_listener(|| false, |_| false));
        assert!(!Key { event: Event::AcceptQueueFull as u8, ..key }.is_for_no_listener(|| false, |_| false));
    }

    #[test]
    fn a_key_of_the_maps_gives_back_what_is_not_folded() {
        for folded in 0..8 {
            let mut record = RejectionRecord { folded, generation: 0xab, ..syn(8080, 1) };
            let counted = record.counted_by();
            assert_eq!(counted.generation(), 0xab);
            assert_eq!(counted.local.port == 0, folded & (Folded::PORT | Folded::LOCAL) != 0);
            assert_eq!(counted.local.address == Address::NONE, folded & Folded::LOCAL != 0);
            assert_eq!(counted.network == Address::NONE, folded & Folded::NETWORK != 0);
            let tally = SharedTally::default();
            tally.note(&mut record, 1, 1);
            assert_eq!(counted.unfolded(&tally.get()), record.key);
        }
    }

    #[test]
    fn what_is_counted_together_says_in_what_it_differs() {
        let tally = SharedTally::default();
        let mut count = 0;
        let mut note = |port, network, now| {
            let mut record = syn(port, network);
            count += 1;
            tally.note(&mut record, count, now).then_some(record.mixed)
        };
        // The first ones are reported one by one.
        assert_eq!([note(1, 1, 1), note(2, 1, 2), note(2, 2, 3)], [Some(0); 3]);
        // The same ones after that, though not the same as before.
        assert_eq!(note(5, 3, 4), None);
        assert_eq!(note(5, 3, 4), None);
        let second = REPORT_INTERVAL_NS;
        assert_eq!(note(5, 3, 3 + second), Some(0));
        assert_eq!((note(5, 3, 4 + second), note(6, 3, 5 + second)), (None, None));
        assert_eq!(note(6, 3, 3 + 2 * second), Some(Folded::PORT));
        assert_eq!((note(6, 3, 4 + 2 * second), note(6, 4, 3 + 3 * second)), (None, Some(Folded::NETWORK)));
        assert_eq!(note(6, 4, 3 + 4 * second), Some(0));
    }

    #[test]
    fn an_event_that_stands_for_two_differs_from_none() {
        let tally = SharedTally::default();
        let mut record = RejectionRecord { repeats: 1, ..syn(1, 1) };
        assert!(tally.note(&mut record, 2, 1));
        assert_eq!((record.mixed, record.count), (0, 2));
    }

    #[test]
    fn packets_are_told_by_flags_and_payload() {
        let cases = [
            (2, 0, PacketKind::Syn),
            (2, 10, PacketKind::Syn),
            (18, 0, PacketKind::SynAck),
            (16, 0, PacketKind::Ack),
            (24, 5, PacketKind::Data),
            (17, 5, PacketKind::Data),
            (17, 0, PacketKind::Fin),
            (20, 0, PacketKind::Reset),
            (0, 0, PacketKind::Other),
        ];
        for (flags, payload, kind) in cases {
            assert_eq!(PacketKind::of(flags, payload), kind);
            assert_eq!(PacketKind::numbered(kind as u8), Some(kind));
        }
    }
}
