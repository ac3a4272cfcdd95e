//! The identity of what serves: a network namespace, and an address and port in it.

use std::net::{Ipv6Addr, SocketAddr};

/// A listener. Two containers that listen on the same address and port are two listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Listener {
    /// Network namespace, by inode number; 0: not known.
    pub netns: u32,
    /// This host's side of the connection, or the address on which something listens.
    pub local: SocketAddr,
}

impl Listener {
    /// The listener at `local` in the namespace `netns`.
    pub const fn new(netns: u32, local: SocketAddr) -> Self {
        Self { netns, local }
    }

    /// Everything that listens on `port` in the namespace `netns`, at whatever address.
    pub const fn of_port(netns: u32, port: u16) -> Self {
        Self { netns, local: SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::UNSPECIFIED), port) }
    }

    /// Its port.
    pub const fn port(&self) -> u16 {
        self.local.port()
    }
}
