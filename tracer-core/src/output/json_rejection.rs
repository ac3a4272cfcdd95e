//! Rejections as JSON: one as an object of its own, and all of a run in the summary.

use super::objects::{Displayed, line};
use crate::{
    aggregate::rejections::{Explained, Peer},
    explain::Explanation,
    model::{
        clock::Clock,
        rejection::{Cause, Evidence, Facts, Rejection},
    },
};
use serde::Serialize;
use std::{
    fmt::Display,
    io::{self, Write},
    net::SocketAddr,
};

#[derive(Serialize)]
struct RejectionObject<'a> {
    kind: &'static str,
    /// Of the latest.
    time: Displayed<&'a dyn Display>,
    cause: Cause,
    evidence: Evidence,
    count: u64,
    /// When the first was.
    first: Displayed<&'a dyn Display>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<Kernel<'a>>,
    #[serde(flatten)]
    ends: Ends,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u32>,
    alb: &'a [&'a str],
    title: &'a str,
    explanation: &'a str,
    advice: &'a str,
    #[serde(flatten)]
    facts: &'a Facts,
}

/// What the kernel says of the packet that it dropped.
#[derive(Serialize)]
struct Kernel<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<&'a str>,
}

#[derive(Serialize)]
struct Ends {
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_network: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    local: Option<SocketAddr>,
    /// Network namespace, by inode number.
    #[serde(skip_serializing_if = "Option::is_none")]
    netns: Option<u32>,
}

impl Ends {
    fn of(rejection: &Rejection) -> Self {
        let (peer, peer_network) = match Peer::of(rejection) {
            Peer::One(peer) => (Some(peer), None),
            Peer::Several(network) => (None, Some(network.to_string())),
            Peer::Unknown => (None, None),
        };
        Self { peer, peer_network, local: known(rejection.local), netns: netns(rejection) }
    }
}

/// The network namespace, if it is known.
fn netns(rejection: &Rejection) -> Option<u32> {
    (rejection.netns != 0).then_some(rejection.netns)
}

/// An end that is neither address nor port is not known.
fn known(local: SocketAddr) -> Option<SocketAddr> {
    (local.port() != 0 || !local.ip().is_unspecified()).then_some(local)
}

/// Writes a rejection.
pub fn rejection(
    out: &mut impl Write,
    clock: Clock,
    rejection: &Rejection,
    explanation: &Explanation,
) -> io::Result<()> {
    let (reason, location) = (rejection.reason.as_deref(), rejection.location.as_deref());
    let object = RejectionObject {
        kind: "rejection",
        time: Displayed(&clock.rfc3339(rejection.last)),
        cause: rejection.cause,
        evidence: rejection.evidence,
        count: rejection.count,
        first: Displayed(&clock.rfc3339(rejection.first)),
        kernel: (reason.is_some() || location.is_some()).then_some(Kernel { reason, location }),
        ends: Ends::of(rejection),
        connection: rejection.connection.map(|connection| format!("{connection:016x}")),
        sequence: rejection.sequence,
        alb: explanation.alb,
        title: explanation.title,
        explanation: &explanation.text,
        advice: &explanation.advice,
        facts: &rejection.facts,
    };
    line(out, &object)
}

/// What was rejected, as in the summary: counted by cause, listener and peer network.
#[derive(Serialize)]
pub(super) struct RowObject<'a> {
    cause: Cause,
    evidence: Evidence,
    count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    local: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    netns: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_network: Option<String>,
    /// The listeners and networks beyond the number that is kept apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    other: Option<bool>,
    first: String,
    last: String,
    alb: &'a [&'a str],
    explanation: &'a str,
    advice: &'a str,
}

impl<'a> RowObject<'a> {
    pub(super) fn of(explained: &'a Explained, clock: Clock) -> Self {
        let Explained { row, explanation } = explained;
        let rejection = &row.rejection;
        Self {
            cause: rejection.cause,
            evidence: rejection.evidence,
            count: rejection.count,
            local: known(rejection.local).filter(|_| !row.is_other),
            netns: netns(rejection),
            peer_network: row.network.map(|network| network.to_string()),
            other: row.is_other.then_some(true),
            first: clock.rfc3339(rejection.first).to_string(),
            last: clock.rfc3339(rejection.last).to_string(),
            alb: explanation.alb,
            explanation: &explanation.text,
            advice: &explanation.advice,
        }
    }
}

#[cfg(test)]
mod tests;
