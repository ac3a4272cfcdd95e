//! Packets and their times, captured by tcpdump: a clock that is neither the target's nor the client's.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::netns::Namespace;
use crate::process::{Process, Signal};

/// Enough for the headers of every packet in the lab.
const SNAP_LENGTH: usize = 128;
/// pcap with nanoseconds, in this host's byte order.
const MAGIC: u32 = 0xa1b2_3c4d;
const ETHERNET: u32 = 1;

/// TCP flags, as they stand in the header.
pub mod flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronize sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement number is valid.
    pub const ACK: u8 = 0x10;
}

/// One TCP packet. With segmentation offload, which veth has, one packet may carry many segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// When the kernel took it, `CLOCK_REALTIME` nanoseconds.
    pub realtime_ns: u64,
    /// Sender.
    pub source: SocketAddr,
    /// Receiver.
    pub destination: SocketAddr,
    /// Sequence number of the first byte.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// See [`flags`].
    pub flags: u8,
    /// Receive window as sent, not scaled.
    pub window: u16,
    /// Bytes of payload, captured or not.
    pub payload: u32,
}

impl Packet {
    /// Whether all of `mask` is set.
    #[must_use]
    pub fn has(&self, mask: u8) -> bool {
        self.flags & mask == mask
    }
}

/// tcpdump running in a namespace; it ends on drop.
#[derive(Debug)]
pub struct Capture {
    process: Process,
    file: PathBuf,
}

impl Capture {
    /// Captures what passes `interface` and the pcap `filter`, such as `tcp port 80`. Returns once it captures. `name` is
    /// unique in `directory`, which gets its files.
    ///
    /// # Errors
    /// Where tcpdump is not installed, or refuses the interface or the filter.
    pub fn start(namespace: &Namespace, directory: &Path, name: &str, interface: &str, filter: &str) -> Result<Self> {
        let file = directory.join(format!("{name}.pcap"));
        let snap = SNAP_LENGTH.to_string();
        let mut command = namespace.command("tcpdump")?;
        // As root to the end: another user may not write into the lab's directory. The large buffer is in KiB.
        command.args(["-n", "-U", "--immediate-mode", "-Z", "root", "-B", "16384", "--time-stamp-precision=nano"]);
        command.args(["-i", interface, "-s", &snap, "-w"]).arg(&file).arg(filter);
        let mut process = Process::start(name, command, directory)?;
        let listening = |process: &Process| process.stderr().is_ok_and(|text| text.contains("listening on"));
        process.wait_ready(Duration::from_secs(5), listening)?;
        Ok(Self { process, file })
    }

    /// Where the packets are written.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What was captured so far.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn packets(&self) -> Result<Vec<Packet>> {
        read(&self.file)
    }

    /// Ends the capture and returns all TCP packets.
    ///
    /// # Errors
    /// Where tcpdump missed packets, or the file cannot be read.
    pub fn stop(mut self) -> Result<Vec<Packet>> {
        self.process.stop(Signal::INT)?;
        let report = self.process.stderr()?;
        ensure!(report.contains("0 packets dropped by kernel"), "tcpdump missed packets: {report}");
        self.packets()
    }
}

/// Reads the TCP packets of a pcap file with nanosecond timestamps over Ethernet. A last record that is not whole yet is
/// left out, and so is what is not TCP.
///
/// # Errors
/// Where it is not such a file.
pub fn read(path: &Path) -> Result<Vec<Packet>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let header = Bytes(&bytes);
    let known = header.native_u32(0) == Some(MAGIC) && header.native_u32(20) == Some(ETHERNET);
    ensure!(known, "{} is not a pcap file with nanoseconds over Ethernet", path.display());
    let mut packets = Vec::new();
    let mut at = 24;
    while let Some((time, length, packet)) = record(&bytes, at) {
        packets.extend(tcp_packet(time, packet));
        at += 16 + length;
    }
    Ok(packets)
}

/// The record at an offset: its time, the bytes captured, and these.
fn record(file: &[u8], at: usize) -> Option<(u64, usize, Bytes<'_>)> {
    let header = Bytes(file.get(at..)?);
    let time = u64::from(header.native_u32(0)?) * 1_000_000_000 + u64::from(header.native_u32(4)?);
    let length = usize::try_from(header.native_u32(8)?).ok()?;
    Some((time, length, Bytes(file.get(at + 16..at + 16 + length)?)))
}

fn tcp_packet(realtime_ns: u64, frame: Bytes) -> Option<Packet> {
    const TCP: u8 = 6;
    // (source, destination, where TCP starts, where the IP packet ends), all from the start of the frame.
    let (source, destination, tcp, end): (IpAddr, IpAddr, usize, usize) = match frame.u16(12)? {
        0x0800 if frame.u8(23)? == TCP => {
            let address = |at| Some(IpAddr::V4(Ipv4Addr::from(frame.u32(at)?)));
            let header = usize::from(frame.u8(14)? & 0x0f) * 4;
            (address(26)?, address(30)?, 14 + header, 14 + usize::from(frame.u16(16)?))
        }
        0x86dd if frame.u8(20)? == TCP => {
            let address =
                |at: usize| Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(frame.0.get(at..at + 16)?).ok()?)));
            (address(22)?, address(38)?, 54, 54 + usize::from(frame.u16(18)?))
        }
        _ => return None,
    };
    let header = usize::from(frame.u8(tcp + 12)? >> 4) * 4;
    Some(Packet {
        realtime_ns,
        source: SocketAddr::new(source, frame.u16(tcp)?),
        destination: SocketAddr::new(destination, frame.u16(tcp + 2)?),
        sequence: frame.u32(tcp + 4)?,
        acknowledgement: frame.u32(tcp + 8)?,
        flags: frame.u8(tcp + 13)?,
        window: frame.u16(tcp + 14)?,
        payload: u32::try_from(end.checked_sub(tcp + header)?).ok()?,
    })
}

/// Integers at an offset: big-endian as on the wire, unless native.
#[derive(Clone, Copy)]
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn array<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..at + N)?.try_into().ok()
    }

    fn u8(self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    fn u16(self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_be_bytes)
    }

    fn u32(self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_be_bytes)
    }

    fn native_u32(self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_ne_bytes)
    }
}
