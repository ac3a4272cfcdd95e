//! Who listens on a port: the addresses, and the process that accepts there.

use std::{collections::HashMap, fs, net::SocketAddr, os::unix::fs::MetadataExt, path::Path};

use foldhash::fast::FixedState;
use tracer_common::rejection::Queue;
use tracer_core::model::rejection::ProcessName;

use super::recent::Recent;
use crate::probe::{
    diagnostics::{self, Listening},
    listeners,
    namespace::Netns,
};

/// A socket that listens, and the process that owns it, if it was found.
pub type Listener = (SocketAddr, Option<ProcessName>);

/// A socket that listens, with all that is known of it.
#[derive(Clone, Debug)]
struct Socket {
    address: SocketAddr,
    inode: u64,
    owner: Option<ProcessName>,
    /// How the kernel describes it, where it does.
    listening: Option<Listening>,
}

/// The processes that own sockets, by the sockets' inode numbers.
type Owners = HashMap<u64, ProcessName, FixedState>;

/// The listeners of network namespaces, read at most once a second.
#[derive(Debug, Default)]
pub struct Listeners {
    recent: Recent<Vec<Socket>>,
}

impl Listeners {
    /// What listens on `port` in the namespace with inode number `netns`, once per address. With `SO_REUSEPORT` several
    /// sockets have one address: the process is named only if it is that of all of them. `[::]` stands for both families.
    pub fn on(&mut self, netns: u32, port: u16) -> Vec<Listener> {
        let mut listeners: Vec<Listener> = Vec::new();
        for (address, owner) in self.all(netns, port) {
            match listeners.last_mut() {
                Some((same, first)) if *same == address => {
                    *first = first.take().filter(|it| Some(it) == owner.as_ref());
                }
                _ => listeners.push((address, owner)),
            }
        }
        listeners
    }

    /// The same, once per address and process.
    pub fn all(&mut self, netns: u32, port: u16) -> Vec<Listener> {
        let mut listeners: Vec<_> = self.sockets(netns, port).map(|it| (it.address, it.owner.clone())).collect();
        let key = |(address, owner): &Listener| (*address, owner.as_ref().map_or(u32::MAX, |owner| owner.pid));
        listeners.sort_by_key(key);
        listeners.dedup_by_key(|listener| key(listener));
        listeners
    }

    /// The process of the listener with that inode number.
    pub fn owner(&mut self, netns: u32, port: u16, inode: u32) -> Option<ProcessName> {
        self.sockets(netns, port).find(|it| it.inode == u64::from(inode))?.owner.clone()
    }

    /// Whether what is bound to all addresses takes no IPv4 (`IPV6_V6ONLY`).
    pub fn is_only_v6(&mut self, netns: u32, port: u16) -> bool {
        let mut wildcards = self.sockets(netns, port).filter(|it| it.address.ip().is_unspecified()).peekable();
        wildcards.peek().is_some() && wildcards.all(|it| it.listening.is_some_and(|it| it.only_v6))
    }

    /// The listener with the longest of the accept queues that are full, and its process.
    pub fn full(&mut self, netns: u32, port: u16) -> Option<(Queue, Option<ProcessName>)> {
        let queue = |it: &Socket| it.listening.map(|it| it.queue).filter(|it| it.length > it.limit);
        let full = self.sockets(netns, port).filter_map(|it| Some((queue(it)?, it.owner.clone())));
        full.max_by_key(|(queue, _)| queue.length)
    }

    /// The accept queue of the one socket that gets connections to `local`; `None` if there are several.
    pub fn queue(&mut self, netns: u32, local: SocketAddr) -> Option<Queue> {
        let serves = |it: &&Socket| it.address.ip() == local.ip() || it.address.ip().is_unspecified();
        let mut serving = self.sockets(netns, local.port()).filter(serves);
        let only = serving.next().filter(|_| serving.next().is_none())?;
        only.listening.map(|it| it.queue)
    }

    fn sockets(&mut self, netns: u32, port: u16) -> impl Iterator<Item = &Socket> {
        let sockets = self.recent.get(netns, |_| read(netns));
        sockets.iter().filter(move |it| it.address.port() == port)
    }
}

/// All listeners of a namespace; none if it cannot be entered.
fn read(netns: u32) -> Vec<Socket> {
    let tables = || {
        let sockets: Vec<_> = listeners::of(Path::new("/proc/thread-self")).collect();
        (sockets, diagnostics::listening().unwrap_or_default())
    };
    let (sockets, listening) = Netns::open(netns).and_then(|netns| netns.inside(tables)).unwrap_or_default();
    let inodes: Vec<_> = sockets.iter().map(|&(_, inode)| inode).collect();
    let owners = owners(Path::new("/proc"), netns, &inodes);
    let described = |inode| listening.iter().find(|it| u64::from(it.inode) == inode).copied();
    let socket =
        |(address, inode)| Socket { address, inode, owner: owners.get(&inode).cloned(), listening: described(inode) };
    sockets.into_iter().map(socket).collect()
}

/// The owner of each of the sockets `inodes`, among the processes in the namespace.
///
/// Of several, such as a master and its workers, it is the one with the lowest pid, which in general started the others;
/// but not `init`, which keeps the sockets of units that it starts on demand.
fn owners(proc: &Path, netns: u32, inodes: &[u64]) -> Owners {
    let mut owners = Owners::default();
    if inodes.is_empty() {
        return owners;
    }
    let processes = fs::read_dir(proc).into_iter().flatten().flatten();
    let mut pids: Vec<u32> = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_by_key(|&pid| (pid == 1, pid));
    for pid in pids {
        let process = proc.join(pid.to_string());
        if fs::metadata(process.join("ns/net")).ok().map(|namespace| namespace.ino()) != Some(netns.into()) {
            continue;
        }
        let Ok(files) = fs::read_dir(process.join("fd")) else { continue };
        let links = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
        for inode in links.filter_map(|link| socket_inode(link.to_str()?)).filter(|inode| inodes.contains(inode)) {
            let comm = || fs::read_to_string(process.join("comm")).unwrap_or_default().trim_end().to_owned();
            owners.entry(inode).or_insert_with(|| ProcessName { pid, comm: comm(), how: None });
        }
        if owners.len() == inodes.len() {
            break;
        }
    }
    owners
}

/// The number in `socket:[12345]`.
fn socket_inode(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{net::TcpListener, os::unix::fs::symlink};

    fn own_netns() -> u32 {
        u32::try_from(fs::metadata("/proc/self/ns/net").unwrap().ino()).unwrap()
    }

    #[test]
    fn the_lowest_pid_owns_a_shared_socket_but_not_init() {
        let proc = tempfile::tempdir().unwrap();
        let inode = |path: &Path| u32::try_from(fs::metadata(path).unwrap().ino()).unwrap();
        let (here, elsewhere) = (proc.path().join("here"), proc.path().join("elsewhere"));
        fs::write(&here, "").unwrap();
        fs::write(&elsewhere, "").unwrap();
        let process = |pid: &str, netns: &Path, comm: &str, sockets: &[u64]| {
            let folder = proc.path().join(pid);
            fs::create_dir_all(folder.join("ns")).unwrap();
            fs::create_dir(folder.join("fd")).unwrap();
            fs::write(folder.join("comm"), format!("{comm}\n")).unwrap();
            fs::hard_link(netns, folder.join("ns/net")).unwrap();
            for socket in sockets {
                symlink(format!("socket:[{socket}]"), folder.join("fd").join(socket.to_string())).unwrap();
            }
        };
        process("1", &here, "systemd", &[10, 11]);
        process("9", &elsewhere, "stranger", &[10]);
        process("100", &here, "worker", &[10, 12]);
        process("20", &here, "master", &[10]);
        let owners = owners(proc.path(), inode(&here), &[10, 11, 13]);
        let name = |inode| owners.get(&inode).map(|owner| (owner.pid, owner.comm.as_str()));
        assert_eq!([name(10), name(11), name(12), name(13)], [Some((20, "master")), Some((1, "systemd")), None, None]);
    }

    #[test]
    fn this_process_is_found_at_its_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut listeners = Listeners::default();
        let found = listeners.on(own_netns(), address.port());
        let owner = |(at, owner): &Listener| (*at, owner.as_ref().unwrap().pid);
        assert_eq!(found.iter().map(owner).collect::<Vec<_>>(), [(address, std::process::id())]);
        // Kept for a second.
        drop(listener);
        assert_eq!(listeners.on(own_netns(), address.port()), found);
        assert_eq!(listeners.on(1, address.port()), []);
    }

    fn socket(address: &str, inode: u64, pid: u32, queue: (u32, u32), only_v6: bool) -> Socket {
        let owner = Some(ProcessName { pid, comm: "web".to_owned(), how: None });
        let queue = Queue { length: queue.0, limit: queue.1 };
        let listening = Some(Listening { inode: u32::try_from(inode).unwrap(), queue, only_v6 });
        Socket { address: address.parse().unwrap(), inode, owner, listening }
    }

    fn known(sockets: Vec<Socket>) -> Listeners {
        let mut listeners = Listeners::default();
        listeners.recent.get(7, |_| sockets);
        listeners
    }

    /// Of several workers with a socket each, only the socket that is meant tells which one it is.
    #[test]
    fn one_of_several_listeners_with_one_address_is_not_named() {
        let pid = |it: Option<ProcessName>| it.map(|it| it.pid);
        let at = |pid: u32, inode, queue| socket("0.0.0.0:80", inode, pid, queue, false);
        let mut listeners = known(vec![at(20, 1, (0, 128)), at(21, 2, (129, 128))]);
        assert_eq!(listeners.on(7, 80), [("0.0.0.0:80".parse().unwrap(), None)]);
        assert_eq!(listeners.all(7, 80).len(), 2);
        assert_eq!((pid(listeners.owner(7, 80, 2)), pid(listeners.owner(7, 80, 3))), (Some(21), None));
        let (queue, process) = listeners.full(7, 80).unwrap();
        assert_eq!((queue.length, queue.limit, pid(process)), (129, 128, Some(21)));
        // One process that holds all of them.
        let mut listeners = known(vec![at(20, 1, (0, 128)), at(20, 2, (128, 128))]);
        assert_eq!(pid(listeners.on(7, 80)[0].1.clone()), Some(20));
        assert_eq!(listeners.full(7, 80), None);
    }

    #[test]
    fn a_wildcard_of_ipv6_may_be_for_ipv6_only() {
        let v6 = |only| socket("[::]:80", 1, 20, (0, 128), only);
        assert!(known(vec![v6(true)]).is_only_v6(7, 80));
        assert!(!known(vec![v6(false)]).is_only_v6(7, 80));
        assert!(!known(vec![v6(true)]).is_only_v6(7, 81));
        assert!(!known(vec![socket("0.0.0.0:80", 2, 20, (0, 128), false), v6(true)]).is_only_v6(7, 80));
        assert!(!known(vec![socket("10.0.0.1:80", 2, 20, (0, 128), false)]).is_only_v6(7, 80));
    }
}
