//! The state of a run: what the hooks are attached through, what the kernel counted.

use crate::{
    enrich::netstat::Reconciliation,
    probe::{HookStatus, Untraced},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tracer_common::counter::Counter;

/// A hook: a fact that is looked for, and what it is learnt from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_field_names, reason = "the name in JSON")]
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

impl From<&HookStatus> for Hook {
    fn from(status: &HookStatus) -> Self {
        let refused: Vec<_> = status.refused.iter().map(|(way, reason)| format!("{way}: {reason}")).collect();
        Self {
            hook: status.name.to_owned(),
            attached: status.through.clone(),
            also: status.also.clone(),
            refused: (!refused.is_empty()).then(|| refused.join("; ")),
            unwanted: status.unwanted,
            lost: status.through.is_none().then(|| status.lost.to_owned()),
        }
    }
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

/// The names of [`Counters::untraced`].
const INTERFACES_UNTRACED: &str = "interfaces_untraced";
const NAMESPACES_UNTRACED: &str = "namespaces_untraced";

impl Counters {
    /// Adds what the kernel did not let the programs see.
    #[must_use]
    pub fn with_events_missed(mut self, missed: u64) -> Self {
        self.0.insert(EVENTS_MISSED.to_owned(), missed);
        self
    }

    /// Events that came while the same program was interrupted on the same CPU: the kernel then leaves it out.
    #[must_use]
    pub fn events_missed(&self) -> u64 {
        self.0.get(EVENTS_MISSED).copied().unwrap_or(0)
    }

    /// Adds the interfaces and network namespaces whose SYNs were not seen.
    #[must_use]
    pub fn with_untraced(mut self, untraced: Untraced) -> Self {
        for (name, count) in [(INTERFACES_UNTRACED, untraced.interfaces), (NAMESPACES_UNTRACED, untraced.namespaces)] {
            if count != 0 {
                self.0.insert(name.to_owned(), count.into());
            }
        }
        self
    }

    /// Interfaces, and network namespaces, whose SYNs were not seen: the most at once.
    #[must_use]
    pub fn untraced(&self) -> (u64, u64) {
        let count = |name| self.0.get(name).copied().unwrap_or(0);
        (count(INTERFACES_UNTRACED), count(NAMESPACES_UNTRACED))
    }

    /// Counters from their values, in the order of [`Counter::ALL`].
    #[must_use]
    pub fn new(values: [u64; Counter::ALL.len()]) -> Self {
        Self(Counter::ALL.into_iter().zip(values).map(|(counter, value)| (counter.name().to_owned(), value)).collect())
    }

    /// The value of `counter`; 0 if it was not counted.
    #[must_use]
    pub fn get(&self, counter: Counter) -> u64 {
        self.0.get(counter.name()).copied().unwrap_or(0)
    }

    /// Records that found no room on their way to user space.
    #[must_use]
    pub fn records_lost(&self) -> u64 {
        let lost = [Counter::RequestRecordsLost, Counter::ConnectionRecordsLost, Counter::RejectionRecordsLost];
        lost.into_iter().fold(0, |sum: u64, counter| sum.saturating_add(self.get(counter)))
    }

    /// Connections that were traced.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.get(Counter::ConnectionsOpened).saturating_add(self.get(Counter::ConnectionsAdopted))
    }

    /// The same without totals, because only a part of what was counted is shown. Losses stay: that part may lack them.
    #[must_use]
    pub fn without_totals(mut self) -> Self {
        for counter in TOTALS {
            self.0.remove(counter.name());
        }
        self
    }

    /// Whether they have totals.
    #[must_use]
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
}

/// How a run went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Run<'a> {
    /// The kernel's counters; a truncated recording lacks them.
    pub counters: Option<&'a Counters>,
    /// The hooks.
    pub hooks: &'a [Hook],
    /// What user space could not use or keep.
    pub shortfalls: Shortfalls,
    /// What was seen, held against the kernel's own counters, by network namespace.
    pub reconciliation: &'a [Reconciliation],
}
