//! Interfaces and network namespaces come and go. Those that appear get the program of the SYNs within a few seconds, and
//! what is attached to one that vanished is released.
//!
//! A thread of its own looks for them: that takes a look at every process of the host. It looks at most once a second,
//! and less often where a look takes long. A namespace is held open only for as long as the look at it takes, so that it can
//! vanish.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use aya::{
    maps::{HashMap as BpfMap, MapData},
    programs::{ProgramFd, SchedClassifier},
};
use rustix::{
    process::{Resource, getrlimit, setrlimit},
    time::{ClockId, clock_gettime},
};

use super::{
    clsact::Clsact,
    namespace::{self, Interface},
    tcx,
};

/// Least time between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// A pause is at least this many times as long as the look before it had the CPU, so that looking takes at most 2% of a CPU.
const PATIENCE: u32 = 50;
/// Most time between two looks.
const LONGEST: Duration = Duration::from_secs(10);
/// For how long the start waits for the first look.
const FIRST: Duration = Duration::from_secs(3);
/// Namespaces that are followed at once.
const NAMESPACES: usize = 256;
/// Interfaces that have a program at once.
const INTERFACES: usize = 1024;

/// What is followed.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Only this namespace, by inode number. `None`: all, or this process's own if `names` has some.
    pub netns: Option<u32>,
    /// Only the interfaces with these names; empty: all that are up.
    pub names: Vec<String>,
}

/// The indices of the interfaces that were asked for.
pub type Filter = BpfMap<MapData, u32, u32>;

/// How the program is attached.
pub enum Through {
    /// By links. Those of the interfaces that were there at the start belong to the BPF object.
    Tcx(ProgramFd),
    /// By filters, which a guard process removes. `None`: there was no interface yet.
    Clsact(Box<SchedClassifier>, Option<Clsact>),
}

/// How far the thread has come.
#[derive(Debug, Default)]
pub struct Progress {
    namespaces: AtomicU32,
    interfaces: AtomicU32,
    untraced_namespaces: AtomicU32,
    untraced_interfaces: AtomicU32,
}

/// What had no room, or was refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Untraced {
    /// Network namespaces, the most at once.
    pub namespaces: u32,
    /// Interfaces, the most at once.
    pub interfaces: u32,
}

impl Progress {
    /// The namespaces beside the one in which tracing began, and the interfaces there that have the program now.
    pub fn elsewhere(&self) -> (u32, u32) {
        (self.namespaces.load(Ordering::Relaxed), self.interfaces.load(Ordering::Relaxed))
    }

    /// What has no program.
    pub fn untraced(&self) -> Untraced {
        Untraced {
            namespaces: self.untraced_namespaces.load(Ordering::Relaxed),
            interfaces: self.untraced_interfaces.load(Ordering::Relaxed),
        }
    }
}

/// The thread. Dropping it ends it, and releases what it has attached.
pub struct Follower {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    /// How far it has come.
    pub progress: Arc<Progress>,
}

impl Follower {
    /// Starts the thread, and waits until it has looked once. The interfaces `attached` (by their indices in the namespace
    /// `home`) have the program already. `filter` holds the indices of the interfaces that were asked for, if some were.
    pub fn start(
        scope: Scope,
        through: Through,
        home: u32,
        attached: &[u32],
        filter: Option<Filter>,
    ) -> io::Result<Self> {
        raise_file_limit();
        let progress = Arc::new(Progress::default());
        let (end, ended) = channel();
        let (looked, first) = channel();
        let places = Places::new(scope, home)?;
        let attached = attached.iter().map(|&index| ((home, index), Attached::AtStart)).collect();
        let (cookies, reported) = (HashMap::new(), Arc::clone(&progress));
        let mut state = State { places, through, attached, cookies, filter, progress: reported };
        let thread = thread::Builder::new().name("interfaces".to_owned()).spawn(move || state.run(&ended, &looked))?;
        let _ = first.recv_timeout(FIRST);
        Ok(Self { end: Some(end), thread: Some(thread), progress })
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        drop(self.end.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::warn!("the thread that follows the interfaces panicked");
        }
    }
}

/// For how long the calling thread has had a CPU.
fn worked() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}

/// An interface: its namespace, by inode number, and its index there.
type Key = (u32, u32);

/// What holds the program to an interface.
enum Attached {
    /// Something else does, since the start.
    AtStart,
    /// A link.
    Link(#[expect(dead_code, reason = "it is held, and detaches when it is dropped")] OwnedFd),
    /// A filter, which the guard removes.
    Filter,
}

struct State {
    places: Places,
    through: Through,
    attached: HashMap<Key, Attached>,
    /// Which namespace each inode number stood for: the numbers are given again.
    cookies: HashMap<u32, u64>,
    filter: Option<Filter>,
    progress: Arc<Progress>,
}

impl State {
    fn run(&mut self, ended: &Receiver<()>, looked: &Sender<()>) {
        loop {
            let began = worked();
            self.look();
            let _ = looked.send(());
            let pause = (worked().saturating_sub(began) * PATIENCE).clamp(INTERVAL, LONGEST);
            if ended.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }

    /// Looks at all namespaces once.
    fn look(&mut self) {
        let followed: HashSet<u32> = self.attached.keys().map(|&(netns, _)| netns).collect();
        let all = self.places.find(&followed);
        let mut untraced = Untraced::default();
        untraced.namespaces += count(all.len().saturating_sub(NAMESPACES));
        let mut there = HashSet::new();
        let mut unknown = HashSet::new();
        for place in all.iter().take(NAMESPACES) {
            match self.places.enter(place) {
                Ok(()) => match namespace::interfaces() {
                    Ok(interfaces) => self.attach_in(place.inode, &interfaces, &mut there, &mut untraced),
                    Err(error) => {
                        log::debug!("interfaces of the network namespace {}: {error}", place.inode);
                        unknown.insert(place.inode);
                    }
                },
                // The process by which it was found has ended. Whether the namespace has, too, the next look finds.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    unknown.insert(place.inode);
                }
                Err(error) => {
                    log::debug!("network namespace {}: {error}", place.inode);
                    untraced.namespaces += 1;
                    unknown.insert(place.inode);
                }
            }
        }
        self.places.leave();
        unknown.extend(all.iter().skip(NAMESPACES).map(|place| place.inode));
        self.cookies.retain(|netns, _| all.iter().any(|place| place.inode == *netns));
        self.release(|key| there.contains(key) || unknown.contains(&key.0));
        self.note(untraced);
    }

    /// Attaches to the interfaces of the namespace that this thread is in, and adds those that are there to `there`.
    fn attach_in(&mut self, netns: u32, interfaces: &[Interface], there: &mut HashSet<Key>, untraced: &mut Untraced) {
        if let Some(cookie) = namespace::cookie()
            && self.cookies.insert(netns, cookie).is_some_and(|before| before != cookie)
        {
            // Another namespace has the number now.
            self.release(|key| key.0 != netns);
        }
        self.release(|key| key.0 != netns || interfaces.iter().any(|it| it.index == key.1));
        for interface in interfaces {
            let key = (netns, interface.index);
            there.insert(key);
            if self.attached.contains_key(&key) || !self.places.is_wanted(interface) {
                continue;
            }
            if self.attached.len() >= INTERFACES {
                untraced.interfaces += 1;
                continue;
            }
            match self.attach(netns, interface) {
                Ok(attached) => {
                    self.attached.insert(key, attached);
                    self.let_through(interface.index, true);
                }
                // It went away meanwhile, or has come from another namespace and is released there first.
                Err(_) if !namespace::exists(&interface.name) => {}
                Err(error) if is(&error, libc::EEXIST) => {}
                Err(error) => {
                    log::debug!("{} in the network namespace {netns}: {error:#}", interface.name);
                    untraced.interfaces += 1;
                }
            }
        }
    }

    fn attach(&mut self, netns: u32, interface: &Interface) -> anyhow::Result<Attached> {
        match &mut self.through {
            Through::Tcx(program) => Ok(Attached::Link(tcx::attach(program.as_fd(), interface.index)?)),
            Through::Clsact(program, guard) => {
                let guard = match guard {
                    Some(guard) => guard,
                    none => none.insert(Clsact::new()?),
                };
                guard.attach(program, netns, &interface.name)?;
                Ok(Attached::Filter)
            }
        }
    }

    fn release(&mut self, is_left: impl Fn(&Key) -> bool) {
        let gone: Vec<Key> = self.attached.keys().filter(|key| !is_left(key)).copied().collect();
        for key in gone {
            self.let_through(key.1, false);
            if let (Some(Attached::Filter), Through::Clsact(_, Some(guard))) =
                (self.attached.remove(&key), &mut self.through)
            {
                guard.forget(key.0, key.1);
            }
        }
    }

    /// Has the programs let through what comes by the interface with that index, or no longer, if they filter by interface.
    fn let_through(&mut self, index: u32, is_wanted: bool) {
        if let Some(filter) = &mut self.filter {
            let changed = if is_wanted { filter.insert(index, 1, 0) } else { filter.remove(&index) };
            if let Err(error) = changed {
                log::debug!("the interface {index} in the filter: {error}");
            }
        }
    }

    fn note(&self, untraced: Untraced) {
        let elsewhere: Vec<u32> =
            self.attached.keys().map(|&(netns, _)| netns).filter(|&netns| netns != self.places.home).collect();
        let namespaces: HashSet<&u32> = elsewhere.iter().collect();
        self.progress.namespaces.store(count(namespaces.len()), Ordering::Relaxed);
        self.progress.interfaces.store(count(elsewhere.len()), Ordering::Relaxed);
        self.progress.untraced_namespaces.fetch_max(untraced.namespaces, Ordering::Relaxed);
        self.progress.untraced_interfaces.fetch_max(untraced.interfaces, Ordering::Relaxed);
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn is(error: &anyhow::Error, code: i32) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.raw_os_error() == Some(code))
}

/// A namespace, and the file that stands for it now.
struct Place {
    inode: u32,
    path: PathBuf,
}

/// Where interfaces are looked for.
struct Places {
    scope: Scope,
    /// The namespace in which tracing began.
    home: u32,
    /// This process's own namespace, which is there for as long as this process is.
    own: (u32, File),
    /// The thread is in another one.
    is_away: bool,
}

impl Places {
    fn new(scope: Scope, home: u32) -> io::Result<Self> {
        let file = File::open("/proc/self/ns/net")?;
        let own = (inode_of(&file.metadata()?), file);
        Ok(Self { scope, home, own, is_away: false })
    }

    /// The namespaces that are there, those in `followed` first.
    fn find(&self, followed: &HashSet<u32>) -> Vec<Place> {
        let wanted = self.scope.netns.or((!self.scope.names.is_empty()).then_some(self.home));
        if let Some(inode) = wanted {
            let path = if inode == self.own.0 { Some(PathBuf::new()) } else { namespace::path_of(inode) };
            return path.into_iter().map(|path| Place { inode, path }).collect();
        }
        let mut places = BTreeMap::from([(self.own.0, PathBuf::new())]);
        for path in namespace::paths() {
            if let Ok(metadata) = fs::metadata(&path) {
                places.entry(inode_of(&metadata)).or_insert(path);
            }
        }
        let mut places: Vec<_> = places.into_iter().map(|(inode, path)| Place { inode, path }).collect();
        places.sort_by_key(|place| (place.inode != self.own.0, !followed.contains(&place.inode)));
        places
    }

    /// Moves this thread into a namespace.
    fn enter(&mut self, place: &Place) -> io::Result<()> {
        if place.inode == self.own.0 {
            self.leave();
            return Ok(());
        }
        namespace::enter(&open(&place.path, place.inode)?)?;
        self.is_away = true;
        Ok(())
    }

    /// Moves this thread back, so that it holds no other namespace.
    fn leave(&mut self) {
        if self.is_away {
            match namespace::enter(&self.own.1) {
                Ok(()) => self.is_away = false,
                Err(error) => log::warn!("cannot come back to the own network namespace: {error}"),
            }
        }
    }

    fn is_wanted(&self, interface: &Interface) -> bool {
        match &self.scope.names[..] {
            [] => interface.is_up,
            names => names.contains(&interface.name),
        }
    }
}

/// Opens the namespace, if the file still stands for it: a process may have ended.
fn open(path: &Path, inode: u32) -> io::Result<File> {
    let file = File::open(path).map_err(|error| match error.raw_os_error() {
        Some(libc::ESRCH) => io::ErrorKind::NotFound.into(),
        _ => error,
    })?;
    if inode_of(&file.metadata()?) == inode { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
}

fn inode_of(metadata: &fs::Metadata) -> u32 {
    u32::try_from(metadata.ino()).unwrap_or(0)
}

/// Each link is a descriptor, and many hosts allow 1024 of them unless a process asks for more.
fn raise_file_limit() {
    const MOST: u64 = 1 << 16;
    let mut limit = getrlimit(Resource::Nofile);
    // No limit is more than enough.
    limit.current = limit.current.map(|current| limit.maximum.map_or(MOST, |most| most.min(MOST)).max(current));
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        log::debug!("cannot raise the number of open files: {error}");
    }
}
