//! Rejections counted together: by cause, by listener (the end of the connection on this host, and its network namespace),
//! by the network of the peer, and by the kind of packet and the firewall rule.

use super::GROUPS;
use crate::{
    explain::{Explanation, Limits, explain},
    model::{
        listener::Listener,
        peer::Network,
        rejection::{Apart, Cause, Evidence, Rejection},
    },
};
use foldhash::fast::FixedState;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    fmt,
    net::SocketAddr,
};

/// Who was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Peer {
    /// One peer.
    One(SocketAddr),
    /// Several of this network.
    Several(Network),
    /// Not known, or peers of several networks.
    Unknown,
}

impl Peer {
    /// The peer of `rejection`.
    pub fn of(rejection: &Rejection) -> Self {
        let peer = rejection.peer;
        match network(rejection) {
            _ if peer.port() != 0 => Self::One(peer),
            Some(network) => Self::Several(network),
            None => Self::Unknown,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(peer) => peer.fmt(f),
            Self::Several(network) => network.fmt(f),
            Self::Unknown => f.write_str("-"),
        }
    }
}

/// The network of the peer, unless it is not known.
fn network(rejection: &Rejection) -> Option<Network> {
    let address = rejection.peer.ip();
    (!address.is_unspecified()).then(|| Network::of_address(address))
}

/// What rejections are counted by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key {
    cause: Cause,
    listener: Listener,
    network: Option<Network>,
    apart: Apart,
}

/// Rejections that are counted together.
#[derive(Clone, Debug)]
pub struct Row {
    /// All of them as one: the count, the first and the last are those of all, the evidence is the weakest of them. The
    /// rest is about one of them: the latest of those of which most is known.
    pub rejection: Rejection,
    /// The network of their peers, if it is known.
    pub network: Option<Network>,
    /// These are of several listeners and networks, those beyond the number that is kept apart. The rejection holds what they
    /// have in common.
    pub is_other: bool,
    /// These are of several networks at one listener, those beyond that number. The rejection holds what they have in common.
    is_folded: bool,
    /// How much is known of the example.
    known: usize,
}

impl Row {
    fn new(rejection: &Rejection) -> Self {
        let (network, known) = (network(rejection), known(rejection));
        Self { rejection: rejection.clone(), network, is_other: false, is_folded: false, known }
    }

    fn folded(rejection: &Rejection) -> Self {
        Self { is_folded: true, known: 0, ..Self::new(rejection) }
    }

    fn other(rejection: &Rejection) -> Self {
        Self { is_other: true, known: 0, ..Self::new(rejection) }
    }

    fn add(&mut self, next: &Rejection) {
        let all = &mut self.rejection;
        if self.is_other || self.is_folded {
            *all = all.clone().together(next);
            self.network = network(all);
            return;
        }
        let count = all.count.saturating_add(next.count);
        let (first, last) = (all.first.min(next.first), all.last.max(next.last));
        let evidence = all.evidence.max(next.evidence);
        let known = known(next);
        if known >= self.known {
            self.known = known;
            *all = next.clone();
        }
        (all.count, all.first, all.last, all.evidence) = (count, first, last, evidence);
    }
}

/// How many facts are known of `rejection`.
fn known(rejection: &Rejection) -> usize {
    let facts = serde_json::to_value(&rejection.facts);
    facts.ok().as_ref().and_then(serde_json::Value::as_object).map_or(0, serde_json::Map::len)
}

/// A row in words.
#[derive(Clone, Debug)]
pub struct Explained {
    /// The row.
    pub row: Row,
    /// The words.
    pub explanation: Explanation,
}

/// What kind of thing it is, the most harmful first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Something was refused or broken.
    Rejected,
    /// Something is missing; whether anything was refused, and where, is not known here.
    NotSeen,
    /// Nothing was refused or broken yet, but it may be.
    Warning,
}

impl Class {
    /// That of `rejection`, which `explanation` puts into words.
    pub const fn of(rejection: &Rejection, explanation: &Explanation) -> Self {
        match rejection.evidence {
            _ if explanation.alb.is_empty() => Self::Warning,
            Evidence::NotSeen => Self::NotSeen,
            Evidence::Observed | Evidence::Inferred => Self::Rejected,
        }
    }

    /// How people see it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rejected => "REJECTED",
            Self::NotSeen => "NOT SEEN",
            Self::Warning => "WARNING",
        }
    }
}

impl Explained {
    /// What kind of thing it is.
    pub const fn class(&self) -> Class {
        Class::of(&self.row.rejection, &self.explanation)
    }
}

/// The rejections of a run.
#[derive(Debug, Default)]
pub struct Rejections {
    rows: HashMap<Key, Row, FixedState>,
    /// Those beyond [`GROUPS`] rows, by cause and listener: a scan from many networks hides no other listener. As many of these
    /// are kept, those of which most was counted.
    listeners: HashMap<(Cause, Listener), Row, FixedState>,
    /// All others.
    others: BTreeMap<Cause, Row>,
}

impl Rejections {
    /// Counts a rejection.
    pub fn add(&mut self, rejection: &Rejection) {
        let cause = rejection.cause;
        let (listener, apart) = (rejection.listener(), rejection.apart());
        let key = Key { cause, listener, network: network(rejection), apart };
        if let Some(row) = self.rows.get_mut(&key) {
            row.add(rejection);
        } else if self.rows.len() < GROUPS {
            self.rows.insert(key, Row::new(rejection));
        } else if let Some(row) = self.listeners.get_mut(&(cause, listener)) {
            row.add(rejection);
        } else {
            if self.listeners.len() >= GROUPS {
                self.fold_least();
            }
            self.listeners.insert((cause, listener), Row::folded(rejection));
        }
    }

    /// The listener of which least was counted makes way: what it had goes to the others.
    fn fold_least(&mut self) {
        let count = |(key, row): (&(Cause, Listener), &Row)| (row.rejection.count, row.rejection.last, *key);
        let Some((.., key)) = self.listeners.iter().map(count).min() else { return };
        let Some(Row { rejection, .. }) = self.listeners.remove(&key) else { return };
        if let Some(row) = self.others.get_mut(&rejection.cause) {
            row.add(&rejection);
        } else {
            self.others.insert(rejection.cause, Row::other(&rejection));
        }
    }

    fn all(&self) -> impl Iterator<Item = &Row> {
        self.rows.values().chain(self.listeners.values()).chain(self.others.values())
    }

    /// The rows in words: by class, the cause that was counted most first, and of a cause the listener and network that
    /// was counted most.
    pub fn explained(&self, limits: Limits) -> Vec<Explained> {
        let mut totals = BTreeMap::<Cause, u64>::new();
        for row in self.all() {
            let total = totals.entry(row.rejection.cause).or_default();
            *total = total.saturating_add(row.rejection.count);
        }
        let explained = |row: &Row| Explained { row: row.clone(), explanation: explain(&row.rejection, limits) };
        let mut rows: Vec<_> = self.all().map(explained).collect();
        rows.sort_by_key(|it| {
            let Rejection { cause, count, local, netns, .. } = it.row.rejection;
            let total = totals.get(&cause).copied().unwrap_or(0);
            let key = ((local, netns), it.row.network, it.row.rejection.apart());
            (it.class(), Reverse(total), cause, it.row.is_other, Reverse(count), key)
        });
        rows
    }
}

/// How many packets and connections were rejected, of those that `rows` stand for.
pub fn total(rows: &[Explained]) -> u64 {
    let rejected = rows.iter().filter(|it| it.class() == Class::Rejected);
    rejected.fold(0, |total, it| total.saturating_add(it.row.rejection.count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::rejection::{Facts, Rule},
        samples::{S, queue_full, race, short},
    };

    fn rows(rejections: &Rejections) -> Vec<Explained> {
        rejections.explained(Limits::default())
    }

    #[test]
    fn a_row_holds_the_sums_and_the_example_of_which_most_is_known() {
        let mut rejections = Rejections::default();
        let told = queue_full();
        let bare = Rejection {
            count: 3,
            first: S,
            last: told.last + S,
            peer: "10.0.1.99:1".parse().unwrap(),
            evidence: Evidence::Inferred,
            facts: Facts::default(),
            ..told.clone()
        };
        rejections.add(&told);
        rejections.add(&bare);
        let rows = rows(&rejections);
        let [Explained { row, .. }] = &rows[..] else { panic!("{rows:?}") };
        let expected = Rejection {
            count: told.count + 3,
            first: S,
            last: told.last + S,
            evidence: Evidence::Inferred,
            ..told.clone()
        };
        assert_eq!(row.rejection, expected);
        assert_eq!(row.network.unwrap().to_string(), "10.0.1.0/24");
        // Of two of which as much is known, the later one.
        let later = Rejection { peer: "10.0.1.98:1".parse().unwrap(), last: told.last + 2 * S, ..told };
        rejections.add(&later);
        assert_eq!(self::rows(&rejections)[0].row.rejection.peer, later.peer);
    }

    #[test]
    fn causes_listeners_and_networks_are_kept_apart() {
        let mut rejections = Rejections::default();
        let same = Rejection { peer: "10.0.1.0:0".parse().unwrap(), ..queue_full() };
        let network = Rejection { peer: "10.0.2.1:1".parse().unwrap(), ..queue_full() };
        let listener = Rejection { local: "10.0.2.5:81".parse().unwrap(), ..queue_full() };
        let unknown = Rejection { peer: "[::]:0".parse().unwrap(), ..queue_full() };
        let netns = Rejection { netns: queue_full().netns + 1, ..queue_full() };
        for rejection in [queue_full(), same, network, listener, unknown, netns, race()] {
            rejections.add(&rejection);
        }
        let rows = rows(&rejections);
        assert_eq!(rows.len(), 6);
        let first = &rows[0].row.rejection;
        assert_eq!((first.cause, first.count), (Cause::AcceptQueueFull, 2 * queue_full().count));
    }

    #[test]
    fn rules_and_kinds_of_packets_are_kept_apart() {
        let rule = |handle, text: &str| {
            Some(Rule { chain: "inet filter input".to_owned(), handle: Some(handle), text: text.to_owned() })
        };
        let dropped = |packet: &str, rule| {
            let facts = Facts { packet: Some(packet.to_owned()), rule, ..Facts::default() };
            Rejection { cause: Cause::FirewallDrop, count: 1, facts, ..queue_full() }
        };
        let mut rejections = Rejections::default();
        for rejection in [
            dropped("data", rule(2, "drop")),
            // The same rule, of which more is known.
            dropped("data", rule(2, "ip saddr 10.0.1.0/24 drop")),
            dropped("SYN", rule(2, "drop")),
            dropped("SYN", rule(3, "drop")),
            dropped("SYN", None),
        ] {
            rejections.add(&rejection);
        }
        let rows = rows(&rejections);
        assert_eq!(rows.iter().map(|it| it.row.rejection.count).collect::<Vec<_>>(), [2, 1, 1, 1]);
        // How the peer left is not what was refused.
        let left = |packet: &str| Rejection { cause: Cause::PeerGaveUp, ..dropped(packet, None) };
        assert_eq!(left("FIN").apart(), left("RST").apart());
    }

    #[test]
    fn totals_are_exact_however_many_rows_there_are() {
        let mut rejections = Rejections::default();
        let of = |port: u16, cause| Rejection { cause, count: 7, local: ([10, 0, 2, 5], port).into(), ..queue_full() };
        for port in 1..=500 {
            rejections.add(&of(port, Cause::NoListener));
        }
        for port in 1..=3 {
            rejections.add(&of(port, Cause::FirewallDrop));
        }
        let rows = rows(&rejections);
        let total = |cause| {
            rows.iter().map(|it| &it.row.rejection).filter(|it| it.cause == cause).map(|it| it.count).sum::<u64>()
        };
        assert_eq!((total(Cause::NoListener), total(Cause::FirewallDrop)), (3500, 21));
        let others: Vec<_> = rows.iter().filter(|it| it.row.is_other).collect();
        assert_eq!((rows.len(), others.len()), (2 * GROUPS + 1, 1));
        // What they have in common is known, and the port, in which they differ, is not.
        let of = |row: &Row| (Peer::of(&row.rejection).to_string(), row.rejection.local.to_string());
        let common = ("10.0.1.0/24".to_owned(), "10.0.2.5:0".to_owned());
        assert!(others.iter().all(|it| of(&it.row) == common || it.row.rejection.count == 7), "{others:#?}");
    }

    #[test]
    fn a_flood_from_many_networks_hides_no_other_listener() {
        let mut rejections = Rejections::default();
        for network in 0..=255 {
            let peer = ([10, 9, network, 1], 41_234).into();
            rejections.add(&Rejection { cause: Cause::NoListener, peer, ..queue_full() });
        }
        rejections.add(&queue_full());
        let rows = rows(&rejections);
        let full: Vec<_> = rows.iter().filter(|it| it.row.rejection.cause == Cause::AcceptQueueFull).collect();
        let [Explained { row, .. }] = full[..] else { panic!("{full:#?}") };
        assert_eq!((row.rejection.local, row.rejection.peer.ip()), (queue_full().local, queue_full().peer.ip()));
        assert_eq!((row.is_other, row.rejection.count), (false, queue_full().count));
        // Those of the flood that are not kept apart have their listener, and no network.
        let folded = rows.iter().find(|it| it.row.is_folded && it.row.rejection.cause == Cause::NoListener).unwrap();
        let expected = (queue_full().local, None, 192 * queue_full().count);
        assert_eq!((folded.row.rejection.local, folded.row.network, folded.row.rejection.count), expected);
    }

    #[test]
    fn what_was_rejected_comes_first_and_is_what_is_counted() {
        let mut rejections = Rejections::default();
        let unseen = Rejection { cause: Cause::NothingArrived, evidence: Evidence::NotSeen, count: 99, ..queue_full() };
        for rejection in [Rejection { count: 1000, ..short() }, unseen, queue_full(), race()] {
            rejections.add(&rejection);
        }
        let rows = rows(&rejections);
        let classes: Vec<_> = rows.iter().map(Explained::class).collect();
        assert_eq!(classes, [Class::Rejected, Class::Rejected, Class::NotSeen, Class::Warning]);
        assert_eq!(total(&rows), queue_full().count + 1);
    }

    #[test]
    fn the_peer_is_one_several_or_unknown() {
        let peer = |text: &str| Peer::of(&Rejection { peer: text.parse().unwrap(), ..queue_full() }).to_string();
        assert_eq!(peer("10.0.1.23:7"), "10.0.1.23:7");
        assert_eq!(peer("10.0.1.0:0"), "10.0.1.0/24");
        assert_eq!(peer("[2001:db8:0:1::]:0"), "2001:db8:0:1::/64");
        assert_eq!((peer("0.0.0.0:0").as_str(), peer("[::]:0").as_str()), ("-", "-"));
    }
}
