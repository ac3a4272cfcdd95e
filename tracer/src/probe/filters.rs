//! What is traced: the filters, and how they reach the programs.

use std::{io, net::IpAddr};

use aya::{
    Ebpf,
    maps::{Array, HashMap, LpmTrie, lpm_trie},
};
use tracer_common::settings::{PORT_WORDS, Settings, port_bit};

use super::{ProbeError, hooks, listeners, map_mut, namespace::Interfaces};

/// What to trace.
#[derive(Debug, Clone, Default)]
pub struct Filters {
    /// These local ports only; empty: every port with a listener.
    pub ports: Vec<u16>,
    /// Peers in these networks only (address, prefix length); empty: any.
    pub peers: Vec<(IpAddr, u8)>,
    /// Requests read by this process only.
    pub pid: Option<u32>,
    /// This network namespace only, by inode number. With `interfaces` it is the one in which they are.
    pub netns: Option<u32>,
    /// Connections that are opened through these interfaces only; empty: through any.
    pub interfaces: Vec<String>,
    /// Hooks that are not to be attached, of those that [`optional`](super::optional) lists.
    pub without: Vec<String>,
}

impl Filters {
    /// Whether the run is about everything that happens in its network namespaces.
    pub const fn let_all_through(&self) -> bool {
        self.ports.is_empty() && self.peers.is_empty() && self.interfaces.is_empty() && self.pid.is_none()
    }

    /// The filters that are used, as [`Settings::filters`] has them.
    pub(super) fn bits(&self) -> u32 {
        let used = [
            (!self.ports.is_empty(), Settings::PORT_FILTER),
            (!self.peers.is_empty(), Settings::PEER_FILTER),
            (!self.interfaces.is_empty(), Settings::INTERFACE_FILTER),
        ];
        used.into_iter().filter(|(is_used, _)| *is_used).fold(0, |bits, (_, bit)| bits | bit)
    }

    /// The hooks without which nothing passes the filters.
    pub(super) fn needed(&self) -> Vec<&'static str> {
        let of_interfaces = (!self.interfaces.is_empty()).then_some(hooks::SYN);
        of_interfaces.into_iter().chain(self.pid.map(|_| "read")).collect()
    }

    /// The ports that are asked for, or those with a listener now.
    pub(super) fn served_ports(&self) -> io::Result<Vec<u16>> {
        if self.ports.is_empty() {
            Ok(listeners::listening_ports(self.netns)?.into_iter().collect())
        } else {
            Ok(self.ports.clone())
        }
    }

    /// Fills the maps from which the programs read the filters, and the ports that are served.
    pub(super) fn fill(&self, ebpf: &mut Ebpf, served: &[u16], interfaces: &Interfaces) -> Result<(), ProbeError> {
        fill_ports(ebpf, "PORTS", served)?;
        fill_ports(ebpf, "WANTED_PORTS", &self.ports)?;
        fill_peers(ebpf, &self.peers)?;
        if !self.interfaces.is_empty() {
            fill_interfaces(ebpf, &interfaces.indexes().map_err(ProbeError::Interface)?)?;
        }
        Ok(())
    }
}

fn fill_ports(ebpf: &mut Ebpf, name: &str, ports: &[u16]) -> Result<(), ProbeError> {
    let mut words = vec![0_u64; PORT_WORDS as usize];
    for &port in ports {
        let (word, bit) = port_bit(port);
        words[word as usize] |= bit;
    }
    let mut map: Array<_, u64> = Array::try_from(map_mut(ebpf, name)?)?;
    for (word, bits) in (0_u32..).zip(words).filter(|(_, bits)| *bits != 0) {
        map.set(word, bits, 0)?;
    }
    Ok(())
}

fn fill_peers(ebpf: &mut Ebpf, peers: &[(IpAddr, u8)]) -> Result<(), ProbeError> {
    let mut map: LpmTrie<_, [u8; 16], u32> = LpmTrie::try_from(map_mut(ebpf, "PEERS")?)?;
    for &(address, length) in peers {
        let (bytes, length) = match address {
            IpAddr::V4(address) => (address.to_ipv6_mapped().octets(), u32::from(length) + 96),
            IpAddr::V6(address) => (address.octets(), u32::from(length)),
        };
        map.insert(&lpm_trie::Key::new(length, bytes), 1, 0)?;
    }
    Ok(())
}

fn fill_interfaces(ebpf: &mut Ebpf, indexes: &[u32]) -> Result<(), ProbeError> {
    let mut map: HashMap<_, u32, u32> = HashMap::try_from(map_mut(ebpf, "INTERFACES")?)?;
    Ok(indexes.iter().try_for_each(|index| map.insert(index, 1, 0))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_filter_has_its_bit_and_its_hook() {
        let none = Filters::default();
        assert_eq!((none.bits(), none.needed(), none.let_all_through()), (0, Vec::new(), true));
        let ports = Filters { ports: vec![80], ..Filters::default() };
        assert_eq!((ports.bits(), ports.needed().len()), (Settings::PORT_FILTER, 0));
        let peers = Filters { peers: vec![([10, 0, 0, 0].into(), 8)], ..ports };
        assert_eq!(peers.bits(), Settings::PORT_FILTER | Settings::PEER_FILTER);
        let both = Filters { interfaces: vec!["eth0".to_owned()], pid: Some(7), ..Filters::default() };
        assert_eq!((both.bits(), both.needed()), (Settings::INTERFACE_FILTER, vec!["syn", "read"]));
        assert!(![peers, both].iter().any(Filters::let_all_through));
    }

    #[test]
    fn ports_that_are_asked_for_are_served() {
        let filters = Filters { ports: vec![80, 443], netns: Some(1), ..Filters::default() };
        assert_eq!(filters.served_ports().unwrap(), [80, 443]);
        assert!(Filters { netns: Some(1), ..Filters::default() }.served_ports().unwrap().is_empty());
    }
}
