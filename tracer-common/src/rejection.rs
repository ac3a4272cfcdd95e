//! What the kernel side tells of packets and connections that were refused: counted exactly, shown sampled.
//!
//! Every event is counted in a [`Tally`] under its [`Key`]; a [`RejectionRecord`] follows for the first few of a key and
//! then for at most one a second, so a flood costs a count. What the kernel cannot know (names, rules, listeners) and
//! what it all means is for user space: nothing here is a cause yet.

use crate::{
    endpoint::{Address, Endpoint, Tuple},
    record::Kind,
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
pub enum Packet {
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

impl Packet {
    /// The kind of a packet with these TCP flags (as in the header) and so many bytes of payload.
    #[inline(always)]
    #[must_use]
    pub const fn of(flags: u8, payload: u32) -> Self {
        const FIN: u8 = 1;
        const SYN: u8 = 2;
        const RST: u8 = 4;
        const ACK: u8 = 16;
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

/// What events are counted by. Its cause is a function of it and of the host alone.
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
    /// A [`Packet`].
    pub packet: u8,
    /// A set of [`Key::OUTGOING`] and the like.
    pub flags: u16,
    /// This host's side, as in the packet. All zero where there was no room for another one.
    pub local: Endpoint,
    /// The peer's network: the first 120 bits of an IPv4-mapped address (a /24), the first 64 of an IPv6 address. All
    /// zero where there was no room for another network.
    pub network: Address,
}

impl Key {
    /// The packet was one of this host's own, on its way to the peer.
    pub const OUTGOING: u16 = 1;
    /// A reset without a socket was sent for the same connection just before: netfilter's.
    pub const REJECTED_WITH_RESET: u16 = 2;
    /// An ICMP error about the same connection was sent just before.
    pub const REJECTED_WITH_ICMP: u16 = 4;
    /// The listener's accept queue was full at that moment.
    pub const QUEUE_FULL: u16 = 8;

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
    /// For [`Event::DataAfterClose`] and [`Event::FinAfterData`] the connection that was closed.
    pub ended: Ended,
    /// The packet's first sequence number; 0 for SYNs that were seen at the device.
    pub sequence: u32,
    /// What the packet acknowledges; 0 likewise.
    pub acknowledges: u32,
    /// The class of the payload's first bytes where they lie in the packet's head: an
    /// [`Opening`](crate::opening::Opening).
    pub opening: u32,
    /// Always 0.
    pub padding: u32,
}

impl RejectionRecord {
    /// Both ends.
    #[must_use]
    pub const fn tuple(&self) -> Tuple {
        Tuple { peer: self.peer, local: self.key.local }
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

/// What was seen in a network namespace, to be held against the kernel's own counters.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NamespaceTally {
    /// Resets that the host's TCP sent, as the tracepoint tells.
    pub resets: u64,
    /// Packets that TCP sent again.
    pub retransmits: u64,
}

const _: () = assert!(size_of::<Key>() == 56 && size_of::<Tally>() == 32);
const _: () = assert!(size_of::<Ender>() == 24 && size_of::<Ended>() == 72);
const _: () = assert!(size_of::<RejectionRecord>() == 24 + 56 + 20 + 4 + 8 + 72 + 16);
const _: () = assert!(size_of::<ListenerKey>() == 24 && size_of::<ListenerTally>() == 32);
const _: () = assert!(size_of::<NamespaceTally>() == 16);

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

    #[test]
    fn packets_are_told_by_flags_and_payload() {
        let cases = [
            (2, 0, Packet::Syn),
            (2, 10, Packet::Syn),
            (18, 0, Packet::SynAck),
            (16, 0, Packet::Ack),
            (24, 5, Packet::Data),
            (17, 5, Packet::Data),
            (17, 0, Packet::Fin),
            (20, 0, Packet::Reset),
            (0, 0, Packet::Other),
        ];
        for (flags, payload, kind) in cases {
            assert_eq!(Packet::of(flags, payload), kind);
            assert_eq!(Packet::numbered(kind as u8), Some(kind));
        }
    }
}
