//! From bytes to records; the bytes may come from the ring buffer or from a recording.

use thiserror::Error;
use tracer_common::{
    record::{ConnectionRecord, Kind, ListenerRecord, RequestRecord},
    rejection::RejectionRecord,
};

/// What the kernel side reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// A request.
    Request(RequestRecord),
    /// A connection that the application has begun to use.
    Opened(ConnectionRecord),
    /// A connection that is gone.
    Closed(ConnectionRecord),
    /// A packet or a connection that was refused.
    Rejection(RejectionRecord),
    /// A listener that has closed.
    Listener(ListenerRecord),
}

impl Record {
    /// The network namespace that it is about, by inode number; 0: it is not known.
    pub const fn netns(&self) -> u32 {
        match self {
            Self::Request(record) => record.netns,
            Self::Opened(record) | Self::Closed(record) => record.netns,
            Self::Listener(record) => record.netns,
            Self::Rejection(record) => record.key.netns,
        }
    }

    /// When it was made, in monotonic nanoseconds.
    pub const fn reported(&self) -> u64 {
        match self {
            Self::Request(record) => record.reported,
            Self::Opened(record) | Self::Closed(record) => record.reported,
            Self::Listener(record) => record.reported,
            Self::Rejection(record) => record.reported,
        }
    }
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    /// Too short to hold even a kind.
    #[error("{0} bytes are too short for a record")]
    Short(usize),
    /// A kind that this version does not know.
    #[error("unknown kind of record {0}")]
    UnknownKind(u32),
    /// Not as long as its kind is.
    #[error("a record of kind {kind} has {expected} bytes, this one {found}")]
    WrongLength {
        /// The kind as a number.
        kind: u32,
        /// Bytes that it should have.
        expected: usize,
        /// Bytes that it has.
        found: usize,
    },
    /// A moment later than any clock can tell.
    #[error("a moment lies beyond 292 years of uptime")]
    Moment,
}

/// Decodes one record.
///
/// # Errors
///
/// If it is not a record of this version.
pub fn decode(bytes: &[u8]) -> Result<Record, DecodeError> {
    let head = bytes.first_chunk().ok_or(DecodeError::Short(bytes.len()))?;
    let kind = u32::from_le_bytes(*head);
    if kind == Kind::Request as u32 {
        let record = read::<RequestRecord>(kind, bytes)?;
        let m = &record.moments;
        check_moments([record.reported, record.accepted])?;
        check_moments([m.arrived, m.queued, m.first_read, m.last_read])?;
        check_moments([m.first_write, m.first_out, m.last_out, m.acknowledged])?;
        return Ok(Record::Request(record));
    }
    if kind == Kind::Rejection as u32 {
        let record = read::<RejectionRecord>(kind, bytes)?;
        check_moments([record.reported, record.ended.ended, record.ended.idle])?;
        return Ok(Record::Rejection(record));
    }
    if kind == Kind::Listener as u32 {
        let record = read::<ListenerRecord>(kind, bytes)?;
        check_moments([record.reported])?;
        return Ok(Record::Listener(record));
    }
    let wrap = match kind {
        opened if opened == Kind::Opened as u32 => Record::Opened,
        closed if closed == Kind::Closed as u32 => Record::Closed,
        unknown => return Err(DecodeError::UnknownKind(unknown)),
    };
    let record = read::<ConnectionRecord>(kind, bytes)?;
    let m = &record.moments;
    check_moments([record.reported, m.syn, m.synack, m.established, m.accepted])?;
    check_moments([record.ended, record.idle, record.queued, record.download])?;
    Ok(wrap(record))
}

/// The bytes of a record that [`decode`] turns back into it.
pub fn encode_request(record: &RequestRecord) -> &[u8] {
    bytes_of(record)
}

/// The bytes of a record that [`decode`] turns back into it.
pub fn encode_connection(record: &ConnectionRecord) -> &[u8] {
    bytes_of(record)
}

/// The bytes of a record that [`decode`] turns back into it.
pub fn encode_rejection(record: &RejectionRecord) -> &[u8] {
    bytes_of(record)
}

/// The bytes of a record that [`decode`] turns back into it.
#[cfg(test)]
pub fn encode_listener(record: &ListenerRecord) -> &[u8] {
    bytes_of(record)
}

/// A record: plain integers without padding, valid for any bit pattern.
trait Plain: Copy {}
impl Plain for RequestRecord {}
impl Plain for ConnectionRecord {}
impl Plain for RejectionRecord {}
impl Plain for ListenerRecord {}

fn read<T: Plain>(kind: u32, bytes: &[u8]) -> Result<T, DecodeError> {
    if bytes.len() != size_of::<T>() {
        return Err(DecodeError::WrongLength { kind, expected: size_of::<T>(), found: bytes.len() });
    }
    // SAFETY: the length was checked, the read needs no alignment, and any bit pattern is a valid `Plain`.
    Ok(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

fn bytes_of<T: Plain>(record: &T) -> &[u8] {
    // SAFETY: `Plain` types have no padding, so every byte of the record is initialised; the borrow is kept.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(record).cast(), size_of::<T>()) }
}

/// Sums and differences of moments must not overflow, whatever a file holds.
fn check_moments<const N: usize>(moments: [u64; N]) -> Result<(), DecodeError> {
    let all = moments.into_iter().fold(0, |all, moment| all | moment);
    if all >> 63 == 0 { Ok(()) } else { Err(DecodeError::Moment) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use tracer_common::{
        endpoint::{Endpoint, Tuple},
        record::Process,
        rejection::Ender,
        stage::{ConnectionMoments, RequestMoments},
    };

    /// An empty request record.
    pub fn request() -> RequestRecord {
        RequestRecord {
            kind: Kind::Request as u32,
            flags: 0,
            connection: 1,
            reported: 0,
            accepted: 0,
            moments: RequestMoments::default(),
            bytes_in: 0,
            bytes_out: 0,
            zero_window: 0,
            process: Process::default(),
            tuple: Tuple::default(),
            sequence: 1,
            revision: 0,
            srtt_us: 0,
            retransmits: 0,
            resent: 0,
            netns: 0,
            marks: 0,
        }
    }

    /// An empty connection record.
    pub fn connection(kind: Kind) -> ConnectionRecord {
        ConnectionRecord {
            kind: kind as u32,
            flags: 0,
            connection: 1,
            reported: 0,
            moments: ConnectionMoments::default(),
            process: Process::default(),
            tuple: Tuple::default(),
            requests: 0,
            netns: 0,
            ended: 0,
            idle: 0,
            by: Ender::default(),
            pending: ConnectionRecord::NOTHING,
            unread: 0,
            queued: 0,
            bytes_in: 0,
            bytes_out: 0,
            download: 0,
            reports: 0,
            peer_left: 0,
            late: 0,
        }
    }

    #[test]
    fn a_record_survives_the_way_through_bytes_at_any_alignment() {
        let mut record = request();
        record.moments.arrived = 42;
        record.sequence = 7;
        for shift in 0..8 {
            let mut bytes = vec![0; shift];
            bytes.extend_from_slice(encode_request(&record));
            assert_eq!(decode(&bytes[shift..]), Ok(Record::Request(record)));
        }
        let closed = connection(Kind::Closed);
        assert_eq!(decode(encode_connection(&closed)), Ok(Record::Closed(closed)));
        let opened = connection(Kind::Opened);
        assert_eq!(decode(encode_connection(&opened)), Ok(Record::Opened(opened)));
        let rejection = RejectionRecord { count: 7, ..RejectionRecord::EMPTY };
        assert_eq!(decode(encode_rejection(&rejection)), Ok(Record::Rejection(rejection)));
        let (by, local) = (Ender::default(), Endpoint::v4([10, 0, 0, 1], 80));
        let listener = ListenerRecord { kind: Kind::Listener as u32, netns: 7, reported: 8, by, local, padding: 0 };
        assert_eq!(decode(encode_listener(&listener)), Ok(Record::Listener(listener)));
    }

    #[test]
    fn what_is_no_record_is_an_error_that_says_why() {
        assert_eq!(decode(&[1, 0]), Err(DecodeError::Short(2)));
        assert_eq!(decode(&[9, 0, 0, 0, 1]), Err(DecodeError::UnknownKind(9)));
        assert_eq!(
            decode(&[1, 0, 0, 0]),
            Err(DecodeError::WrongLength { kind: 1, expected: size_of::<RequestRecord>(), found: 4 })
        );
        let mut record = request();
        record.moments.last_out = u64::MAX;
        assert_eq!(decode(encode_request(&record)), Err(DecodeError::Moment));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_no_stage_overflows(mut bytes in prop::collection::vec(any::<u8>(), 300), kind in 1u8..6) {
            bytes[..4].copy_from_slice(&[kind, 0, 0, 0]);
            bytes.truncate(match kind {
                1 => size_of::<RequestRecord>(),
                2 | 3 => size_of::<ConnectionRecord>(),
                4 => size_of::<RejectionRecord>(),
                _ => size_of::<ListenerRecord>(),
            });
            match decode(&bytes) {
                Ok(Record::Request(record)) => {
                    let split = record.moments.split(record.accepted, record.reported).split;
                    prop_assert_eq!(split.stages.iter().flatten().sum::<u64>(), split.total);
                }
                Ok(Record::Opened(record) | Record::Closed(record)) => {
                    let split = record.moments.split();
                    prop_assert_eq!(split.stages.iter().flatten().sum::<u64>(), split.total);
                }
                Ok(Record::Listener(record)) => prop_assert_eq!(record.kind, Kind::Listener as u32),
                Ok(Record::Rejection(record)) => prop_assert_eq!(record.kind, Kind::Rejection as u32),
                Err(error) => prop_assert_eq!(error, DecodeError::Moment),
            }
        }
    }
}
