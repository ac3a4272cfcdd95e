//! The second way to sweep, for hosts that refuse BPF iterators: socket diagnostics, which list the state of each
//! connection beside its socket (`INET_DIAG_REQ_SK_BPF_STORAGES`, Linux 5.8, commit 1ed4d92458a9).

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData},
};
use tracer_common::{
    connection::{ACCEPT_UNSEEN, Connection},
    record::RequestRecord,
    rejection::Queue,
    slot::{ACCEPTS_BITS, ACCEPTS_WAYS, first, mixed},
};

use super::namespace::{self, Netns};
use crate::netlink::{self, Message, NetlinkError, Request, attribute, nested};

/// Where the connections are listed.
#[derive(Debug)]
pub struct Diagnostics {
    /// The map with the connections' state.
    map: OwnedFd,
    /// The one network namespace that is watched, by inode number; `None`: all.
    netns: Option<u32>,
    /// Requests read by this process only; 0: by any.
    pid: u32,
}

/// As in the kernel's `include/uapi/linux/inet_diag.h`, `sock_diag.h` and `netlink.h`.
mod uapi {
    pub const SOCK_DIAG_BY_FAMILY: u16 = 20;
    pub const IPPROTO_TCP: u8 = 6;
    pub const INET_DIAG_REQ_SK_BPF_STORAGES: u16 = 2;
    pub const SK_DIAG_BPF_STORAGE_REQ_MAP_FD: u16 = 1;
    pub const INET_DIAG_SKV6ONLY: u16 = 11;
    pub const INET_DIAG_SK_BPF_STORAGES: u16 = 20;
    pub const SK_DIAG_BPF_STORAGE: u16 = 1;
    pub const SK_DIAG_BPF_STORAGE_MAP_VALUE: u16 = 3;
    /// The length of `struct inet_diag_msg`.
    pub const MESSAGE: usize = 72;
    pub const LISTEN: u32 = 1 << 10;
    /// Where its member `idiag_inode` is.
    pub const INODE: usize = 68;
    /// All states but `LISTEN`, `TIME_WAIT` and those before a connection.
    pub const STATES: u32 = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 11;
}

impl Diagnostics {
    /// Tries it once.
    pub(super) fn new(ebpf: &Ebpf, netns: Option<u32>, pid: u32) -> io::Result<Self> {
        let map = match ebpf.map("CONNECTIONS") {
            Some(aya::maps::Map::SkStorage(map)) => map.fd().as_fd().try_clone_to_owned()?,
            _ => return Err(io::ErrorKind::NotFound.into()),
        };
        dump(netlink::AF_INET, &map, |_| false)?;
        Ok(Self { map, netns, pid })
    }

    /// Calls `each` with the record of every request that was not reported or was answered further since, as they are
    /// at `now`.
    ///
    /// # Errors
    ///
    /// If the kernel refuses. A namespace that vanishes meanwhile is no error.
    pub fn run(&self, ebpf: &Ebpf, now: u64, mut each: impl FnMut(RequestRecord)) -> io::Result<()> {
        let namespaces = self.netns.map_or_else(namespace::all, |netns| vec![netns]);
        for netns in namespaces {
            let Ok(namespace) = Netns::open(netns) else { continue };
            let found = namespace.inside(|| self.connections())??;
            for connection in found {
                let mut record = RequestRecord::of(&connection, false, 0, now);
                // Until the first read the moment may wait where the hook could leave it.
                if record.sequence == 1 && record.accepted == 0 && record.flags & RequestRecord::ADOPTED == 0 {
                    record.accepted = accepted(ebpf, connection.address.get()).unwrap_or(0);
                }
                each(record);
            }
        }
        Ok(())
    }

    /// The connections of the calling thread's network namespace that may have something to report.
    fn connections(&self) -> Result<Vec<Connection>, NetlinkError> {
        let is_wanted = |it: &Connection| it.is_to_be_looked_at() && (self.pid == 0 || self.pid == it.reader.get());
        let mut found = Vec::new();
        for family in [netlink::AF_INET, netlink::AF_INET6] {
            found.extend(dump(family, &self.map, is_wanted)?);
        }
        Ok(found)
    }
}

/// When `accept()` returned the socket at that address in the kernel, if that was stored under its address.
fn accepted(ebpf: &Ebpf, address: u64) -> Option<u64> {
    let slots: Array<&MapData, [u64; 2]> = Array::try_from(ebpf.map("ACCEPTS")?).ok()?;
    let start = first(mixed(address), ACCEPTS_BITS);
    for way in 0..ACCEPTS_WAYS {
        let [key, moment] = slots.get(&(start ^ way), 0).ok()?;
        if key == address {
            return Some(moment);
        }
    }
    let more: HashMap<&MapData, u64, u64> = HashMap::try_from(ebpf.map("ACCEPTS_MORE")?).ok()?;
    more.get(&address, 0).ok()
}

/// A request for the TCP sockets of that address family in these states, a set of bits: `struct inet_diag_req_v2`.
fn sockets(family: u8, states: u32) -> Request {
    let mut body = vec![family, uapi::IPPROTO_TCP, 0, 0];
    body.extend(states.to_ne_bytes());
    // `struct inet_diag_sockid`: any.
    body.extend([0; 48]);
    Request::dump(uapi::SOCK_DIAG_BY_FAMILY, &body)
}

/// The state of the connections of that address family in the calling thread's network namespace, of those that are wanted.
fn dump(family: u8, map: &OwnedFd, is_wanted: impl Fn(&Connection) -> bool) -> Result<Vec<Connection>, NetlinkError> {
    let map = attribute(uapi::SK_DIAG_BPF_STORAGE_REQ_MAP_FD, &map.as_raw_fd().to_ne_bytes());
    let request = sockets(family, uapi::STATES).with(&nested(uapi::INET_DIAG_REQ_SK_BPF_STORAGES, &map));
    request.send(netlink::SOCK_DIAG, |message| connection(message).filter(&is_wanted))
}

/// A socket that listens, as the kernel describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listening {
    /// The inode number of the socket.
    pub inode: u32,
    /// Its accept queue.
    pub queue: Queue,
    /// It takes no IPv4, although it is bound to all addresses of IPv6 (`IPV6_V6ONLY`).
    pub only_v6: bool,
}

/// The sockets of both address families that listen in the calling thread's network namespace.
pub fn listening() -> io::Result<Vec<Listening>> {
    let mut found = Vec::new();
    for family in [netlink::AF_INET, netlink::AF_INET6] {
        found.extend(sockets(family, uapi::LISTEN).send(netlink::SOCK_DIAG, listener)?);
    }
    Ok(found)
}

/// The listener that a message is about.
fn listener(message: &Message<'_>) -> Option<Listening> {
    // Behind the header of `struct inet_diag_msg` and the socket's identity: `expires`, then these, then the owner's id.
    let word = |index: usize| netlink::word(message.body, 52 + 4 * index);
    let attributes = message.attributes_behind(uapi::MESSAGE);
    let only_v6 = netlink::find(attributes, uapi::INET_DIAG_SKV6ONLY).is_some_and(|it| it.first() == Some(&1));
    Some(Listening { inode: word(4)?, queue: Queue { length: word(1)?, limit: word(2)? }, only_v6 })
}

/// The state of the connection that a message is about; none for sockets that are not traced.
fn connection(message: &Message<'_>) -> Option<Connection> {
    let attributes = message.attributes_behind(uapi::MESSAGE);
    let storages = netlink::find(attributes, uapi::INET_DIAG_SK_BPF_STORAGES)?;
    let storage = netlink::find(storages, uapi::SK_DIAG_BPF_STORAGE)?;
    let value = netlink::find(storage, uapi::SK_DIAG_BPF_STORAGE_MAP_VALUE)?;
    if value.len() < size_of::<Connection>() {
        return None;
    }
    // SAFETY: the length was checked, the read needs no alignment, and any bit pattern is a valid `Connection`.
    let connection = unsafe { value.as_ptr().cast::<Connection>().read_unaligned() };
    // A socket has an inode as long as a process has it, although perhaps no hook saw `accept()`.
    if connection.moments.accepted.get() == 0 && netlink::word(message.body, uapi::INODE) != Some(0) {
        connection.flags.insert(ACCEPT_UNSEEN);
    }
    Some(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_found_among_the_attributes() {
        let of = |body: &[u8]| connection(&Message::new(uapi::SOCK_DIAG_BY_FAMILY, body));
        let mut value = vec![0; size_of::<Connection>()];
        value[4] = 7;
        let storage = [attribute(2, &9_u32.to_ne_bytes()), attribute(3, &value)].concat();
        let storages = nested(uapi::INET_DIAG_SK_BPF_STORAGES, &attribute(1, &storage));
        let body = [vec![0; uapi::MESSAGE], attribute(8, &[1]), storages].concat();
        assert_eq!(of(&body).unwrap().sequence.get(), 7);
        assert!(of(&body[..body.len() - 8]).is_none());
        assert!(of(&body[..uapi::MESSAGE + 8]).is_none());
        assert!(of(&[]).is_none());
    }

    #[test]
    fn listeners_are_described() {
        let of = |body: &[u8]| listener(&Message::new(uapi::SOCK_DIAG_BY_FAMILY, body));
        let mut body = vec![0; uapi::MESSAGE];
        for (at, value) in [(56, 3_u32), (60, 2), (68, 4711)] {
            body[at..][..4].copy_from_slice(&value.to_ne_bytes());
        }
        let queue = Queue { length: 3, limit: 2 };
        assert_eq!(of(&body), Some(Listening { inode: 4711, queue, only_v6: false }));
        body.extend(attribute(uapi::INET_DIAG_SKV6ONLY, &[1]));
        assert_eq!(of(&body), Some(Listening { inode: 4711, queue, only_v6: true }));
        assert_eq!(of(&body[..60]), None);
    }

    #[test]
    fn this_process_is_seen_to_listen() {
        let both = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let inode = std::fs::read_link(format!("/proc/self/fd/{}", both.as_raw_fd())).unwrap();
        let of_it = |it: &&Listening| inode.to_string_lossy() == format!("socket:[{}]", it.inode);
        let found = listening().unwrap();
        let found = found.iter().find(of_it).unwrap();
        assert!(!found.only_v6 && found.queue.length == 0 && found.queue.limit != 0, "{found:?}");
    }
}
