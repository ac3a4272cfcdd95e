//! Records for tests: a few connections to a web server, as the kernel would report them.

use crate::{
    aggregate::figures::Picture,
    explain::Explanation,
    model::{
        clock::Clock,
        place::Fact,
        rejection::{Cause, Evidence, Facts, ProcessName, Rejection},
        status::Counters,
    },
};
use tracer_common::{
    connection,
    counter::Counter,
    endpoint::{Endpoint, Tuple},
    opening::Opening,
    record::{ConnectionRecord, Kind, Process, RequestRecord},
    rejection::Ender,
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

/// The flags of a connection whose current turn begins with `opening`, after turns that began with `seen`.
pub fn marks(seen: &[Opening], opening: Opening) -> u32 {
    let class = |opening: Opening| match opening {
        Opening::Unknown => 0,
        opening => 1 << (connection::OPENINGS_SHIFT + opening.class() as u32),
    };
    let classes = seen.iter().fold(class(opening), |classes, &seen| classes | class(seen));
    classes | (opening as u32) << connection::OPENING_SHIFT
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
        zero_window: 0,
        process: gunicorn(),
        tuple: v4(),
        sequence: 1,
        revision: 0,
        srtt_us: 412,
        retransmits: 0,
        resent: 0,
        netns: 4_026_531_840,
        marks: 0,
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
        ended: 20 * S,
        idle: 7 * S,
        by: Ender::default(),
        pending: ConnectionRecord::NOTHING,
        unread: 0,
        queued: slow().moments.queued,
        bytes_in: 512,
        bytes_out: 20_480,
        download: 0,
        reports: 1,
        peer_left: 0,
        late: 0,
    }
}

/// The kernel's counters: those that are named, the rest 0.
pub fn counters(values: &[(Counter, u64)]) -> Counters {
    let mut all = [0; Counter::ALL.len()];
    for &(counter, value) in values {
        all[counter as usize] = value;
    }
    Counters::new(all)
}

/// Every counter of `figures`, always in the same order.
pub fn counters_of(figures: &Picture) -> Vec<u64> {
    let plain = [figures.requests, figures.unanswered, figures.cut, figures.bytes_in, figures.bytes_out];
    let more = [figures.retransmits, figures.held, figures.incomplete, figures.incomplete_service];
    let last = [figures.accept_wait, figures.connections];
    let times = figures.stages.iter().chain(&figures.connection_stages).chain([&figures.total]);
    let times = times.flat_map(|times| times.map_or([0, 0], |times| [times.count, times.sum]));
    let spans = figures.spans.iter().flatten();
    let counters = plain.iter().chain(&more).chain(&last).chain(&figures.merged).chain(spans).copied();
    counters.chain(times).collect()
}

/// 17 SYNs for which the accept queue of gunicorn was full.
pub fn queue_full() -> Rejection {
    let process = ProcessName { pid: 812, comm: "gunicorn".to_owned(), how: None };
    let facts = Facts { queue_length: Some(129), queue_limit: Some(128), process: Some(process), ..Facts::default() };
    Rejection {
        cause: Cause::AcceptQueueFull,
        evidence: Evidence::Observed,
        count: 17,
        first: 11 * S,
        last: 14 * S + 835 * MS,
        peer: "10.0.1.23:41234".parse().expect("an address"),
        local: "10.0.2.5:8080".parse().expect("an address"),
        netns: 4_026_531_840,
        connection: None,
        sequence: None,
        reason: None,
        location: None,
        facts,
    }
}

/// SYNs of several peers that were dropped by a rule of the firewall.
pub fn dropped() -> Rejection {
    Rejection {
        cause: Cause::FirewallDrop,
        count: 1204,
        peer: "10.0.9.0:0".parse().expect("an address"),
        reason: Some("NETFILTER_DROP".to_owned()),
        location: Some("nft_do_chain".to_owned()),
        facts: Facts { packet: Some("SYN".to_owned()), ..Facts::default() },
        ..queue_full()
    }
}

/// A request over IPv6 that came when nginx had just closed the connection.
pub fn race() -> Rejection {
    let by = ProcessName { pid: 77, comm: "nginx".to_owned(), how: Some("closed".to_owned()) };
    let facts = Facts { idle_ns: Some(5 * S), late_ns: Some(412 * US), ended_by: Some(by), ..Facts::default() };
    Rejection {
        cause: Cause::KeepaliveRace,
        count: 1,
        first: 15 * S,
        last: 15 * S,
        peer: "[2001:db8:0:1::23]:50000".parse().expect("an address"),
        local: "[2001:db8:0:2::5]:443".parse().expect("an address"),
        connection: Some(0x3c4d),
        sequence: Some(3),
        facts,
        ..queue_full()
    }
}

/// A warning: nginx closed three connections after 5 s without a request.
pub fn short() -> Rejection {
    Rejection { cause: Cause::KeepaliveTooShort, evidence: Evidence::Inferred, count: 3, ..race() }
}

/// Fixed words, whatever the table of causes says: those of [`queue_full`].
pub fn words() -> Explanation {
    Explanation {
        title: "accept queue full",
        text: "gunicorn[812] accepts too slowly: its accept queue is full (129/128), the kernel ignored the SYN."
            .to_owned(),
        advice: "Raise the number of workers, or the backlog.".to_owned(),
        alb: &["504"],
    }
}

/// The words of a warning.
pub fn warning() -> Explanation {
    Explanation {
        title: "keep-alive too short",
        text: "nginx[77] closes idle connections after 5.00s, sooner than the load balancer.".to_owned(),
        advice: "Set keepalive_timeout above 60s.".to_owned(),
        alb: &[],
    }
}
