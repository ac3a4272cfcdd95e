//! The verdict and the figures of a run as one JSON object.

use super::{
    json_rejection::RowObject,
    objects::{Displayed, is_zero, line},
};
use crate::{
    aggregate::{ProcessPicture, distribution::Times, figures::Picture},
    report::Report,
};
use serde::{Serialize, Serializer, ser::SerializeMap};
use std::{
    fmt::Display,
    io::{self, Write},
};
use tracer_common::stage::{ConnectionStage, RequestStage};

#[derive(Serialize)]
struct SummaryObject<'a> {
    kind: &'static str,
    verdict: Vec<&'a str>,
    rejections: Vec<RowObject<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    messages: u64,
    #[serde(skip_serializing_if = "is_zero")]
    streams: u64,
    #[serde(flatten)]
    all: FiguresObject<'a>,
    groups: Vec<GroupObject<'a>>,
    processes: Vec<ProcessObject<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    other_processes: Option<OtherProcesses>,
}

#[derive(Serialize)]
struct GroupObject<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    local_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    netns: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_network: Option<Displayed<&'a dyn Display>>,
    /// The groups beyond the number that is kept apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    other: Option<bool>,
    #[serde(flatten)]
    figures: FiguresObject<'a>,
}

#[derive(Serialize)]
struct ProcessObject<'a> {
    comm: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cgroup: Option<&'a str>,
    requests: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_ns: Option<Times>,
}

#[derive(Serialize)]
struct OtherProcesses {
    requests: u64,
}

#[derive(Serialize)]
struct FiguresObject<'a> {
    requests: u64,
    unanswered: u64,
    cut: u64,
    connections: u64,
    bytes_in: u64,
    bytes_out: u64,
    retransmits: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_ns: Option<Times>,
    accept_wait_ns: u64,
    stages_ns: Stages<'a, 7>,
    connection_stages_ns: Stages<'a, 3>,
    /// How often a stage could not be told from the one before it.
    merged: Merged<'a>,
    /// Requests whose stage `service` may have been a wait for the sender.
    #[serde(skip_serializing_if = "is_zero")]
    may_be_incomplete: u64,
}

struct Stages<'a, const N: usize>([&'static str; N], &'a [Option<Times>; N]);

impl<const N: usize> Serialize for Stages<'_, N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, times) in self.0.iter().zip(self.1) {
            if let Some(times) = times {
                map.serialize_entry(name, times)?;
            }
        }
        map.end()
    }
}

struct Merged<'a>(&'a [u64; 7]);

impl Serialize for Merged<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let counted = RequestStage::ALL.into_iter().zip(self.0).filter(|(_, count)| **count != 0);
        serializer.collect_map(counted.map(|(stage, count)| (stage.name(), count)))
    }
}

fn figures(figures: &Picture) -> FiguresObject<'_> {
    FiguresObject {
        requests: figures.requests,
        unanswered: figures.unanswered,
        cut: figures.cut,
        connections: figures.connections,
        bytes_in: figures.bytes_in,
        bytes_out: figures.bytes_out,
        retransmits: figures.retransmits,
        total_ns: figures.total,
        accept_wait_ns: figures.accept_wait,
        stages_ns: Stages(RequestStage::ALL.map(RequestStage::name), &figures.stages),
        connection_stages_ns: Stages(ConnectionStage::ALL.map(ConnectionStage::name), &figures.connection_stages),
        merged: Merged(&figures.merged),
        may_be_incomplete: figures.incomplete,
    }
}

fn process(process: &ProcessPicture) -> ProcessObject<'_> {
    ProcessObject {
        comm: &process.comm,
        pid: process.pid,
        unit: process.unit.as_deref(),
        cgroup: process.cgroup.as_deref(),
        requests: process.requests,
        total_ns: process.total,
    }
}

/// Writes the verdict and the figures.
pub fn summary(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let time = report.rejected.is_empty().then_some(&report.time);
    let groups = report.groups.iter().map(|(key, it)| GroupObject {
        local_port: Some(key.listener.port()),
        netns: (key.listener.netns != 0).then_some(key.listener.netns),
        peer_network: Some(Displayed(&key.network)),
        other: None,
        figures: figures(it),
    });
    let others = report.other_groups.iter().map(|it| GroupObject {
        local_port: None,
        netns: None,
        peer_network: None,
        other: Some(true),
        figures: figures(it),
    });
    let object = SummaryObject {
        kind: "summary",
        verdict: report.verdict.iter().chain(time).map(String::as_str).collect(),
        rejections: report.rejected.iter().map(|it| RowObject::of(it, report.clock)).collect(),
        messages: report.messages,
        streams: report.streams,
        all: figures(&report.all),
        groups: groups.chain(others).collect(),
        processes: report.processes.iter().map(process).collect(),
        other_processes: (report.other_processes != 0).then_some(OtherProcesses { requests: report.other_processes }),
    };
    line(out, &object)
}
