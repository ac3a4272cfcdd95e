//! How full a network namespace's connection tracking table is, and whether it refuses new entries.

use super::recent::Recent;
use crate::probe::namespace::Netns;
use std::{
    fs,
    time::{Duration, Instant},
};

/// A rise of the counter is told only against a reading that is at most so old: the table may have been full at any
/// time since.
const MEMORY: Duration = Duration::from_secs(10);

/// The connection tracking table of a network namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Entries.
    pub entries: u64,
    /// How many it may have.
    pub limit: u64,
    /// The counter of packets that it has dropped rose during the last seconds.
    pub dropped: bool,
}

/// The connection tracking tables, read at most once a second.
#[derive(Debug, Default)]
pub struct Tables {
    recent: Recent<Option<Reading>>,
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    table: Table,
    drops: Option<u64>,
    at: Instant,
}

impl Tables {
    /// The table of the namespace with inode number `netns`; `None` if connections are not tracked in it.
    pub fn of(&mut self, netns: u32) -> Option<Table> {
        let reading = self.recent.get(netns, |before| {
            let now = Netns::open(netns).and_then(|netns| netns.inside(read)).ok().flatten()?;
            Some(now.since(before.flatten()))
        });
        reading.as_ref().map(|reading| reading.table)
    }
}

impl Reading {
    fn since(mut self, before: Option<Self>) -> Self {
        let drops = before.filter(|before| self.at.duration_since(before.at) <= MEMORY).and_then(|before| before.drops);
        self.table.dropped = drops.is_some_and(|drops| self.drops > Some(drops));
        self
    }
}

/// The table of the calling thread's namespace.
fn read() -> Option<Reading> {
    let number = |path| fs::read_to_string(path).ok()?.trim_end().parse().ok();
    let entries = number("/proc/sys/net/netfilter/nf_conntrack_count")?;
    let limit = number("/proc/sys/net/netfilter/nf_conntrack_max")?;
    let statistics = fs::read_to_string("/proc/thread-self/net/stat/nf_conntrack").ok();
    let drops = statistics.and_then(|text| drops(&text));
    Some(Reading { table: Table { entries, limit, dropped: false }, drops, at: Instant::now() })
}

/// The sum over all CPUs of the column `drop`, in hexadecimal; kernels differ in the columns.
fn drops(statistics: &str) -> Option<u64> {
    let mut lines = statistics.lines();
    let column = lines.next()?.split_ascii_whitespace().position(|name| name == "drop")?;
    lines.map(|line| u64::from_str_radix(line.split_ascii_whitespace().nth(column)?, 16).ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(drops: Option<u64>, at: Instant) -> Reading {
        Reading { table: Table { entries: 4, limit: 4, dropped: false }, drops, at }
    }

    #[test]
    fn drops_are_summed_over_the_processors() {
        let text = "entries  clashres found new invalid ignore delete chainlength insert insert_failed drop early_drop \
            icmp_error  expect_new expect_create expect_delete search_restart\n\
            00000000  00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 0000000a 00000001 \
            00000000  00000000 00000000 00000000 00000000\n\
            00000000  00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000010 00000001 \
            00000000  00000000 00000000 00000000 00000000\n";
        assert_eq!(drops(text), Some(26));
        assert_eq!(drops("entries found\n00000000 00000000\n"), None);
        assert_eq!(drops(""), None);
    }

    #[test]
    fn a_rise_is_told_from_what_was_before() {
        let now = Instant::now();
        let dropped = |before: Option<Reading>, drops| reading(drops, now + MEMORY).since(before).table.dropped;
        assert!(dropped(Some(reading(Some(5), now)), Some(6)));
        assert!(!dropped(Some(reading(Some(5), now)), Some(5)));
        assert!(!dropped(None, Some(6)));
        assert!(!dropped(Some(reading(None, now)), Some(6)));
        assert!(!dropped(Some(reading(Some(5), now)), None));
        let later = reading(Some(9), now + MEMORY + Duration::from_secs(1));
        assert!(!later.since(Some(reading(Some(5), now))).table.dropped);
    }
}
