//! The control group of a process, as this host shows it.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::{DirEntryExt, MetadataExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tracer_common::record::Process;
use tracer_core::model::place::{Fact, Place};

/// Least time between two searches of the whole hierarchy.
const SEARCH_INTERVAL: Duration = Duration::from_secs(1);

/// Directories looked at in one search.
const SEARCH_LIMIT: usize = 50_000;

/// That of the process `pid` of this host.
pub fn place_of(pid: u32) -> Option<Place> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let cgroup = of_process(Path::new("/proc"), pid, cgroup2_mount(&mountinfo).is_some())?;
    Some(Place { cgroup })
}

/// Where this host tells about control groups.
#[derive(Debug)]
pub struct ControlGroups {
    mount: Option<PathBuf>,
    searched: Option<Instant>,
}

impl ControlGroups {
    /// Those of this host.
    pub fn of_this_host() -> Self {
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        Self { mount: cgroup2_mount(&mountinfo), searched: None }
    }

    /// The control group of `process`, if it is found.
    pub fn find(&mut self, process: &Process) -> Option<Fact> {
        let own = of_process(Path::new("/proc"), process.pid, self.mount.is_some());
        let Some(mount) = &self.mount else {
            return own.map(|path| Fact { cgroup: 0, pid: process.pid, path });
        };
        // The process may have moved on, or its id may be another one's by now: the inode number decides.
        let own = own.filter(|path| inode(&join(mount, path)) == Some(process.cgroup));
        let path = own.or_else(|| {
            if self.searched.is_some_and(|last| last.elapsed() < SEARCH_INTERVAL) {
                return None;
            }
            self.searched = Some(Instant::now());
            search(mount, process.cgroup)
        })?;
        Some(Fact { cgroup: process.cgroup, pid: 0, path })
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
    fn this_process_is_found() {
        let mut groups = ControlGroups::of_this_host();
        let Some(mount) = groups.mount.clone() else { return };
        let pid = std::process::id();
        let path = of_process(Path::new("/proc"), pid, true).unwrap();
        let process = Process { cgroup: inode(&join(&mount, &path)).unwrap(), pid, ..Process::default() };
        let fact = groups.find(&process).unwrap();
        assert_eq!((fact.cgroup, fact.path.as_str()), (process.cgroup, path.as_str()));
    }
}
