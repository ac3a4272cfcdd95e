//! What to say first: at most three sentences, the most harmful cause first.

use super::{
    Limits, entry,
    entry::{Counted, Entry, Family},
    template::render,
    values::{Known, network},
};
use crate::{
    model::{
        listener::Listener,
        namespaces::Namespaces,
        rejection::{Apart, Cause, Evidence, Rejection},
    },
    units::{Count, percent},
};
use std::{cmp::Reverse, fmt::Write, net::SocketAddr};

/// The sentences at most.
const SENTENCES: usize = 3;

/// How much was traced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests.
    pub requests: u64,
    /// Connections.
    pub connections: u64,
}

impl Totals {
    /// The sum of two.
    pub const fn and(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            connections: self.connections.saturating_add(other.connections),
        }
    }
}

/// All rejections of one cause at one listener, from one network, of one kind of packet and by one rule.
#[derive(Clone, Copy, Debug)]
pub struct Finding<'a> {
    /// One of them, with the figures to show.
    pub rejection: &'a Rejection,
    /// How many.
    pub count: u64,
    /// What was traced of the same port and network, if that is known.
    pub group: Option<Totals>,
}

/// The verdict on a run in which `totals` was traced: a sentence each.
pub fn verdict(findings: &[Finding<'_>], totals: Totals, limits: Limits, namespaces: &Namespaces) -> Vec<String> {
    if findings.is_empty() {
        return vec!["Nothing was rejected.".to_owned()];
    }
    let mut topics = topics(findings);
    topics.sort_by_key(|topic| (topic.entry.family == Family::Warning, Reverse(topic.harm()), topic.order()));
    topics.iter().take(SENTENCES).map(|topic| topic.sentence(totals, limits, namespaces)).collect()
}

/// All findings of one cause at one listener, or at several ports of one address, by one rule: what one sentence is about.
struct Topic<'a> {
    entry: &'static Entry,
    /// What they have in common.
    apart: Apart,
    /// How many of each kind of packet.
    packets: Vec<(Option<&'a str>, u64)>,
    /// From the finding with the greatest count.
    example: &'a Rejection,
    most: u64,
    count: u64,
    /// What was traced of the same port and these networks.
    whole: Option<Totals>,
    /// The peers' networks, the one of the example first; `None` stands for several.
    networks: Vec<Option<String>>,
}

fn topics<'a>(findings: &[Finding<'a>]) -> Vec<Topic<'a>> {
    let mut findings = findings.to_vec();
    findings.sort_by_key(|finding| Reverse(finding.count));
    let mut topics: Vec<Topic<'a>> = Vec::new();
    for finding in &findings {
        let rejection = finding.rejection;
        let apart = Apart { packet: None, ..rejection.apart() };
        let found = topics.iter_mut().find(|topic| {
            let example = topic.example;
            let is_there = example.local == rejection.local
                // A scan of many ports comes with some of which the port is known.
                || (example.local.port() == 0 && example.local.ip() == rejection.local.ip());
            is_there && (example.cause, example.netns) == (rejection.cause, rejection.netns) && topic.apart == apart
        });
        match found {
            Some(topic) => topic.add(finding),
            None => topics.push(Topic::of(finding, apart)),
        }
    }
    topics
}

impl<'a> Topic<'a> {
    fn of(finding: &Finding<'a>, apart: Apart) -> Self {
        Self {
            entry: entry(finding.rejection.cause),
            apart,
            packets: vec![(finding.rejection.facts.packet.as_deref(), finding.count)],
            example: finding.rejection,
            most: finding.count,
            count: finding.count,
            whole: finding.group,
            networks: vec![network(finding.rejection.peer)],
        }
    }

    fn add(&mut self, finding: &Finding<'a>) {
        self.count = self.count.saturating_add(finding.count);
        let packet = finding.rejection.facts.packet.as_deref();
        match self.packets.iter_mut().find(|(it, _)| *it == packet) {
            Some((_, count)) => *count = count.saturating_add(finding.count),
            None => self.packets.push((packet, finding.count)),
        }
        let network = network(finding.rejection.peer);
        let is_new = !self.networks.contains(&network);
        if finding.count > self.most {
            self.most = finding.count;
            self.example = finding.rejection;
            self.networks.retain(|it| *it != network);
            self.networks.insert(0, network);
        } else if is_new {
            self.networks.push(network);
        }
        self.whole = match (self.whole, finding.group) {
            (Some(whole), Some(group)) if is_new => Some(whole.and(group)),
            (whole, Some(_)) => whole,
            (_, None) => None,
        };
    }

    /// What was lost, times how certain it is. A connection that fails loses about four packets: within ten seconds the
    /// load balancer sends its SYN so often.
    fn harm(&self) -> u64 {
        let lost = match self.entry.counted {
            Counted::Packets => 1,
            Counted::Attempts | Counted::Connections | Counted::Requests | Counted::LateRequests | Counted::Itself => 4,
        };
        let certainty = match self.example.evidence {
            Evidence::Observed => 4,
            Evidence::Inferred => 3,
            Evidence::NotSeen => 2,
        };
        self.count.saturating_mul(lost * certainty)
    }

    /// The order of equals.
    const fn order(&self) -> (Cause, SocketAddr, u32) {
        let Listener { netns, local } = self.example.listener();
        (self.example.cause, local, netns)
    }

    fn sentence(&self, totals: Totals, limits: Limits, namespaces: &Namespaces) -> String {
        let known = Known { rejection: self.example, limits };
        let rest = render(self.entry.verdict, |name| known.value(name));
        if self.entry.counted == Counted::Itself {
            return rest;
        }
        let mut sentence = self.amount(self.whole.unwrap_or(totals));
        let port = match self.example.local.port() {
            0 => "several ports".to_owned(),
            port => format!(":{port}"),
        };
        let networks = self.networks();
        let place = namespaces.label(self.example.netns).map(|label| format!(" in {label}")).unwrap_or_default();
        let _ = if self.example.facts.outgoing {
            write!(sentence, " from {port}{place} to {networks} {rest}")
        } else {
            write!(sentence, " from {networks} to {port}{place} {rest}")
        };
        sentence
    }

    /// `9% of requests (37)`, `37 SYNs`, or `5 data packets and 1 FIN`.
    fn amount(&self, whole: Totals) -> String {
        let count = self.count;
        let (noun, whole) = match self.entry.counted {
            Counted::Attempts => ("connection", Some(whole.connections.saturating_add(count))),
            Counted::Connections => ("connection", Some(whole.connections)),
            Counted::Requests => ("request", Some(whole.requests)),
            Counted::LateRequests => ("request", Some(whole.requests.saturating_add(count))),
            Counted::Packets | Counted::Itself => return self.packets(),
        };
        match whole.filter(|&whole| count <= whole && whole > 1) {
            Some(whole) => match percent(count, whole) {
                0 => format!("Under 1% of {noun}s ({})", Count(count)),
                percent => format!("{percent}% of {noun}s ({})", Count(count)),
            },
            None => several(count, noun),
        }
    }

    /// How many of each kind of packet, most first.
    fn packets(&self) -> String {
        let mut packets = self.packets.clone();
        packets.sort_by_key(|&(packet, count)| (Reverse(count), packet));
        let amounts: Vec<_> = packets.iter().map(|&(packet, count)| several(count, noun(packet))).collect();
        match amounts.as_slice() {
            [before @ .., last] if !before.is_empty() => format!("{} and {last}", before.join(", ")),
            _ => amounts.concat(),
        }
    }

    /// `10.0.1.0/24`, `10.0.1.0/24 and 10.0.2.0/24`, `10.0.1.0/24 and 2 more networks`.
    fn networks(&self) -> String {
        let name = |network: &Option<String>| network.clone().unwrap_or_else(|| "several networks".to_owned());
        match self.networks.as_slice() {
            [] => name(&None),
            [one] => name(one),
            [first, second] => format!("{} and {}", name(first), name(second)),
            [first, rest @ ..] => format!("{} and {} more networks", name(first), rest.len()),
        }
    }
}

/// `1 SYN`, or `37 SYNs`.
fn several(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", Count(count), if count == 1 { "" } else { "s" })
}

fn noun(packet: Option<&str>) -> &str {
    match packet {
        Some("data") => "data packet",
        Some(kind) => kind,
        None => "packet",
    }
}

#[cfg(test)]
mod tests;
