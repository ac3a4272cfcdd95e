//! What user space tells the programs before they load: constants for the verifier, so that what is off costs nothing.

/// The filters and choices of a run, in the `SETTINGS` global.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// A set of the `*_FILTER` bits.
    pub filters: u32,
    /// Requests read by this process only (thread group id in the initial pid namespace); 0: by any.
    pub pid: u32,
    /// Connections of this network namespace only (its inode number); 0: of any.
    pub netns: u32,
    /// The numbers of the system calls whose second argument is where they read to: `read`, `recvfrom`.
    pub reads: [u32; 2],
    /// The number of `readv`, whose second argument is an array of `struct iovec`.
    pub vector_read: u32,
    /// The number of `recvmsg`, whose second argument is a `struct msghdr`.
    pub message_read: u32,
}

impl Settings {
    /// Only the local ports in the `PORTS` map.
    pub const PORT_FILTER: u32 = 1;
    /// Only peers inside a prefix of the `PEERS` map.
    pub const PEER_FILTER: u32 = 2;
    /// Only connections whose SYN was seen: on one of the interfaces with a program.
    pub const INTERFACE_FILTER: u32 = 4;
    /// No filter: when `accept()` returns is not looked at.
    pub const ACCEPT_UNSEEN: u32 = 8;
    /// No filter: `tcp_retransmit_skb` reports failed attempts too, and says so in its third argument. Without that argument
    /// it reports only packets that were sent.
    pub const RETRANSMIT_ERRORS: u32 = 16;
}

/// What to do with a packet that the kernel dropped, by its reason.
pub mod class {
    /// It is a rejection, whatever the packet is.
    pub const ALWAYS: u8 = 1;
    /// It is a rejection if the packet is a SYN: nothing listens.
    pub const SYN: u8 = 2;
    /// It may be the keep-alive race, or the last ACK of a handshake whose connection found no room in the accept queue.
    pub const LATE: u8 = 4;
    /// Netfilter dropped it.
    pub const FIREWALL: u8 = 8;
    /// It may be a rejection if the packet is a SYN: the place in the kernel tells.
    pub const PLACE: u8 = 16;
}

/// Words of the bit sets that are indexed by port: 65 536 ports, 64 a word.
pub const PORT_WORDS: u32 = 1024;

/// The word and the bit of `port` in a port set.
#[inline(always)]
#[must_use]
pub const fn port_bit(port: u16) -> (u32, u64) {
    ((port >> 6) as u32, 1 << (port & 63))
}

const _: () = assert!(size_of::<Settings>() == 28);
