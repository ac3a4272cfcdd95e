//! The kernel's own counters of a namespace, as `nstat` shows them.

use std::collections::HashMap;
use std::fs;

use anyhow::{Context, Result};

use crate::netns::Namespace;

/// The counters at one moment. Their names are those of `nstat`, such as `TcpExtListenDrops` or `TcpOutRsts`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters(HashMap<String, u64>);

impl Counters {
    /// Reads the counters of `namespace`.
    ///
    /// # Errors
    /// Where `/proc` cannot be read.
    pub fn read(namespace: &Namespace) -> Result<Self> {
        let files = namespace.enter(|| {
            let read = |name: &str| fs::read_to_string(format!("/proc/thread-self/net/{name}"));
            Ok(read("snmp")? + &read("netstat")?)
        });
        let files = files.context("cannot read the kernel's counters")?;
        // Two lines each: the names, the values; both begin with the group.
        let lines: Vec<&str> = files.lines().collect();
        let pairs =
            lines.chunks_exact(2).filter_map(|pair| Some((pair[0].split_once(": ")?, pair[1].split_once(": ")?)));
        let counters = pairs.flat_map(|((group, names), (_, values))| {
            let named = names.split(' ').zip(values.split(' '));
            named.filter_map(move |(name, value)| Some((format!("{group}{name}"), value.parse().ok()?)))
        });
        Ok(Self(counters.collect()))
    }

    /// By how much the counter `name` has risen since `earlier`.
    ///
    /// # Errors
    /// Where the kernel has no such counter.
    pub fn since(&self, earlier: &Self, name: &str) -> Result<u64> {
        let get = |counters: &Self| counters.0.get(name).copied().with_context(|| format!("no counter {name}"));
        Ok(get(self)?.wrapping_sub(get(earlier)?))
    }
}
