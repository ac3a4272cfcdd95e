//! Which network namespaces a run has seen, and what they are called.
//!
//! Pure: a live run takes the names from [`names::Namer`], a replay from its recording.

pub mod names;

use foldhash::fast::FixedState;
use serde::Serialize;
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
};

/// Namespaces remembered at once.
const CAPACITY: usize = 1024;

/// The namespaces of a run.
#[derive(Debug, Default)]
pub struct Namespaces {
    /// Those of what was shown or counted.
    seen: BTreeSet<u32>,
    names: HashMap<u32, String, FixedState>,
    /// Those whose names were asked for.
    asked: HashSet<u32, FixedState>,
    /// Those whose names are to be asked for.
    wanted: Vec<u32>,
    /// The latest of [`Namespaces::notice`] and of [`Namespaces::see`]: mostly the next one is the same.
    noticed_last: u32,
    seen_last: u32,
}

/// A namespace and its name, as in JSON.
#[derive(Debug, Serialize)]
pub struct Named<'a> {
    netns: u32,
    name: &'a str,
}

/// A namespace as text: its name, or else its number as in `/proc/PID/ns/net`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label<'a> {
    netns: u32,
    name: Option<&'a str>,
}

impl fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            Some(name) => f.write_str(name),
            None => write!(f, "net:[{}]", self.netns),
        }
    }
}

impl Namespaces {
    /// Notes that a record is about the namespace `netns`, so that its name is asked for early.
    pub fn notice(&mut self, netns: u32) {
        if netns == self.noticed_last || netns == 0 {
            return;
        }
        self.noticed_last = netns;
        if self.asked.len() >= CAPACITY {
            self.asked.clear();
        }
        if !self.names.contains_key(&netns) && self.asked.insert(netns) {
            self.wanted.push(netns);
        }
    }

    /// Notes that something of the namespace `netns` is shown or counted; 0: it is not known which.
    pub fn see(&mut self, netns: u32) {
        if netns != self.seen_last && netns != 0 && self.seen.len() < CAPACITY {
            self.seen_last = netns;
            self.seen.insert(netns);
        }
    }

    /// The namespaces whose names have become of interest since the last call.
    pub fn wanted(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.wanted)
    }

    /// Takes the name of the namespace `netns`. Of several with one name, the later ones show their number, too.
    pub fn learn(&mut self, netns: u32, name: &str) {
        if self.names.len() >= CAPACITY {
            self.names.clear();
        }
        let is_taken = self.names.iter().any(|(other, it)| *other != netns && it == name);
        let name = if is_taken { format!("{name} net:[{netns}]") } else { name.to_owned() };
        self.names.insert(netns, name);
    }

    /// The namespace as text, where that tells it from another one that was seen.
    #[must_use]
    pub fn label(&self, netns: u32) -> Option<Label<'_>> {
        (self.seen.len() > 1 && netns != 0).then(|| self.name(netns))
    }

    /// The namespace as text.
    #[must_use]
    pub fn name(&self, netns: u32) -> Label<'_> {
        Label { netns, name: self.names.get(&netns).map(String::as_str) }
    }

    /// The namespaces that were seen and that have a name.
    #[must_use]
    pub fn named(&self) -> Vec<Named<'_>> {
        let named = self.seen.iter().filter_map(|netns| Some((*netns, self.names.get(netns)?)));
        named.map(|(netns, name)| Named { netns, name }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_shown_only_where_there_are_several() {
        let mut namespaces = Namespaces::default();
        for netns in [7, 0, 7] {
            namespaces.see(netns);
        }
        namespaces.learn(7, "web");
        assert_eq!(namespaces.label(7), None);
        namespaces.see(8);
        let label = |netns| namespaces.label(netns).map(|label| label.to_string());
        assert_eq!((label(7).as_deref(), label(8).as_deref(), label(0)), (Some("web"), Some("net:[8]"), None));
        assert_eq!(serde_json::to_string(&namespaces.named()).unwrap(), r#"[{"netns":7,"name":"web"}]"#);
    }

    #[test]
    fn two_with_one_name_are_told_apart() {
        let mut namespaces = Namespaces::default();
        for netns in [7, 8, 7] {
            namespaces.learn(netns, "session-3.scope");
        }
        assert_eq!(namespaces.name(7).to_string(), "session-3.scope");
        assert_eq!(namespaces.name(8).to_string(), "session-3.scope net:[8]");
    }

    #[test]
    fn each_name_is_asked_for_once_and_memory_is_bounded() {
        let mut namespaces = Namespaces::default();
        for netns in [0, 7, 8, 7, 8] {
            namespaces.notice(netns);
        }
        assert_eq!((namespaces.wanted(), namespaces.wanted()), (vec![7, 8], vec![]));
        for netns in 1..10_000 {
            namespaces.see(netns);
            namespaces.learn(netns, "web");
            namespaces.notice(netns);
        }
        assert!(namespaces.seen.len() <= CAPACITY && namespaces.names.len() <= CAPACITY);
        assert!(namespaces.asked.len() <= CAPACITY);
    }
}
