//! What `tracer watch --json` prints, counted as it comes: there is too much of it to be kept.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Object {
    kind: String,
    netns: Option<u32>,
    local: Option<SocketAddr>,
    revision: Option<u32>,
    cause: Option<String>,
    count: Option<u64>,
}

/// A listener: the inode number of its network namespace, and its address.
pub type Listener = (Option<u32>, Option<SocketAddr>);

/// How many there were, by listener.
pub type Counts = BTreeMap<Listener, u64>;

/// What was printed so far.
pub struct Printed {
    reader: BufReader<File>,
    /// What was read of a line of which the end is still to come.
    rest: String,
    pub requests: Counts,
    pub connections: Counts,
    pub rejections: BTreeMap<(String, Listener), u64>,
    pub summary: Value,
    pub status: Value,
}

impl Printed {
    pub fn new(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        Ok(Self {
            reader: BufReader::with_capacity(1 << 20, file),
            rest: String::new(),
            requests: BTreeMap::new(),
            connections: BTreeMap::new(),
            rejections: BTreeMap::new(),
            summary: Value::Null,
            status: Value::Null,
        })
    }

    /// Reads on to the end of what was printed by now.
    pub fn read(&mut self) -> Result<()> {
        while self.reader.read_line(&mut self.rest)? > 0 {
            if self.rest.ends_with('\n') {
                let line = std::mem::take(&mut self.rest);
                self.add(&line).with_context(|| format!("in the output of tracer: {line}"))?;
            }
        }
        Ok(())
    }

    fn add(&mut self, line: &str) -> Result<()> {
        let object: Object = serde_json::from_str(line)?;
        let listener = (object.netns, object.local);
        match object.kind.as_str() {
            // One with a revision replaces one that was counted.
            "request" if object.revision.is_none() => *self.requests.entry(listener).or_default() += 1,
            "connection" => *self.connections.entry(listener).or_default() += 1,
            "rejection" => {
                let cause = object.cause.context("a rejection without a cause")?;
                *self.rejections.entry((cause, listener)).or_default() += object.count.unwrap_or(0);
            }
            "summary" => self.summary = serde_json::from_str(line)?,
            "status" => self.status = serde_json::from_str(line)?,
            _ => {}
        }
        Ok(())
    }

    /// How many rejections with this cause there were at this address, in any namespace.
    pub fn rejected(&self, cause: &str, local: SocketAddr) -> u64 {
        let at = |(name, (_, address)): &(String, Listener)| name == cause && *address == Some(local);
        self.rejections.iter().filter(|(key, _)| at(key)).map(|(_, count)| count).sum()
    }

    /// How many rejections with this cause there were in all.
    pub fn rejected_in_all(&self, cause: &str) -> u64 {
        self.rejections.iter().filter(|((name, _), _)| name == cause).map(|(_, count)| count).sum()
    }

    /// How many rejections the rows of the summary tell for this cause and this address.
    pub fn rows(&self, cause: &str, local: SocketAddr) -> u64 {
        let rows = self.summary["rejections"].as_array().into_iter().flatten();
        let rows = rows.filter(|row| row["cause"] == cause && row["local"] == local.to_string().as_str());
        rows.filter_map(|row| row["count"].as_u64()).sum()
    }

    /// The counters of the status that say that something was lost.
    pub fn losses(&self) -> impl Iterator<Item = (&String, &Value)> {
        let counters = self.status["counters"].as_object().into_iter().flatten();
        let is_loss = |name: &str| ["_lost", "_failed", "_uncounted"].iter().any(|end| name.ends_with(end));
        counters.filter(move |(name, count)| is_loss(name) && **count != 0)
    }
}
