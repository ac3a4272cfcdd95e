//! The firewall rules that may have dropped a packet. The ruleset is only read: with `nft`, and what `iptables` has made
//! with `iptables-save`.

mod expression;
mod nft;
mod programs;
mod rules;
pub mod search;
#[cfg(test)]
mod tests;
mod values;
mod xtables;

use super::{recent::Recent, route, symbols};
use crate::probe::namespace::Netns;
use foldhash::fast::FixedState;
use rules::{Family, Place, Ruleset};
use search::{Packet, Suspect};
use std::{collections::HashMap, fs, net::IpAddr};
use tracer_core::model::rejection::Rule;

/// Candidates that are named at most.
const MAX_CANDIDATES: usize = 16;
/// Bytes of a rule's text that are shown at most.
const MAX_TEXT: usize = 300;
/// The function of the kernel that runs the rules of `nf_tables`. Drops happen in it since 6.10; before that, and by
/// xtables, in the function that calls it.
const NFT_DO_CHAIN: &str = "nft_do_chain";

/// A packet that netfilter dropped.
#[derive(Clone, Copy, Debug)]
pub struct Dropped<'a> {
    /// The packet.
    pub packet: Packet,
    /// The kernel's function in which it was dropped, if it is known.
    pub location: Option<&'a str>,
    /// It was answered, with a reset or an ICMP error.
    pub answered: bool,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The rule that dropped the packet.
    pub rule: Option<Rule>,
    /// The rules that may have, in the order in which the packet comes to them, where it cannot be told which.
    pub candidates: Vec<Rule>,
    /// The rule, or each of the candidates, rejects with an answer.
    pub rejects: bool,
}

/// The rulesets of network namespaces, read at most once a second.
#[derive(Debug, Default)]
pub struct Rulesets {
    recent: Recent<Option<Known>>,
    /// The kernel has `nf_tables`; otherwise asking `nft` would load the module.
    nf_tables: bool,
}

/// What is known of a namespace.
#[derive(Debug, Default)]
struct Known {
    ruleset: Ruleset,
    /// Whether an address is one of the namespace.
    here: HashMap<IpAddr, bool, FixedState>,
    /// The text of rules, by chain and handle.
    texts: HashMap<(Place, u64), String, FixedState>,
}

impl Rulesets {
    /// The rules that may have dropped the packet in the namespace with inode number `netns`; none if it cannot be
    /// entered, or its ruleset not be read.
    pub fn suspects(&mut self, netns: u32, dropped: &Dropped) -> Found {
        let by_nft = dropped.location == Some(NFT_DO_CHAIN);
        let nf_tables = &mut self.nf_tables;
        let known = self.recent.get(netns, |_| {
            *nf_tables = *nf_tables || by_nft || symbols::exists(NFT_DO_CHAIN);
            let ruleset = Netns::open(netns).and_then(|netns| netns.inside(|| read(*nf_tables))).ok()?;
            Some(Known { ruleset, ..Known::default() })
        });
        known.as_mut().map_or_else(Found::default, |known| known.suspects(netns, dropped, by_nft))
    }
}

impl Known {
    fn suspects(&mut self, netns: u32, dropped: &Dropped, by_nft: bool) -> Found {
        let packet = &dropped.packet;
        let local = packet.local();
        let here = *self.here.entry(local).or_insert_with(|| {
            let here = Netns::open(netns).and_then(|netns| netns.inside(|| route::is_local(local))?);
            // Most packets of a connection of this host are.
            here.unwrap_or(true)
        });
        let suspects = likeliest(search::suspects(&self.ruleset, packet, here, by_nft), dropped.answered);
        for suspect in &suspects {
            if let Some(handle) = suspect.unread(&self.texts) {
                let handles: Vec<u64> = suspects.iter().filter_map(|other| other.in_chain(suspect.place)).collect();
                let read = || texts(suspect.place, &handles);
                let texts = Netns::open(netns).and_then(|netns| netns.inside(read)).unwrap_or_default();
                self.texts.extend(texts.into_iter().map(|(handle, text)| ((suspect.place.clone(), handle), text)));
                // What has gone meanwhile is not looked for again.
                self.texts.entry((suspect.place.clone(), handle)).or_default();
            }
        }
        let rejects = !suspects.is_empty() && suspects.iter().all(|suspect| suspect.rejects);
        let mut named: Vec<Rule> = suspects.iter().map(|suspect| suspect.name(&self.texts)).collect();
        // It may also have been a rule that cannot be seen.
        let all_seen = !self.ruleset.unread.nf_tables && (by_nft || !self.ruleset.unread.xtables);
        let rule = if named.len() == 1 && all_seen { named.pop() } else { None };
        Found { rule, candidates: named, rejects }
    }
}

/// Without rules that drop in silence, if the packet was answered; and not too many.
fn likeliest(mut suspects: Vec<Suspect>, answered: bool) -> Vec<Suspect> {
    if answered && suspects.iter().any(|suspect| suspect.rejects) {
        suspects.retain(|suspect| suspect.rejects);
    }
    suspects.truncate(MAX_CANDIDATES);
    suspects
}

impl Suspect<'_> {
    /// Its handle, if its text has to be asked for.
    fn unread(&self, texts: &HashMap<(Place, u64), String, FixedState>) -> Option<u64> {
        let handle = self.entry?.handle?;
        (!texts.contains_key(&(self.place.clone(), handle))).then_some(handle)
    }

    /// Its handle, if it is in that chain.
    fn in_chain(&self, place: &Place) -> Option<u64> {
        if self.place == place { self.entry?.handle } else { None }
    }

    fn name(&self, texts: &HashMap<(Place, u64), String, FixedState>) -> Rule {
        let handle = self.entry.and_then(|entry| entry.handle);
        let listed = handle.and_then(|handle| texts.get(&(self.place.clone(), handle))).filter(|text| !text.is_empty());
        let text = match (self.entry, listed) {
            (None, _) => "policy drop",
            (Some(_), Some(text)) => text,
            (Some(entry), None) => entry.text.as_deref().unwrap_or(if self.rejects { "reject" } else { "drop" }),
        };
        Rule { chain: self.place.to_string(), handle, text: shortened(text) }
    }
}

fn shortened(text: &str) -> String {
    if text.len() <= MAX_TEXT { text.to_owned() } else { format!("{}…", &text[..text.floor_char_boundary(MAX_TEXT)]) }
}

/// The text of these rules of a chain, in the calling thread's namespace.
fn texts(place: &Place, handles: &[u64]) -> HashMap<u64, String> {
    // `nft` takes its arguments as a line of its language.
    let is_plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-./".contains(&byte));
    if place.family.is_xtables() || !is_plain(&place.table) || !is_plain(&place.chain) {
        return HashMap::new();
    }
    // Without the counters, which change.
    let arguments = ["-s", "-a", "list", "chain", place.family.name(), &place.table, &place.chain];
    programs::run("nft", &arguments, |listing| Some(nft::texts(listing, handles))).unwrap_or_default()
}

/// The ruleset of the calling thread's namespace, as far as there are programs to read it with.
fn read(nf_tables: bool) -> Ruleset {
    let mut ruleset = Ruleset::default();
    if nf_tables {
        match programs::run("nft", &["-j", "-a", "list", "ruleset"], nft::parse) {
            Some(tables) => ruleset = tables,
            None => ruleset.unread.nf_tables = true,
        }
        for (family, name) in [(Family::Ip, "iptables"), (Family::Ip6, "ip6tables")] {
            // Of what iptables has made, nft shows only a part.
            if (ruleset.unread.nf_tables || ruleset.opaque.contains(&family))
                && let Some(tables) = save(name, family)
            {
                ruleset.replace(tables);
            }
        }
    }
    for (family, name) in [(Family::Iptables, "iptables"), (Family::Ip6tables, "ip6tables")] {
        // The names of the tables that are in use; iptables would make those that are not.
        let names = format!("/proc/thread-self/net/{}_names", name.replace("tables", "_tables"));
        if fs::read_to_string(names).is_ok_and(|names| !names.is_empty()) {
            match save(name, family) {
                Some(tables) => ruleset.replace(tables),
                None => ruleset.unread.xtables = true,
            }
        }
    }
    ruleset
}

/// The tables that `iptables` has made.
fn save(name: &str, family: Family) -> Option<Ruleset> {
    let nft = !family.is_xtables();
    let kind = if nft { "nft" } else { "legacy" };
    let run = |program: &str| programs::run(program, &[], |text| xtables::parse(text, family, nft));
    run(&format!("{name}-{kind}-save")).or_else(|| run(&format!("{name}-save")))
}
