//! What is counted of rejections, listeners and network namespaces.

use super::{Folded, Key, Queue, RejectionRecord};
use crate::{
    endpoint::{Address, Endpoint},
    shared::{Shared, shared},
};

/// How often, and when, what a [`Key`] says has happened. Moments are `CLOCK_MONOTONIC` nanoseconds.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events, those that were taken back included.
    pub count: u64,
    /// Of these, SYNs for a full queue that something dropped before they came to that queue.
    pub taken_back: u64,
    /// The first one.
    pub first: u64,
    /// The latest one.
    pub last: u64,
    /// When a record of it was last made.
    pub recorded: u64,
    /// Events until that record, it included.
    pub reported: u64,
    /// This host's side in the latest event.
    pub local: Endpoint,
    /// The peer's network in the latest event.
    pub network: Address,
    /// In what the events since the latest record differ: a set of [`Folded`].
    pub mixed: u8,
    /// Always 0.
    pub padding: [u8; 3],
}

/// This many events of a key are reported at once, and the rest once in [`REPORT_INTERVAL_NS`].
const AT_ONCE: u64 = 3;
/// Nanoseconds between two reports of a key.
const REPORT_INTERVAL_NS: u64 = 1_000_000_000;

impl Tally {
    /// How often it happened.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.count.saturating_sub(self.taken_back)
    }
}

impl SharedTally {
    /// Notes the event of `record`, of which `count` are counted now. True if it is to be reported: then the record says in
    /// what the events since the report before differ.
    ///
    /// Fields besides the count are not exact where several CPUs count at once. That costs one report more or less.
    #[inline(always)]
    pub fn note(&self, record: &mut RejectionRecord, count: u64, now: u64) -> bool {
        let key = &record.key;
        // The first event since the latest report has nothing to differ from.
        if count.wrapping_sub(self.reported.get()) > u64::from(record.repeats) + 1 {
            let mut mixed = 0;
            let local = self.local.get();
            if local.address != key.local.address {
                mixed |= Folded::LOCAL | Folded::PORT;
            }
            if local.port != key.local.port {
                mixed |= Folded::PORT;
            }
            if self.network.get() != key.network {
                mixed |= Folded::NETWORK;
            }
            self.mixed.set(self.mixed.get() | mixed);
        }
        self.local.set(key.local);
        self.network.set(key.network);
        self.last.set(now);
        record.count = count.saturating_sub(self.taken_back.get());
        if count > AT_ONCE && now.wrapping_sub(self.recorded.get()) < REPORT_INTERVAL_NS {
            return false;
        }
        record.mixed = self.mixed.get();
        self.recorded.set(now);
        self.reported.set(count);
        self.mixed.set(0);
        true
    }
}

impl Key {
    /// The key of an event as in its record, with the parts of `tally` that the key of the maps does not hold.
    #[must_use]
    pub fn unfolded(&self, tally: &Tally) -> Self {
        let mut key = Self { flags: self.flags & !Self::GENERATION, ..*self };
        if key.local.port == 0 {
            key.local = tally.local;
        }
        if key.network == Address::NONE {
            key.network = tally.network;
        }
        key
    }
}

/// A listener's accept queue over time, by network namespace and local endpoint.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenerTally {
    /// SYNs that came for it.
    pub syns: u64,
    /// When the latest SYN came.
    pub last: u64,
    /// The queue at the latest SYN.
    pub queue: Queue,
    /// The longest queue at any SYN.
    pub longest: Queue,
}

/// A listener.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ListenerKey {
    /// Network namespace, by inode number.
    pub netns: u32,
    /// Its address, which may be the wildcard, and port.
    pub local: Endpoint,
}

/// A SYN that no listener of this host got. The number is the index into the `STRAY_SYNS` map.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stray {
    /// No socket got it: nothing listens there.
    Nobody = 0,
    /// A connection got it, open or with its handshake under way: the SYN was sent again.
    Connection = 1,
    /// No socket got it, and another one took its place in memory while it waited for an answer.
    Forgotten = 2,
}

impl Stray {
    /// How many kinds there are.
    pub const COUNT: u32 = 3;
}

/// SYNs for an end of this host at which nothing listens: the port is mapped to another one, the packet is forwarded, or it
/// is refused.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArrivalTally {
    /// SYNs of connection attempts.
    pub syns: u64,
    /// SYNs that came again, because nothing had answered.
    pub again: u64,
    /// Attempts that a socket of this host answered.
    pub answered: u64,
    /// Attempts that left through another interface.
    pub forwarded: u64,
    /// When the first SYN came.
    pub first: u64,
    /// When the latest one came.
    pub last: u64,
    /// Where the latest of those that left was for.
    pub to: Endpoint,
    /// Always 0.
    pub padding: u32,
}

/// What was seen in a network namespace, to be held against the kernel's own counters.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NamespaceTally {
    /// Resets that the host's TCP sent, as the tracepoint tells.
    pub resets: u64,
    /// Packets that TCP sent again.
    pub retransmits: u64,
}

shared! {
    /// A [`Tally`] in a map.
    SharedTally of Tally {
        count: Shared<u64>,
        taken_back: Shared<u64>,
        first: Shared<u64>,
        last: Shared<u64>,
        recorded: Shared<u64>,
        reported: Shared<u64>,
        local: Shared<Endpoint>,
        network: Shared<Address>,
        mixed: Shared<u8>,
        padding: Shared<[u8; 3]>,
    }
    /// A [`ListenerTally`] in a map.
    SharedListenerTally of ListenerTally {
        syns: Shared<u64>,
        last: Shared<u64>,
        queue: Shared<Queue>,
        longest: Shared<Queue>,
    }
    /// An [`ArrivalTally`] in a map.
    SharedArrivalTally of ArrivalTally {
        syns: Shared<u64>,
        again: Shared<u64>,
        answered: Shared<u64>,
        forwarded: Shared<u64>,
        first: Shared<u64>,
        last: Shared<u64>,
        to: Shared<Endpoint>,
        padding: Shared<u32>,
    }
    /// A [`NamespaceTally`] in a map.
    SharedNamespaceTally of NamespaceTally {
        resets: Shared<u64>,
        retransmits: Shared<u64>,
    }
}

const _: () = assert!(size_of::<Tally>() == 88);
const _: () = assert!(size_of::<ListenerKey>() == 24 && size_of::<ListenerTally>() == 32);
const _: () = assert!(size_of::<NamespaceTally>() == 16 && size_of::<ArrivalTally>() == 72);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{packet::PacketKind, rejection::Event};

    fn syn(port: u16, network: u8) -> RejectionRecord {
        let mut record = RejectionRecord::EMPTY;
        record.key.event = Event::Dropped as u8;
        record.key.flags = Key::QUEUE_FULL;
        record.key.local = Endpoint::v4([10, 0, 2, 5], port);
        record.key.network = Endpoint::v4([10, 0, network, 0], 0).address;
        record
    }

    #[test]
    fn only_syns_for_ports_that_nobody_serves_or_asked_for_are_folded() {
        let record = RejectionRecord {
            key: Key { packet: PacketKind::Syn as u8, ..syn(8080, 1).key },
            ..RejectionRecord::EMPTY
        };
        let key = record.key;
        assert!(key.is_for_no_listener(|| false, |_| false));
        assert!(!key.is_for_no_listener(|| true, |_| false) && !key.is_for_no_listener(|| false, |port| port == 8080));
        assert!(!Key { packet: PacketKind::Data as u8, ..key }.is_for_no_listener(|| false, |_| false));
        assert!(!Key { event: Event::AcceptQueueFull as u8, ..key }.is_for_no_listener(|| false, |_| false));
    }

    #[test]
    fn a_key_of_the_maps_gives_back_what_is_not_folded() {
        for folded in 0..8 {
            let mut record = RejectionRecord { folded, generation: 0xab, ..syn(8080, 1) };
            let counted = record.counted_by();
            assert_eq!(counted.generation(), 0xab);
            assert_eq!(counted.local.port == 0, folded & (Folded::PORT | Folded::LOCAL) != 0);
            assert_eq!(counted.local.address == Address::NONE, folded & Folded::LOCAL != 0);
            assert_eq!(counted.network == Address::NONE, folded & Folded::NETWORK != 0);
            let tally = SharedTally::default();
            tally.note(&mut record, 1, 1);
            assert_eq!(counted.unfolded(&tally.get()), record.key);
        }
    }

    #[test]
    fn what_is_counted_together_says_in_what_it_differs() {
        let tally = SharedTally::default();
        let mut count = 0;
        let mut note = |port, network, now| {
            let mut record = syn(port, network);
            count += 1;
            tally.note(&mut record, count, now).then_some(record.mixed)
        };
        // The first ones are reported one by one.
        assert_eq!([note(1, 1, 1), note(2, 1, 2), note(2, 2, 3)], [Some(0); 3]);
        // The same ones after that, though not the same as before.
        assert_eq!(note(5, 3, 4), None);
        assert_eq!(note(5, 3, 4), None);
        let second = REPORT_INTERVAL_NS;
        assert_eq!(note(5, 3, 3 + second), Some(0));
        assert_eq!((note(5, 3, 4 + second), note(6, 3, 5 + second)), (None, None));
        assert_eq!(note(6, 3, 3 + 2 * second), Some(Folded::PORT));
        assert_eq!((note(6, 3, 4 + 2 * second), note(6, 4, 3 + 3 * second)), (None, Some(Folded::NETWORK)));
        assert_eq!(note(6, 4, 3 + 4 * second), Some(0));
    }

    #[test]
    fn what_was_taken_back_is_no_event_and_is_still_not_reported_more_often() {
        let tally = SharedTally::default();
        let mut note = |count| {
            let mut record = syn(1, 1);
            tally.count.set(count);
            let is_reported = tally.note(&mut record, count, count);
            tally.taken_back.set(count);
            is_reported.then_some(record.count)
        };
        assert_eq!([1, 2, 3, 4, 5].map(&mut note), [Some(1), Some(1), Some(1), None, None]);
        assert_eq!(tally.get().events(), 0);
    }

    #[test]
    fn an_event_that_stands_for_two_differs_from_none() {
        let tally = SharedTally::default();
        let mut record = RejectionRecord { repeats: 1, ..syn(1, 1) };
        assert!(tally.note(&mut record, 2, 1));
        assert_eq!((record.mixed, record.count), (0, 2));
    }
}
