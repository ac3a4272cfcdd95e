//! What of a recording is shown: what `--port` and `--peer` let through.
//!
//! What a recording counts together, such as rejections from one network, is shown if it is known that all of it passes: because
//! the recording was made with the same filters, or narrower ones, or because of what is counted together.

use crate::{
    decode::{DecodeError, Record},
    model::{peer::Network, rejection::Rejection, selection::Selection},
};
use std::collections::HashMap;
use tracer_common::{
    endpoint::Tuple,
    filter::Filter as _,
    record::RequestRecord,
    rejection::{Folded, Key, RejectionRecord},
};

/// What is shown.
#[derive(Debug, Default)]
pub struct Shown {
    selection: Selection,
    /// Every port that was recorded is shown.
    all_ports: bool,
    /// Every peer that was recorded is shown.
    all_peers: bool,
    /// Rejections that passed, by what the kernel counted them by.
    counted: HashMap<Key, u64, foldhash::fast::FixedState>,
    /// The generation of the latest of them.
    generation: u8,
}

impl Shown {
    /// Shows what `selection` lets through, of a recording of everything.
    pub fn new(selection: Selection) -> Self {
        let mut shown = Self { selection, ..Self::default() };
        shown.recorded(&Selection::default());
        shown
    }

    /// Notes what the recording was made with.
    pub fn recorded(&mut self, recorded: &Selection) {
        self.all_ports = recorded.has_ports_within(&self.selection);
        self.all_peers = recorded.has_peers_within(&self.selection);
    }

    /// Whether all of the recording is shown, so that its totals hold.
    pub const fn is_all(&self) -> bool {
        self.all_ports && self.all_peers
    }

    /// The record as it is shown; `None`: not at all. What cannot be decoded is for the pipeline to count.
    pub fn record(&mut self, record: Result<Record, DecodeError>) -> Option<Result<Record, DecodeError>> {
        let passes = match &record {
            Err(_) => true,
            Ok(Record::Request(record)) => self.request(record),
            Ok(Record::Opened(record) | Record::Closed(record)) => self.tuple(&record.tuple),
            Ok(Record::Rejection(record)) => self.tuple(&record.tuple()),
            Ok(Record::Listener(record)) => self.selection.wants_listener(record.local.port, record.netns),
        };
        match record {
            Ok(Record::Rejection(record)) if passes => Some(Ok(Record::Rejection(self.counted_again(record)))),
            record => passes.then_some(record),
        }
    }

    /// Whether a request is shown. Behind a port mapping either port is one of its names.
    pub fn request(&self, record: &RequestRecord) -> bool {
        let asked = |port| {
            let mut tuple = record.tuple;
            tuple.local.port = port;
            self.tuple(&tuple)
        };
        self.tuple(&record.tuple) || record.asked().is_some_and(asked)
    }

    /// Whether what was counted and not recorded one by one is shown.
    pub fn rest(&self, rejection: &Rejection) -> bool {
        let network = Network::of_address(rejection.peer.ip()).to_ipnet();
        let is_known = !rejection.peer.ip().is_unspecified();
        let port = rejection.local.port();
        (self.all_ports || self.selection.wants_port(port))
            && (self.all_peers || (is_known && self.selection.has_network(&network)))
    }

    fn tuple(&self, tuple: &Tuple) -> bool {
        self.selection.wants_ends(tuple)
    }

    /// The record of a rejection, with a count of those that passed: its own count may be of others, too.
    fn counted_again(&mut self, record: RejectionRecord) -> RejectionRecord {
        let folds = |part: u8| record.folded & part != 0;
        let network = Network::of(&record.peer).to_ipnet();
        let is_of_peers = self.all_peers || (self.selection.has_network(&network) && !folds(Folded::NETWORK));
        let is_of_ports = self.all_ports || !(folds(Folded::PORT) || folds(Folded::LOCAL));
        if is_of_peers && is_of_ports {
            return record;
        }
        // Generations come again after 256. The kernel side counts in one at a time.
        if record.generation != self.generation {
            self.generation = record.generation;
            self.counted.retain(|key, _| record.generation.wrapping_sub(key.generation()) < 2);
        }
        let count = self.counted.entry(record.counted_by()).or_default();
        *count += u64::from(record.repeats) + 1;
        RejectionRecord { count: *count, mixed: 0, ..record }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracer_common::endpoint::Endpoint;

    fn selection(ports: &[u16], peers: &[&str]) -> Selection {
        let peers = peers.iter().map(|it| it.parse().unwrap()).collect();
        Selection { ports: ports.to_vec(), peers }
    }

    /// An event of the peer 10.0.1.`host` for port 8080; `count` of its kind were counted.
    fn event(host: u8, count: u64, folded: u8) -> RejectionRecord {
        let (peer, local) = (Endpoint::v4([10, 0, 1, host], 40_000), Endpoint::v4([10, 0, 9, 9], 8080));
        let key = Key { local, network: Key::network_of(&peer), ..Key::default() };
        RejectionRecord { key, peer, count, folded, mixed: 7, ..RejectionRecord::EMPTY }
    }

    fn counts(shown: &mut Shown, records: &[RejectionRecord]) -> Vec<u64> {
        let shown = records.iter().filter_map(|record| match shown.record(Ok(Record::Rejection(*record))) {
            Some(Ok(Record::Rejection(record))) => Some(record.count),
            _ => None,
        });
        shown.collect()
    }

    #[test]
    fn what_is_counted_with_others_counts_for_itself_alone() {
        let records = [event(1, 1, 0), event(2, 5, 0), event(1, 9, 0)];
        let of = |peers: &[&str]| counts(&mut Shown::new(selection(&[], peers)), &records);
        assert_eq!(of(&[]), [1, 5, 9]);
        assert_eq!(of(&["10.0.1.0/24"]), [1, 5, 9], "all of them pass");
        assert_eq!(of(&["10.0.1.1/32"]), [1, 2], "the others may have come from elsewhere");
        assert_eq!(of(&["10.0.2.0/24"]), Vec::<u64>::new());
        let mut same = Shown::new(selection(&[], &["10.0.1.1/32"]));
        same.recorded(&selection(&[], &["10.0.1.1/32"]));
        assert_eq!(counts(&mut same, &records[..1]), [1]);
        assert_eq!(counts(&mut same, &records[2..]), [9], "only this peer was recorded");
    }

    /// Generations come again: what was counted in the one before with that number is over.
    #[test]
    fn a_generation_that_comes_again_begins_at_none() {
        let mut shown = Shown::new(selection(&[], &["10.0.1.1/32"]));
        for generation in (0..=255).chain(0..=255) {
            let record = RejectionRecord { generation, ..event(1, 9, 0) };
            assert_eq!(shown.counted_again(record).count, 1, "{generation}");
            assert!(shown.counted.len() <= 2);
        }
    }

    #[test]
    fn ports_that_were_counted_together_are_told_apart_by_examples() {
        let records = [event(1, 1, Folded::PORT), event(1, 9, Folded::PORT)];
        let of = |ports: &[u16]| counts(&mut Shown::new(selection(ports, &[])), &records);
        assert_eq!((of(&[]), of(&[8080]), of(&[80])), (vec![1, 9], vec![1, 2], vec![]));
    }

    #[test]
    fn a_rest_is_shown_if_all_of_it_passes() {
        let rest = crate::samples::queue_full();
        let shown = |ports: &[u16], peers: &[&str]| Shown::new(selection(ports, peers)).rest(&rest);
        assert!(shown(&[], &[]) && shown(&[8080], &["10.0.1.0/24"]));
        assert!(!shown(&[80], &[]) && !shown(&[], &["10.0.1.23/32"]));
        let nobody = Rejection { peer: "0.0.0.0:0".parse().unwrap(), ..rest };
        let mut all = Shown::new(selection(&[], &["0.0.0.0/0"]));
        assert!(!all.rest(&nobody) && !all.is_all());
        all.recorded(&selection(&[], &["10.0.0.0/8"]));
        assert!(all.rest(&nobody) && all.is_all());
    }
}
