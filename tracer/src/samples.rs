//! Records for tests: a few connections to a web server, as the kernel would report them.

use crate::{clock::Clock, enrich::process::Fact};
use tracer_common::{
    connection,
    endpoint::{Endpoint, Tuple},
    record::{ConnectionRecord, Kind, Process, RequestRecord},
    stage::{ConnectionMoments, RequestMoments},
};

/// Nanoseconds of a microsecond.
pub const US: u64 = 1_000;
/// Nanoseconds of a millisecond.
pub const MS: u64 = 1_000_000;
/// Nanoseconds of a second.
pub const S: u64 = 1_000_000_000;

/// 2023-11-14 22:13:20 UTC at the monotonic moment 0.
pub const CLOCK: Clock = Clock { offset: 1_700_000_000_000_000_000 };

/// What is known of the control group of [`gunicorn`].
pub fn fact() -> Fact {
    Fact { cgroup: 4242, pid: 0, path: "/system.slice/web.service".to_owned() }
}

/// The process that reads most requests.
pub fn gunicorn() -> Process {
    let mut comm = [0; 16];
    comm[..8].copy_from_slice(b"gunicorn");
    Process { cgroup: 4242, pid: 812, padding: 0, comm }
}

/// A peer in 10.0.1.0/24.
pub const fn v4() -> Tuple {
    Tuple { peer: Endpoint::v4([10, 0, 1, 23], 41_234), local: Endpoint::v4([10, 0, 2, 5], 8080) }
}

/// A peer in `2001:db8:0:1::/64`.
pub const fn v6() -> Tuple {
    let peer = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x23];
    let local = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 5];
    Tuple { peer: Endpoint::v6(peer, 50_000), local: Endpoint::v6(local, 443) }
}

/// A request that begins at `start` and whose stages take `stages`.
pub fn request(start: u64, stages: [u64; 7]) -> RequestRecord {
    let mut moments = [start; 8];
    for (index, stage) in stages.into_iter().enumerate() {
        moments[index + 1] = moments[index] + stage;
    }
    let [arrived, queued, first_read, last_read, first_write, first_out, last_out, acknowledged] = moments;
    RequestRecord {
        kind: Kind::Request as u32,
        flags: RequestRecord::COMPLETE,
        connection: 0x1a2b,
        reported: acknowledged,
        accepted: 0,
        moments: RequestMoments {
            arrived,
            queued,
            first_read,
            last_read,
            first_write,
            first_out,
            last_out,
            acknowledged,
        },
        bytes_in: 512,
        bytes_out: 20_480,
        process: gunicorn(),
        tuple: v4(),
        sequence: 1,
        revision: 0,
        srtt_us: 412,
        retransmits: 0,
        netns: 4_026_531_840,
        padding: 0,
    }
}

/// The first request of its connection; it waited 1.4 s for `accept()`, 2.5 ms for the rest.
pub fn first() -> RequestRecord {
    let mut record = request(10 * S, [20 * US, 1400 * MS + 41 * US, 0, 1230 * US, 55 * US, 812, 1153 * US]);
    record.accepted = record.moments.queued + 1400 * MS;
    record
}

/// The second request of the connection of [`first`]: 1.2 s of service.
pub fn slow() -> RequestRecord {
    RequestRecord { sequence: 2, ..request(12 * S, [15 * US, 30 * US, 0, 1200 * MS, 45 * US, 0, 24 * MS]) }
}

/// A request over IPv6 that nothing was written for until the peer gave up after 3 s.
pub fn unanswered() -> RequestRecord {
    let record = request(13 * S, [10 * US, 20 * US, 0, 0, 0, 0, 0]);
    let moments = RequestMoments { first_write: 0, first_out: 0, last_out: 0, acknowledged: 0, ..record.moments };
    let (flags, bytes_out, connection) = (RequestRecord::FINAL | RequestRecord::ADOPTED, 0, 0x3c4d);
    RequestRecord { moments, flags, bytes_out, connection, tuple: v6(), reported: 16 * S, srtt_us: 0, ..record }
}

/// The connection of [`first`] and [`slow`], closed by the peer.
pub fn closed() -> ConnectionRecord {
    let accepted = first().accepted;
    let established = 10 * S - 50 * US;
    let (syn, synack) = (established - 430 * US, established - 400 * US);
    ConnectionRecord {
        kind: Kind::Closed as u32,
        flags: connection::OPENED | connection::CLOSED_BY_PEER,
        connection: 0x1a2b,
        reported: 20 * S,
        moments: ConnectionMoments { syn, synack, established, accepted },
        process: gunicorn(),
        tuple: v4(),
        requests: 2,
        netns: 4_026_531_840,
    }
}
