//! The ports and peers that were asked for: of this host when it is watched, of a recording when it is reported.

use crate::model::peer;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tracer_common::{endpoint::Tuple, filter::Filter, settings::Settings};

/// What `--port` and `--peer` list; an empty list lets everything through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// Local ports.
    pub ports: Vec<u16>,
    /// Networks of peers.
    pub peers: Vec<IpNet>,
}

impl Selection {
    /// Whether every port that this lets through is one that `other` lets through.
    pub fn has_ports_within(&self, other: &Self) -> bool {
        let is_listed = |port| other.ports.contains(port);
        other.ports.is_empty() || (!self.ports.is_empty() && self.ports.iter().all(is_listed))
    }

    /// Whether every peer that this lets through is one that `other` lets through.
    pub fn has_peers_within(&self, other: &Self) -> bool {
        other.peers.is_empty() || (!self.peers.is_empty() && self.peers.iter().all(|it| other.has_network(it)))
    }

    /// Whether every peer in `network` is let through.
    pub fn has_network(&self, network: &IpNet) -> bool {
        self.peers.is_empty() || self.peers.iter().any(|it| it.contains(network))
    }
}

impl Filter for Selection {
    fn bits(&self) -> u32 {
        let bit = |is_set: bool, bit: u32| if is_set { bit } else { 0 };
        bit(!self.ports.is_empty(), Settings::PORT_FILTER) | bit(!self.peers.is_empty(), Settings::PEER_FILTER)
    }

    fn pid(&self) -> u32 {
        0
    }

    fn netns(&self) -> u32 {
        0
    }

    fn has_port(&self, port: u16) -> bool {
        self.ports.is_empty() || self.ports.contains(&port)
    }

    fn has_peer(&self, tuple: &Tuple) -> bool {
        let peer = peer::address(&tuple.peer);
        self.peers.iter().any(|network| network.contains(&peer))
    }

    fn has_interface(&self, _: u32) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(ports: &[u16], peers: &[&str]) -> Selection {
        let peers = peers.iter().map(|it| it.parse().unwrap()).collect();
        Selection { ports: ports.to_vec(), peers }
    }

    #[test]
    fn a_selection_lies_within_one_that_lets_more_through() {
        let all = selection(&[], &[]);
        let wide = selection(&[80, 81], &["10.0.0.0/8", "fd00::/8"]);
        let narrow = selection(&[81], &["10.1.0.0/16", "fd77::/64"]);
        for (inner, outer, is_within) in [
            (&narrow, &wide, true),
            (&wide, &narrow, false),
            (&wide, &all, true),
            (&all, &wide, false),
            (&all, &all, true),
        ] {
            assert_eq!(inner.has_ports_within(outer), is_within, "{inner:?} {outer:?}");
            assert_eq!(inner.has_peers_within(outer), is_within, "{inner:?} {outer:?}");
        }
        assert!(narrow.has_network(&"10.1.2.0/24".parse().unwrap()));
        assert!(!narrow.has_network(&"10.0.0.0/8".parse().unwrap()));
    }
}
