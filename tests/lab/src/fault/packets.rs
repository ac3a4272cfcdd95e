//! TCP packets made by hand: from any address, with any flags, also broken ones.

use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, bail, ensure};
use rustix::net::addr::SocketAddrArg;
use rustix::net::{AddressFamily, MMsgHdr, SendAncillaryBuffer, SendFlags, SocketFlags, SocketType, ipproto, sendmmsg};

use crate::capture::flags;
use crate::netns::Namespace;

/// Segments that one system call sends.
const BATCH: usize = 64;
const TCP_HEADER: usize = 20;
const TCP: u8 = 6;

/// A TCP segment without payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Sender; of the same address family as the receiver, and of any network.
    pub source: SocketAddr,
    /// Receiver.
    pub destination: SocketAddr,
    /// Sequence number.
    pub sequence: u32,
    /// See [`flags`].
    pub flags: u8,
    /// Whether the checksum is right.
    pub intact: bool,
    /// The sender's timestamp (RFC 7323). Without one the header has no options.
    pub timestamp: Option<u32>,
}

impl Segment {
    /// A SYN.
    #[must_use]
    pub fn syn(source: SocketAddr, destination: SocketAddr) -> Self {
        Self { source, destination, sequence: 1, flags: flags::SYN, intact: true, timestamp: None }
    }

    /// The packet, IP header and all.
    fn packet(&self) -> Result<Vec<u8>> {
        let mut tcp = vec![0; TCP_HEADER];
        if let Some(timestamp) = self.timestamp {
            // Two of no operation, then kind and length. The peer's timestamp is 0.
            tcp.extend_from_slice(&[1, 1, 8, 10]);
            tcp.extend_from_slice(&timestamp.to_be_bytes());
            tcp.extend_from_slice(&[0; 4]);
        }
        let length = u8::try_from(tcp.len())?;
        tcp[0..2].copy_from_slice(&self.source.port().to_be_bytes());
        tcp[2..4].copy_from_slice(&self.destination.port().to_be_bytes());
        tcp[4..8].copy_from_slice(&self.sequence.to_be_bytes());
        tcp[12] = (length / 4) << 4;
        tcp[13] = self.flags;
        // The window.
        tcp[14..16].copy_from_slice(&0xffff_u16.to_be_bytes());
        let (mut packet, addresses) = match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let addresses = [source.octets(), destination.octets()].concat();
                // Version and length, total length, time to live; the kernel fills in the header's checksum.
                let mut header = vec![0x45, 0, 0, 20 + length, 0, 0, 0x40, 0, 64, TCP, 0, 0];
                header.extend_from_slice(&addresses);
                (header, addresses)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let addresses = [source.octets(), destination.octets()].concat();
                // Version, length of the payload, next header, hop limit.
                let mut header = vec![0x60, 0, 0, 0, 0, length, TCP, 64];
                header.extend_from_slice(&addresses);
                (header, addresses)
            }
            _ => bail!("{} and {} are of different address families", self.source, self.destination),
        };
        let pseudo_header = [&addresses[..], &[0, TCP, 0, length]].concat();
        let checksum = checksum(&[&pseudo_header[..], &tcp[..]].concat());
        let checksum = if self.intact { checksum } else { checksum ^ 0x5555 };
        tcp[16..18].copy_from_slice(&checksum.to_be_bytes());
        packet.extend_from_slice(&tcp);
        Ok(packet)
    }
}

/// The checksum of the Internet (RFC 1071) over an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(0)
}

/// Sends all `segments`, which go to one address family, from `namespace`.
///
/// # Errors
/// Where the process is not root, or a segment is not taken.
pub fn send_segments(namespace: &Namespace, segments: &[Segment]) -> Result<()> {
    namespace.enter(|| send_segments_here(segments))
}

/// As [`send_segments`], from the namespace of the calling thread.
///
/// # Errors
/// As [`send_segments`].
pub fn send_segments_here(segments: &[Segment]) -> Result<()> {
    let Some(first) = segments.first() else { return Ok(()) };
    let family = if first.source.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    // With this protocol the sender makes the IP header, for both families.
    let socket = rustix::net::socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(ipproto::RAW))
        .context("cannot make a raw socket: run as root")?;
    for batch in segments.chunks(BATCH) {
        let packets = batch.iter().map(Segment::packet).collect::<Result<Vec<_>>>()?;
        // A raw socket takes no port.
        let address = |segment: &Segment| SocketAddr::new(segment.destination.ip(), 0).as_any();
        let addresses: Vec<_> = batch.iter().map(address).collect();
        let slices: Vec<_> = packets.iter().map(|packet| [IoSlice::new(packet)]).collect();
        let mut controls: Vec<_> = batch.iter().map(|_| SendAncillaryBuffer::default()).collect();
        let parts = addresses.iter().zip(&slices).zip(&mut controls);
        let mut messages: Vec<_> =
            parts.map(|((address, slice), control)| MMsgHdr::new_with_addr(address, slice, control)).collect();
        let sent = sendmmsg(&socket, &mut messages, SendFlags::empty()).context("cannot send packets")?;
        ensure!(sent == batch.len(), "{sent} of {} packets were taken", batch.len());
    }
    Ok(())
}
