//! JSON: one object a line, `kind` first, durations in integer nanoseconds, times in RFC 3339 UTC. What was not
//! measured is absent.

mod object;

use crate::{
    direct::{Hexadecimal, Line},
    model::{
        clock::Clock,
        namespaces::Named,
        peer::Socket,
        reconciliation::Reconciliation,
        request::{Outcome, Request, comm},
        status::{Counters, Hook, Run},
    },
};
use object::Object;
use serde::{Serialize, Serializer};
use std::{
    fmt::Display,
    io::{self, Write},
};
use tracer_common::{
    connection,
    counter::Counter,
    endpoint::Tuple,
    record::{ConnectionRecord, RequestRecord},
    stage::{ConnectionStage, RequestStage, Split},
    turn::Turn,
};

/// Serializes what can be displayed as a string.
pub(super) struct Displayed<T>(pub T);

impl<T: Display> Serialize for Displayed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// Writes requests and connections.
#[derive(Debug)]
pub struct Objects {
    clock: Clock,
    /// The latest line: its memory is used again.
    line: Line,
}

impl Objects {
    /// For records of this clock.
    pub const fn new(clock: Clock) -> Self {
        Self { clock, line: Line::new() }
    }

    /// Writes a request.
    pub fn request(&mut self, out: &mut impl Write, request: &Request<'_>) -> io::Result<()> {
        let completed = (request.outcome != Outcome::Complete).then_some(false);
        self.request_object(out, request, request.word(), completed, None)
    }

    /// Writes a request that was still waiting when tracing ended: its latest stage had lasted until then.
    pub fn waiting(&mut self, out: &mut impl Write, request: &Request<'_>) -> io::Result<()> {
        let stage = request.latest().map(|(part, _)| part.name());
        self.request_object(out, request, "waiting", None, stage)
    }

    /// Writes a connection that is gone.
    pub fn connection(&mut self, out: &mut impl Write, record: &ConnectionRecord) -> io::Result<()> {
        let m = &record.moments;
        let moments = [m.syn, m.synack, m.established, m.accepted];
        let start = moments.into_iter().find(|&moment| moment != 0).unwrap_or(record.reported);
        let mut object = self.begin("connection", start, record.connection);
        ends(&mut object, &record.tuple, record.netns);
        if record.flags & connection::ADOPTED != 0 {
            object.boolean("adopted", true);
        }
        stages(&mut object, &m.split(), ConnectionStage::ALL.map(ConnectionStage::name));
        object.number("requests", record.requests.into());
        if let Some(carries) = carries(record) {
            object.string("carries", carries);
        }
        if let Some(end) = closed_by(record.flags) {
            object.string("closed_by", end);
        }
        object.end();
        self.end(out)
    }

    fn request_object(
        &mut self,
        out: &mut impl Write,
        request: &Request<'_>,
        kind: &'static str,
        completed: Option<bool>,
        stage: Option<&'static str>,
    ) -> io::Result<()> {
        let record = request.record;
        let mut object = self.begin(kind, request.start(), record.connection);
        object.number("sequence", record.sequence.into());
        if request.amended {
            object.number("revision", record.revision.into());
        }
        ends(&mut object, &record.tuple, record.netns);
        if let Some(port) = record.asked() {
            object.number("asked_port", port.into());
        }
        reader(&mut object, request);
        if record.flags & RequestRecord::ADOPTED != 0 {
            object.boolean("adopted", true);
        }
        if let Some(completed) = completed {
            object.boolean("completed", completed);
        }
        // The stage that a waiting request is in.
        if let Some(stage) = stage {
            object.string("stage", stage);
        }
        object.number("bytes_in", record.bytes_in);
        object.number("bytes_out", record.bytes_out);
        if let Some(accept) = request.accept {
            object.number("accept_ns", accept);
        }
        if let Some(total) = request.total() {
            object.number("total_ns", total);
        }
        stages(&mut object, &request.split, RequestStage::ALL.map(RequestStage::name));
        let merged = (0..7).filter(|&it| request.split.is_merged(it)).map(|it| RequestStage::ALL[it].name());
        object.names("merged", merged);
        // Then `service` may have been a wait for the sender.
        if request.may_be_incomplete {
            object.boolean("may_be_incomplete", true);
        }
        object.number("retransmits", record.retransmits.into());
        if record.held() != 0 {
            object.number("host_queue_ns", record.held());
        }
        if record.srtt_us != 0 {
            object.number("srtt_ns", u64::from(record.srtt_us) * 1000);
        }
        object.end();
        self.end(out)
    }

    /// What every object begins with.
    fn begin(&mut self, kind: &'static str, start: u64, connection: u64) -> Object<'_> {
        self.line.clear();
        let mut object = Object::begin(&mut self.line);
        object.string("kind", kind);
        object.plain("time", &self.clock.rfc3339(start));
        object.plain("connection", &Hexadecimal(connection));
        object
    }

    fn end(&mut self, out: &mut impl Write) -> io::Result<()> {
        self.line.push_str("\n");
        out.write_all(self.line.as_bytes())
    }
}

/// Both ends of the connection, and the network namespace of this host's.
fn ends(object: &mut Object<'_>, tuple: &Tuple, netns: u32) {
    object.plain("peer", &Socket(&tuple.peer));
    object.plain("local", &Socket(&tuple.local));
    if netns != 0 {
        object.number("netns", netns.into());
    }
}

/// Who read the request.
fn reader(object: &mut Object<'_>, request: &Request<'_>) {
    let process = &request.record.process;
    if process.pid != 0 {
        object.number("pid", process.pid.into());
        object.string("comm", &comm(process));
    }
    if let Some(place) = request.place {
        if let Some(unit) = place.unit() {
            object.string("unit", unit);
        }
        object.string("cgroup", &place.cgroup);
    }
}

/// The stages of a split that were measured.
fn stages<const N: usize>(object: &mut Object<'_>, split: &Split<N>, names: [&'static str; N]) {
    if split.stages.iter().all(Option::is_none) {
        return;
    }
    let mut stages = object.object("stages_ns");
    for (name, stage) in names.into_iter().zip(split.stages) {
        if let Some(stage) = stage {
            stages.number(name, stage);
        }
    }
    stages.end();
}

/// What a connection carried, where it was seen to be no requests in turn: inferred from the beginnings of its turns.
fn carries(record: &ConnectionRecord) -> Option<&'static str> {
    match record.turn().turn() {
        Turn::Message => Some("messages"),
        Turn::Stream => Some("stream"),
        Turn::Request | Turn::Control | Turn::Farewell | Turn::Rest | Turn::Body => None,
    }
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
    #[serde(skip_serializing_if = "is_zero")]
    requests_revised: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    counters: Option<&'a Counters>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    reconciliation: &'a [Reconciliation],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    namespaces: &'a [Named<'a>],
    hooks: &'a [Hook],
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
pub(super) const fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// Writes the closing object; `rejections` is how many packets and connections were refused or broken, and `namespaces`
/// are the names of the network namespaces that were seen. Without the kernel's counters, or where only a part of them is shown, the totals are absent.
pub fn status(out: &mut impl Write, rejections: u64, run: &Run, namespaces: &[Named<'_>]) -> io::Result<()> {
    let Run { counters, hooks, shortfalls, reconciliation } = run;
    let counters = counters.as_ref();
    let totals = counters.filter(|it| it.has_totals());
    let object = StatusObject {
        kind: "status",
        requests: totals.map(|it| it.get(Counter::RequestsEnded)),
        connections: totals.map(Counters::connections),
        rejections: counters.map(|_| rejections),
        records_lost: counters.map(Counters::records_lost),
        records_undecodable: shortfalls.undecodable,
        connections_forgotten: shortfalls.evicted,
        reports_unmatched: shortfalls.unmatched,
        requests_revised: shortfalls.revised,
        counters,
        reconciliation,
        namespaces,
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
