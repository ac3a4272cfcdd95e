//! What the kernel side tells of packets and connections that were refused: counted exactly, shown sampled.
//!
//! Every event is counted in a [`Tally`] under its [`Key`]. A [`RejectionRecord`] follows for the first few events of a key, and
//! then at most once per second, so a flood costs a count. What the kernel cannot know (names, rules, listeners) and
//! what it all means is for user space: nothing here is a cause yet.

use crate::{
    endpoint::{Address, Endpoint, Tuple},
    kind::Kind,
    shared::{Shared, shared},
};

mod tally;

pub use self::tally::{
    ArrivalTally, ListenerKey, ListenerTally, NamespaceTally, SharedArrivalTally, SharedListenerTally,
    SharedNamespaceTally, SharedTally, Stray, Tally,
};
use crate::process::SharedEnder;
pub use crate::{
    packet::PacketKind,
    process::{Ender, How},
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
    /// The SYN between these ends that was reported last, for a full queue, was dropped before it came to that queue. It belongs to that
    /// [`Event::AcceptQueueFull`] or [`Event::SynQueueFull`], and is not counted.
    TakenBack = 8,
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
            8 => Self::TakenBack,
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

shared! {
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

const _: () = assert!(size_of::<Key>() == 56);
const _: () = assert!(size_of::<Ended>() == 72);
const _: () = assert!(size_of::<RejectionRecord>() == 24 + 56 + 20 + 4 + 8 + 72 + 16);

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
}
