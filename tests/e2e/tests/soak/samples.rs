//! Memory of a tracer and the fill of its maps over time, and what of it has grown.

use std::collections::BTreeMap;

use anyhow::Result;
use lab::bpf::{self, Fill};
use lab::usage::Usage;

/// By how much resident memory may differ between rounds, KiB.
const MEMORY: u64 = 512;
/// By how many entries a map may.
const ENTRIES: u64 = 16;
/// Maps without a limit of entries whose entries have to be given back all the same: a bit per port, in words.
const GIVEN_BACK: [&str; 1] = ["PORTS"];

/// Figures by round.
#[derive(Debug, Default)]
pub struct Samples {
    rounds: Vec<Round>,
}

#[derive(Debug, Default)]
struct Round {
    resident_kib: Range,
    maps: BTreeMap<String, (Fill, Range)>,
}

/// The least and the most of a figure in a round. What stays raises the least; what comes and goes raises the most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Range {
    least: u64,
    most: u64,
}

impl Range {
    fn take(&mut self, figure: u64) {
        let is_first = self.most == 0;
        self.least = if is_first { figure } else { self.least.min(figure) };
        self.most = self.most.max(figure);
    }
}

impl Samples {
    /// Takes a sample of the process in a round, from 0.
    pub fn take(&mut self, round: usize, pid: u32) -> Result<()> {
        self.rounds.resize_with(self.rounds.len().max(round + 1), Round::default);
        let now = &mut self.rounds[round];
        now.resident_kib.take(Usage::of(pid)?.resident_kib);
        for fill in bpf::fills(pid)? {
            let used = fill.used;
            now.maps.entry(fill.name.clone()).or_insert_with(|| (fill, Range::default())).1.take(used);
        }
        Ok(())
    }

    /// A line per figure, with its most in each round.
    pub fn print(&self) {
        let line = |name: &str, figures: &[Range], limit: String| {
            let figures: Vec<_> = figures.iter().map(|figure| format!("{:>6}", figure.most)).collect();
            println!("{name:<16} {} {limit}", figures.join(" "));
        };
        line("resident, KiB", &self.resident(), String::new());
        for (name, (fill, _)) in self.rounds.first().iter().flat_map(|round| &round.maps) {
            line(name, &self.used(name), format!("of {}", fill.entries));
        }
    }

    /// What has grown after the first round, or is full: topic and words.
    pub fn findings(&self) -> Vec<(String, String)> {
        let mut findings = Vec::new();
        if let [_, second, .., last] = &self.resident()[..]
            && last.most > second.most + MEMORY
        {
            let text = format!("resident memory grows: {} KiB in round 2, {} in the last", second.most, last.most);
            findings.push(("resident memory".to_owned(), text));
        }
        for (name, (fill, _)) in self.rounds.first().iter().flat_map(|round| &round.maps) {
            if !fill.refuses && !GIVEN_BACK.contains(&name.as_str()) {
                continue;
            }
            let (used, topic) = (self.used(name), format!("map {name}"));
            if let [first, .., last] = &used[..]
                && last.least > first.most + ENTRIES
            {
                let text = format!("{topic} grows: {} entries in round 1, {} in the last", first.most, last.least);
                findings.push((topic.clone(), text));
            }
            if fill.refuses && used.iter().any(|used| used.most >= fill.entries) {
                findings.push((topic.clone(), format!("{topic} is full: {} entries", fill.entries)));
            }
        }
        findings
    }

    fn resident(&self) -> Vec<Range> {
        self.rounds.iter().map(|round| round.resident_kib).collect()
    }

    fn used(&self, name: &str) -> Vec<Range> {
        let used = |round: &Round| round.maps.get(name).map_or_else(Range::default, |(_, used)| *used);
        self.rounds.iter().map(used).collect()
    }
}

#[test]
fn what_stays_is_found_and_what_comes_and_goes_is_not() {
    let fill = |name: &str, refuses, used| Fill { name: name.to_owned(), refuses, entries: 100, used };
    let round = |resident_kib, leaks, wavers, slots| {
        let range = |(least, most)| Range { least, most };
        let maps = [("LEAKS", true, leaks), ("WAVERS", true, wavers), ("SLOTS", false, slots)];
        let maps = maps.map(|(name, refuses, used)| (name.to_owned(), (fill(name, refuses, 0), range(used))));
        Round { resident_kib: range((resident_kib, resident_kib)), maps: BTreeMap::from(maps) }
    };
    let steady =
        [(9000, (10, 10), (0, 90), (0, 10)), (9100, (10, 20), (2, 99), (0, 60)), (9200, (20, 26), (1, 95), (90, 100))];
    let samples = Samples { rounds: steady.map(|(kib, a, b, c)| round(kib, a, b, c)).into() };
    assert_eq!(samples.findings(), []);
    let growing =
        [(9000, (10, 10), (0, 90), (0, 10)), (9100, (20, 30), (2, 99), (0, 60)), (9700, (90, 100), (1, 95), (90, 100))];
    let samples = Samples { rounds: growing.map(|(kib, a, b, c)| round(kib, a, b, c)).into() };
    let expected = [
        "resident memory grows: 9100 KiB in round 2, 9700 in the last",
        "map LEAKS grows: 10 entries in round 1, 90 in the last",
        "map LEAKS is full: 100 entries",
    ];
    let texts: Vec<_> = samples.findings().into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, expected);
}
