//! The control group of a process, and the systemd unit or container that it stands for.
//!
//! A record names the control group by its id, the inode number of its directory. A live run asks the host for the path
//! while the process most likely still runs, and a recording keeps it, because it has to be read on other hosts.

use foldhash::fast::FixedState;
use std::collections::HashMap;
use tracer_common::record::Process;

/// Digits of a container's id that engines show.
const SHOWN_OF_ID: usize = 12;

/// A control group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its path below the mount point, as in `/proc/PID/cgroup`.
    pub cgroup: String,
}

impl Place {
    /// The systemd unit that it belongs to: the innermost service or scope.
    pub fn unit(&self) -> Option<&str> {
        let is_unit = |name: &&str| [".service", ".scope"].iter().any(|suffix| name.ends_with(suffix));
        self.cgroup.rsplit('/').find(is_unit)
    }

    /// The service that `systemctl` restarts by that name: no scope, and none of a user's own manager.
    pub fn service(&self) -> Option<&str> {
        self.unit().filter(|unit| unit.ends_with(".service") && !self.cgroup.contains("/user@"))
    }

    /// The container that it belongs to, by the first digits of its id, as container engines show it: they put the 64
    /// hexadecimal digits of the id into the name of the control group (`docker-ID.scope`, `cri-containerd-ID.scope`).
    pub fn container(&self) -> Option<&str> {
        let is_id = |text: &&str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = self.cgroup.rsplit(['/', '-', '.', ':']).find(is_id)?;
        id.get(..SHOWN_OF_ID)
    }

    /// Whose processes are in it, in words: a container's, a unit's, or else of the control group by its path. `None`:
    /// the root group, in which everything is that is in no other.
    pub fn whose(&self) -> Option<String> {
        let path = (self.cgroup != "/").then(|| self.cgroup.clone());
        let container = self.container().map(|id| format!("container {id}"));
        container.or_else(|| self.unit().map(str::to_owned)).or(path)
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

/// Control groups that are remembered at once.
const CAPACITY: usize = 4096;
/// Questions that wait at once.
const MOST_QUESTIONS: usize = 256;
/// A control group that was not found is asked for again after this time, in nanoseconds.
const AGAIN: u64 = 1_000_000_000;

/// The control groups that are known, and those that are to be asked for.
#[derive(Debug, Default)]
pub struct Places {
    by_cgroup: HashMap<u64, Place, FixedState>,
    by_pid: HashMap<u32, Place, FixedState>,
    /// When each process may be asked for again, by its control group and its number.
    asked: HashMap<(u64, u32), u64, FixedState>,
    wanted: Vec<Process>,
}

impl Places {
    /// The control group of `process`, if it is known.
    pub fn of(&self, process: &Process) -> Option<&Place> {
        self.by_cgroup.get(&process.cgroup).or_else(|| self.by_pid.get(&process.pid))
    }

    /// Notes that the control group of `process` is of interest at `now` (monotonic nanoseconds).
    pub fn notice(&mut self, process: &Process, now: u64) {
        if process.pid == 0 || self.of(process).is_some() || self.wanted.len() >= MOST_QUESTIONS {
            return;
        }
        if self.asked.len() >= CAPACITY {
            self.asked.retain(|_, again| *again > now);
        }
        if self.asked.len() >= CAPACITY {
            return;
        }
        let again = self.asked.entry((process.cgroup, process.pid)).or_default();
        if *again <= now {
            *again = now.saturating_add(AGAIN);
            self.wanted.push(*process);
        }
    }

    /// The processes whose control groups have become of interest since the last call.
    pub fn wanted(&mut self) -> Vec<Process> {
        std::mem::take(&mut self.wanted)
    }

    /// Whether `fact` says something new.
    pub fn is_news(&self, fact: &Fact) -> bool {
        let known = if fact.cgroup == 0 { self.by_pid.get(&fact.pid) } else { self.by_cgroup.get(&fact.cgroup) };
        known.is_none_or(|place| place.cgroup != fact.path)
    }

    /// Takes what was learnt about a control group.
    pub fn learn(&mut self, fact: &Fact) {
        if self.by_cgroup.len() + self.by_pid.len() >= CAPACITY {
            self.by_cgroup.clear();
            self.by_pid.clear();
        }
        let place = Place { cgroup: fact.path.clone() };
        if fact.cgroup == 0 {
            self.by_pid.insert(fact.pid, place);
        } else {
            self.by_cgroup.insert(fact.cgroup, place);
        }
    }
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
        let service = |path: &str| Place { cgroup: path.to_owned() }.service().map(str::to_owned);
        assert_eq!(service("/system.slice/nginx.service").as_deref(), Some("nginx.service"));
        assert_eq!(service("/system.slice/docker-4f.scope"), None);
        assert_eq!(service("/user.slice/user-1000.slice/user@1000.service/app.slice/web.service"), None);
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
    fn what_was_learnt_is_enough() {
        let mut places = Places::default();
        let process = Process { cgroup: 42, pid: 7, ..Process::default() };
        assert_eq!(places.of(&process), None);
        let fact = Fact { cgroup: 42, pid: 0, path: "/system.slice/web.service".to_owned() };
        assert!(places.is_news(&fact));
        places.learn(&fact);
        assert!(!places.is_news(&fact));
        assert_eq!(places.of(&process).and_then(Place::unit), Some("web.service"));
    }

    #[test]
    fn what_is_unknown_is_asked_for_now_and_then_and_memory_is_bounded() {
        let mut places = Places::default();
        let process = |pid| Process { cgroup: 42, pid, ..Process::default() };
        for now in [5, 6, 5 + AGAIN] {
            places.notice(&process(7), now);
        }
        assert_eq!((places.wanted().len(), places.wanted().len()), (2, 0));
        for pid in 1..100_000 {
            places.notice(&process(pid), 7 + AGAIN + u64::from(pid));
            places.learn(&Fact { cgroup: pid.into(), pid: 0, path: String::new() });
        }
        assert!(places.asked.len() <= CAPACITY && places.wanted.len() <= MOST_QUESTIONS);
        assert!(places.by_cgroup.len() <= CAPACITY);
    }
}
