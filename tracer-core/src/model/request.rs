//! A request as it is shown and counted: its record, cut into stages.

use super::{namespaces::Label, place::Place};
use tracer_common::{
    opening::Opening,
    record::{Process, RequestRecord},
    stage::{RequestSplit, RequestStage, Split},
    turn::Turn,
};

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered, and all of the answer acknowledged.
    Complete,
    /// The application wrote nothing.
    Unanswered,
    /// Part of what the application wrote was never acknowledged.
    Cut,
}

/// A part of the time of a request: a stage, or the wait of the first request for `accept()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The wait for `accept()`.
    Accept,
    /// The stage with this index.
    Stage(usize),
}

impl Part {
    /// The name in every output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Stage(index) => RequestStage::ALL[index].name(),
        }
    }
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// As the kernel reported it.
    pub record: &'a RequestRecord,
    /// Its stages.
    pub split: Split<7>,
    /// Nanoseconds for which it waited for `accept()`; in its total, but in no stage.
    pub accept: Option<u64>,
    /// How it ended.
    pub outcome: Outcome,
    /// What it is: a request, or a turn that only looks like one.
    pub turn: Turn,
    /// It waits, or waited until its end, for `accept()`.
    pub never_accepted: bool,
    /// Its stage `service` may have been a wait for the sender: whether all of the request had come is not known.
    pub may_be_incomplete: bool,
    /// It replaces what was shown of it before.
    pub amended: bool,
    /// The control group of the process that read it.
    pub place: Option<&'a Place>,
    /// Its network namespace, if there are several.
    pub namespace: Option<Label<'a>>,
}

impl<'a> Request<'a> {
    /// The request of `record`. The stage in which an incomplete one was given up lasts until it was reported.
    pub fn of(record: &'a RequestRecord) -> Self {
        let outcome = match (record.flags & RequestRecord::COMPLETE != 0, record.bytes_out) {
            (true, _) => Outcome::Complete,
            (false, 0) => Outcome::Unanswered,
            (false, _) => Outcome::Cut,
        };
        let ended = if outcome == Outcome::Complete { 0 } else { record.reported };
        let turn = record.turn();
        let never_accepted = outcome == Outcome::Unanswered
            && turn.is_first
            && record.accepted == 0
            && record.moments.first_read == 0
            && record.flags & RequestRecord::ACCEPT_UNSEEN == 0;
        // Who was never accepted has spent all of its time waiting for that.
        let accepted = if never_accepted { ended } else { record.accepted };
        let RequestSplit { split, accept } = record.moments.split(accepted, ended);
        let turn = turn.turn();
        let may_be_incomplete = may_be_incomplete(record, &split);
        let (amended, place, namespace) = (false, None, None);
        Self { record, split, accept, outcome, turn, never_accepted, may_be_incomplete, amended, place, namespace }
    }

    /// What it is called in every output.
    pub const fn word(&self) -> &'static str {
        match self.turn {
            Turn::Message => "message",
            Turn::Stream => "stream",
            Turn::Request | Turn::Control | Turn::Farewell | Turn::Rest | Turn::Body => "request",
        }
    }

    /// The first moment that is known of it.
    pub fn start(&self) -> u64 {
        let m = &self.record.moments;
        let moments = [m.arrived, m.queued, m.first_read, m.last_read, m.first_write, m.first_out, m.last_out];
        moments.into_iter().find(|&moment| moment != 0).unwrap_or(self.record.reported)
    }

    /// The time from its first byte to its last acknowledgement, in nanoseconds: the exact sum of its wait for
    /// `accept()` and its stages. `None` if none of them was measured.
    pub fn total(&self) -> Option<u64> {
        let measured = self.accept.is_some() || self.split.stages.iter().any(Option::is_some);
        measured.then_some(self.split.total + self.accept.unwrap_or(0))
    }

    /// The part that took the longest, and its nanoseconds.
    pub fn dominant(&self) -> Option<(Part, u64)> {
        let stage = self.split.dominant().and_then(|index| Some((Part::Stage(index), self.split.stages[index]?)));
        match (self.accept, stage) {
            (Some(wait), stage) if stage.is_none_or(|(_, longest)| wait > longest) => Some((Part::Accept, wait)),
            (_, stage) => stage,
        }
    }

    /// The last stage that it reached, and its nanoseconds.
    pub fn latest(&self) -> Option<(Part, u64)> {
        if self.never_accepted {
            return self.accept.map(|wait| (Part::Accept, wait));
        }
        let index = self.split.stages.iter().rposition(Option::is_some)?;
        Some((Part::Stage(index), self.split.stages[index]?))
    }
}

/// A server that waits for less has hardly given up, in nanoseconds.
const LEAST_WAIT: u64 = 1_000_000_000;

/// Whether the wait for the response to `record` may have been the server's wait for the rest of the request. A server that
/// waits for a body in vain closes the connection, without a response or right behind one (408). A server that computes
/// for long and then closes looks alike, because the length of the request is not read.
fn may_be_incomplete(record: &RequestRecord, split: &Split<7>) -> bool {
    let is_closed = record.flags & RequestRecord::CLOSED != 0;
    let waited = split.stages[RequestStage::Service as usize].unwrap_or(0);
    let marks = record.turn().marks;
    let is_http = marks.has_seen(Opening::Http) || marks.is_tls();
    let has_error = record.bytes_out != 0 && is_http && !marks.is_bodiless();
    is_closed && waited >= LEAST_WAIT && (record.bytes_out == 0 || has_error)
}

/// The name of the thread that read it; what is not text in it is replaced.
pub fn comm(process: &Process) -> std::borrow::Cow<'_, str> {
    let length = process.comm.iter().position(|&byte| byte == 0).unwrap_or(process.comm.len());
    String::from_utf8_lossy(&process.comm[..length])
}
