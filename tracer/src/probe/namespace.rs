//! Network and mount namespaces: working inside another one on a thread of its own, so that no other thread notices.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    thread,
};

use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with},
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe},
};

use crate::netlink::{self, Message, NetlinkError, Request};

/// A network namespace to work in; `None` is this process's own.
#[derive(Debug)]
pub struct Netns(Option<File>);

impl Netns {
    /// The namespace with inode number `inode`.
    ///
    /// # Errors
    ///
    /// If it does not exist; the text says how to see those that do.
    pub fn open(inode: u32) -> io::Result<Self> {
        let own = fs::metadata("/proc/self/ns/net")?.ino();
        Ok(Self(if u64::from(inode) == own { None } else { Some(open_netns(inode)?) }))
    }

    /// Runs `work` in it. What it reads in `/proc` has to be below `/proc/thread-self`: `/proc/self` and `/proc/net` show
    /// the namespace of the process.
    ///
    /// # Errors
    ///
    /// If the namespace cannot be entered.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        let Some(netns) = &self.0 else { return Ok(work()) };
        let result = thread::scope(|scope| {
            scope
                .spawn(|| {
                    enter(netns)?;
                    Ok(work())
                })
                .join()
        });
        result.unwrap_or_else(|_| Err(io::Error::other("the thread in the network namespace panicked")))
    }
}

/// The interfaces to attach to, and the network namespace that they are in.
#[derive(Debug)]
pub struct Interfaces {
    netns: Netns,
    names: Vec<String>,
}

impl Interfaces {
    /// The interfaces `wanted`, or all that are up, in the namespace with inode number `netns` or in this process's.
    ///
    /// # Errors
    ///
    /// If an interface or the namespace does not exist; the text says which, and what there is.
    pub fn find(wanted: &[String], netns: Option<u32>) -> io::Result<Self> {
        let netns = netns.map_or(Ok(Netns(None)), Netns::open)?;
        let all = netns.inside(interfaces)??;
        if let Some(unknown) = wanted.iter().find(|name| all.iter().all(|it| it.name != **name)) {
            let names: Vec<_> = all.into_iter().map(|it| it.name).collect();
            let text = format!("no interface {unknown:?}; there are: {}", names.join(", "));
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
        let up = all.into_iter().filter(|it| it.is_up).map(|it| it.name);
        let names = if wanted.is_empty() { up.collect() } else { wanted.to_vec() };
        Ok(Self { netns, names })
    }

    /// Their names.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The numbers of those that are there, by which the kernel knows them in their namespace.
    ///
    /// # Errors
    ///
    /// If the namespace cannot be entered.
    pub fn indexes(&self) -> io::Result<Vec<u32>> {
        self.inside(|| self.names.iter().filter_map(|name| index(name)).collect())
    }

    /// Runs `work` in their namespace.
    ///
    /// # Errors
    ///
    /// If the namespace cannot be entered.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        self.netns.inside(work)
    }
}

/// The inode number of this process's network namespace.
///
/// # Errors
///
/// If `/proc` cannot be read.
pub fn own() -> io::Result<u32> {
    u32::try_from(fs::metadata("/proc/self/ns/net")?.ino()).map_err(io::Error::other)
}

/// The inode numbers of all that have a name or a process.
pub fn all() -> Vec<u32> {
    let inodes = paths().filter_map(|path| u32::try_from(fs::metadata(path).ok()?.ino()).ok());
    inodes.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Where `ip netns` and `docker` keep the names that they give.
pub const NAMED: [&str; 2] = ["/run/netns", "/run/docker/netns"];

/// The namespace of each process, by inode number, and the process: those that began first come first, as far as pids tell.
pub fn by_process() -> impl Iterator<Item = (u32, u32)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    let inode = |pid: u32| fs::metadata(format!("/proc/{pid}/ns/net")).ok()?.ino().try_into().ok();
    pids.into_iter().filter_map(move |pid| Some((inode(pid)?, pid)))
}

/// The files that stand for namespaces: the names that `ip netns` or `docker` gave them, and the processes in them.
pub fn paths() -> impl Iterator<Item = PathBuf> {
    let entries = |folder: &str| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let named = NAMED.into_iter().flat_map(entries);
    named.chain(entries("/proc").map(|process| process.join("ns/net")))
}

/// A file that stands for the namespace with this inode number now.
pub fn path_of(inode: u32) -> Option<PathBuf> {
    paths().find(|path| fs::metadata(path).is_ok_and(|metadata| metadata.ino() == u64::from(inode)))
}

/// The namespace with this inode number.
fn open_netns(inode: u32) -> io::Result<File> {
    match path_of(inode) {
        Some(path) => File::open(path),
        None => Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("no network namespace {inode} (ip netns list and lsns -t net show them)"),
        )),
    }
}

/// An interface of the calling thread's network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its number, which the next one of that name does not have.
    pub index: u32,
    /// It is up.
    pub is_up: bool,
}

impl Interface {
    /// The interface that an `RTM_NEWLINK` is about, and its attributes.
    fn of<'a>(message: &Message<'a>) -> Option<(Self, &'a [u8])> {
        /// The length of `struct ifinfomsg`, and where its members `ifi_index` and `ifi_flags` are.
        const LENGTH: usize = 16;
        const INDEX: usize = 4;
        const FLAGS: usize = 8;
        const IFLA_IFNAME: u16 = 3;
        const IFF_UP: u32 = 1;
        let attributes = message.attributes_behind(LENGTH);
        let name = netlink::find(attributes, IFLA_IFNAME)?;
        let name = String::from_utf8_lossy(name.strip_suffix(&[0]).unwrap_or(name)).into_owned();
        let is_up = netlink::word(message.body, FLAGS)? & IFF_UP != 0;
        Some((Self { name, index: netlink::word(message.body, INDEX)?, is_up }, attributes))
    }
}

/// What `read` makes of each interface of the calling thread's network namespace, and of its attributes as netlink has them.
pub fn each_interface<T>(mut read: impl FnMut(Interface, &[u8]) -> Option<T>) -> Result<Vec<T>, NetlinkError> {
    let all = Request::dump(libc::RTM_GETLINK, &[0; 16]);
    all.send(netlink::ROUTE, |message| {
        Interface::of(message).and_then(|(interface, attributes)| read(interface, attributes))
    })
}

/// The interfaces of the calling thread's network namespace.
///
/// # Errors
///
/// If the kernel does not list them.
pub fn interfaces() -> io::Result<Vec<Interface>> {
    Ok(each_interface(|interface, _| Some(interface))?)
}

/// Whether the calling thread's network namespace has the interface.
pub fn exists(interface: &str) -> bool {
    index(interface).is_some()
}

/// The number of an interface of the calling thread's network namespace.
pub fn index(interface: &str) -> Option<u32> {
    netdevice::name_to_index(socket().ok()?, interface).ok()
}

/// The name of the interface with that number in the calling thread's network namespace.
pub fn name(index: u32) -> Option<String> {
    netdevice::index_to_name(socket().ok()?, index).ok()
}

/// A socket in the calling thread's network namespace, to ask it about its namespace.
fn socket() -> rustix::io::Result<OwnedFd> {
    socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
}

/// Moves the calling thread into a network namespace, for good: a thread of its own.
pub fn enter(netns: &File) -> io::Result<()> {
    Ok(move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))?)
}

/// What tells the calling thread's network namespace from every other one since the host started: inode numbers are given
/// again as soon as they are free (`SO_NETNS_COOKIE`, Linux 5.14).
pub fn cookie() -> Option<u64> {
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let socket = socket().ok()?;
    let mut cookie = 0_u64;
    let mut length = libc::socklen_t::try_from(size_of::<u64>()).ok()?;
    let value = (&raw mut cookie).cast();
    // SAFETY: an open socket; the kernel writes at most as many bytes as it is told there are.
    let result =
        unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_NETNS_COOKIE, value, &raw mut length) };
    (result == 0).then_some(cookie)
}

/// Gives the calling thread a mount namespace of its own with tracefs in its place, unless it is there already.
///
/// # Errors
///
/// If the kernel refuses a mount.
pub fn mount_tracefs_privately() -> io::Result<()> {
    if Path::new("/sys/kernel/tracing/events").exists() {
        return Ok(());
    }
    // SAFETY: affects the mounts of this thread only, not the descriptors that it shares with others.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
    Ok(mount("tracefs", "/sys/kernel/tracing", "tracefs", MountFlags::empty(), None)?)
}
