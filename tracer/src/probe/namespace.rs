//! Network and mount namespaces: working inside another one on a thread of its own, so that no other thread notices.

use std::{
    collections::BTreeSet,
    ffi::{CStr, CString},
    fs::{self, File},
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    thread,
};

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
        let mut interfaces = Self { netns, names: Vec::new() };
        let (up, all) = interfaces.inside(list)??;
        if let Some(unknown) = wanted.iter().find(|name| !all.contains(name)) {
            let text = format!("no interface {unknown:?}; there are: {}", all.join(", "));
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
        interfaces.names = if wanted.is_empty() { up } else { wanted.to_vec() };
        Ok(interfaces)
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

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
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

/// The interfaces of the calling thread's network namespace, those that vanish meanwhile left out.
///
/// # Errors
///
/// If the kernel does not list them.
pub fn interfaces() -> io::Result<Vec<Interface>> {
    let (up, all) = list()?;
    let interface = |name: String| Some(Interface { index: index(&name)?, is_up: up.contains(&name), name });
    Ok(all.into_iter().filter_map(interface).collect())
}

/// The names of the interfaces that are up, and of all.
fn list() -> io::Result<(Vec<String>, Vec<String>)> {
    let mut up = Vec::new();
    let mut all = Vec::new();
    // SAFETY: the list is freed below; until then its entries and their names are valid C strings.
    unsafe {
        let mut first = std::ptr::null_mut();
        check(libc::getifaddrs(&raw mut first))?;
        let mut next = first;
        while let Some(entry) = next.as_ref() {
            let name = CStr::from_ptr(entry.ifa_name).to_string_lossy().into_owned();
            if !all.contains(&name) {
                if entry.ifa_flags & libc::IFF_UP.cast_unsigned() != 0 {
                    up.push(name.clone());
                }
                all.push(name);
            }
            next = entry.ifa_next;
        }
        libc::freeifaddrs(first);
    }
    Ok((up, all))
}

/// Whether the calling thread's network namespace has the interface.
pub fn exists(interface: &str) -> bool {
    index(interface).is_some()
}

/// The number of an interface of the calling thread's network namespace.
pub fn index(interface: &str) -> Option<u32> {
    let name = CString::new(interface).ok()?;
    // SAFETY: a valid C string.
    Some(unsafe { libc::if_nametoindex(name.as_ptr()) }).filter(|&index| index != 0)
}

/// The name of the interface with that number in the calling thread's network namespace.
pub fn name(index: u32) -> Option<String> {
    let mut name = [0; libc::IF_NAMESIZE];
    // SAFETY: the buffer is as long as the longest name.
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr()) };
    // SAFETY: the call has written a C string, if it found one.
    (!found.is_null()).then(|| unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned())
}

/// Moves the calling thread into a network namespace, for good: a thread of its own.
pub fn enter(netns: &File) -> io::Result<()> {
    // SAFETY: an open file descriptor; the call affects this thread only.
    check(unsafe { libc::setns(netns.as_raw_fd(), libc::CLONE_NEWNET) })
}

/// What tells the calling thread's network namespace from every other one since the host started: inode numbers are given
/// again as soon as they are free (`SO_NETNS_COOKIE`, Linux 5.14).
pub fn cookie() -> Option<u64> {
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let mut cookie = 0_u64;
    let mut length = libc::socklen_t::try_from(size_of::<u64>()).ok()?;
    // SAFETY: a new socket, owned from then on; the kernel writes at most as many bytes as it is told there are.
    unsafe {
        let socket = libc::socket(libc::AF_UNIX, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if socket < 0 {
            return None;
        }
        let socket = OwnedFd::from_raw_fd(socket);
        let value = (&raw mut cookie).cast();
        check(libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_NETNS_COOKIE, value, &raw mut length)).ok()?;
    }
    Some(cookie)
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
    let mount = |source: Option<&CStr>, target: &CStr, kind: Option<&CStr>, flags| {
        let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
        // SAFETY: valid C strings, or null where the call allows it.
        check(unsafe { libc::mount(pointer(source), target.as_ptr(), pointer(kind), flags, std::ptr::null()) })
    };
    // SAFETY: affects this thread only.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    mount(None, c"/", None, libc::MS_REC | libc::MS_PRIVATE)?;
    mount(Some(c"tracefs"), c"/sys/kernel/tracing", Some(c"tracefs"), 0)
}
