//! The peer: its address as people write it, and the network that it is grouped by.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};
use tracer_common::endpoint::Endpoint;

/// The first bytes of an IPv4-mapped address.
const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/// The address; an IPv4-mapped one as IPv4.
#[must_use]
pub fn address(endpoint: &Endpoint) -> IpAddr {
    Ipv6Addr::from(endpoint.address).to_canonical()
}

/// Address and port; an IPv4-mapped address as IPv4.
#[must_use]
pub fn socket(endpoint: &Endpoint) -> SocketAddr {
    SocketAddr::new(address(endpoint), endpoint.port)
}

/// The network that a peer is grouped by: its /24 (IPv4) or its /64 (IPv6), the sizes of common subnets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network([u8; 16]);

impl Network {
    /// The network of `endpoint`.
    #[must_use]
    pub fn of(endpoint: &Endpoint) -> Self {
        let mut address = endpoint.address;
        let kept = if address.starts_with(&MAPPED) { 15 } else { 8 };
        address[kept..].fill(0);
        Self(address)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = Ipv6Addr::from(self.0).to_canonical();
        write!(f, "{address}/{}", if address.is_ipv4() { 24 } else { 64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_grouped_by_its_subnet() {
        let v4 = Endpoint::v4([10, 0, 1, 23], 41234);
        assert_eq!(Network::of(&v4).to_string(), "10.0.1.0/24");
        assert_eq!(socket(&v4).to_string(), "10.0.1.23:41234");
        let v6 = Endpoint::v6("2001:db8:1:2:3:4:5:6".parse::<Ipv6Addr>().unwrap().octets(), 80);
        assert_eq!(Network::of(&v6).to_string(), "2001:db8:1:2::/64");
        assert_eq!(socket(&v6).to_string(), "[2001:db8:1:2:3:4:5:6]:80");
    }
}
