//! The records that the kernel side hands to user space, through the ring buffer or a recording.
//!
//! `repr(C)`, little-endian like every host that `tracer` supports, no implicit padding. A record begins with its
//! [`Kind`]; a reader counts those that it does not know and goes on.

use core::mem::MaybeUninit;

use crate::{
    connection::{self, ABANDONED_NS, Connection, TURN_MARKS, pending},
    endpoint::{Endpoint, Tuple},
    process::Ender,
    stage::{ConnectionMoments, RequestMoments},
    turn::{Facts, Marks},
};

pub use crate::{kind::Kind, process::Process};

/// A request, from its first byte to the last acknowledgement of its response.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestRecord {
    /// [`Kind::Request`].
    pub kind: u32,
    /// A set of [`RequestRecord::COMPLETE`] and the like.
    pub flags: u32,
    /// The connection: its socket cookie, unique until the host restarts.
    pub connection: u64,
    /// When the record was made.
    pub reported: u64,
    /// When `accept()` returned the connection, for the first request on it; otherwise 0.
    pub accepted: u64,
    /// The moments between the stages.
    pub moments: RequestMoments,
    /// Request bytes, as TCP payload.
    pub bytes_in: u64,
    /// Response bytes that the application wrote, as TCP payload.
    pub bytes_out: u64,
    /// Nanoseconds for which this host told the sender to wait, because the application had not read (zero window).
    pub zero_window: u64,
    /// Who read it.
    pub process: Process,
    /// Both ends of the connection.
    pub tuple: Tuple,
    /// 1 for the first request on the connection that was seen.
    pub sequence: u32,
    /// How often this request was reported before: a later record of the same request replaces the earlier one.
    pub revision: u32,
    /// Smoothed round-trip time in microseconds when the record was made; 0: not measured.
    pub srtt_us: u32,
    /// Packets of the response that were sent again.
    pub retransmits: u16,
    /// Payload bytes of the one that was sent again last.
    pub resent: u16,
    /// Network namespace, by inode number.
    pub netns: u32,
    /// What the flags of its connection say about its turns ([`crate::turn::Marks`]), and in the low 16 bits for how many
    /// milliseconds of `download` packets of the response waited in a queue of this host.
    pub marks: u32,
}

impl RequestRecord {
    /// Answered, and every byte that was written is acknowledged.
    pub const COMPLETE: u32 = 1;
    /// The connection closed, or the next request began: nothing can follow.
    pub const FINAL: u32 = 2;
    /// The connection was open before tracing began.
    pub const ADOPTED: u32 = 4;
    /// Nobody looks when `accept()` returns.
    pub const ACCEPT_UNSEEN: u32 = 8;
    /// The peer's FIN or reset came right behind its first byte: within [`connection::RIGHT_BEHIND_NS`].
    pub const PEER_LEFT: u32 = 16;
    /// Nobody had read it when the peer ended the connection, less than [`connection::ABANDONED_NS`] after its first byte, or the
    /// application with a reset, less than [`connection::CLOSED_AT_ONCE_NS`] after.
    pub const ABANDONED: u32 = 32;
    /// The application had closed the connection, with nothing unread, when the record was made.
    pub const CLOSED: u32 = 64;
    /// Something else than a system call of the application may read: that nobody was seen to read says nothing.
    pub const READ_UNSEEN: u32 = 128;
    /// From this bit on: the port that the peer asked for, if this host maps it to another one (DNAT, REDIRECT).
    const ASKED_SHIFT: u32 = 16;

    /// The port that the peer asked for, if this host maps it to another one.
    #[must_use]
    pub const fn asked(&self) -> Option<u16> {
        let port = (self.flags >> Self::ASKED_SHIFT) as u16;
        if port == 0 { None } else { Some(port) }
    }

    /// Writes the record of the request that `connection` is at into `slot`, member by member: a BPF program has 512
    /// bytes of stack, too few to build records there.
    ///
    /// # Safety
    ///
    /// `slot` is valid for writes and aligned.
    #[inline(always)]
    pub unsafe fn write(slot: *mut Self, connection: &Connection, last: bool, srtt_us: u32, now: u64) {
        let request = &connection.request;
        let is_answered = connection.is_answered();
        let mut flags = connection.asked.get() << Self::ASKED_SHIFT;
        if is_answered {
            flags |= Self::COMPLETE;
        }
        if last {
            flags |= Self::FINAL;
        }
        if connection.flags.has(connection::ADOPTED) {
            flags |= Self::ADOPTED;
        }
        if connection.flags.has(connection::ACCEPT_UNSEEN) {
            flags |= Self::ACCEPT_UNSEEN;
        }
        if connection.peer_left_right_behind() {
            flags |= Self::PEER_LEFT;
        }
        if connection.is_abandoned() {
            flags |= Self::ABANDONED;
        }
        if connection.flags.has(connection::CLOSED_BY_APPLICATION) {
            flags |= Self::CLOSED;
        }
        // SAFETY: the caller's promise; plain integers, so that nothing is dropped.
        let record = unsafe { &mut *slot };
        record.kind = Kind::Request as u32;
        record.flags = flags;
        record.connection = connection.id.get();
        record.reported = now;
        record.accepted = if connection.sequence.get() == 1 { connection.moments.accepted.get() } else { 0 };
        record.moments = request.moments.get();
        if !is_answered {
            // While more is to come, an earlier piece's acknowledgement ends nothing.
            record.moments.acknowledged = 0;
        }
        record.bytes_in = request.bytes_in.get();
        record.bytes_out = request.bytes_out.get();
        record.zero_window = connection.zero_window(now);
        if request.moments.first_read.get() == 0 {
            // The reader of the request before it is not known to be that of this one.
            record.process = Process::default();
        } else {
            record.process = connection.process.get();
        }
        record.tuple = connection.tuple.get();
        record.sequence = connection.sequence.get();
        record.revision = request.reports.get();
        record.srtt_us = srtt_us;
        record.retransmits = request.retransmits.get();
        record.resent = request.resent.get();
        record.netns = connection.netns.get();
        record.marks = connection.flags.get() & TURN_MARKS | Self::milliseconds(request.held.get());
    }

    /// In 16 bits.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "asked before")]
    const fn milliseconds(nanoseconds: u64) -> u32 {
        let milliseconds = nanoseconds / 1_000_000;
        if milliseconds < 0xffff { milliseconds as u32 } else { 0xffff }
    }

    /// For how many nanoseconds of `download`, at least, packets of the response waited in a queue of this host: whole
    /// milliseconds, up to a minute.
    #[must_use]
    pub const fn held(&self) -> u64 {
        (self.marks & !TURN_MARKS) as u64 * 1_000_000
    }

    /// What is known of the turn.
    #[must_use]
    pub const fn turn(&self) -> Facts {
        Facts {
            marks: Marks(self.marks & TURN_MARKS),
            is_first: self.sequence == 1 && self.flags & Self::ADOPTED == 0,
            bytes_in: self.bytes_in,
            is_answered: self.bytes_out != 0,
            peer_left: self.flags & Self::PEER_LEFT != 0,
            is_abandoned: self.flags & Self::ABANDONED != 0,
            download: self.moments.last_out.saturating_sub(self.moments.first_out),
            reports: self.revision,
        }
    }

    /// The record of the request that `connection` is at.
    #[inline(always)]
    #[must_use]
    pub fn of(connection: &Connection, last: bool, srtt_us: u32, now: u64) -> Self {
        let mut record = MaybeUninit::zeroed();
        // SAFETY: a local; zeros are valid for integers, and every member is written.
        unsafe {
            Self::write(record.as_mut_ptr(), connection, last, srtt_us, now);
            record.assume_init()
        }
    }
}

/// A connection, when it is taken into use and when it is gone.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionRecord {
    /// [`Kind::Opened`] or [`Kind::Closed`].
    pub kind: u32,
    /// A set of the flags of [`Connection`].
    pub flags: u32,
    /// The connection: its socket cookie.
    pub connection: u64,
    /// When the record was made.
    pub reported: u64,
    /// The moments between the stages.
    pub moments: ConnectionMoments,
    /// Who read the latest request.
    pub process: Process,
    /// Both ends.
    pub tuple: Tuple,
    /// Requests begun on it.
    pub requests: u32,
    /// Network namespace, by inode number.
    pub netns: u32,
    /// When it first ended: this host's FIN or the peer's, a reset, a timeout. 0 for a connection that is open.
    pub ended: u64,
    /// Nanoseconds without an event before that; 0: not known.
    pub idle: u64,
    /// The process that ended it on this side.
    pub by: Ender,
    /// What became of the latest request: [`ConnectionRecord::UNANSWERED`] and the like.
    pub pending: u32,
    /// Bytes that had come and that the application had not read when the connection closed.
    pub unread: u32,
    /// When the first byte of the latest request was queued on the socket; 0: not seen.
    pub queued: u64,
    /// The bytes of the latest request.
    pub bytes_in: u64,
    /// The bytes of its response.
    pub bytes_out: u64,
    /// Nanoseconds from the first packet of its response to the last one.
    pub download: u64,
    /// How often it was reported.
    pub reports: u32,
    /// Whether the peer's FIN or reset came right behind its first byte: 0 or 1.
    pub peer_left: u16,
    /// Bytes that came after this host's FIN, and that the socket still took; at most 65 535.
    pub late: u16,
}

impl ConnectionRecord {
    /// [`ConnectionRecord::pending`]: there is no request, or it was answered and all of that acknowledged.
    pub const NOTHING: u32 = pending::NOTHING;
    /// [`ConnectionRecord::pending`]: the application wrote nothing.
    pub const UNANSWERED: u32 = pending::UNANSWERED;
    /// [`ConnectionRecord::pending`]: part of what the application wrote was not acknowledged.
    pub const CUT: u32 = pending::CUT;
    /// [`ConnectionRecord::pending`]: the request began before tracing did, what became of it is not known.
    pub const UNKNOWN: u32 = pending::UNKNOWN;

    /// Writes the record of `connection` as it is into `slot`.
    ///
    /// # Safety
    ///
    /// `slot` is valid for writes and aligned.
    #[inline(always)]
    pub unsafe fn write(slot: *mut Self, connection: &Connection, kind: Kind, now: u64) {
        // SAFETY: the caller's promise; plain integers, so that nothing is dropped.
        let record = unsafe { &mut *slot };
        record.kind = kind as u32;
        record.flags = connection.flags.get();
        record.connection = connection.id.get();
        record.reported = now;
        record.moments = connection.moments.get();
        record.process = connection.process.get();
        record.tuple = connection.tuple.get();
        record.requests = connection.sequence.get();
        record.netns = connection.netns.get();
        record.ended = connection.ended.get();
        record.idle = connection.idle.get();
        record.by = connection.by.get();
        record.pending = connection.pending();
        record.unread = connection.unread.get();
        record.queued = connection.request.moments.queued.get();
        record.bytes_in = connection.request.bytes_in.get();
        record.bytes_out = connection.request.bytes_out.get();
        let moments = &connection.request.moments;
        record.download = moments.last_out.get().saturating_sub(moments.first_out.get());
        record.reports = connection.request.reports.get();
        record.peer_left = u16::from(connection.peer_left_right_behind());
        record.late = u16::try_from(connection.late.get()).unwrap_or(u16::MAX);
    }

    /// What is known of the latest turn.
    #[must_use]
    pub const fn turn(&self) -> Facts {
        Facts {
            marks: Marks(self.flags),
            is_first: self.requests == 1 && self.flags & connection::ADOPTED == 0,
            bytes_in: self.bytes_in,
            is_answered: self.bytes_out != 0,
            peer_left: self.peer_left != 0,
            is_abandoned: self.is_abandoned(),
            download: self.download,
            reports: self.reports,
        }
    }

    /// Whether all of the latest turn was unread when the peer ended the connection, soon after that turn began.
    const fn is_abandoned(&self) -> bool {
        let by_peer = self.flags & (connection::CLOSED_BY_PEER | connection::RESET_BY_PEER) != 0;
        let is_soon = self.queued != 0 && self.ended.saturating_sub(self.queued) < ABANDONED_NS;
        by_peer && is_soon && self.bytes_in != 0 && self.unread as u64 >= self.bytes_in
    }
}

/// A listener that has closed: its process stops, or makes way for another one.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerRecord {
    /// [`Kind::Listener`].
    pub kind: u32,
    /// Network namespace, by inode number.
    pub netns: u32,
    /// When it closed.
    pub reported: u64,
    /// The process that closed it.
    pub by: Ender,
    /// Its address, which may be the wildcard, and port.
    pub local: Endpoint,
    /// Always 0.
    pub padding: u32,
}

const _: () = assert!(size_of::<RequestRecord>() == 216);
const _: () = assert!(size_of::<ConnectionRecord>() == 224);
const _: () = assert!(size_of::<ListenerRecord>() == 64);
