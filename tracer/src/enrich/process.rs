//! The control group and the systemd unit of a process.
//!
//! A record names the control group by its id, the inode number of its directory. The path is looked up as soon as the
//! record arrives, while the process most likely still runs, and then remembered: also for a recording, which has to
//! be read on other hosts.

use foldhash::fast::FixedState;
use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::{DirEntryExt, MetadataExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tracer_common::record::Process;

/// Control groups remembered at once.
const CAPACITY: usize = 4096;
/// Least time between two searches of the whole hierarchy.
const SEARCH_INTERVAL: Duration = Duration::from_secs(1);
/// Digits of a container's id that engines show.
const SHOWN_OF_ID: usize = 12;
/// Directories looked at in one search.
const SEARCH_LIMIT: usize = 50_000;

/// A control group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its path below the mount point, as in `/proc/PID/cgroup`.
    pub cgroup: String,
}

impl Place {
    /// The systemd unit that it belongs to: the innermost service or scope.
    #[must_use]
    pub fn unit(&self) -> Option<&str> {
        let is_unit = |name: &&str| [".service", ".scope"].iter().any(|suffix| name.ends_with(suffix));
        self.cgroup.rsplit('/').find(is_unit)
    }

    /// The container that it belongs to, by the first digits of its id, as container engines show it: they put the 64
    /// hexadecimal digits of the id into the name of the control group (`docker-ID.scope`, `cri-containerd-ID.scope`).
    #[must_use]
    pub fn container(&self) -> Option<&str> {
        let is_id = |text: &&str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = self.cgroup.rsplit(['/', '-', '.', ':']).find(is_id)?;
        id.get(..SHOWN_OF_ID)
    }

    /// Whose processes are in it, in words: a container's, a unit's, or else of the control group by its path. `None`:
    /// the root group, in which everything is that is in no other.
    #[must_use]
    pub fn whose(&self) -> Option<String> {
        let path = (self.cgroup != "/").then(|| self.cgroup.clone());
        let container = self.container().map(|id| format!("container {id}"));
        container.or_else(|| self.unit().map(str::to_owned)).or(path)
    }

    /// That of the process `pid` of this host.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let cgroup = of_process(Path::new("/proc"), pid, cgroup2_mount(&mountinfo).is_some())?;
        Some(Self { cgroup })
    }
}

/// What was learnt about a control group; the form in which a recording keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// The id of the control group; 0: the fact is about one process.
    pub cgroup: u64,
    /// The process, where the host has no cgroup v2 hierarchy; otherwise 0.
    pub pid: u32,
    /// The path.
    pub path: String,
}

/// The control groups seen so far.
#[derive(Debug, Default)]
pub struct Processes {
    by_cgroup: HashMap<u64, Option<Place>, FixedState>,
    by_pid: HashMap<u32, Option<Place>, FixedState>,
    host: Option<Host>,
}

impl Processes {
    /// Asks this host about control groups that it does not know.
    #[must_use]
    pub fn of_this_host() -> Self {
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mount = cgroup2_mount(&mountinfo);
        Self { host: Some(Host { mount, searched: None }), ..Self::default() }
    }

    /// Knows only what it is told by [`Processes::learn`].
    #[must_use]
    pub fn recorded() -> Self {
        Self::default()
    }

    /// The control group of `process`, if it is known.
    #[must_use]
    pub fn place(&self, process: &Process) -> Option<&Place> {
        let by_cgroup = self.by_cgroup.get(&process.cgroup);
        by_cgroup.or_else(|| self.by_pid.get(&process.pid)).and_then(Option::as_ref)
    }

    /// Looks `process` up on this host unless it is known; returns what was learnt by that.
    pub fn resolve(&mut self, process: &Process) -> Option<Fact> {
        let host = self.host.as_mut()?;
        let known = match host.mount {
            Some(_) => self.by_cgroup.contains_key(&process.cgroup),
            None => self.by_pid.contains_key(&process.pid),
        };
        if known || process.pid == 0 {
            return None;
        }
        let (path, settled) = host.find(process);
        let fact = match host.mount {
            Some(_) => Fact { cgroup: process.cgroup, pid: 0, path: path.clone().unwrap_or_default() },
            None => Fact { cgroup: 0, pid: process.pid, path: path.clone().unwrap_or_default() },
        };
        if settled {
            self.remember(&fact, path.is_some());
        }
        path.map(|_| fact)
    }

    /// Takes over what was learnt when a recording was made.
    pub fn learn(&mut self, fact: &Fact) {
        self.remember(fact, true);
    }

    fn remember(&mut self, fact: &Fact, found: bool) {
        if self.by_cgroup.len() + self.by_pid.len() >= CAPACITY {
            self.by_cgroup.clear();
            self.by_pid.clear();
        }
        let place = found.then(|| Place { cgroup: fact.path.clone() });
        if fact.cgroup != 0 {
            self.by_cgroup.insert(fact.cgroup, place);
        } else {
            self.by_pid.insert(fact.pid, place);
        }
    }
}

/// Where this host tells about control groups.
#[derive(Debug)]
struct Host {
    mount: Option<PathBuf>,
    searched: Option<Instant>,
}

impl Host {
    /// The path of the process's control group, and whether the answer is final.
    fn find(&mut self, process: &Process) -> (Option<String>, bool) {
        let own = of_process(Path::new("/proc"), process.pid, self.mount.is_some());
        let Some(mount) = &self.mount else { return (own, true) };
        // The process may have moved on, or its id may be another one's by now: the inode number decides.
        if let Some(path) = own.filter(|path| inode(&join(mount, path)) == Some(process.cgroup)) {
            return (Some(path), true);
        }
        if self.searched.is_some_and(|last| last.elapsed() < SEARCH_INTERVAL) {
            return (None, false);
        }
        self.searched = Some(Instant::now());
        (search(mount, process.cgroup), true)
    }
}

/// The first whole cgroup v2 hierarchy in `mountinfo`, as in `proc_pid_mountinfo(5)`.
fn cgroup2_mount(mountinfo: &str) -> Option<PathBuf> {
    let mut mounts = mountinfo.lines().filter_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        (kind.split(' ').next()? == "cgroup2").then(|| (root, PathBuf::from(point)))
    });
    let first = mounts.next()?;
    let whole = |mount: &(&str, PathBuf)| mount.0 == "/";
    if whole(&first) { Some(first.1) } else { Some(mounts.find(whole).unwrap_or(first).1) }
}

/// The path in `/proc/PID/cgroup`: of the cgroup v2 hierarchy, or of systemd's own where there is no other.
fn of_process(proc: &Path, pid: u32, unified: bool) -> Option<String> {
    let file = fs::File::open(proc.join(pid.to_string()).join("cgroup")).ok()?;
    let mut lines = BufReader::new(file).lines().map_while(Result::ok);
    lines.find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let wanted = if unified { "" } else { "name=systemd" };
        (controllers == wanted).then(|| path.to_owned())
    })
}

/// The path below `mount` of the directory with the inode number `id`.
fn search(mount: &Path, id: u64) -> Option<String> {
    if inode(mount) == Some(id) {
        return Some("/".to_owned());
    }
    let mut left = SEARCH_LIMIT;
    let mut directories = vec![mount.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if entry.ino() == id {
                let path = entry.path();
                return Some(format!("/{}", path.strip_prefix(mount).ok()?.display()));
            }
            left = left.checked_sub(1)?;
            directories.push(entry.path());
        }
    }
    None
}

fn join(mount: &Path, path: &str) -> PathBuf {
    mount.join(path.trim_start_matches('/'))
}

fn inode(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|metadata| metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_is_the_innermost_service_or_scope() {
        let unit = |path: &str| Place { cgroup: path.to_owned() }.unit().map(str::to_owned);
        assert_eq!(unit("/system.slice/nginx.service").as_deref(), Some("nginx.service"));
        let nested = "/user.slice/user-0.slice/user@0.service/app.slice/web.service/worker";
        assert_eq!(unit(nested).as_deref(), Some("web.service"));
        assert_eq!(unit("/system.slice/docker-4f.scope").as_deref(), Some("docker-4f.scope"));
        assert_eq!(unit("/"), None);
    }

    #[test]
    fn a_place_is_a_containers_a_units_or_a_path() {
        let id = "4f1c2d3e4a5b6c7d8e9f0a1b2c3d4e5f60718293a4b5c6d7e8f9a0b1c2d3e4f5";
        let whose = |path: &str| Place { cgroup: path.replace("ID", id) }.whose();
        for path in
            ["/system.slice/docker-ID.scope", "/docker/ID", "/kubepods.slice/kubepods-pod1.slice/crio-ID.scope/app"]
        {
            assert_eq!(whose(path).as_deref(), Some("container 4f1c2d3e4a5b"), "{path}");
        }
        assert_eq!(whose("/system.slice/nginx.service").as_deref(), Some("nginx.service"));
        assert_eq!((whose("/lxc/web").as_deref(), whose("/")), (Some("/lxc/web"), None));
    }

    #[test]
    fn the_mount_of_the_whole_hierarchy_is_preferred() {
        let part = "30 1 0:26 /a /run/part rw shared:4 - cgroup2 cgroup2 rw\n";
        let whole = "31 1 0:26 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        let other = "32 1 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        let mount = |text: &str| cgroup2_mount(text).map(|path| path.display().to_string());
        assert_eq!(mount(&[other, part, whole].concat()).as_deref(), Some("/sys/fs/cgroup/unified"));
        assert_eq!(mount(&[other, part].concat()).as_deref(), Some("/run/part"));
        assert_eq!(mount(other), None);
    }

    #[test]
    fn a_directory_is_found_by_its_inode_number() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("system.slice/web.service");
        fs::create_dir_all(&deep).unwrap();
        let id = inode(&deep).unwrap();
        assert_eq!(search(root.path(), id).as_deref(), Some("/system.slice/web.service"));
        assert_eq!(search(root.path(), inode(root.path()).unwrap()).as_deref(), Some("/"));
        assert_eq!(search(root.path(), u64::MAX), None);
    }

    #[test]
    fn without_cgroup2_the_process_itself_is_asked() {
        let proc = tempfile::tempdir().unwrap();
        fs::create_dir(proc.path().join("7")).unwrap();
        let text = "2:cpu:/x\n1:name=systemd:/system.slice/a.service\n0::/system.slice/b.service\n";
        fs::write(proc.path().join("7/cgroup"), text).unwrap();
        assert_eq!(of_process(proc.path(), 7, false).as_deref(), Some("/system.slice/a.service"));
        assert_eq!(of_process(proc.path(), 7, true).as_deref(), Some("/system.slice/b.service"));
        assert_eq!(of_process(proc.path(), 8, true), None);
    }

    #[test]
    fn this_process_is_found_and_then_known() {
        let mut processes = Processes::of_this_host();
        let Some(mount) = processes.host.as_ref().and_then(|host| host.mount.clone()) else { return };
        let pid = std::process::id();
        let path = of_process(Path::new("/proc"), pid, true).unwrap();
        let process = Process { cgroup: inode(&join(&mount, &path)).unwrap(), pid, ..Process::default() };
        let fact = processes.resolve(&process).unwrap();
        assert_eq!((fact.cgroup, fact.path.as_str()), (process.cgroup, path.as_str()));
        assert_eq!(processes.resolve(&process), None);
        assert_eq!(processes.place(&process).unwrap().cgroup, path);
    }

    #[test]
    fn what_was_recorded_is_enough() {
        let mut processes = Processes::recorded();
        let process = Process { cgroup: 42, pid: 7, ..Process::default() };
        assert_eq!(processes.resolve(&process), None);
        assert_eq!(processes.place(&process), None);
        processes.learn(&Fact { cgroup: 42, pid: 0, path: "/system.slice/web.service".to_owned() });
        assert_eq!(processes.place(&process).unwrap().unit(), Some("web.service"));
    }
}
