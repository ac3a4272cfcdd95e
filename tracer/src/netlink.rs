//! Requests to the kernel over netlink: sockets, messages, attributes, and when an answer is complete. What to request, and what
//! the answer means, is the caller's.

use std::io;

use rustix::{
    io::{Errno, retry_on_intr},
    net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with},
};
use thiserror::Error;

/// Interfaces, routes, qdiscs and filters.
pub const ROUTE: Option<Protocol> = None;
/// Sockets.
pub const SOCK_DIAG: Option<Protocol> = Some(netlink::SOCK_DIAG);

/// Address families, as bodies of messages have them.
pub const AF_INET: u8 = 2;
pub const AF_INET6: u8 = 10;

/// As in the kernel's `include/uapi/linux/netlink.h`.
mod uapi {
    pub const NLM_F_REQUEST: u16 = 1;
    pub const NLM_F_ACK: u16 = 4;
    pub const NLM_F_DUMP_INTR: u16 = 0x10;
    pub const NLM_F_DUMP: u16 = 0x300;
    pub const NLMSG_NOOP: u16 = 1;
    pub const NLMSG_ERROR: u16 = 2;
    pub const NLMSG_DONE: u16 = 3;
    pub const NLA_F_NESTED: u16 = 1 << 15;
    /// The kind of an attribute, without the two bits that say how its content is encoded.
    pub const NLA_TYPE_MASK: u16 = 0x3fff;
    /// Messages and attributes begin at multiples of this.
    pub const ALIGNMENT: usize = 4;
    /// The length of `struct nlmsghdr`.
    pub const MESSAGE_HEADER: usize = 16;
    /// The length of `struct nlattr`.
    pub const ATTRIBUTE_HEADER: usize = 4;
}

/// How many times a dump is begun before it fails, if what it lists changes each time.
const ATTEMPTS: usize = 10;
/// The kernel fills datagrams of at most 32 KiB. A larger one holds a single message that needs the room.
const BUFFER: usize = 64 << 10;

/// Why a request has no complete answer.
#[derive(Debug, Error)]
pub enum NetlinkError {
    /// The kernel refuses the request, or ends the answer, with this error.
    #[error("{0}")]
    Refused(Errno),
    /// No socket, or nothing that can be received from it.
    #[error("netlink: {0}")]
    Socket(Errno),
    /// What the kernel lists has changed while the kernel listed it, at every attempt.
    #[error("netlink: what the kernel lists has changed meanwhile")]
    Interrupted,
    /// The answer breaks off in a message.
    #[error("netlink: an incomplete message")]
    Incomplete,
}

impl From<NetlinkError> for io::Error {
    fn from(error: NetlinkError) -> Self {
        match error {
            NetlinkError::Refused(number) | NetlinkError::Socket(number) => number.into(),
            NetlinkError::Interrupted | NetlinkError::Incomplete => Self::other(error),
        }
    }
}

/// A message to the kernel.
#[derive(Clone, Debug)]
pub struct Request(Vec<u8>);

impl Request {
    /// A request for one thing. `body` is what the kernel expects behind the header, up to the attributes.
    pub fn one(kind: u16, body: &[u8]) -> Self {
        Self::new(kind, uapi::NLM_F_ACK, body)
    }

    /// A request for a list.
    pub fn dump(kind: u16, body: &[u8]) -> Self {
        Self::new(kind, uapi::NLM_F_DUMP, body)
    }

    fn new(kind: u16, flags: u16, body: &[u8]) -> Self {
        let mut bytes = vec![0; uapi::MESSAGE_HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(uapi::NLM_F_REQUEST | flags).to_ne_bytes());
        bytes.extend(body);
        Self(bytes)
    }

    /// Adds an attribute, encoded by [`attribute`] or [`nested`].
    pub fn with(mut self, attribute: &[u8]) -> Self {
        self.0.resize(self.0.len().next_multiple_of(uapi::ALIGNMENT), 0);
        self.0.extend(attribute);
        self
    }

    /// The message as the kernel reads it.
    pub fn encoded(&self) -> Result<Vec<u8>, NetlinkError> {
        let mut bytes = self.0.clone();
        let length = u32::try_from(bytes.len()).map_err(|_| NetlinkError::Socket(Errno::MSGSIZE))?;
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        Ok(bytes)
    }

    /// Sends the request in the calling thread's network namespace, and returns what `read` makes of each message of the
    /// answer. A list that changes while the kernel writes it may lack entries, so it is requested again.
    pub fn send<T>(
        &self,
        protocol: Option<Protocol>,
        mut read: impl FnMut(&Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>, NetlinkError> {
        let mut buffer = vec![0; BUFFER];
        for _ in 0..ATTEMPTS {
            match self.attempt(protocol, &mut buffer, &mut read) {
                Err(NetlinkError::Interrupted) => {}
                result => return result,
            }
        }
        Err(NetlinkError::Interrupted)
    }

    fn attempt<T>(
        &self,
        protocol: Option<Protocol>,
        buffer: &mut [u8],
        read: &mut impl FnMut(&Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>, NetlinkError> {
        let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
        let socket = socket_with(family, kind, SocketFlags::CLOEXEC, protocol).map_err(NetlinkError::Socket)?;
        let request = self.encoded()?;
        retry_on_intr(|| send(&socket, &request, SendFlags::empty())).map_err(NetlinkError::Socket)?;
        let mut found = Vec::new();
        loop {
            // With this flag the length is that of the datagram, even if the buffer is shorter.
            let received = retry_on_intr(|| recv(&socket, &mut *buffer, RecvFlags::TRUNC));
            let (_, length) = received.map_err(NetlinkError::Socket)?;
            let datagram = buffer.get(..length).ok_or(NetlinkError::Incomplete)?;
            if take(datagram, &mut |message| found.extend(read(message)))? {
                return Ok(found);
            }
        }
    }
}

/// Passes the messages of a datagram to `each`. True if the last of them ends the answer.
fn take(mut datagram: &[u8], each: &mut impl FnMut(&Message<'_>)) -> Result<bool, NetlinkError> {
    if datagram.is_empty() {
        return Err(NetlinkError::Incomplete);
    }
    while !datagram.is_empty() {
        let (message, rest) = Message::first(datagram).ok_or(NetlinkError::Incomplete)?;
        if message.flags & uapi::NLM_F_DUMP_INTR != 0 {
            return Err(NetlinkError::Interrupted);
        }
        match message.kind {
            uapi::NLMSG_NOOP => {}
            // Both begin with an error number, negative or 0. The end of a list may lack it.
            uapi::NLMSG_ERROR => return message.outcome().unwrap_or(Err(NetlinkError::Incomplete)).map(|()| true),
            uapi::NLMSG_DONE => return message.outcome().unwrap_or(Ok(())).map(|()| true),
            _ => each(&message),
        }
        datagram = rest;
    }
    Ok(false)
}

/// A message from the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// What it is, such as `RTM_NEWROUTE`.
    pub kind: u16,
    flags: u16,
    /// What follows the header.
    pub body: &'a [u8],
}

impl<'a> Message<'a> {
    /// A message without flags.
    #[cfg(test)]
    pub const fn new(kind: u16, body: &'a [u8]) -> Self {
        Self { kind, flags: 0, body }
    }

    /// The first message in `bytes`, and what follows it.
    fn first(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let length = usize::try_from(word(bytes, 0)?).ok()?;
        let body = bytes.get(uapi::MESSAGE_HEADER..length)?;
        let rest = bytes.get(length.next_multiple_of(uapi::ALIGNMENT)..).unwrap_or_default();
        Some((Self { kind: half(bytes, 4)?, flags: half(bytes, 6)?, body }, rest))
    }

    /// The error at the beginning of a message that ends an answer, if there is one.
    fn outcome(&self) -> Option<Result<(), NetlinkError>> {
        let number = word(self.body, 0)?.cast_signed();
        Some(if number == 0 { Ok(()) } else { Err(NetlinkError::Refused(errno(number))) })
    }

    /// The attributes, which begin behind the first `length` bytes of the body.
    pub fn attributes_behind(&self, length: usize) -> &'a [u8] {
        self.body.get(length.next_multiple_of(uapi::ALIGNMENT)..).unwrap_or_default()
    }
}

/// The error that the kernel means. Of what is no error number `EPROTO` is made.
fn errno(number: i32) -> Errno {
    match number.checked_neg() {
        Some(number @ 1..4096) => Errno::from_raw_os_error(number),
        _ => Errno::PROTO,
    }
}

/// An attribute of a request.
pub fn attribute(kind: u16, content: &[u8]) -> Vec<u8> {
    // Nothing that is requested comes near the limit of 64 KiB.
    let length = u16::try_from(uapi::ATTRIBUTE_HEADER + content.len()).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(uapi::ALIGNMENT), 0);
    bytes
}

/// An attribute that holds others.
pub fn nested(kind: u16, attributes: &[u8]) -> Vec<u8> {
    attribute(kind | uapi::NLA_F_NESTED, attributes)
}

/// The content of the first attribute of that kind in `bytes`; `None` also if `bytes` are no attributes up to there.
pub fn find(mut bytes: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(half(bytes, 0)?);
        let content = bytes.get(uapi::ATTRIBUTE_HEADER..length)?;
        if half(bytes, 2)? & uapi::NLA_TYPE_MASK == kind {
            return Some(content);
        }
        bytes = bytes.get(length.next_multiple_of(uapi::ALIGNMENT)..)?;
    }
}

/// The four bytes at `at`.
pub fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The two bytes at `at`.
fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests;
