//! The filters of the command line. Kernel side and `report` decide here, and nowhere else, what a run is about.
//!
//! | filter | a connection passes if | an event without a connection passes if |
//! |---|---|---|
//! | `--port` | its local port is listed | its local port is listed |
//! | `--peer` | its peer lies in a listed network | its peer lies in a listed network |
//! | `--netns` | its socket is in that namespace | its socket or its device is in that namespace |
//! | `-i` | its SYN came through a listed interface | the packet, or the SYN of its handshake, came through one |
//! | `-p` | that process reads from it | never: no process is part of a handshake or of a dropped packet |
//!
//! An event of which the namespace, the interface or the process is not known does not pass that filter.

use crate::{endpoint::Tuple, settings::Settings};

/// The filters of a run. Each part is asked for only where it decides, because to ask is to load it.
pub trait Filter {
    /// A set of the `*_FILTER` bits of [`Settings`].
    fn bits(&self) -> u32;
    /// The process to trace; 0: all.
    fn pid(&self) -> u32;
    /// The network namespace to trace; 0: all.
    fn netns(&self) -> u32;
    /// Whether the port is listed. Without a port filter the list has the ports that are served.
    fn has_port(&self, port: u16) -> bool;
    /// Whether the peer of `tuple` lies in a listed network.
    fn has_peer(&self, tuple: &Tuple) -> bool;
    /// Whether the interface with that index is listed.
    fn has_interface(&self, index: u32) -> bool;

    /// Whether one of these bits is set.
    #[inline(always)]
    fn has(&self, bits: u32) -> bool {
        self.bits() & bits != 0
    }

    /// Whether what happens at the local `port` passes.
    #[inline(always)]
    fn wants_port(&self, port: u16) -> bool {
        !self.has(Settings::PORT_FILTER) || self.has_port(port)
    }

    /// Whether what happens in the network namespace `netns` passes; 0: it is not known.
    #[inline(always)]
    fn wants_netns(&self, netns: u32) -> bool {
        self.netns() == 0 || self.netns() == netns
    }

    /// Whether what happens between these ends passes.
    #[inline(always)]
    fn wants_ends(&self, tuple: &Tuple) -> bool {
        self.wants_port(tuple.local.port) && self.wants_peer(tuple)
    }

    /// Whether what this peer sends passes.
    #[inline(always)]
    fn wants_peer(&self, tuple: &Tuple) -> bool {
        !self.has(Settings::PEER_FILTER) || self.has_peer(tuple)
    }

    /// Whether a connection passes, as far as its process and its interface do not decide.
    #[inline(always)]
    fn wants_connection(&self, tuple: &Tuple, netns: u32) -> bool {
        self.wants_netns(netns) && self.wants_ends(tuple)
    }

    /// The same for a socket, of which only what a filter needs is read.
    #[inline(always)]
    fn wants_socket(&self, tuple: impl FnOnce() -> Tuple, netns: impl FnOnce() -> u32) -> bool {
        (self.netns() == 0 || self.netns() == netns()) && (!self.asks_for_ends() || self.wants_ends(&tuple()))
    }

    /// Whether certain ports or peers were asked for: then nothing about them is folded away.
    #[inline(always)]
    fn asks_for_ends(&self) -> bool {
        self.has(Settings::PORT_FILTER | Settings::PEER_FILTER)
    }

    /// Whether a connection passes that was open before tracing began, through whichever interface it came.
    #[inline(always)]
    fn wants_adopted(&self) -> bool {
        !self.has(Settings::INTERFACE_FILTER)
    }

    /// Whether a connection or handshake passes whose SYN was seen on an interface with a program, or was not.
    #[inline(always)]
    fn wants_arrival(&self, syn_seen: bool) -> bool {
        !self.has(Settings::INTERFACE_FILTER) || syn_seen
    }

    /// Whether what the process `reader` has read passes; 0: nobody has read yet.
    #[inline(always)]
    fn wants_reader(&self, reader: u32) -> bool {
        self.pid() == 0 || self.pid() == reader
    }

    /// Whether an event passes that no process takes part in, as far as its ends do not decide.
    #[inline(always)]
    fn wants_unread(&self) -> bool {
        self.pid() == 0
    }

    /// Whether an event of a handshake passes.
    #[inline(always)]
    fn wants_handshake(&self, tuple: &Tuple, netns: u32, syn_seen: bool) -> bool {
        self.wants_unread() && self.wants_connection(tuple, netns) && self.wants_arrival(syn_seen)
    }

    /// Whether a dropped packet between these ends is of interest. Without a port filter that takes more than passing:
    /// `is_refused`, because where nothing listens there is no served port, or a peer filter, which asks for all of a peer.
    #[inline(always)]
    fn wants_drop(&self, tuple: &Tuple, is_refused: bool) -> bool {
        let any_port = !self.has(Settings::PORT_FILTER) && (self.has(Settings::PEER_FILTER) || is_refused);
        self.wants_peer(tuple) && (any_port || self.has_port(tuple.local.port))
    }

    /// Whether a dropped packet of interest passes that belongs to no connection. It was received by the interface with the
    /// index `received_by` (0: this host made it) in the namespace `netns`, or the SYN of its handshake was seen.
    #[inline(always)]
    fn wants_packet(&self, netns: u32, received_by: impl FnOnce() -> u32, syn_seen: impl FnOnce() -> bool) -> bool {
        let is_listed = |index: u32| index != 0 && self.has_interface(index);
        self.wants_unread()
            && self.wants_netns(netns)
            && (!self.has(Settings::INTERFACE_FILTER) || is_listed(received_by()) || syn_seen())
    }

    /// Whether the close of a listener passes. It is shown nowhere: other closes are judged by it. So neither its peers nor
    /// its process matter.
    #[inline(always)]
    fn wants_listener(&self, port: u16, netns: u32) -> bool {
        self.wants_netns(netns) && self.has_port(port)
    }

    /// Whether everything in the network namespace `netns` passes, so that the kernel's own counters of that namespace can be
    /// held against what was seen.
    #[inline(always)]
    fn wants_all_of(&self, netns: u32) -> bool {
        const NARROWER: u32 = Settings::PORT_FILTER | Settings::PEER_FILTER | Settings::INTERFACE_FILTER;
        self.wants_unread() && self.bits() & NARROWER == 0 && self.wants_netns(netns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Endpoint;

    const NETNS: u32 = 7;
    const OTHER_NETNS: u32 = 8;
    const PID: u32 = 42;

    /// Lists port 80, the peer 10.0.0.1, and interface 2.
    #[derive(Clone, Copy, Debug, Default)]
    struct Listed {
        bits: u32,
        pid: u32,
        netns: u32,
    }

    impl Filter for Listed {
        fn bits(&self) -> u32 {
            self.bits
        }

        fn pid(&self) -> u32 {
            self.pid
        }

        fn netns(&self) -> u32 {
            self.netns
        }

        fn has_port(&self, port: u16) -> bool {
            port == 80
        }

        fn has_peer(&self, tuple: &Tuple) -> bool {
            tuple.peer.address == Endpoint::v4([10, 0, 0, 1], 0).address
        }

        fn has_interface(&self, index: u32) -> bool {
            index == 2
        }
    }

    fn none() -> Listed {
        Listed::default()
    }

    fn by(bits: u32) -> Listed {
        Listed { bits, ..none() }
    }

    fn ends(peer: u8, port: u16) -> Tuple {
        Tuple { peer: Endpoint::v4([10, 0, 0, peer], 40_000), local: Endpoint::v4([10, 0, 0, 9], port) }
    }

    /// Each filter, what passes it, and what does not: ends, namespace, whether the SYN was seen, reader.
    type Subject = (Tuple, u32, bool, u32);

    fn cases() -> [(Listed, Subject, Subject); 5] {
        let wanted = (ends(1, 80), NETNS, true, PID);
        [
            (by(Settings::PORT_FILTER), wanted, (ends(1, 81), NETNS, true, PID)),
            (by(Settings::PEER_FILTER), wanted, (ends(2, 80), NETNS, true, PID)),
            (by(Settings::INTERFACE_FILTER), wanted, (ends(1, 80), NETNS, false, PID)),
            (Listed { netns: NETNS, ..none() }, wanted, (ends(1, 80), OTHER_NETNS, true, PID)),
            (Listed { pid: PID, ..none() }, wanted, (ends(1, 80), NETNS, true, 0)),
        ]
    }

    fn connection(filter: &Listed, (tuple, netns, syn_seen, reader): Subject) -> bool {
        let wants_connection = filter.wants_connection(&tuple, netns);
        assert_eq!(filter.wants_socket(|| tuple, || netns), wants_connection);
        wants_connection && filter.wants_arrival(syn_seen) && filter.wants_reader(reader)
    }

    fn packet(filter: &Listed, (tuple, netns, syn_seen, _): Subject) -> bool {
        let received_by = if syn_seen { 2 } else { 3 };
        filter.wants_drop(&tuple, true) && filter.wants_packet(netns, || received_by, || false)
    }

    #[test]
    fn each_filter_judges_connections_handshakes_and_packets_alike() {
        for (filter, inside, outside) in cases() {
            assert!(connection(&filter, inside) && !connection(&filter, outside), "{filter:?}");
            let handshake = |it: Subject| filter.wants_handshake(&it.0, it.1, it.2);
            // No process takes part in those.
            let is_possible = filter.pid == 0;
            assert_eq!((handshake(inside), handshake(outside)), (is_possible, false), "{filter:?}");
            assert_eq!((packet(&filter, inside), packet(&filter, outside)), (is_possible, false), "{filter:?}");
            for other in [inside, outside] {
                assert!(connection(&none(), other) && packet(&none(), other), "{other:?}");
            }
        }
    }

    #[test]
    fn what_is_not_known_does_not_pass() {
        let (netns, interface) = (Listed { netns: NETNS, ..none() }, by(Settings::INTERFACE_FILTER));
        assert!(!netns.wants_packet(0, || 2, || true) && !netns.wants_netns(0));
        assert!(!interface.wants_packet(NETNS, || 0, || false));
        assert!(interface.wants_packet(NETNS, || 0, || true), "its handshake is known");
        assert!(!interface.wants_adopted() && none().wants_adopted());
    }

    #[test]
    fn drops_are_of_interest_where_somebody_listens_or_a_peer_is_named() {
        let elsewhere = ends(1, 81);
        assert!(!none().wants_drop(&elsewhere, false) && none().wants_drop(&elsewhere, true));
        assert!(none().wants_drop(&ends(1, 80), false));
        assert!(by(Settings::PEER_FILTER).wants_drop(&elsewhere, false));
        assert!(!by(Settings::PEER_FILTER).wants_drop(&ends(2, 80), true));
        assert!(!by(Settings::PEER_FILTER | Settings::PORT_FILTER).wants_drop(&elsewhere, true));
    }

    #[test]
    fn closes_of_listeners_are_for_namespace_and_port() {
        let filter = Listed { bits: Settings::PEER_FILTER, pid: PID, netns: NETNS };
        assert!(filter.wants_listener(80, NETNS));
        assert!(!filter.wants_listener(81, NETNS) && !filter.wants_listener(80, OTHER_NETNS));
    }

    #[test]
    fn the_kernels_counters_are_of_whole_namespaces() {
        for (filter, ..) in cases() {
            assert_eq!(filter.wants_all_of(NETNS), filter.netns != 0, "{filter:?}");
        }
        assert!(none().wants_all_of(NETNS));
        assert!(!Listed { netns: NETNS, ..none() }.wants_all_of(OTHER_NETNS));
    }
}
