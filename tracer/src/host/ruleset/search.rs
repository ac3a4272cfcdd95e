//! Which rules may have dropped a packet: its way through the base chains, with what is known of the packet.
//!
//! A rule that the packet contradicts is left out. One whose matches all hold ends the search where the packet surely
//! came to it; one with a match that cannot be judged is a suspect, and so is all that comes after it.

use super::rules::{
    Base, Condition, Elements, Entry, Family, Field, Hook, IPV4, IPV6, Map, Place, Ruleset, TCP, Test, Values, Verdict,
    state,
};
use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
};
use tracer_common::rejection;

/// Jumps that may follow each other; the kernel allows 16.
const MAX_DEPTH: u32 = 16;
/// Rules looked at for one packet.
const MAX_STEPS: u32 = 100_000;

/// What is known of a packet, where it was dropped. A port 0 is not known; the address with it is that of a network, the
/// /24 or the /64, of which not more is known either.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    /// Where it came from.
    pub source: SocketAddr,
    /// Where it was going.
    pub destination: SocketAddr,
    /// What it was.
    pub kind: rejection::PacketKind,
    /// From this host's side to the peer.
    pub outgoing: bool,
}

impl Packet {
    /// This host's side.
    pub const fn local(&self) -> IpAddr {
        if self.outgoing { self.source.ip() } else { self.destination.ip() }
    }

    /// The values that `field` may have; `None`: any.
    fn value(&self, field: Field) -> Option<RangeInclusive<u128>> {
        let only = |value| Some(value..=value);
        let port = |side: &SocketAddr| only(side.port().into()).filter(|_| side.port() != 0);
        match field {
            Field::NetworkProtocol => only(if self.local().is_ipv4() { IPV4 } else { IPV6 }),
            Field::Protocol => only(TCP),
            Field::Source4 | Field::Source6 => self.addresses(&self.source),
            Field::Destination4 | Field::Destination6 => self.addresses(&self.destination),
            Field::SourcePort => port(&self.source),
            Field::DestinationPort => port(&self.destination),
            Field::State => None,
        }
    }

    fn addresses(&self, side: &SocketAddr) -> Option<RangeInclusive<u128>> {
        let (address, network) = match side.ip() {
            IpAddr::V4(address) => (address.to_bits().into(), 0xff),
            IpAddr::V6(address) => (address.to_bits(), u64::MAX.into()),
        };
        let others = if side.port() == 0 { network } else { 0 };
        (side.is_ipv4() == self.local().is_ipv4()).then_some(address & !others..=address | others)
    }

    /// The TCP flags that are known, and those of them that are set. That a SYN has no FIN is taken for granted.
    const fn flags(&self) -> (u8, u8) {
        const FIN: u8 = 1;
        const SYN: u8 = 2;
        const RST: u8 = 4;
        const ACK: u8 = 16;
        match self.kind {
            rejection::PacketKind::Syn => (FIN | SYN | RST | ACK, SYN),
            rejection::PacketKind::SynAck => (FIN | SYN | RST | ACK, SYN | ACK),
            rejection::PacketKind::Ack => (FIN | SYN | RST | ACK, ACK),
            rejection::PacketKind::Data => (SYN | RST, 0),
            rejection::PacketKind::Fin => (FIN | SYN | RST, FIN),
            rejection::PacketKind::Reset => (RST, RST),
            rejection::PacketKind::Other => (FIN | SYN | RST | ACK, 0),
        }
    }

    /// The hooks that it passes, in this order; `here`: this host's side is an address of the namespace.
    const fn way(&self, here: bool) -> &'static [Hook] {
        match (self.outgoing, here) {
            (false, true) => &[Hook::Ingress, Hook::Prerouting, Hook::Input],
            (true, true) => &[Hook::Output, Hook::Postrouting, Hook::Egress],
            (_, false) => &[Hook::Ingress, Hook::Prerouting, Hook::Forward, Hook::Postrouting, Hook::Egress],
        }
    }
}

/// Whether something holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Truth {
    No,
    Maybe,
    Yes,
}

impl Truth {
    const fn not(self) -> Self {
        match self {
            Self::No => Self::Yes,
            Self::Maybe => Self::Maybe,
            Self::Yes => Self::No,
        }
    }
}

/// A rule that may have dropped the packet.
#[derive(Clone, Copy, Debug)]
pub struct Suspect<'a> {
    /// Its chain.
    pub place: &'a Place,
    /// The rule; absent for the chain's policy.
    pub entry: Option<&'a Entry>,
    /// It answers the packet.
    pub rejects: bool,
}

/// The rules that may have dropped `packet`, in the order in which it comes to them. `here`: this host's side is an
/// address of the namespace. `by_nft`: it was dropped by `nf_tables`, so not by a rule of xtables.
pub fn suspects<'a>(rules: &'a Ruleset, packet: &Packet, here: bool, by_nft: bool) -> Vec<Suspect<'a>> {
    let search = |state| {
        let mut search = Search { rules, packet: *packet, state, found: Vec::new(), steps: 0 };
        search.pass(here, by_nft);
        if search.steps > MAX_STEPS { Vec::new() } else { search.found }
    };
    // A SYN begins a connection; a packet within one may also be invalid to connection tracking. If no rule can have
    // dropped a new connection, the SYN was not that either.
    let state = (packet.kind == rejection::PacketKind::Syn).then_some(state::NEW);
    let found = search(state);
    if found.is_empty() && state.is_some() { search(None) } else { found }
}

struct Search<'a> {
    rules: &'a Ruleset,
    packet: Packet,
    /// What connection tracking says of the packet.
    state: Option<u128>,
    found: Vec<Suspect<'a>>,
    steps: u32,
}

/// How a packet may leave a chain, other than dropped.
#[derive(Clone, Copy)]
struct Exit {
    /// Over its end, or by a return.
    falls: bool,
    /// Accepted.
    accepts: bool,
}

impl Exit {
    /// In a way that is not known.
    const ANY: Self = Self { falls: true, accepts: true };
}

impl<'a> Search<'a> {
    /// Goes the packet's way through the base chains.
    fn pass(&mut self, here: bool, by_nft: bool) {
        let way = self.packet.way(here);
        let is_ipv4 = self.packet.local().is_ipv4();
        let mut bases: Vec<(usize, &Place, Base)> = self
            .rules
            .chains
            .iter()
            .filter(|(place, _)| place.family.sees(is_ipv4) && !(by_nft && place.family.is_xtables()))
            .filter_map(|(place, chain)| {
                let base = chain.base?;
                Some((way.iter().position(|hook| *hook == base.hook)?, place, base))
            })
            .collect();
        bases.sort_by_key(|&(position, _, base)| (position, base.priority));
        for (_, place, base) in bases {
            let exit = self.walk(place, 0);
            if exit.falls && base.drops {
                self.suspect(place, None, false);
            }
            let passes = exit.accepts || exit.falls && !base.drops;
            // Chains of a device may be another's than the packet's.
            if !passes && !matches!(base.hook, Hook::Ingress | Hook::Egress) {
                break;
            }
        }
    }

    fn walk(&mut self, place: &'a Place, depth: u32) -> Exit {
        let mut exit = Exit { falls: false, accepts: false };
        let Some(chain) = self.rules.chains.get(place).filter(|_| depth <= MAX_DEPTH) else { return Exit::ANY };
        for entry in &chain.entries {
            self.steps += 1;
            if self.steps > MAX_STEPS {
                return Exit::ANY;
            }
            let matches = entry.conditions.iter().map(|condition| self.holds(condition, place)).min();
            let matches = matches.unwrap_or(Truth::Yes);
            if matches == Truth::No {
                continue;
            }
            for (sure, verdict) in self.verdicts(&entry.verdict, place) {
                let mut ends = matches.min(sure) == Truth::Yes;
                match verdict {
                    Verdict::Accept => exit.accepts = true,
                    Verdict::Drop | Verdict::Reject => {
                        self.suspect(place, Some(entry), *verdict == Verdict::Reject);
                    }
                    Verdict::Return => exit.falls = true,
                    Verdict::Jump(target) | Verdict::Goto(target) => {
                        let inner = self.jump(place, target, depth);
                        exit.accepts |= inner.accepts;
                        if matches!(verdict, Verdict::Goto(_)) {
                            exit.falls |= inner.falls;
                        } else {
                            ends &= !inner.falls;
                        }
                    }
                    // There are no maps in maps.
                    Verdict::Map(..) => return Exit::ANY,
                }
                if ends {
                    return exit;
                }
            }
        }
        exit.falls = true;
        exit
    }

    fn jump(&mut self, from: &Place, chain: &str, depth: u32) -> Exit {
        let target = Place { chain: chain.to_owned(), ..from.clone() };
        match self.rules.chains.get_key_value(&target) {
            Some((target, _)) => self.walk(target, depth + 1),
            None => Exit::ANY,
        }
    }

    fn suspect(&mut self, place: &'a Place, entry: Option<&'a Entry>, rejects: bool) {
        let is_it = |known: &Suspect| match (known.entry, entry) {
            (Some(a), Some(b)) => std::ptr::eq(a, b),
            (None, None) => known.place == place,
            _ => false,
        };
        if !self.found.iter().any(is_it) {
            self.found.push(Suspect { place, entry, rejects });
        }
    }

    fn value(&self, field: Field) -> Option<RangeInclusive<u128>> {
        if field == Field::State { self.state.map(|state| state..=state) } else { self.packet.value(field) }
    }

    /// What `verdict` comes to, and how sure that is.
    fn verdicts(&self, verdict: &'a Verdict, place: &Place) -> Vec<(Truth, &'a Verdict)> {
        let Verdict::Map(field, elements) = verdict else { return vec![(Truth::Yes, verdict)] };
        let map: &Map = match elements {
            Elements::Here(map) => map,
            Elements::Named(name) => match self.rules.maps.get(&in_table(place, name)) {
                Some(map) => map,
                None => return Vec::new(),
            },
        };
        let Some(value) = field.and_then(|field| self.value(field)) else {
            return map.iter().map(|(_, verdict)| (Truth::Maybe, verdict)).collect();
        };
        let mut possible = map.iter().filter(|(range, _)| overlap(range, &value)).peekable();
        match possible.peek() {
            Some((range, verdict)) if contains(range, &value) => vec![(Truth::Yes, verdict)],
            _ => possible.map(|(_, verdict)| (Truth::Maybe, verdict)).collect(),
        }
    }

    fn holds(&self, condition: &Condition, place: &Place) -> Truth {
        let (known, set) = self.packet.flags();
        let truth = match &condition.test {
            Test::Never => return Truth::No,
            Test::Unknown => return Truth::Maybe,
            Test::Among(field, elements) => {
                let values = match elements {
                    Elements::Here(values) => Some(values),
                    Elements::Named(name) => self.rules.sets.get(&in_table(place, name)),
                };
                match (self.value(*field), values) {
                    (Some(value), Some(values)) => among(&value, values),
                    _ => Truth::Maybe,
                }
            }
            Test::Flags { mask, value } if set & mask != value & known & mask => Truth::No,
            Test::Flags { mask, .. } if mask & !known == 0 => Truth::Yes,
            Test::AnyFlag(mask) if set & mask != 0 => Truth::Yes,
            Test::AnyFlag(mask) if mask & !known == 0 => Truth::No,
            Test::Flags { .. } | Test::AnyFlag(_) => Truth::Maybe,
        };
        if condition.negated { truth.not() } else { truth }
    }
}

fn in_table(place: &Place, name: &str) -> (Family, String, String) {
    (place.family, place.table.clone(), name.to_owned())
}

fn among(value: &RangeInclusive<u128>, values: &Values) -> Truth {
    if values.ranges.iter().any(|range| contains(range, value)) {
        Truth::Yes
    } else if values.complete && !values.ranges.iter().any(|range| overlap(range, value)) {
        Truth::No
    } else {
        Truth::Maybe
    }
}

fn contains(range: &RangeInclusive<u128>, value: &RangeInclusive<u128>) -> bool {
    range.start() <= value.start() && value.end() <= range.end()
}

fn overlap(range: &RangeInclusive<u128>, value: &RangeInclusive<u128>) -> bool {
    range.start() <= value.end() && value.start() <= range.end()
}
