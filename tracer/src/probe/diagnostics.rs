//! The second way to sweep, for hosts that refuse BPF iterators: socket diagnostics, which list the state of each
//! connection beside its socket (`INET_DIAG_REQ_SK_BPF_STORAGES`, Linux 5.8, commit 1ed4d92458a9).

use super::namespace::{self, Netns};
use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData},
};
use std::{
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
};
use tracer_common::{
    connection::{ACCEPT_UNSEEN, Connection},
    record::RequestRecord,
    rejection::Queue,
    slot::{ACCEPTS_BITS, ACCEPTS_WAYS, first, mixed},
};

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
    pub const NETLINK_SOCK_DIAG: libc::c_int = 4;
    pub const SOCK_DIAG_BY_FAMILY: u16 = 20;
    pub const INET_DIAG_REQ_SK_BPF_STORAGES: u16 = 2;
    pub const SK_DIAG_BPF_STORAGE_REQ_MAP_FD: u16 = 1;
    pub const INET_DIAG_SKV6ONLY: u16 = 11;
    pub const INET_DIAG_SK_BPF_STORAGES: u16 = 20;
    pub const SK_DIAG_BPF_STORAGE: u16 = 1;
    pub const SK_DIAG_BPF_STORAGE_MAP_VALUE: u16 = 3;
    pub const NESTED: u16 = 1 << 15;
    /// The kinds of attributes, without the bits that say how they are written.
    pub const KIND: u16 = 0x3fff;
    /// `struct nlmsghdr`.
    pub const HEADER: usize = 16;
    /// `struct inet_diag_msg`.
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
        dump(libc::AF_INET, &map, &mut |_| {})?;
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
            let found = namespace.inside(|| {
                let mut found = Vec::new();
                for family in [libc::AF_INET, libc::AF_INET6] {
                    dump(family, &self.map, &mut |connection| {
                        let is_wanted = self.pid == 0 || self.pid == connection.reader.get();
                        if connection.is_to_be_looked_at() && is_wanted {
                            found.push(connection);
                        }
                    })?;
                }
                Ok::<_, io::Error>(found)
            })??;
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

/// `struct nlmsghdr` and `struct inet_diag_req_v2` for the TCP sockets of that address family in these states, a set of bits.
/// The length is for [`ask`] to write.
fn header(family: libc::c_int, states: u32) -> io::Result<Vec<u8>> {
    let mut message = vec![0; uapi::HEADER];
    message[4..6].copy_from_slice(&uapi::SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    let flags = u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_DUMP).map_err(io::Error::other)?;
    message[6..8].copy_from_slice(&flags.to_ne_bytes());
    let small = |number: libc::c_int| u8::try_from(number).map_err(io::Error::other);
    message.extend([small(family)?, small(libc::IPPROTO_TCP)?, 0, 0]);
    message.extend(states.to_ne_bytes());
    // `struct inet_diag_sockid`: any.
    message.extend([0; 48]);
    Ok(message)
}

/// The same, and the map as an attribute.
fn request(family: libc::c_int, map: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut message = header(family, uapi::STATES)?;
    message.extend(12_u16.to_ne_bytes());
    message.extend((uapi::INET_DIAG_REQ_SK_BPF_STORAGES | uapi::NESTED).to_ne_bytes());
    message.extend(8_u16.to_ne_bytes());
    message.extend(uapi::SK_DIAG_BPF_STORAGE_REQ_MAP_FD.to_ne_bytes());
    message.extend(map.as_raw_fd().to_ne_bytes());
    Ok(message)
}

/// Calls `each` with the state of every connection of that address family in the calling thread's network namespace.
fn dump(family: libc::c_int, map: &OwnedFd, each: &mut impl FnMut(Connection)) -> io::Result<()> {
    ask(request(family, map)?, |message| connection(message).into_iter().for_each(&mut *each))
}

/// Sends the request in the calling thread's network namespace and calls `each` with each message that comes back.
fn ask(mut request: Vec<u8>, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let length = u32::try_from(request.len()).map_err(io::Error::other)?;
    request[..4].copy_from_slice(&length.to_ne_bytes());
    // SAFETY: a new socket, owned from then on; the kernel reads as many bytes as it is told there are.
    let socket = unsafe {
        let socket = libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, uapi::NETLINK_SOCK_DIAG);
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        let socket = OwnedFd::from_raw_fd(socket);
        if libc::send(socket.as_raw_fd(), request.as_ptr().cast(), request.len(), 0) < 0 {
            return Err(io::Error::last_os_error());
        }
        socket
    };
    let mut buffer = vec![0_u8; 64 << 10];
    loop {
        // SAFETY: the buffer has as many bytes as the kernel is told.
        let length = unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
        let mut rest = &buffer[..length];
        while let Some((message, next)) = message(rest) {
            match (i32::from(half(message, 4)), word(message, uapi::HEADER)) {
                (libc::NLMSG_DONE, _) | (libc::NLMSG_ERROR, Some(0)) => return Ok(()),
                (libc::NLMSG_ERROR, errno) => {
                    return Err(io::Error::from_raw_os_error(-errno.unwrap_or(0).cast_signed()));
                }
                _ => each(message),
            }
            rest = next;
        }
        if length == 0 {
            return Ok(());
        }
    }
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
    for family in [libc::AF_INET, libc::AF_INET6] {
        ask(header(family, uapi::LISTEN)?, |message| found.extend(listener(message)))?;
    }
    Ok(found)
}

/// The listener that a message is about.
fn listener(message: &[u8]) -> Option<Listening> {
    // Behind the header of `struct inet_diag_msg` and the socket's identity: `expires`, then these, then the owner's id.
    let word = |index: usize| word(message, uapi::HEADER + 52 + 4 * index);
    let attributes = message.get(uapi::HEADER + uapi::MESSAGE..).unwrap_or_default();
    let only_v6 = attribute(attributes, uapi::INET_DIAG_SKV6ONLY).is_some_and(|it| it.first() == Some(&1));
    Some(Listening { inode: word(4)?, queue: Queue { length: word(1)?, limit: word(2)? }, only_v6 })
}

/// The state of the connection that a message is about; none for sockets that are not traced.
fn connection(message: &[u8]) -> Option<Connection> {
    let attributes = message.get(uapi::HEADER + uapi::MESSAGE..)?;
    let storages = attribute(attributes, uapi::INET_DIAG_SK_BPF_STORAGES)?;
    let storage = attribute(storages, uapi::SK_DIAG_BPF_STORAGE)?;
    let value = attribute(storage, uapi::SK_DIAG_BPF_STORAGE_MAP_VALUE)?;
    if value.len() < size_of::<Connection>() {
        return None;
    }
    // SAFETY: the length was checked, the read needs no alignment, and any bit pattern is a valid `Connection`.
    let connection = unsafe { value.as_ptr().cast::<Connection>().read_unaligned() };
    // A socket has an inode as long as a process has it, although perhaps no hook saw `accept()`.
    if connection.moments.accepted.get() == 0 && word(message, uapi::HEADER + uapi::INODE) != Some(0) {
        connection.flags.insert(ACCEPT_UNSEEN);
    }
    Some(connection)
}

/// The first message in `bytes`, and what follows it.
fn message(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = word(bytes, 0)? as usize;
    if length < uapi::HEADER {
        return None;
    }
    Some((bytes.get(..length)?, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// The content of the first attribute of that kind in `bytes`.
fn attribute(mut bytes: &[u8], kind: u16) -> Option<&[u8]> {
    const HEADER: usize = 4;
    while bytes.len() >= HEADER {
        let length = usize::from(half(bytes, 0)).max(HEADER);
        if half(bytes, 2) & uapi::KIND == kind {
            return bytes.get(HEADER..length);
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
    None
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// 0 where there is nothing.
fn half(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |half| u16::from_ne_bytes(*half))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(kind: u16, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + content.len()).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn the_state_is_found_among_the_attributes() {
        let mut value = vec![0; size_of::<Connection>()];
        value[4] = 7;
        let storage = [wrapped(2, &9_u32.to_ne_bytes()), wrapped(3, &value)].concat();
        let storages = wrapped(uapi::INET_DIAG_SK_BPF_STORAGES | uapi::NESTED, &wrapped(1, &storage));
        let message = [vec![0; uapi::HEADER + uapi::MESSAGE], wrapped(8, &[1]), storages].concat();
        assert_eq!(connection(&message).unwrap().sequence.get(), 7);
        assert!(connection(&message[..message.len() - 8]).is_none());
        assert!(connection(&message[..uapi::HEADER + uapi::MESSAGE + 8]).is_none());
        assert!(connection(&[]).is_none());
    }

    #[test]
    fn listeners_are_described() {
        let mut message = vec![0; uapi::HEADER + uapi::MESSAGE];
        for (at, value) in [(56, 3_u32), (60, 2), (68, 4711)] {
            message[uapi::HEADER + at..][..4].copy_from_slice(&value.to_ne_bytes());
        }
        let queue = Queue { length: 3, limit: 2 };
        assert_eq!(listener(&message), Some(Listening { inode: 4711, queue, only_v6: false }));
        message.extend(wrapped(uapi::INET_DIAG_SKV6ONLY, &[1]));
        assert_eq!(listener(&message), Some(Listening { inode: 4711, queue, only_v6: true }));
        assert_eq!(listener(&message[..uapi::HEADER + 60]), None);
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

    #[test]
    fn messages_are_taken_one_after_the_other() {
        let bytes = [&18_u32.to_ne_bytes()[..], &[7; 14], &[0; 2], &16_u32.to_ne_bytes(), &[8; 12]].concat();
        let (one, rest) = message(&bytes).unwrap();
        assert_eq!((one.len(), half(one, 4)), (18, 0x0707));
        assert_eq!(message(rest).unwrap().0.len(), 16);
        assert!(message(&bytes[..10]).is_none() && message(&[0; 20]).is_none());
    }
}
