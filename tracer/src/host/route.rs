//! What the kernel answers when it is asked for a route: the question of `ip route get`, over route netlink.

use super::recent::Recent;
use crate::probe::namespace::Netns;
use foldhash::fast::FixedState;
use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

/// Routes asked for in a namespace, at most, while the answers hold.
const CAPACITY: usize = 64;

/// Attributes of a route: `RTA_DST` and `RTA_SRC`.
const DESTINATION: u16 = 1;
const SOURCE: u16 = 2;

/// Bytes of `struct nlmsghdr` and `struct rtmsg`.
const HEADERS: usize = 16 + 12;

/// The routes of network namespaces.
#[derive(Debug, Default)]
pub struct Routes {
    recent: Recent<Answers>,
}

/// Why there is no route, if there is none, from an address of this host to a peer.
type Answers = HashMap<(IpAddr, IpAddr), Option<String>, FixedState>;

impl Routes {
    /// Why packets from `local` to `peer` have no route in the namespace with inode number `netns`, as [`missing`] says;
    /// `None` also if that cannot be told.
    pub fn missing(&mut self, netns: u32, local: IpAddr, peer: IpAddr) -> Option<String> {
        let answers = self.recent.get(netns, |_| Answers::default());
        if let Some(answer) = answers.get(&(local, peer)) {
            return answer.clone();
        }
        if answers.len() >= CAPACITY {
            return None;
        }
        let answer = Netns::open(netns).and_then(|netns| netns.inside(|| missing(local, peer))?).unwrap_or(None);
        answers.entry((local, peer)).insert_entry(answer).get().clone()
    }
}

/// The kernel's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// A route of this type, one of `RTN_*`.
    Route(u8),
    /// No route, but this error.
    Error(i32),
}

/// Why a packet from `local` to `peer` has no route in the calling thread's network namespace, such as `Network is
/// unreachable`. `None` if it has one, or if that cannot be told: for the packets of other namespaces, which are only
/// forwarded, for link-local peers, which are on every interface, and where the peer's address is not known.
///
/// # Errors
///
/// If the kernel cannot be asked.
fn missing(local: IpAddr, peer: IpAddr) -> io::Result<Option<String>> {
    let is_link_local = matches!(peer, IpAddr::V6(peer) if peer.is_unicast_link_local());
    if is_link_local || peer.is_unspecified() || !is_local(local)? {
        return Ok(None);
    }
    Ok(refusal(ask(peer, Some(local))?))
}

/// Whether `address` is one of the calling thread's network namespace.
///
/// # Errors
///
/// If the kernel cannot be asked.
pub fn is_local(address: IpAddr) -> io::Result<bool> {
    Ok(ask(address, None)? == Answer::Route(libc::RTN_LOCAL))
}

/// In words, if `answer` says that there is no route. For a blackhole the kernel has the error `EINVAL`.
fn refusal(answer: Answer) -> Option<String> {
    let words = match answer {
        Answer::Route(libc::RTN_BLACKHOLE) | Answer::Error(libc::EINVAL) => "The route is a blackhole",
        Answer::Route(libc::RTN_UNREACHABLE) => "The route is unreachable",
        Answer::Route(libc::RTN_PROHIBIT) | Answer::Error(libc::EACCES) => "The route is prohibited",
        Answer::Route(_) => return None,
        Answer::Error(libc::ENETUNREACH) => "Network is unreachable",
        Answer::Error(libc::EHOSTUNREACH) => "No route to host",
        Answer::Error(number) => return Some(io::Error::from_raw_os_error(number).to_string()),
    };
    Some(words.to_owned())
}

/// Asks for the route of a packet to `destination`, from `source` or whatever address the kernel prefers.
fn ask(destination: IpAddr, source: Option<IpAddr>) -> io::Result<Answer> {
    let request = request(destination, source)?;
    let mut reply = [0_u8; 4096];
    // SAFETY: a new socket, owned from then on; the kernel reads and writes as many bytes as it is told there are.
    let length = unsafe {
        let socket = libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE);
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        let socket = OwnedFd::from_raw_fd(socket);
        if libc::send(socket.as_raw_fd(), request.as_ptr().cast(), request.len(), 0) < 0 {
            return Err(io::Error::last_os_error());
        }
        libc::recv(socket.as_raw_fd(), reply.as_mut_ptr().cast(), reply.len(), 0)
    };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    parse(&reply[..length]).ok_or_else(|| io::Error::other("the kernel's answer about a route is not understood"))
}

/// `struct nlmsghdr`, `struct rtmsg`, and the addresses as attributes.
fn request(destination: IpAddr, source: Option<IpAddr>) -> io::Result<Vec<u8>> {
    let small = |number: i32| u8::try_from(number).map_err(io::Error::other);
    let (family, bits) = match destination {
        IpAddr::V4(_) => (small(libc::AF_INET)?, 32),
        IpAddr::V6(_) => (small(libc::AF_INET6)?, 128),
    };
    let mut message = vec![0; HEADERS];
    message[4..6].copy_from_slice(&libc::RTM_GETROUTE.to_ne_bytes());
    message[6..8].copy_from_slice(&u16::from(small(libc::NLM_F_REQUEST)?).to_ne_bytes());
    message[16..19].copy_from_slice(&[family, bits, source.map_or(0, |_| bits)]);
    for (kind, address) in [(DESTINATION, Some(destination)), (SOURCE, source)] {
        let octets = match address {
            Some(IpAddr::V4(address)) => address.octets().to_vec(),
            Some(IpAddr::V6(address)) => address.octets().to_vec(),
            None => continue,
        };
        message.extend((4 + u16::from(bits / 8)).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(octets);
    }
    let length = u32::try_from(message.len()).map_err(io::Error::other)?;
    message[..4].copy_from_slice(&length.to_ne_bytes());
    Ok(message)
}

/// From `struct nlmsghdr` and what follows it: `struct rtmsg`, or an error number.
fn parse(message: &[u8]) -> Option<Answer> {
    let kind = u16::from_ne_bytes(*message.get(4..)?.first_chunk()?);
    match i32::from(kind) {
        libc::NLMSG_ERROR => Some(Answer::Error(-i32::from_ne_bytes(*message.get(16..)?.first_chunk()?))),
        _ if kind == libc::RTM_NEWROUTE => Some(Answer::Route(*message.get(16 + 7)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_request_is_what_the_kernel_expects() {
        let request = request(ip("10.0.1.7"), Some(ip("10.0.2.5"))).unwrap();
        assert_eq!(request[..4], 44_u32.to_ne_bytes());
        assert_eq!(request[16..28], [2, 32, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let attributes = [8_u16.to_ne_bytes(), 1_u16.to_ne_bytes(), [10, 0], [1, 7]].concat();
        assert_eq!(request[28..36], attributes);
        assert_eq!(super::request(ip("2001:db8::1"), None).unwrap().len(), 28 + 20);
    }

    #[test]
    fn answers_are_taken_apart() {
        let answer = |kind: u16, body: &[u8]| parse(&[&[0; 4][..], &kind.to_ne_bytes(), &[0; 10], body].concat());
        assert_eq!(answer(libc::RTM_NEWROUTE, &[2, 32, 0, 0, 254, 0, 0, 6]), Some(Answer::Route(6)));
        assert_eq!(answer(2, &(-libc::ENETUNREACH).to_ne_bytes()), Some(Answer::Error(libc::ENETUNREACH)));
        assert_eq!(answer(libc::RTM_NEWROUTE, &[2, 32]), None);
        assert_eq!(answer(2, &[0]), None);
        assert_eq!(answer(3, &[0; 16]), None);
        assert_eq!(parse(&[]), None);
    }

    #[test]
    fn routes_that_lead_nowhere_are_none() {
        for answer in [Answer::Route(libc::RTN_UNICAST), Answer::Route(libc::RTN_LOCAL)] {
            assert_eq!(refusal(answer), None);
        }
        let refused = [libc::RTN_BLACKHOLE, libc::RTN_UNREACHABLE, libc::RTN_PROHIBIT].map(Answer::Route);
        assert!(refused.into_iter().all(|answer| refusal(answer).is_some()));
        assert_eq!(refusal(Answer::Error(libc::ENETUNREACH)).as_deref(), Some("Network is unreachable"));
    }

    #[test]
    fn the_running_kernel_knows_its_own_address() {
        assert!(is_local(ip("127.0.0.1")).unwrap());
        assert!(!is_local(ip("192.0.2.1")).unwrap());
        assert_eq!(missing(ip("127.0.0.1"), ip("127.0.0.1")).unwrap(), None);
        assert_eq!(missing(ip("127.0.0.1"), ip("fe80::2")).unwrap(), None);
        assert_eq!(missing(ip("127.0.0.1"), ip("::")).unwrap(), None);
        assert_eq!(missing(ip("192.0.2.1"), ip("127.0.0.1")).unwrap(), None);
    }
}
