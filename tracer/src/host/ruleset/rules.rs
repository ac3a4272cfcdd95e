//! A ruleset, as far as it decides whether a packet is dropped: chains, and what their rules match and decide.

use std::{collections::BTreeMap, fmt, ops::RangeInclusive};

/// Rules kept at most: a ruleset with more is not searched.
const CAPACITY: usize = 10_000;

/// Whose tables, and for which packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// All packets of a network device.
    Netdev,
    /// IPv4, in the tables of xtables (`iptables-legacy`).
    Iptables,
    /// IPv6, in the tables of xtables (`ip6tables-legacy`).
    Ip6tables,
}

impl Family {
    const ALL: [Self; 6] = [Self::Inet, Self::Ip, Self::Ip6, Self::Netdev, Self::Iptables, Self::Ip6tables];

    /// The family of that name; those that no IP packet of this host passes have none here.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.name() == name)
    }

    /// As `nft` names it; the tables of xtables by the program that edits them.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Netdev => "netdev",
            Self::Iptables => "iptables",
            Self::Ip6tables => "ip6tables",
        }
    }

    /// Whether packets of IPv4, or else of IPv6, pass its chains.
    pub const fn sees(self, ipv4: bool) -> bool {
        match self {
            Self::Inet | Self::Netdev => true,
            Self::Ip | Self::Iptables => ipv4,
            Self::Ip6 | Self::Ip6tables => !ipv4,
        }
    }

    /// Whether its tables are those of xtables and not of `nf_tables`.
    pub const fn is_xtables(self) -> bool {
        matches!(self, Self::Iptables | Self::Ip6tables)
    }
}

/// Where a base chain hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// From a network device, before anything else.
    Ingress,
    /// Arrived, not yet routed.
    Prerouting,
    /// To this host.
    Input,
    /// From one interface to another.
    Forward,
    /// From this host.
    Output,
    /// On its way out.
    Postrouting,
    /// To a network device, after all else.
    Egress,
}

impl Hook {
    /// The hook of that name, in small letters.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "ingress" => Self::Ingress,
            "prerouting" => Self::Prerouting,
            "input" => Self::Input,
            "forward" => Self::Forward,
            "output" => Self::Output,
            "postrouting" => Self::Postrouting,
            "egress" => Self::Egress,
            _ => return None,
        })
    }
}

/// The name of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The family of its table.
    pub family: Family,
    /// Its table.
    pub table: String,
    /// Its own name.
    pub chain: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.family.name(), self.table, self.chain)
    }
}

/// What makes a chain one that packets come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    /// Where it hangs.
    pub hook: Hook,
    /// Of several at one hook the lowest comes first.
    pub priority: i64,
    /// Its policy is to drop what comes to its end.
    pub drops: bool,
}

/// A chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Absent for one that is only jumped to.
    pub base: Option<Base>,
    /// Its rules that have a verdict.
    pub entries: Vec<Entry>,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its handle in `nf_tables`.
    pub handle: Option<u64>,
    /// Its text, where that came with it.
    pub text: Option<String>,
    /// What it matches: all of these must hold.
    pub conditions: Vec<Condition>,
    /// What it decides then.
    pub verdict: Verdict,
}

/// What a rule decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The packet leaves the base chain: accepted, translated, or queued to a program.
    Accept,
    /// Dropped in silence.
    Drop,
    /// Dropped, and answered with a reset or an ICMP error.
    Reject,
    /// Back to the chain that jumped here; in a base chain its policy.
    Return,
    /// On in this chain, and then behind the rule.
    Jump(String),
    /// On in this chain, and not back.
    Goto(String),
    /// As the map says.
    Map(Option<Field>, Elements<Map>),
}

/// A property of a packet that rules match, always a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// `NFPROTO_IPV4` or `NFPROTO_IPV6`.
    NetworkProtocol,
    /// The number of the protocol in IP.
    Protocol,
    /// The IPv4 source address.
    Source4,
    /// The IPv4 destination address.
    Destination4,
    /// The IPv6 source address.
    Source6,
    /// The IPv6 destination address.
    Destination6,
    /// The TCP source port.
    SourcePort,
    /// The TCP destination port.
    DestinationPort,
    /// What connection tracking says, one of [`state`].
    State,
}

/// The states of connection tracking, as bits in the kernel's `NF_CT_STATE_*`.
pub mod state {
    /// All of them, by name.
    pub const NAMES: [(&str, u128); 5] =
        [("invalid", 1), ("established", 2), ("related", 4), ("new", NEW), ("untracked", 64)];
    /// The first packet of a connection.
    pub const NEW: u128 = 8;
}

/// `NFPROTO_IPV4`.
pub const IPV4: u128 = 2;
/// `NFPROTO_IPV6`.
pub const IPV6: u128 = 10;
/// TCP's number in IP.
pub const TCP: u128 = 6;

/// What must hold of a packet for a rule to match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// What is tested.
    pub test: Test,
    /// The opposite must hold.
    pub negated: bool,
}

impl Condition {
    /// A condition that is not understood.
    pub const UNKNOWN: Self = Self { test: Test::Unknown, negated: false };
    /// A condition that no TCP packet meets.
    pub const NEVER: Self = Self { test: Test::Never, negated: false };

    /// That `field` is `value`.
    pub fn is(field: Field, value: u128) -> Self {
        let values = Values { ranges: vec![value..=value], complete: true };
        Self { test: Test::Among(field, Elements::Here(values)), negated: false }
    }
}

/// A test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// It is about other packets than those of TCP.
    Never,
    /// Not understood, or about something that is not known of the packet, such as its interface.
    Unknown,
    /// The field has one of these values.
    Among(Field, Elements<Values>),
    /// The TCP flags in `mask` are exactly those in `value`.
    Flags {
        /// The flags that are looked at.
        mask: u8,
        /// Those that must be set.
        value: u8,
    },
    /// At least one of these TCP flags is set.
    AnyFlag(u8),
}

/// What a set or map holds: written in the rule, or kept under a name in its table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Elements<T> {
    /// In the rule.
    Here(T),
    /// In the set or map of that name.
    Named(String),
}

/// Values that a field may have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values {
    /// Ranges of values.
    pub ranges: Vec<RangeInclusive<u128>>,
    /// There are no others.
    pub complete: bool,
}

/// A verdict for each range of values; what is not found has none.
pub type Map = Vec<(RangeInclusive<u128>, Verdict)>;

/// What belongs to a table, by its family, its name, and the name in it.
type InTable<T> = BTreeMap<(Family, String, String), T>;

/// All that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// The chains.
    pub chains: BTreeMap<Place, Chain>,
    /// The sets with a name.
    pub sets: InTable<Values>,
    /// The verdict maps with a name.
    pub maps: InTable<Map>,
    /// The families with rules of which `nft` knows only that `iptables` made them.
    pub opaque: Vec<Family>,
    /// What could not be read.
    pub unread: Unread,
    count: usize,
}

/// The tables that could not be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// Those of `nf_tables`, or a part of them.
    pub nf_tables: bool,
    /// Those of xtables, or a part of them.
    pub xtables: bool,
}

impl Ruleset {
    /// Adds a rule to the end of a chain. `None` if there are too many.
    pub fn add(&mut self, place: Place, entry: Entry) -> Option<()> {
        self.count += 1;
        self.chains.entry(place).or_default().entries.push(entry);
        (self.count <= CAPACITY).then_some(())
    }

    /// Takes the tables of `other`, in place of those of the same name.
    pub fn replace(&mut self, other: Self) {
        let same = |a: &Place, b: &Place| a.family == b.family && a.table == b.table;
        self.chains.retain(|place, _| !other.chains.keys().any(|new| same(new, place)));
        self.chains.extend(other.chains);
    }
}
