//! Traffic as the kernel side would report it: of any number of connections to two services, the same every time.

use tracer_common::{
    connection,
    endpoint::{Endpoint, Tuple},
    record::{ConnectionRecord, Kind, Process, RequestRecord},
    rejection::Ender,
    stage::{ConnectionMoments, RequestMoments},
};
use tracer_core::{
    decode::{Record, encode_connection, encode_request},
    model::{clock::Clock, place::Fact},
};

/// Nanoseconds of a microsecond.
const US: u64 = 1_000;
/// Nanoseconds from one record to the next: 50 000 a second.
const STEP: u64 = 20 * US;
/// One request of so many is answered further after its end was reported.
const REOPENED: u64 = 100;

/// 2023-11-14 22:13:20 UTC at the monotonic moment 0.
pub const CLOCK: Clock = Clock { offset: 1_700_000_000_000_000_000 };

/// A service behind the load balancer.
struct Service {
    port: u16,
    cgroup: u64,
    comm: &'static [u8],
    path: &'static str,
}

const SERVICES: [Service; 2] = [
    Service { port: 8080, cgroup: 4242, comm: b"gunicorn", path: "/system.slice/web.service" },
    Service { port: 8081, cgroup: 4243, comm: b"nginx", path: "/system.slice/nginx.service" },
];

/// What is known of the control groups of the services.
pub fn facts() -> impl Iterator<Item = Fact> {
    SERVICES.iter().map(|it| Fact { cgroup: it.cgroup, pid: 0, path: it.path.to_owned() })
}

/// The bytes of a record as they are in the ring buffer.
pub fn bytes(record: &Record) -> &[u8] {
    match record {
        Record::Request(record) => encode_request(record),
        Record::Opened(record) | Record::Closed(record) => encode_connection(record),
        Record::Rejection(_) | Record::Listener(_) => unreachable!("this traffic has none"),
    }
}

/// A connection and what comes next on it.
#[derive(Clone, Copy)]
struct Open {
    id: u64,
    opened: u64,
    is_reported: bool,
    requests: u32,
    /// The latest request is answered further.
    reopened: Option<RequestRecord>,
}

impl Open {
    const fn new(id: u64) -> Self {
        Self { id, opened: 0, is_reported: false, requests: 0, reopened: None }
    }
}

/// Records without end.
pub struct Traffic {
    open: Vec<Open>,
    requests_a_connection: u32,
    next_id: u64,
    now: u64,
    random: u64,
}

impl Traffic {
    /// Of `connections` at once, each of which is closed after so many requests and replaced by a new one.
    pub fn new(connections: u32, requests_a_connection: u32) -> Self {
        let next_id = u64::from(connections) + 1;
        let open = (1..next_id).map(Open::new).collect();
        Self { open, requests_a_connection, next_id, now: 1_000_000_000, random: 1 }
    }

    /// A number below `end`, by the generator splitmix64.
    fn below(&mut self, end: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    /// A time of which every power of two from `least` to `least << spread` is as likely as any other.
    fn time(&mut self, least: u64, spread: u64) -> u64 {
        let base = least << self.below(spread);
        base + self.below(base)
    }

    fn request(&mut self, open: &Open) -> RequestRecord {
        let acknowledged = self.now;
        let last_out = acknowledged - self.time(100 * US, 4);
        let first_out = last_out - if self.below(8) == 0 { self.time(50 * US, 5) } else { 0 };
        let first_write = first_out - self.time(8 * US, 3);
        let last_read = first_write - self.time(60 * US, 10);
        let first_read = last_read - if self.below(8) == 0 { self.time(100 * US, 5) } else { 0 };
        let queued = first_read - self.time(5 * US, 4);
        let arrived = queued - self.time(2 * US, 3);
        let first = open.requests == 1;
        RequestRecord {
            kind: Kind::Request as u32,
            flags: RequestRecord::COMPLETE,
            connection: open.id,
            reported: acknowledged,
            accepted: if first { queued + US } else { 0 },
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
            bytes_in: 300 + self.below(500),
            bytes_out: self.time(256, 10),
            zero_window: 0,
            process: process(open.id),
            tuple: tuple(open.id),
            sequence: open.requests,
            revision: 0,
            srtt_us: 412,
            retransmits: 0,
            resent: 0,
            netns: 4_026_531_840,
            marks: 0,
        }
    }

    fn connection(&self, open: &Open, kind: Kind) -> ConnectionRecord {
        let accepted = open.opened;
        let (syn, synack, established) = (accepted - 480 * US, accepted - 450 * US, accepted - 50 * US);
        let closed = kind == Kind::Closed;
        let ends = if closed { connection::CLOSED_BY_PEER } else { 0 };
        ConnectionRecord {
            kind: kind as u32,
            flags: connection::OPENED | ends,
            connection: open.id,
            reported: self.now,
            moments: ConnectionMoments { syn, synack, established, accepted },
            process: process(open.id),
            tuple: tuple(open.id),
            requests: open.requests,
            netns: 4_026_531_840,
            ended: if closed { self.now } else { 0 },
            idle: 0,
            by: Ender::default(),
            pending: ConnectionRecord::NOTHING,
            unread: 0,
            queued: 0,
            bytes_in: 512,
            bytes_out: 20_480,
            download: 0,
            reports: 1,
            peer_left: 0,
            late: 0,
        }
    }

    fn record(&mut self) -> Record {
        self.now += STEP;
        let at = usize::try_from(self.below(self.open.len() as u64)).unwrap_or(0);
        let mut open = self.open[at];
        let record = if !open.is_reported {
            (open.is_reported, open.opened) = (true, self.now);
            Record::Opened(self.connection(&open, Kind::Opened))
        } else if let Some(request) = open.reopened.take() {
            let moments = RequestMoments { last_out: self.now - 150 * US, acknowledged: self.now, ..request.moments };
            let (revision, bytes_out) = (request.revision + 1, request.bytes_out + 4096);
            Record::Request(RequestRecord { moments, revision, bytes_out, reported: self.now, ..request })
        } else if open.requests == self.requests_a_connection {
            let closed = Record::Closed(self.connection(&open, Kind::Closed));
            open = Open::new(self.next_id);
            self.next_id += 1;
            closed
        } else {
            open.requests += 1;
            let request = self.request(&open);
            open.reopened = (self.below(REOPENED) == 0).then_some(request);
            Record::Request(request)
        };
        self.open[at] = open;
        record
    }
}

impl Iterator for Traffic {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        Some(self.record())
    }
}

const fn service(connection: u64) -> &'static Service {
    &SERVICES[if connection.is_multiple_of(4) { 1 } else { 0 }]
}

/// One of four workers of the service.
fn process(connection: u64) -> Process {
    let Service { cgroup, comm: name, port, .. } = *service(connection);
    let worker = u32::try_from(connection / 4 % 4).unwrap_or(0);
    let mut comm = [0; 16];
    comm[..name.len()].copy_from_slice(name);
    Process { cgroup, pid: u32::from(port) + worker, padding: 0, comm }
}

/// From one of six nodes of a load balancer in three subnets.
fn tuple(connection: u64) -> Tuple {
    let [low, high, ..] = connection.to_le_bytes();
    let peer = Endpoint::v4([10, 0, 1 + low % 3, 23 + low % 2], u16::from_le_bytes([low, high]) | 0x8000);
    Tuple { peer, local: Endpoint::v4([10, 0, 2, 5], service(connection).port) }
}
