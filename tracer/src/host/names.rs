//! The names of network namespaces: what `ip netns` or `docker` call them, or else whose they are.

use super::process::place_of;
use crate::probe::namespace::{NAMED, by_process};
use foldhash::fast::FixedState;
use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel},
    thread,
    time::{Duration, Instant},
};

/// Questions that wait at once. Beyond, a namespace is shown by its number.
const WAITING: usize = 256;
/// Least time between two looks at all processes.
const INTERVAL: Duration = Duration::from_secs(1);
/// For how long the end of a run waits for names.
const PATIENCE: Duration = Duration::from_millis(500);
/// The pid namespace that the kernel begins with (`PROC_PID_INIT_INO`): only there is process 1 that of the host.
const FIRST_PIDS: u64 = 0xefff_fffc;

/// Finds names on a thread of its own, because that takes a look at every process of the host.
#[derive(Debug)]
pub struct Namer {
    questions: Option<SyncSender<u32>>,
    answers: Receiver<(u32, String)>,
}

impl Namer {
    /// Starts the thread.
    pub fn start() -> io::Result<Self> {
        let (questions, asked) = sync_channel(WAITING);
        let (found, answers) = channel();
        thread::Builder::new().name("namespaces".to_owned()).spawn(move || answer(&asked, &found))?;
        Ok(Self { questions: Some(questions), answers })
    }

    /// Asks for the name of the namespace with inode number `netns`.
    pub fn ask(&self, netns: u32) {
        if let Some(questions) = &self.questions
            && let Err(TrySendError::Full(_)) = questions.try_send(netns)
        {
            log::debug!("too many new network namespaces at once: net:[{netns}] has no name");
        }
    }

    /// The names that were found since the last call.
    pub fn found(&self) -> impl Iterator<Item = (u32, String)> {
        self.answers.try_iter()
    }

    /// The names that are still to come. Waits for them, but not for long.
    pub fn rest(&mut self) -> Vec<(u32, String)> {
        // The thread ends behind the last question.
        self.questions = None;
        let until = Instant::now() + PATIENCE;
        let next = || self.answers.recv_timeout(until.saturating_duration_since(Instant::now())).ok();
        std::iter::from_fn(next).collect()
    }
}

/// Answers the questions that have come since the last look, at most one look per [`INTERVAL`].
fn answer(questions: &Receiver<u32>, answers: &Sender<(u32, String)>) {
    let mut next = Instant::now();
    while let Ok(first) = questions.recv() {
        let mut asked = vec![first];
        // At the end of the run nothing more is waited for.
        while let Ok(more) = questions.recv_timeout(next.saturating_duration_since(Instant::now())) {
            asked.push(more);
        }
        for named in names(&asked) {
            if answers.send(named).is_err() {
                return;
            }
        }
        next = Instant::now() + INTERVAL;
    }
}

/// The names of these namespaces, of those that have one.
fn names(asked: &[u32]) -> Vec<(u32, String)> {
    let mut found: HashMap<u32, String, FixedState> = HashMap::default();
    let is_asked = |netns: &u32| asked.contains(netns);
    let inode = |path: &Path| u32::try_from(fs::metadata(path).ok()?.ino()).ok();
    let of_host = fs::metadata("/proc/self/ns/pid").is_ok_and(|it| it.ino() == FIRST_PIDS);
    if let Some(netns) = inode(Path::new("/proc/1/ns/net")).filter(is_asked).filter(|_| of_host) {
        found.insert(netns, "host".to_owned());
    }
    for entry in NAMED.iter().flat_map(fs::read_dir).flatten().flatten() {
        if let (Some(netns), Ok(name)) = (inode(&entry.path()).filter(is_asked), entry.file_name().into_string()) {
            found.entry(netns).or_insert(name);
        }
    }
    if asked.iter().any(|netns| !found.contains_key(netns)) {
        for (netns, pid) in by_process() {
            if is_asked(&netns)
                && !found.contains_key(&netns)
                && let Some(name) = place_of(pid).and_then(|place| place.whose())
            {
                found.insert(netns, name);
            }
        }
    }
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_namespace_has_a_name_and_a_strange_number_has_none() {
        let own = u32::try_from(fs::metadata("/proc/self/ns/net").unwrap().ino()).unwrap();
        let mut namer = Namer::start().unwrap();
        namer.ask(1);
        namer.ask(own);
        let found = namer.rest();
        assert!(found.iter().all(|(netns, name)| *netns == own && !name.is_empty()), "{found:?}");
        let init = fs::metadata("/proc/1/ns/net").map(|it| it.ino()).ok();
        let is_first = fs::metadata("/proc/self/ns/pid").is_ok_and(|it| it.ino() == FIRST_PIDS);
        if is_first && init == Some(own.into()) {
            assert_eq!(found, [(own, "host".to_owned())]);
        }
    }
}
