//! A full table of connection tracking: the table of one namespace, filled with entries through netlink, up to the limit
//! that the host has anyway.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result, bail, ensure};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::netns::Namespace;

/// From `linux/netlink.h`, `linux/netfilter/nfnetlink.h` and `nfnetlink_conntrack.h`.
mod abi {
    pub const NETLINK_NETFILTER: u32 = 12;
    pub const NEW_ENTRY: u16 = 1 << 8;
    /// `NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL`.
    pub const CREATE: u16 = 0x601;
    pub const ERROR: u16 = 2;
    pub const NESTED: u16 = 0x8000;
    /// `IPS_SEEN_REPLY | IPS_ASSURED | IPS_CONFIRMED`: an entry that the kernel does not give up for another one.
    pub const ASSURED: u32 = 2 | 4 | 8;
    pub const TCP_ESTABLISHED: u8 = 3;
}

/// Entries made with one system call.
const BATCH: usize = 128;
/// How long the entries live, seconds.
const LIFETIME: u32 = 120;
/// The peer of the first entry; the others are those behind it, in the network between carriers and their customers (RFC
/// 6598, /10).
const FIRST_PEER: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 0);
const PEERS: u32 = 1 << 22;

/// Fills the table of `namespace` until the kernel refuses another entry; says how many there were room for. They go with
/// the namespace. Connections are tracked where a rule asks for it: have one, such as `ct state invalid counter`.
///
/// # Errors
/// Where the kernel has no connection tracking or no netlink for it, or refuses an entry for another reason.
pub fn fill_conntrack(namespace: &Namespace) -> Result<u32> {
    namespace.enter(|| {
        let protocol = rustix::net::Protocol::from_raw(
            abi::NETLINK_NETFILTER.try_into().context("no number of a netlink protocol")?,
        );
        let socket =
            rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(protocol))
                .context("cannot make a netlink socket")?;
        let entry = first_entry();
        let peer = FIRST_PEER.octets();
        let places: Vec<usize> = entry.windows(4).enumerate().filter(|(_, it)| *it == peer).map(|(at, _)| at).collect();
        for first in (0..PEERS).step_by(BATCH) {
            let mut batch = entry.repeat(BATCH);
            for (message, peer) in batch.chunks_exact_mut(entry.len()).zip(u32::from(FIRST_PEER) + first..) {
                for place in &places {
                    message[*place..place + 4].copy_from_slice(&peer.to_be_bytes());
                }
            }
            rustix::net::send(&socket, &batch, SendFlags::empty()).context("cannot send to netfilter")?;
            match refusal(&socket)? {
                None => {}
                Some(Errno::NOMEM) => return Ok(first),
                Some(error) => return Err(error).context("netfilter refuses an entry"),
            }
        }
        bail!("the table has no limit")
    })
}

/// The first error that netfilter has answered with; it is silent about what it has done.
fn refusal(socket: &OwnedFd) -> Result<Option<Errno>> {
    let mut answer = [0; 64];
    match rustix::net::recv(socket, &mut answer[..], RecvFlags::DONTWAIT) {
        Ok((length, _)) => {
            let number = i32::from_ne_bytes(answer[16..20].try_into()?);
            let is_error = length >= 20 && answer[4..6] == abi::ERROR.to_ne_bytes();
            ensure!(is_error && number < 0, "not an error of netfilter: {answer:?}");
            // The batch goes on after an entry that is refused: there are more answers.
            while rustix::net::recv(socket, &mut answer[..], RecvFlags::DONTWAIT).is_ok() {}
            Ok(Some(Errno::from_raw_os_error(-number)))
        }
        // Too many answers at once.
        Err(Errno::NOBUFS) => Ok(Some(Errno::NOMEM)),
        Err(Errno::AGAIN) => Ok(None),
        Err(error) => Err(error).context("cannot read what netfilter answers"),
    }
}

/// The message that makes an established connection with the first peer.
fn first_entry() -> Vec<u8> {
    let (peer, local) = ((FIRST_PEER, 40_000), (Ipv4Addr::new(10, 77, 0, 2), 80));
    let body = [
        // Address family and version, no resource.
        vec![2, 0, 0, 0],
        tuple(1, peer, local),
        tuple(2, local, peer),
        attribute(3, &abi::ASSURED.to_be_bytes()),
        // The state of TCP.
        nest(4, &[nest(1, &[attribute(1, &[abi::TCP_ESTABLISHED])])]),
        attribute(7, &LIFETIME.to_be_bytes()),
    ]
    .concat();
    let mut message = u32::try_from(16 + body.len()).unwrap_or(0).to_ne_bytes().to_vec();
    message.extend_from_slice(&abi::NEW_ENTRY.to_ne_bytes());
    message.extend_from_slice(&abi::CREATE.to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(&body);
    message
}

/// One direction of a connection.
fn tuple(kind: u16, source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16)) -> Vec<u8> {
    let addresses = nest(1, &[attribute(1, &source.0.octets()), attribute(2, &destination.0.octets())]);
    let ports = nest(
        2,
        &[attribute(1, &[6]), attribute(2, &source.1.to_be_bytes()), attribute(3, &destination.1.to_be_bytes())],
    );
    nest(kind, &[addresses, ports])
}

fn nest(kind: u16, attributes: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | abi::NESTED, &attributes.concat())
}

/// An attribute, filled up to a multiple of four bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(0);
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
