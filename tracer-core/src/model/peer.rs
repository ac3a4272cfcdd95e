//! The peer: its address as people write it, and the network that it is grouped by.

use crate::direct::Direct;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};
use tracer_common::{endpoint::Endpoint, rejection::Key};

/// The address; an IPv4-mapped one as IPv4.
pub fn address(endpoint: &Endpoint) -> IpAddr {
    Ipv6Addr::from(endpoint.address.octets()).to_canonical()
}

/// Address and port; an IPv4-mapped address as IPv4.
pub fn socket(endpoint: &Endpoint) -> SocketAddr {
    SocketAddr::new(address(endpoint), endpoint.port)
}

/// Address and port, as text that is written directly: the same as that of [`socket`].
#[derive(Clone, Copy, Debug)]
pub struct Socket<'a>(pub &'a Endpoint);

impl Direct for Socket<'_> {
    fn write_to(&self, out: &mut impl fmt::Write) -> fmt::Result {
        let IpAddr::V4(address) = address(self.0) else { return write!(out, "{}", socket(self.0)) };
        for (index, byte) in address.octets().into_iter().enumerate() {
            out.write_str(if index == 0 { "" } else { "." })?;
            u64::from(byte).write_to(out)?;
        }
        out.write_char(':')?;
        u64::from(self.0.port).write_to(out)
    }
}

/// The network that a peer is grouped by: its /24 (IPv4) or its /64 (IPv6), the sizes of common subnets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network([u8; 16]);

impl Network {
    /// The network of `endpoint`.
    pub fn of(endpoint: &Endpoint) -> Self {
        Self(Key::network_of(endpoint).octets())
    }

    /// The network of `address`.
    pub fn of_address(address: IpAddr) -> Self {
        let address = match address {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        Self::of(&Endpoint::v6(address.octets(), 0))
    }

    /// Its address and prefix length.
    pub fn to_ipnet(self) -> IpNet {
        match Ipv6Addr::from(self.0).to_canonical() {
            IpAddr::V4(address) => IpNet::from(Ipv4Net::new_assert(address, 24)),
            IpAddr::V6(address) => IpNet::from(Ipv6Net::new_assert(address, 64)),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == [0; 16] {
            return f.write_str("several");
        }
        self.to_ipnet().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_peer_is_grouped_by_its_subnet() {
        let v4 = Endpoint::v4([10, 0, 1, 23], 41234);
        assert_eq!(Network::of(&v4).to_string(), "10.0.1.0/24");
        assert_eq!(socket(&v4).to_string(), "10.0.1.23:41234");
        let v6 = Endpoint::v6("2001:db8:1:2:3:4:5:6".parse::<Ipv6Addr>().unwrap().octets(), 80);
        assert_eq!(Network::of(&v6).to_string(), "2001:db8:1:2::/64");
        assert_eq!(Network::of_address(address(&v4)), Network::of(&v4));
        assert_eq!(socket(&v6).to_string(), "[2001:db8:1:2:3:4:5:6]:80");
    }

    proptest! {
        #[test]
        fn a_socket_is_written_as_std_writes_it(v4: [u8; 4], v6: [u8; 16], port: u16) {
            for endpoint in [Endpoint::v4(v4, port), Endpoint::v6(v6, port)] {
                let mut text = String::new();
                Socket(&endpoint).write_to(&mut text).unwrap();
                prop_assert_eq!(text, socket(&endpoint).to_string());
            }
        }
    }
}
