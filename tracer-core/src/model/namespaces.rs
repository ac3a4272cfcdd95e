//! Which network namespaces a run has seen, and what they are called.
//!
//! A live run asks the host for the names, a replay has them from its recording.

use foldhash::fast::FixedState;
use serde::Serialize;
use std::{
    collections::{BTreeSet, HashMap},
    fmt,
};

/// Namespaces remembered at once.
const CAPACITY: usize = 1024;
/// For how long a name holds, in nanoseconds.
const LIFETIME: u64 = 10_000_000_000;

/// The namespaces of a run.
#[derive(Clone, Debug, Default)]
pub struct Namespaces {
    /// Those of what was shown or counted.
    seen: BTreeSet<u32>,
    names: HashMap<u32, String, FixedState>,
    /// When the name of each was asked for.
    asked: HashMap<u32, u64, FixedState>,
    /// Those whose names are to be asked for.
    wanted: Vec<u32>,
    /// The latest of [`Namespaces::see`]: mostly the next one is the same.
    seen_last: u32,
    /// The latest of [`Namespaces::notice`], and until when its name holds.
    noticed_last: (u32, u64),
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
    /// Notes that a record is about the namespace `netns` at `now` (monotonic nanoseconds), so that its name is asked for
    /// early, and again after a while: the number may be another namespace's by then.
    pub fn notice(&mut self, netns: u32, now: u64) {
        let (last, until) = self.noticed_last;
        if netns == 0 || (netns == last && now < until) {
            return;
        }
        if self.asked.len() >= CAPACITY {
            self.asked.clear();
        }
        let asked = self.asked.entry(netns).or_insert(0);
        if *asked == 0 || now.saturating_sub(*asked) >= LIFETIME {
            *asked = now.max(1);
            self.wanted.push(netns);
        }
        self.noticed_last = (netns, asked.saturating_add(LIFETIME));
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

    /// Whether the namespace `netns` is known by another name than this one, or by none.
    pub fn is_news(&self, netns: u32, name: &str) -> bool {
        self.names.get(&netns).is_none_or(|known| known.strip_prefix(name).is_none_or(|rest| !is_number(rest, netns)))
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
    pub fn label(&self, netns: u32) -> Option<Label<'_>> {
        (self.seen.len() > 1 && netns != 0).then(|| self.name(netns))
    }

    /// The namespace as text.
    pub fn name(&self, netns: u32) -> Label<'_> {
        Label { netns, name: self.names.get(&netns).map(String::as_str) }
    }

    /// The namespaces that were seen and that have a name.
    pub fn named(&self) -> Vec<Named<'_>> {
        let named = self.seen.iter().filter_map(|netns| Some((*netns, self.names.get(netns)?)));
        named.map(|(netns, name)| Named { netns, name }).collect()
    }
}

/// Whether `rest` is nothing, or the number that is shown behind a name that is not alone.
fn is_number(rest: &str, netns: u32) -> bool {
    rest.is_empty() || rest == format!(" net:[{netns}]")
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
        let is_news = |netns, name| namespaces.is_news(netns, name);
        assert!(!is_news(7, "session-3.scope") && !is_news(8, "session-3.scope"));
        assert!(is_news(7, "session-3") && is_news(8, "web") && is_news(9, "web"));
    }

    #[test]
    fn names_are_asked_for_now_and_then_and_memory_is_bounded() {
        let mut namespaces = Namespaces::default();
        for netns in [0, 7, 8, 7, 8] {
            namespaces.notice(netns, 5);
        }
        assert_eq!((namespaces.wanted(), namespaces.wanted()), (vec![7, 8], vec![]));
        // Another namespace may have the number by then.
        namespaces.notice(8, 5 + LIFETIME);
        assert_eq!(namespaces.wanted(), [8]);
        for netns in 1..10_000 {
            namespaces.see(netns);
            namespaces.learn(netns, "web");
            namespaces.notice(netns, 7);
        }
        assert!(namespaces.seen.len() <= CAPACITY && namespaces.names.len() <= CAPACITY);
        assert!(namespaces.asked.len() <= CAPACITY);
    }
}
