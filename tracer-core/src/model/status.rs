//! The state of a run: what the hooks are attached through, what the kernel counted.

use super::reconciliation::Reconciliation;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tracer_common::counter::Counter;

/// A hook: a fact that is looked for, and what it is learnt from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// The fact.
    pub hook: String,
    /// What it is attached through; absent if it is not attached.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub attached: Option<String>,
    /// What else it is attached through, if every way was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub also: Vec<String>,
    /// Why it is not attached, or not through something better, in the kernel's words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub refused: Option<String>,
    /// It is not attached because it was not wanted.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub unwanted: bool,
    /// What is lost by that.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lost: Option<String>,
}

/// The kernel's counters by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Counters(BTreeMap<String, u64>);

/// The counters that count what happened, and not what was lost.
const TOTALS: [Counter; 6] = [
    Counter::ConnectionsOpened,
    Counter::ConnectionsAdopted,
    Counter::ConnectionsClosed,
    Counter::RequestsBegun,
    Counter::RequestsEnded,
    Counter::RequestsReopened,
];

/// The name of [`Counters::events_missed`].
const EVENTS_MISSED: &str = "events_missed";

/// The name of [`Counters::unanswered`].
const HOST_UNANSWERED: &str = "host_unanswered";

/// The names of [`Counters::untraced`].
const INTERFACES_UNTRACED: &str = "interfaces_untraced";
const NAMESPACES_UNTRACED: &str = "namespaces_untraced";

impl Counters {
    /// Adds what the kernel did not let the programs see.
    pub fn with_events_missed(mut self, missed: u64) -> Self {
        self.0.insert(EVENTS_MISSED.to_owned(), missed);
        self
    }

    /// Events that came while the same program was interrupted on the same CPU: the kernel then leaves it out.
    pub fn events_missed(&self) -> u64 {
        self.0.get(EVENTS_MISSED).copied().unwrap_or(0)
    }

    /// Adds the questions that the host did not answer in time.
    pub fn with_unanswered(mut self, questions: u64) -> Self {
        if questions != 0 {
            self.0.insert(HOST_UNANSWERED.to_owned(), questions);
        }
        self
    }

    /// Questions about rejections that the host did not answer in time: these lack names, processes or rules.
    pub fn unanswered(&self) -> u64 {
        self.0.get(HOST_UNANSWERED).copied().unwrap_or(0)
    }

    /// Adds the interfaces and network namespaces whose SYNs were not seen.
    pub fn with_untraced(mut self, interfaces: u32, namespaces: u32) -> Self {
        for (name, count) in [(INTERFACES_UNTRACED, interfaces), (NAMESPACES_UNTRACED, namespaces)] {
            if count != 0 {
                self.0.insert(name.to_owned(), count.into());
            }
        }
        self
    }

    /// Interfaces, and network namespaces, whose SYNs were not seen: the most at once.
    pub fn untraced(&self) -> (u64, u64) {
        let count = |name| self.0.get(name).copied().unwrap_or(0);
        (count(INTERFACES_UNTRACED), count(NAMESPACES_UNTRACED))
    }

    /// Counters from their values, in the order of [`Counter::ALL`].
    pub fn new(values: [u64; Counter::ALL.len()]) -> Self {
        Self(Counter::ALL.into_iter().zip(values).map(|(counter, value)| (counter.name().to_owned(), value)).collect())
    }

    /// The value of `counter`; 0 if it was not counted.
    pub fn get(&self, counter: Counter) -> u64 {
        self.0.get(counter.name()).copied().unwrap_or(0)
    }

    /// Records that found no room on their way to user space.
    pub fn records_lost(&self) -> u64 {
        let lost = [
            Counter::RequestRecordsLost,
            Counter::ConnectionRecordsLost,
            Counter::RejectionRecordsLost,
            Counter::LateRecordsLost,
        ];
        lost.into_iter().fold(0, |sum: u64, counter| sum.saturating_add(self.get(counter)))
    }

    /// Connections that were traced.
    pub fn connections(&self) -> u64 {
        self.get(Counter::ConnectionsOpened).saturating_add(self.get(Counter::ConnectionsAdopted))
    }

    /// The same without totals, because only a part of what was counted is shown. Losses stay: that part may lack them.
    pub fn without_totals(mut self) -> Self {
        for counter in TOTALS {
            self.0.remove(counter.name());
        }
        self
    }

    /// Whether they have totals.
    pub fn has_totals(&self) -> bool {
        TOTALS.iter().any(|counter| self.0.contains_key(counter.name()))
    }
}

/// What user space could not use or keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shortfalls {
    /// Records that could not be decoded.
    pub undecodable: u64,
    /// Connections forgotten because there were too many at once.
    pub evicted: u64,
    /// Reports that belong to no request that is remembered.
    pub unmatched: u64,
    /// Reports that came after their requests were counted. They were shown, and are in no other figure.
    pub revised: u64,
}

/// How a run went.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// The kernel's counters; a truncated recording lacks them.
    pub counters: Option<Counters>,
    /// The hooks.
    pub hooks: Vec<Hook>,
    /// What user space could not use or keep.
    pub shortfalls: Shortfalls,
    /// What was seen, held against the kernel's own counters, by network namespace.
    pub reconciliation: Vec<Reconciliation>,
}
