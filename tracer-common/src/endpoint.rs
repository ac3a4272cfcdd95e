//! Addresses of a connection, in the one form that kernel and user space share.

/// An IP address in network byte order; IPv4 in its IPv4-mapped form (`::ffff:a.b.c.d`).
///
/// In words, as they lie in memory: what is aligned to a byte a BPF program copies byte by byte.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Address([u32; 4]);

impl Address {
    /// No address, and the one that stands for all.
    pub const NONE: Self = Self([0; 4]);

    /// What an IPv4-mapped address begins with.
    const V4: [u32; 3] = [0, 0, 0xffff_u32.to_be()];

    /// An IPv4 address by the word of a packet or of a socket, as it lies in memory.
    #[inline(always)]
    #[must_use]
    pub const fn v4(word: u32) -> Self {
        Self([Self::V4[0], Self::V4[1], Self::V4[2], word])
    }

    /// An IPv6 address by its words, as they lie in memory.
    #[inline(always)]
    #[must_use]
    pub const fn v6(words: [u32; 4]) -> Self {
        Self(words)
    }

    /// An IPv6 address by its bytes.
    #[must_use]
    pub const fn from_octets(octets: [u8; 16]) -> Self {
        // SAFETY: 16 bytes are four words, of any value.
        Self(unsafe { core::mem::transmute::<[u8; 16], [u32; 4]>(octets) })
    }

    /// Its bytes, as those of an IPv6 address.
    #[must_use]
    pub const fn octets(self) -> [u8; 16] {
        // SAFETY: four words are 16 bytes, of any value.
        unsafe { core::mem::transmute::<[u32; 4], [u8; 16]>(self.0) }
    }

    /// Its words, as they lie in memory.
    #[inline(always)]
    #[must_use]
    pub const fn words(self) -> [u32; 4] {
        self.0
    }

    /// The word of an IPv4 address, if it is one.
    #[inline(always)]
    #[must_use]
    pub const fn as_v4(self) -> Option<u32> {
        let [first, second, third, word] = self.0;
        let is_v4 = first == Self::V4[0] && second == Self::V4[1] && third == Self::V4[2];
        if is_v4 { Some(word) } else { None }
    }
}

/// An address and a port.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The address.
    pub address: Address,
    /// The port, host byte order.
    pub port: u16,
    /// Always 0.
    pub padding: u16,
}

impl Endpoint {
    /// No endpoint.
    pub const NONE: Self = Self::new(Address::NONE, 0);

    /// `port` in host byte order.
    #[inline(always)]
    #[must_use]
    pub const fn new(address: Address, port: u16) -> Self {
        Self { address, port, padding: 0 }
    }

    /// An IPv4 endpoint; `address` in network byte order, `port` in host byte order.
    #[must_use]
    pub const fn v4(address: [u8; 4], port: u16) -> Self {
        Self::new(Address::v4(u32::from_ne_bytes(address)), port)
    }

    /// An IPv6 endpoint; `address` in network byte order, `port` in host byte order.
    #[must_use]
    pub const fn v6(address: [u8; 16], port: u16) -> Self {
        Self::new(Address::from_octets(address), port)
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
const _: () = assert!(align_of::<Tuple>() == 4);

#[cfg(test)]
mod tests {
    use super::Address;

    #[test]
    fn words_and_octets_are_the_same_address() {
        let octets = [0x20, 1, 0xd, 0xb8, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
        assert_eq!(Address::from_octets(octets).octets(), octets);
        assert_eq!(Address::from_octets(octets).as_v4(), None);
        let v4 = Address::v4(u32::from_ne_bytes([10, 0, 1, 23]));
        assert_eq!(v4.octets(), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 1, 23]);
        assert_eq!(v4.as_v4().map(u32::to_ne_bytes), Some([10, 0, 1, 23]));
        assert_eq!(Address::v6(v4.words()), v4);
    }
}
