//! What the kernel answers when it is asked for a route: the question of `ip route get`, over route netlink.

use std::{collections::HashMap, io, net::IpAddr};

use foldhash::fast::FixedState;
use rustix::io::Errno;

use super::recent::Recent;
use crate::{
    netlink::{self, Message, NetlinkError, Request, attribute},
    probe::namespace::Netns,
};

/// Routes asked for in a namespace, at most, while the answers hold.
const CAPACITY: usize = 64;

/// Attributes of a route: `RTA_DST` and `RTA_SRC`.
const DESTINATION: u16 = 1;
const SOURCE: u16 = 2;

/// The length of `struct rtmsg`, and where its member `rtm_type` is.
const ROUTE: usize = 12;
const TYPE: usize = 7;

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
    Error(Errno),
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
        Answer::Route(libc::RTN_BLACKHOLE) | Answer::Error(Errno::INVAL) => "The route is a blackhole",
        Answer::Route(libc::RTN_UNREACHABLE) => "The route is unreachable",
        Answer::Route(libc::RTN_PROHIBIT) | Answer::Error(Errno::ACCESS) => "The route is prohibited",
        Answer::Route(_) => return None,
        Answer::Error(Errno::NETUNREACH) => "Network is unreachable",
        Answer::Error(Errno::HOSTUNREACH) => "No route to host",
        Answer::Error(number) => return Some(number.to_string()),
    };
    Some(words.to_owned())
}

/// Asks for the route of a packet to `destination`, from `source` or whatever address the kernel prefers.
fn ask(destination: IpAddr, source: Option<IpAddr>) -> io::Result<Answer> {
    match request(destination, source).send(netlink::ROUTE, route) {
        Ok(routes) => routes.first().copied().ok_or_else(|| io::Error::other("the kernel's answer has no route")),
        Err(NetlinkError::Refused(error)) => Ok(Answer::Error(error)),
        Err(error) => Err(error.into()),
    }
}

/// `struct rtmsg`, and the addresses as attributes.
fn request(destination: IpAddr, source: Option<IpAddr>) -> Request {
    let (family, bits) = match destination {
        IpAddr::V4(_) => (netlink::AF_INET, 32),
        IpAddr::V6(_) => (netlink::AF_INET6, 128),
    };
    let mut body = [0; ROUTE];
    body[..3].copy_from_slice(&[family, bits, source.map_or(0, |_| bits)]);
    let request = Request::one(libc::RTM_GETROUTE, &body).with(&address(DESTINATION, destination));
    source.into_iter().fold(request, |request, source| request.with(&address(SOURCE, source)))
}

fn address(kind: u16, address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => attribute(kind, &address.octets()),
        IpAddr::V6(address) => attribute(kind, &address.octets()),
    }
}

/// The route that a message is about.
fn route(message: &Message<'_>) -> Option<Answer> {
    Some(Answer::Route(*message.body.get(TYPE).filter(|_| message.kind == libc::RTM_NEWROUTE)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_request_is_what_the_kernel_expects() {
        let request = request(ip("10.0.1.7"), Some(ip("10.0.2.5"))).encoded().unwrap();
        assert_eq!(request[..4], 44_u32.to_ne_bytes());
        assert_eq!(request[16..28], [2, 32, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let attributes = [8_u16.to_ne_bytes(), 1_u16.to_ne_bytes(), [10, 0], [1, 7]].concat();
        assert_eq!(request[28..36], attributes);
        assert_eq!(super::request(ip("2001:db8::1"), None).encoded().unwrap().len(), 28 + 20);
    }

    #[test]
    fn routes_are_taken_from_their_messages() {
        let answer = |kind, body: &[u8]| route(&Message::new(kind, body));
        assert_eq!(answer(libc::RTM_NEWROUTE, &[2, 32, 0, 0, 254, 0, 0, 6]), Some(Answer::Route(6)));
        assert_eq!(answer(libc::RTM_NEWROUTE, &[2, 32]), None);
        assert_eq!(answer(libc::RTM_NEWLINK, &[0; 16]), None);
    }

    #[test]
    fn routes_that_lead_nowhere_are_none() {
        for answer in [Answer::Route(libc::RTN_UNICAST), Answer::Route(libc::RTN_LOCAL)] {
            assert_eq!(refusal(answer), None);
        }
        let refused = [libc::RTN_BLACKHOLE, libc::RTN_UNREACHABLE, libc::RTN_PROHIBIT].map(Answer::Route);
        assert!(refused.into_iter().all(|answer| refusal(answer).is_some()));
        assert_eq!(refusal(Answer::Error(Errno::NETUNREACH)).as_deref(), Some("Network is unreachable"));
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
