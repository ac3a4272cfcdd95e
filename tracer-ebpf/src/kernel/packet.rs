//! Packets: `struct sk_buff`, and the headers in it.

use core::ptr::{addr_of, read_volatile};

use aya_ebpf::{cty::c_void, helpers::generated::bpf_probe_read_kernel};
use tracer_common::{
    endpoint::{Address, Endpoint},
    offsets::MISSING,
    opening::Opening,
    packet::{IpHeader, TcpHeader, phantoms, protocol},
    rejection::PacketKind,
};

use super::{OFFSETS, Object, Sock, probe};

/// A `struct sk_buff`.
#[derive(Clone, Copy)]
pub struct Packet(Object);

/// TCP's own view of a packet that it is about to receive.
pub struct Received {
    /// Sequence number of the first byte.
    pub start: u32,
    /// Sequence number after the last payload byte.
    pub end: u32,
    /// What it acknowledges.
    pub acknowledges: u32,
}

impl Packet {
    /// From a hook's argument.
    #[inline(always)]
    pub fn new(pointer: *const c_void) -> Self {
        Self(Object(pointer.cast()))
    }

    #[inline(always)]
    pub fn is_null(self) -> bool {
        self.0.0.is_null()
    }

    /// The socket that owns the packet.
    #[inline(always)]
    pub fn sock(self) -> Option<Sock> {
        let pointer: *const u8 = self.0.load(offset!(skb_sk))?;
        (!pointer.is_null()).then_some(Sock(Object(pointer)))
    }

    /// Bytes from its current header on.
    #[inline(always)]
    pub fn length(self) -> u32 {
        self.0.load_or_zero(offset!(skb_len))
    }

    /// When it reached the device: nanoseconds of `CLOCK_REALTIME`; 0 if not stamped. Of a packet that TCP sends, the
    /// earliest time at which it may leave, which is when TCP passed it on: nanoseconds of `CLOCK_MONOTONIC` (Linux 4.20,
    /// commit d3edd06ea8ea).
    #[inline(always)]
    pub fn stamped(self) -> u64 {
        self.0.load_or_zero(offset!(skb_tstamp))
    }

    /// What `tcp_v4_rcv` and `tcp_v6_rcv` have put into the control block.
    #[inline(always)]
    pub fn received(self) -> Option<Received> {
        let cb = offset!(skb_cb);
        let (seq, end, ack, flags) = (offset!(cb_seq), offset!(cb_end_seq), offset!(cb_ack_seq), offset!(cb_tcp_flags));
        if cb == MISSING || seq == MISSING || end == MISSING || ack == MISSING || flags == MISSING {
            return None;
        }
        let start: u32 = self.0.load(cb + seq)?;
        let end: u32 = self.0.load(cb + end)?;
        let flags: u8 = self.0.load(cb + flags)?;
        Some(Received { start, end: end.wrapping_sub(phantoms(flags)), acknowledges: self.0.load(cb + ack)? })
    }

    /// A packet of the connection `sock` at the device. `None` if the packet is another one: around a tunnel's device the
    /// same socket owns a packet of the tunnel's protocol.
    #[inline(always)]
    pub fn sent(self, sock: Sock) -> Option<Sent> {
        let head: u64 = self.0.load(offset!(skb_head))?;
        let data: u64 = self.0.load(offset!(skb_data))?;
        let length: u32 = self.0.load(offset!(skb_len))?;
        let transport: u16 = self.0.load(offset!(skb_transport_header))?;
        let header = head + u64::from(transport);
        let mut words = [0_u32; 4];
        // SAFETY: the helper checks the address and fills what fits the destination.
        let failed = unsafe { bpf_probe_read_kernel((&raw mut words).cast(), 16, header as *const c_void) };
        if failed != 0 {
            return None;
        }
        let tcp = TcpHeader::of(words);
        // Behind a port mapping (DNAT, REDIRECT) the packet has other ports than its socket.
        if tcp.ports != sock.ports() && !self.carries_tcp() {
            return None;
        }
        let before = (header - data) as u32 + tcp.length;
        let end = tcp.sequence.wrapping_add(length.wrapping_sub(before));
        Some(Sent { start: tcp.sequence, end, window: tcp.window() })
    }

    /// Whether the outer IP header says TCP. A tunnel's header says another protocol.
    #[inline(always)]
    fn carries_tcp(self) -> bool {
        let header = probe(self.network_header(), 0).and_then(IpHeader::of);
        header.is_some_and(|header| header.protocol == protocol::TCP)
    }

    /// The network namespace of the device that it is at, by inode number.
    #[inline(always)]
    pub fn netns(self) -> u32 {
        let of_device = || {
            let device: *const u8 = self.0.load(offset!(skb_dev)).filter(|device: &*const u8| !device.is_null())?;
            let net: *const u8 = Object(device).load(offset!(dev_net)).filter(|net: &*const u8| !net.is_null())?;
            Object(net).load(offset!(net_inum))
        };
        of_device().or_else(|| self.sock().map(Sock::netns)).unwrap_or(0)
    }

    /// The index of the interface that received it; 0: this host made it.
    #[inline(always)]
    pub fn received_by(self) -> u32 {
        self.0.load_or_zero(offset!(skb_iif))
    }

    /// Whether it is as short as a SYN, whatever options and headers below IP that has.
    #[inline(always)]
    pub fn may_be_syn(self) -> bool {
        const LONGEST: u32 = 150;
        self.0.load_or_zero::<u32>(offset!(skb_len)) <= LONGEST
    }

    /// The address of its IP header; 0 if it has none yet.
    #[inline(always)]
    fn network_header(self) -> u64 {
        let head: u64 = self.0.load_or_zero(offset!(skb_head));
        match self.0.load::<u16>(offset!(skb_network_header)) {
            Some(offset) if offset != 0 && head != 0 => head + u64::from(offset),
            _ => 0,
        }
    }

    /// Its ends, if it is TCP over IP (not behind extension headers), written into `from` and `to`; returns the rest of
    /// what its headers say.
    #[inline(always)]
    pub fn headers(self, from: &mut Endpoint, to: &mut Endpoint) -> Option<Headers> {
        let at = addresses(self.network_header(), protocol::TCP, from, to)?;
        let tcp = TcpHeader::of(probe(at.transport, 0)?);
        (from.port, to.port) = (TcpHeader::from(tcp.ports), TcpHeader::to(tcp.ports));
        let payload = at.length.saturating_sub(tcp.length);
        Some(Headers { tcp, payload, payload_at: at.transport + u64::from(tcp.length) })
    }

    /// The class of the first bytes of its payload, which begins at `address` if it lies in the packet's head: what this
    /// host sends to itself, or over a `veth`, lies in pages.
    #[inline(always)]
    pub fn opening(self, address: u64) -> Opening {
        let (Some(head), Some(data), Some(length), Some(paged)) = (
            self.0.load::<u64>(offset!(skb_head)),
            self.0.load::<u64>(offset!(skb_data)),
            self.0.load::<u32>(offset!(skb_len)),
            self.0.load::<u32>(offset!(skb_data_len)),
        ) else {
            return Opening::Unknown;
        };
        let end = data + u64::from(length.wrapping_sub(paged));
        if address < head || address + 3 > end {
            return Opening::Unknown;
        }
        probe(address, 0).map_or(Opening::Unknown, Opening::of)
    }

    /// The TCP connection that an ICMP error is about, written into `from` and `to` as in the packet that came. `None` if
    /// it is none of those that say "unreachable".
    #[inline(always)]
    pub fn unreachable(self, from: &mut Endpoint, to: &mut Endpoint) -> Option<()> {
        const UNREACHABLE_V4: u8 = 3;
        const UNREACHABLE_V6: u8 = 1;
        let header = self.network_header();
        let at = match addresses(header, protocol::ICMP, from, to) {
            Some(at) => at,
            None => addresses(header, protocol::ICMPV6, from, to)?,
        };
        let kind: [u8; 1] = probe(at.transport, 0)?;
        if kind[0] != UNREACHABLE_V4 && kind[0] != UNREACHABLE_V6 {
            return None;
        }
        let at = addresses(at.transport + 8, protocol::TCP, from, to)?;
        let ports = u32::from_be(probe::<u32>(at.transport, 0)?);
        (from.port, to.port) = (TcpHeader::from(ports), TcpHeader::to(ports));
        Some(())
    }
}

/// What the headers of a TCP packet say.
pub struct Headers {
    /// The TCP header.
    pub tcp: TcpHeader,
    /// Bytes of payload.
    pub payload: u32,
    /// Where the payload begins, if it does not lie in pages.
    pub payload_at: u64,
}

impl Headers {
    /// What kind of packet it is.
    #[inline(always)]
    pub fn kind(&self) -> PacketKind {
        self.tcp.kind(self.payload)
    }
}

/// A packet that leaves: its payload as sequence numbers `start..end`, and the window that it advertises.
pub struct Sent {
    /// Sequence number of the first byte.
    pub start: u32,
    /// Sequence number after the last one.
    pub end: u32,
    /// Not scaled; absent in a SYN or a reset.
    pub window: Option<u16>,
}

/// Where the header behind the IP header begins, and the bytes from there on.
struct Transport {
    transport: u64,
    length: u32,
}

/// Writes the addresses in the IP header at `header` into `from` and `to`, if it carries `protocol`.
#[inline(always)]
fn addresses(header: u64, protocol: u8, from: &mut Endpoint, to: &mut Endpoint) -> Option<Transport> {
    let words: [u32; 5] = probe(header, 0)?;
    let ip = IpHeader::of([words[0], words[1], words[2]])?;
    if ip.protocol != protocol {
        return None;
    }
    if ip.is_v4 {
        *from = Endpoint::new(Address::v4(words[3]), 0);
        *to = Endpoint::new(Address::v4(words[4]), 0);
    } else {
        *from = Endpoint::new(Address::v6(probe(header, 8)?), 0);
        *to = Endpoint::new(Address::v6(probe(header, 24)?), 0);
    }
    Some(Transport { transport: header + u64::from(ip.length), length: ip.payload })
}
