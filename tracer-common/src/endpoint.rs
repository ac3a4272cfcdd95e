//! Addresses of a connection, in the one form that kernel and user space share.

/// An address and a port.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The address in network byte order; IPv4 in its IPv4-mapped form (`::ffff:a.b.c.d`).
    pub address: [u8; 16],
    /// The port, host byte order.
    pub port: u16,
    /// Always 0.
    pub padding: u16,
}

impl Endpoint {
    /// No endpoint.
    pub const NONE: Self = Self { address: [0; 16], port: 0, padding: 0 };

    /// An IPv4 endpoint; `address` in network byte order, `port` in host byte order.
    #[inline(always)]
    #[must_use]
    pub const fn v4(address: [u8; 4], port: u16) -> Self {
        let [a, b, c, d] = address;
        Self { address: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d], port, padding: 0 }
    }

    /// An IPv6 endpoint; `address` in network byte order, `port` in host byte order.
    #[inline(always)]
    #[must_use]
    pub const fn v6(address: [u8; 16], port: u16) -> Self {
        Self { address, port, padding: 0 }
    }
}

/// Both ends of a connection, as this host sees them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// The other side: a load balancer node, for the connections that `tracer` is made for.
    pub peer: Endpoint,
    /// This host's side.
    pub local: Endpoint,
}

const _: () = assert!(size_of::<Endpoint>() == 20 && size_of::<Tuple>() == 40);
