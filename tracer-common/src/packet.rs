//! The headers of packets, from their words as they lie in memory: in network byte order.

/// Address families of sockets.
pub mod family {
    /// `AF_INET`.
    pub const INET: u16 = 2;
    /// `AF_INET6`.
    pub const INET6: u16 = 10;
}

/// Protocols of Ethernet.
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
}

/// Protocols of IP.
pub mod protocol {
    /// ICMP of IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// ICMP of IPv6.
    pub const ICMPV6: u8 = 58;
}

/// Flags of TCP.
pub mod flag {
    /// The sender sends no more.
    pub const FIN: u8 = 1;
    /// A sequence number begins.
    pub const SYN: u8 = 2;
    /// There is no such connection, or there shall be none.
    pub const RST: u8 = 4;
    /// The acknowledgement number means something.
    pub const ACK: u8 = 16;
}

/// What kind of packet it was.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PacketKind {
    /// SYN without ACK.
    Syn = 1,
    /// SYN with ACK.
    SynAck = 2,
    /// ACK without payload, SYN, FIN or RST.
    Ack = 3,
    /// With payload.
    Data = 4,
    /// FIN without payload.
    Fin = 5,
    /// RST.
    Reset = 6,
    /// Anything else.
    Other = 7,
}

impl PacketKind {
    /// The kind of a packet with these TCP flags (as in the header) and `payload` bytes of payload.
    #[inline(always)]
    #[must_use]
    pub const fn of(flags: u8, payload: u32) -> Self {
        use flag::{ACK, FIN, RST, SYN};
        if flags & RST != 0 {
            Self::Reset
        } else if flags & (SYN | ACK) == SYN | ACK {
            Self::SynAck
        } else if flags & SYN != 0 {
            Self::Syn
        } else if payload != 0 {
            Self::Data
        } else if flags & FIN != 0 {
            Self::Fin
        } else if flags & ACK != 0 {
            Self::Ack
        } else {
            Self::Other
        }
    }

    /// The kind with that number.
    #[must_use]
    pub const fn numbered(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Syn,
            2 => Self::SynAck,
            3 => Self::Ack,
            4 => Self::Data,
            5 => Self::Fin,
            6 => Self::Reset,
            7 => Self::Other,
            _ => return None,
        })
    }
}

/// Whether a packet of IPv4 without options has payload that can be new, by its total length and the byte of TCP's header that holds the
/// length of that header. Keep-alive probes of some systems repeat one old byte.
#[inline(always)]
#[must_use]
pub const fn has_payload(total_length: u16, data_offset: u8) -> bool {
    const REPEATED: u32 = 1;
    total_length as u32 > IpHeader::PLAIN_V4 + (data_offset as u32 >> 4) * 4 + REPEATED
}

/// What an IP header says about what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpHeader {
    /// The protocol of what follows. Extension headers of IPv6 are not followed: one of these is a protocol of its own here.
    pub protocol: u8,
    /// Bytes of the header.
    pub length: u32,
    /// Bytes behind the header.
    pub payload: u32,
    /// It is a header of IPv4.
    pub is_v4: bool,
}

impl IpHeader {
    /// Bytes of the header of IPv4 without options.
    pub const PLAIN_V4: u32 = 20;
    /// Bytes of the header of IPv6.
    pub const V6: u32 = 40;

    /// The header that begins with these words, of either version.
    #[inline(always)]
    #[must_use]
    pub const fn of(words: [u32; 3]) -> Option<Self> {
        match u32::from_be(words[0]) >> 28 {
            4 => Some(Self::v4(words)),
            6 => Some(Self::v6(words)),
            _ => None,
        }
    }

    /// The header of IPv4 that begins with these words.
    #[inline(always)]
    #[must_use]
    pub const fn v4([first, _, third]: [u32; 3]) -> Self {
        let first = u32::from_be(first);
        let length = (first >> 24 & 15) * 4;
        let payload = (first & 0xffff).saturating_sub(length);
        Self { protocol: low_byte(u32::from_be(third) >> 16), length, payload, is_v4: true }
    }

    /// The header of IPv6 that begins with these words.
    #[inline(always)]
    #[must_use]
    pub const fn v6([_, second, _]: [u32; 3]) -> Self {
        let second = u32::from_be(second);
        Self { protocol: low_byte(second >> 8), length: Self::V6, payload: second >> 16, is_v4: false }
    }
}

/// A TCP header, without options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpHeader {
    /// The port of the sender in the upper half, and that of the receiver in the lower half.
    pub ports: u32,
    /// The sequence number of the first byte, or of the SYN.
    pub sequence: u32,
    /// What it acknowledges.
    pub acknowledges: u32,
    /// Bytes of the header, options included.
    pub length: u32,
    /// A set of [`flag`]s.
    pub flags: u8,
    /// The window that it advertises, not scaled.
    window: u16,
}

impl TcpHeader {
    /// The header that begins with these words.
    #[inline(always)]
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the lower bits are meant")]
    pub const fn of([ports, sequence, acknowledges, last]: [u32; 4]) -> Self {
        let last = u32::from_be(last);
        Self {
            ports: u32::from_be(ports),
            sequence: u32::from_be(sequence),
            acknowledges: u32::from_be(acknowledges),
            length: (last >> 28) * 4,
            flags: low_byte(last >> 16),
            window: last as u16,
        }
    }

    /// The port of the sender in a header's first word, in host byte order.
    #[inline(always)]
    #[must_use]
    pub const fn from(ports: u32) -> u16 {
        (ports >> 16) as u16
    }

    /// The port of the receiver in a header's first word, in host byte order.
    #[inline(always)]
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
    pub const fn to(ports: u32) -> u16 {
        ports as u16
    }

    /// Whether it is a SYN without ACK: it asks for a connection.
    #[inline(always)]
    #[must_use]
    pub const fn is_syn(&self) -> bool {
        self.flags & (flag::SYN | flag::ACK) == flag::SYN
    }

    /// Whether it ends the sender's side.
    #[inline(always)]
    #[must_use]
    pub const fn is_fin(&self) -> bool {
        self.flags & flag::FIN != 0
    }

    /// The window that it advertises, not scaled. That of a SYN is never scaled, and that of a reset says nothing.
    #[inline(always)]
    #[must_use]
    pub const fn window(&self) -> Option<u16> {
        if self.flags & (flag::SYN | flag::RST) == 0 { Some(self.window) } else { None }
    }

    /// The kind of the packet, with that many bytes of payload.
    #[inline(always)]
    #[must_use]
    pub const fn kind(&self, payload: u32) -> PacketKind {
        PacketKind::of(self.flags, payload)
    }
}

/// The bytes of a sequence number range that are no payload: a SYN and a FIN count as one each.
#[inline(always)]
#[must_use]
pub const fn phantoms(flags: u8) -> u32 {
    (flags & flag::FIN) as u32 + (flags >> 1 & 1) as u32
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the low byte is meant")]
const fn low_byte(word: u32) -> u8 {
    word as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, proptest};

    fn words<const N: usize>(bytes: &[u8]) -> [u32; N] {
        std::array::from_fn(|at| u32::from_ne_bytes(bytes[4 * at..][..4].try_into().unwrap()))
    }

    /// `10.77.0.1:40000 > 10.77.0.2:8080`, SYN, with one word of IP options and two of TCP's.
    const V4: [u8; 52] = [
        0x46, 0, 0, 52, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 77, 0, 1, 10, 77, 0, 2, 1, 1, 1, 0, //
        0x9c, 0x40, 0x1f, 0x90, 0, 0, 0, 7, 0, 0, 0, 9, 0x70, 2, 0xfa, 0xf0, 0, 0, 0, 0, 2, 4, 5, 180, 1, 1, 1, 0,
    ];

    #[test]
    fn a_syn_over_ipv4_with_options() {
        let ip = IpHeader::of(words(&V4)).unwrap();
        assert_eq!(ip, IpHeader { protocol: protocol::TCP, length: 24, payload: 28, is_v4: true });
        let tcp = TcpHeader::of(words(&V4[24..]));
        assert_eq!((TcpHeader::from(tcp.ports), TcpHeader::to(tcp.ports)), (40_000, 8080));
        assert_eq!((tcp.sequence, tcp.acknowledges, tcp.length), (7, 9, 28));
        assert!(tcp.is_syn() && !tcp.is_fin() && tcp.window().is_none());
        assert_eq!((tcp.kind(ip.payload - tcp.length), phantoms(tcp.flags)), (PacketKind::Syn, 1));
    }

    #[test]
    fn an_ipv6_header_is_told_by_its_version() {
        let mut bytes = [0; 40];
        bytes[0] = 0x60;
        bytes[4..8].copy_from_slice(&[0, 20, 6, 64]);
        let header = IpHeader { protocol: protocol::TCP, length: 40, payload: 20, is_v4: false };
        assert_eq!(IpHeader::of(words(&bytes)), Some(header));
        bytes[0] = 0x50;
        assert_eq!(IpHeader::of(words(&bytes)), None);
    }

    proptest! {
        /// Whatever a packet holds, its headers are read without an overflow, and say the same as its bytes.
        #[test]
        fn any_words_are_read(bytes in any::<[u8; 20]>()) {
            if let Some(ip) = IpHeader::of(words(&bytes)) {
                assert!(ip.length <= 60 && ip.payload <= 0xffff);
                assert_eq!(ip.protocol, if ip.is_v4 { bytes[9] } else { bytes[6] });
            }
            let tcp = TcpHeader::of(words(&bytes));
            assert_eq!(tcp.flags, bytes[13]);
            assert_eq!(tcp.is_syn(), bytes[13] & 0x12 == 2);
            assert_eq!(tcp.is_fin(), bytes[13] & 1 == 1);
            let window = u16::from_be_bytes([bytes[14], bytes[15]]);
            assert_eq!(tcp.window(), (bytes[13] & 6 == 0).then_some(window));
            assert_eq!([TcpHeader::from(tcp.ports).to_be_bytes(), TcpHeader::to(tcp.ports).to_be_bytes()].concat(), bytes[..4]);
        }
    }

    #[test]
    fn acknowledgements_and_keep_alive_probes_have_no_payload() {
        let plain = |length| has_payload(length, 5 << 4);
        // With timestamps.
        let longer = |length| has_payload(length, 8 << 4 | 1);
        assert!([40, 41].into_iter().all(|length| !plain(length)) && plain(42) && plain(u16::MAX));
        assert!([52, 53].into_iter().all(|length| !longer(length)) && longer(54));
        assert!(!plain(0));
    }

    #[test]
    fn packets_are_told_by_flags_and_payload() {
        let cases = [
            (2, 0, PacketKind::Syn),
            (2, 10, PacketKind::Syn),
            (18, 0, PacketKind::SynAck),
            (16, 0, PacketKind::Ack),
            (24, 5, PacketKind::Data),
            (17, 5, PacketKind::Data),
            (17, 0, PacketKind::Fin),
            (20, 0, PacketKind::Reset),
            (0, 0, PacketKind::Other),
        ];
        for (flags, payload, kind) in cases {
            assert_eq!(PacketKind::of(flags, payload), kind);
            assert_eq!(PacketKind::numbered(kind as u8), Some(kind));
        }
    }
}
