//! JSON: one object a line, `kind` first, durations in integer nanoseconds, times in RFC 3339 UTC. What was not
//! measured is absent.

use crate::{
    clock::Clock,
    enrich::{netstat::Reconciliation, peer},
    request::{Outcome, Request, comm},
    status::{Counters, Hook, Run},
};
use serde::{Serialize, Serializer, ser::SerializeMap};
use std::{
    fmt::Display,
    io::{self, Write},
};
use tracer_common::{
    connection,
    counter::Counter,
    record::{ConnectionRecord, RequestRecord},
    stage::{ConnectionStage, RequestStage, Split},
};

/// Serializes what can be displayed as a string.
pub(super) struct Text<T>(pub T);

impl<T: Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// The stages of a split that were measured, by name.
struct Stages<'a, const N: usize>(&'a Split<N>, [&'static str; N]);

impl<const N: usize> Stages<'_, N> {
    fn is_empty(&self) -> bool {
        self.0.stages.iter().all(Option::is_none)
    }
}

impl<const N: usize> Serialize for Stages<'_, N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, stage) in self.1.iter().zip(self.0.stages) {
            if let Some(stage) = stage {
                map.serialize_entry(name, &stage)?;
            }
        }
        map.end()
    }
}

/// The stages that were merged into the one before them.
struct Merged<'a>(&'a Split<7>);

impl Serialize for Merged<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((0..7).filter(|&it| self.0.is_merged(it)).map(|it| RequestStage::ALL[it].name()))
    }
}

#[derive(Serialize)]
struct RequestObject<'a> {
    kind: &'static str,
    time: Text<&'a dyn Display>,
    connection: Text<&'a dyn Display>,
    sequence: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u32>,
    peer: Text<std::net::SocketAddr>,
    local: Text<std::net::SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comm: Option<std::borrow::Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cgroup: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    adopted: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed: Option<bool>,
    /// The stage that a waiting request is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<&'static str>,
    bytes_in: u64,
    bytes_out: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    accept_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_ns: Option<u64>,
    #[serde(skip_serializing_if = "Stages::is_empty")]
    stages_ns: Stages<'a, 7>,
    merged: Merged<'a>,
    retransmits: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    srtt_ns: Option<u64>,
}

/// Writes a request.
///
/// # Errors
///
/// If `out` cannot be written to.
pub fn request(out: &mut impl Write, clock: Clock, request: &Request<'_>) -> io::Result<()> {
    let completed = (request.outcome != Outcome::Complete).then_some(false);
    request_object(out, clock, request, "request", completed, None)
}

/// Writes a request that was still waiting when tracing ended: its latest stage had lasted until then.
///
/// # Errors
///
/// If `out` cannot be written to.
pub fn waiting(out: &mut impl Write, clock: Clock, request: &Request<'_>) -> io::Result<()> {
    let stage = request.latest().map(|(part, _)| part.name());
    request_object(out, clock, request, "waiting", None, stage)
}

fn request_object(
    out: &mut impl Write,
    clock: Clock,
    request: &Request<'_>,
    kind: &'static str,
    completed: Option<bool>,
    stage: Option<&'static str>,
) -> io::Result<()> {
    let record = request.record;
    let read = record.process.pid != 0;
    let object = RequestObject {
        kind,
        time: Text(&clock.rfc3339(request.start())),
        connection: Text(&format_args!("{:016x}", record.connection)),
        sequence: record.sequence,
        revision: request.amended.then_some(record.revision),
        peer: Text(peer::socket(&record.tuple.peer)),
        local: Text(peer::socket(&record.tuple.local)),
        pid: read.then_some(record.process.pid),
        comm: read.then(|| comm(&record.process)),
        unit: request.place.and_then(|place| place.unit()),
        cgroup: request.place.map(|place| place.cgroup.as_str()),
        adopted: (record.flags & RequestRecord::ADOPTED != 0).then_some(true),
        completed,
        stage,
        bytes_in: record.bytes_in,
        bytes_out: record.bytes_out,
        accept_ns: request.accept,
        total_ns: request.total(),
        stages_ns: Stages(&request.split, RequestStage::ALL.map(RequestStage::name)),
        merged: Merged(&request.split),
        retransmits: record.retransmits,
        srtt_ns: (record.srtt_us != 0).then(|| u64::from(record.srtt_us) * 1000),
    };
    line(out, &object)
}

#[derive(Serialize)]
struct ConnectionObject<'a> {
    kind: &'static str,
    time: Text<&'a dyn Display>,
    connection: Text<&'a dyn Display>,
    peer: Text<std::net::SocketAddr>,
    local: Text<std::net::SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    adopted: Option<bool>,
    #[serde(skip_serializing_if = "Stages::is_empty")]
    stages_ns: Stages<'a, 3>,
    requests: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    closed_by: Option<&'static str>,
}

/// Writes a connection that is gone.
///
/// # Errors
///
/// If `out` cannot be written to.
pub fn connection(out: &mut impl Write, clock: Clock, record: &ConnectionRecord) -> io::Result<()> {
    let m = &record.moments;
    let moments = [m.syn, m.synack, m.established, m.accepted];
    let start = moments.into_iter().find(|&moment| moment != 0).unwrap_or(record.reported);
    let object = ConnectionObject {
        kind: "connection",
        time: Text(&clock.rfc3339(start)),
        connection: Text(&format_args!("{:016x}", record.connection)),
        peer: Text(peer::socket(&record.tuple.peer)),
        local: Text(peer::socket(&record.tuple.local)),
        adopted: (record.flags & connection::ADOPTED != 0).then_some(true),
        stages_ns: Stages(&m.split(), ConnectionStage::ALL.map(ConnectionStage::name)),
        requests: record.requests,
        closed_by: closed_by(record.flags),
    };
    line(out, &object)
}

/// How a connection ended first.
fn closed_by(flags: u32) -> Option<&'static str> {
    let ends = [
        (connection::CLOSED_BY_APPLICATION, "application"),
        (connection::CLOSED_BY_PEER, "peer"),
        (connection::RESET_BY_HOST, "reset_by_host"),
        (connection::RESET_BY_PEER, "reset_by_peer"),
        (connection::TIMED_OUT, "timed_out"),
    ];
    ends.into_iter().find(|(flag, _)| flags & flag != 0).map(|(_, name)| name)
}

#[derive(Serialize)]
struct StatusObject<'a> {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    requests: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connections: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rejections: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    records_lost: Option<u64>,
    #[serde(skip_serializing_if = "is_zero")]
    records_undecodable: u64,
    #[serde(skip_serializing_if = "is_zero")]
    connections_forgotten: u64,
    #[serde(skip_serializing_if = "is_zero")]
    reports_unmatched: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    counters: Option<&'a Counters>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    reconciliation: &'a [Reconciliation],
    hooks: &'a [Hook],
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
const fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// Writes the closing object; `rejections` is how many packets and connections were refused or broken. Without the
/// kernel's counters the totals are absent.
///
/// # Errors
///
/// If `out` cannot be written to.
pub fn status(out: &mut impl Write, rejections: u64, run: &Run<'_>) -> io::Result<()> {
    let Run { counters, hooks, shortfalls, reconciliation } = *run;
    let object = StatusObject {
        kind: "status",
        requests: counters.map(|it| it.get(Counter::RequestsEnded)),
        connections: counters.map(Counters::connections),
        rejections: counters.map(|_| rejections),
        records_lost: counters.map(Counters::records_lost),
        records_undecodable: shortfalls.undecodable,
        connections_forgotten: shortfalls.evicted,
        reports_unmatched: shortfalls.unmatched,
        counters,
        reconciliation,
        hooks,
    };
    line(out, &object)
}

/// Writes an object and ends the line.
pub(super) fn line(out: &mut impl Write, object: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, object)?;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests;
