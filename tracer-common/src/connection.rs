//! The state machine of a connection: from packets, reads and writes to requests.
//!
//! A request is one turn of the connection: bytes in, then bytes out, until the next bytes in. Where one ends and the
//! next begins follows from the direction and the sequence numbers alone, so it holds for any protocol in which the
//! peer waits for the response before it asks again, encrypted or not: **a segment with new bytes begins a new request
//! if the application has written since the current one began and the segment acknowledges all that it wrote**. A
//! peer that has not received the whole response cannot be asking for the next one; its bytes still belong to the
//! current request.
//!
//! A request is reported when every byte that the application wrote is acknowledged. Whether that was the whole
//! response only the future tells, and no program here can wait for it: if the application writes on, it is reported once
//! more, when that is acknowledged. After a few times the request is *reopened* instead, and reported when the next one
//! begins or the connection closes, or from user space's sweep (`tracer_ebpf::sweep`). A later report replaces an earlier
//! one.
//!
//! The kernel calls all of this under the socket's lock, except [`Connection::sent`], [`Connection::advertised`],
//! [`Connection::accepted`] and, where the hook is a function's entry, [`Connection::write`]. These write members that nothing else
//! writes while they can run, and tolerate a stale view of the others. The sweep reads without the lock, too. So a connection is never
//! borrowed as `&mut`: its members are cells ([`crate::shared`]). Where a moment is often not needed the clock is passed, and not the
//! time: reading it is what costs most in the smallest of the programs.

mod events;

use core::mem::offset_of;

use crate::{
    endpoint::Tuple,
    opening::Opening,
    process::{Ender, SharedEnder, SharedProcess},
    shared::Shared,
    stage::{SharedConnectionMoments, SharedRequestMoments},
};

/// The connection was open before tracing began; what came before its first event is not known.
pub const ADOPTED: u32 = 1 << 0;
/// The filters do not want it: kept only so that its packets need not be judged again.
pub const IGNORED: u32 = 1 << 1;
/// A request has begun.
pub const ACTIVE: u32 = 1 << 2;
/// The current request changed since it was last reported.
pub const CHANGED: u32 = 1 << 3;
/// The current request was answered further after it had been reported.
pub const REOPENED: u32 = 1 << 4;
/// An `Opened` record was made.
pub const OPENED: u32 = 1 << 5;
/// The application closed first.
pub const CLOSED_BY_APPLICATION: u32 = 1 << 6;
/// The peer closed first.
pub const CLOSED_BY_PEER: u32 = 1 << 7;
/// The first end of it was a reset that arrived.
pub const RESET_BY_PEER: u32 = 1 << 8;
/// The first end of it was a reset by this host.
pub const RESET_BY_HOST: u32 = 1 << 9;
/// It timed out: keep-alive probes or retransmissions were not answered.
pub const TIMED_OUT: u32 = 1 << 10;

/// A reset arrived, at any time; or TCP has itself treated the connection so.
pub const RESET_ARRIVED: u32 = 1 << 12;
/// It ended for good with a timeout.
pub const TIMED_OUT_AT_LAST: u32 = 1 << 13;
/// Nobody looks when `accept()` returns: that it is not known says nothing.
pub const ACCEPT_UNSEEN: u32 = 1 << 14;

/// Adopted in the middle of a request: there is no telling when it began, so that request is not reported.
pub const MIDWAY: u32 = 1 << 11;
/// When the connection first ended, the application had not yet written anything for the current request.
pub const ENDED_UNANSWERED: u32 = 1 << 15;

/// The peer sent more of the current turn after the application had begun to answer it.
pub const SENT_ON: u32 = 1 << 16;
/// The peer had [`SENT_ON`] in the turn before the current one, or the application closed with part of the turn before unread: the
/// current one may be the rest of it.
pub const CONTINUES: u32 = 1 << 17;
/// On TLS, the peer has [`SENT_ON`] in some turn after the handshake, or sent a ping, as the peers of HTTP/2 do.
pub const OVERLAPPED: u32 = 1 << 18;
/// Where the set of [`Opening`]s that were seen begins in the flags: one bit per class, that of number 1 at bit 19.
pub const OPENINGS_SHIFT: u32 = 18;
/// The bits of the set of [`Opening`]s.
pub const OPENINGS: u32 = 0xff << (OPENINGS_SHIFT + 1);
/// Where the number of the current turn's [`Opening`] begins in the flags.
pub const OPENING_SHIFT: u32 = 27;
/// The bits of the current turn's [`Opening`].
const OPENING: u32 = 15 << OPENING_SHIFT;
/// Stands in the place of an [`Opening`] that is not known. The turn began right behind the response before it.
pub const BEHIND: u32 = 9;
/// Stands in the place of an [`Opening`] that is not known. The response before it was as short as an interim one, such as
/// `100 Continue`.
pub const ASKED: u32 = 10;
/// Stands in the place of an [`Opening`]. The turn is the body that an interim response had asked for. Behind a response that may be one, the
/// turn of a connection with HTTP/1 does not begin with a method.
pub const BODY: u32 = 11;
/// Stands in the place of an [`Opening`] that is not known. The response before it was as long as one that switches protocols.
pub const SWITCHED: u32 = 13;
/// [`SWITCHED`] and [`BEHIND`].
pub const SWITCHED_BEHIND: u32 = 14;
/// The latest read took nothing of the current turn out of the socket: its first bytes are looked at in the next one.
pub const PEEKED: u32 = 1 << 31;
/// The bits that say something about turns; [`crate::turn::Marks`] reads them.
pub const TURN_MARKS: u32 = 0x7fff_0000;
/// The openings of TLS: an alert is possible on such a connection only.
const TLS_OPENINGS: u32 = (1 << Opening::TlsHandshake as u32
    | 1 << Opening::TlsCiphers as u32
    | 1 << Opening::TlsAlert as u32
    | 1 << Opening::TlsData as u32)
    << OPENINGS_SHIFT;

/// How a connection ended first; the other ways are consequences.
const ENDS: u32 = CLOSED_BY_APPLICATION | CLOSED_BY_PEER | RESET_BY_PEER | RESET_BY_HOST | TIMED_OUT;

/// A turn of a connection: a request and its response.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Request {
    /// Payload bytes received.
    pub bytes_in: Shared<u64>,
    /// The moments between its stages.
    pub moments: SharedRequestMoments,
    /// Payload bytes that the application wrote.
    pub bytes_out: Shared<u64>,
    /// Nanoseconds for which the window was closed, but for [`Connection::zero_since`].
    pub zero_window: Shared<u64>,
    /// Nanoseconds between its first packet and its last one for which packets of it waited in a queue of this host.
    pub held: Shared<u64>,
    /// How often it was reported.
    pub reports: Shared<u32>,
    /// Packets of the response that were sent again.
    pub retransmits: Shared<u16>,
    /// Payload bytes of the one that was sent again last.
    pub resent: Shared<u16>,
}

/// A connection that a listener of this host accepted.
///
/// Packets and the application are often handled on different CPUs, and each cache line that both write travels between
/// them twice a request. So what an event looks at comes first: with the kernel's own head of the value (8 bytes) it fills
/// one line, the moments of the request the next. What follows is written seldom, or only where packets are handled; the
/// application's side does not look at it.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Connection {
    /// [`ADOPTED`] and the like.
    pub flags: Shared<u32>,
    /// Requests begun.
    pub sequence: Shared<u32>,
    /// The end of the bytes received, as a sequence number.
    pub input_end: Shared<u32>,
    /// The end of the bytes written when the current request began.
    pub answer_start: Shared<u32>,
    /// The end of the bytes written when it was last looked at.
    pub written_end: Shared<u32>,
    /// The end of the bytes given to the device.
    pub output_end: Shared<u32>,
    /// The end of the bytes written when all of them were last seen acknowledged.
    pub acknowledged_end: Shared<u32>,
    /// Who read the latest request that was read: the `pid` of `process`.
    pub reader: Shared<u32>,
    /// Since when the peer has been told that there is no room for more (zero window); 0: it may send.
    pub zero_since: Shared<u64>,
    /// The socket cookie; 0: nothing but the moment of `accept()` is known yet.
    pub id: Shared<u64>,
    /// The current request; meaningful once one has begun.
    pub request: Request,
    /// Network namespace, by inode number.
    pub netns: Shared<u32>,
    /// Bytes that the application had not read when the connection closed.
    pub unread: Shared<u32>,
    /// Who read the current request.
    pub process: SharedProcess,
    /// Both ends.
    pub tuple: Shared<Tuple>,
    /// The moments between its own stages.
    pub moments: SharedConnectionMoments,
    /// The address of its socket in the kernel.
    pub address: Shared<u64>,
    /// When it first ended; 0: it has not.
    pub ended: Shared<u64>,
    /// Nanoseconds without an event before that; 0: not known.
    pub idle: Shared<u64>,
    /// The process that ended it on this side.
    pub by: SharedEnder,
    /// When the response was acknowledged before its latest piece, if that was as long as a TLS close alert.
    pub before_alert: Shared<u64>,
    /// The end of that piece.
    pub alert_end: Shared<u32>,
    /// Its bytes.
    pub alert_length: Shared<u32>,
    /// Bytes of a TLS close alert that the application wrote behind its last response.
    pub farewell: Shared<u32>,
    /// Bytes that came after this host's FIN, and that the socket still took.
    pub late: Shared<u32>,
    /// The port that the peer asked for, if this host maps it to another one; otherwise 0.
    pub asked: Shared<u32>,
    /// Always 0.
    pub padding: Shared<u32>,
}

const _: () = assert!(size_of::<Connection>() == 56 + 104 + 32 + 40 + 32 + 8 + 16 + 24 + 24 + 8);
const _: () =
    assert!(offset_of!(Connection, request.moments) == 56 && offset_of!(Connection, request.bytes_out) == 120);

/// A segment that arrived, before TCP has looked at it.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// Sequence number of its first byte.
    pub start: u32,
    /// Sequence number after its last payload byte; equal to `start` if it has none.
    pub end: u32,
    /// What it acknowledges.
    pub acknowledges: u32,
}

/// The moments of a segment.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// When it reached the network device; 0: not stamped.
    pub arrived: u64,
    /// When TCP got it: now.
    pub queued: u64,
}

/// What the kernel's TCP knew at an event.
#[derive(Clone, Copy, Debug)]
pub struct Tcp {
    /// Next sequence number expected (`rcv_nxt`).
    pub expected: u32,
    /// The end of what the application has written (`write_seq`).
    pub written: u32,
    /// How many bytes beyond `expected` it accepts, at the most (`rcv_wnd`).
    pub window: u32,
}

/// How far the peer has acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct Acknowledgement {
    /// The first byte not acknowledged (`snd_una`).
    pub unacknowledged: u32,
    /// When an ACK last acknowledged something (`delivered_mstamp`, in nanoseconds); 0: not known.
    pub latest: u64,
}

/// A change of the TCP state.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// The state before.
    pub old: u8,
    /// The state after.
    pub new: u8,
    /// Whether the socket's error says that the peer could not be reached.
    pub timed_out: bool,
    /// The process in whose context it happens, if it happens in one's and `old` is a state that one can end.
    pub by: Ender,
    /// Bytes that the application has not read.
    pub unread: u32,
    /// The end of what has been received, without the peer's FIN.
    pub received: u32,
}

/// Why a request is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// All that was written is acknowledged, for the first time; more may be written.
    Answered,
    /// The next request began or the connection closed.
    Over,
}

/// A peer that leaves sooner, in nanoseconds, has not given up a request that nobody reads: it sent the rest of an upload.
pub const ABANDONED_NS: u64 = 1_000_000_000;
/// An application that closes within this many nanoseconds of a turn's first byte did not close because of that turn.
pub const CLOSED_AT_ONCE_NS: u64 = 10_000_000;
/// A FIN that comes within this many nanoseconds of a turn's first byte was sent together with it.
pub const RIGHT_BEHIND_NS: u64 = 50_000_000;

/// What became of the latest request of a connection.
pub mod pending {
    /// There is no request, or it was answered and all of that acknowledged.
    pub const NOTHING: u32 = 0;
    /// The application wrote nothing.
    pub const UNANSWERED: u32 = 1;
    /// Part of what the application wrote was not acknowledged.
    pub const CUT: u32 = 2;
    /// The request began before tracing did, and what became of it is not known.
    pub const UNKNOWN: u32 = 3;
}

/// The lengths of an encrypted TLS close alert: 24 bytes with TLS 1.3, 23 or 31 with the ciphers of TLS 1.2 that are in use.
const ALERT_LENGTHS: core::ops::Range<u32> = 23..40;

/// TCP states, as in the kernel's `include/net/tcp_states.h`.
pub mod state {
    #![allow(missing_docs, clippy::allow_attributes, reason = "the names are those of RFC 9293")]
    pub const ESTABLISHED: u8 = 1;
    pub const SYN_SENT: u8 = 2;
    pub const SYN_RECV: u8 = 3;
    pub const FIN_WAIT1: u8 = 4;
    pub const FIN_WAIT2: u8 = 5;
    pub const CLOSE: u8 = 7;
    pub const CLOSE_WAIT: u8 = 8;
    pub const LAST_ACK: u8 = 9;
    pub const LISTEN: u8 = 10;
    pub const CLOSING: u8 = 11;
    pub const NEW_SYN_RECV: u8 = 12;
}
