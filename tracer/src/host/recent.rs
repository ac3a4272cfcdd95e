//! Answers about network namespaces, kept for a moment: a flood of rejections asks the host once a second.

use foldhash::fast::FixedState;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// For how long an answer holds at least.
const LIFETIME: Duration = Duration::from_secs(1);
/// An answer holds for so many times what it took to get, so that asking takes at most a tenth of the time.
const PATIENCE: u32 = 10;
/// Namespaces remembered at once.
const CAPACITY: usize = 64;

/// The latest answer about each network namespace, by inode number.
#[derive(Debug)]
pub struct Recent<T> {
    answers: HashMap<u32, Answer<T>, FixedState>,
}

#[derive(Debug)]
struct Answer<T> {
    value: T,
    until: Instant,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self { answers: HashMap::default() }
    }
}

impl<T> Recent<T> {
    /// The answer about `netns`: the latest if it still holds, otherwise what `ask` makes of the latest.
    pub fn get(&mut self, netns: u32, ask: impl FnOnce(Option<T>) -> T) -> &mut T {
        let began = Instant::now();
        let latest = self.answers.remove(&netns);
        if latest.is_none() && self.answers.len() >= CAPACITY {
            self.answers.retain(|_, answer| answer.until > began);
            if self.answers.len() >= CAPACITY {
                self.answers.clear();
            }
        }
        let answer = match latest {
            Some(answer) if answer.until > began => answer,
            outdated => {
                let value = ask(outdated.map(|answer| answer.value));
                let now = Instant::now();
                Answer { value, until: now + LIFETIME.max((now - began) * PATIENCE) }
            }
        };
        &mut self.answers.entry(netns).insert_entry(answer).into_mut().value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_asked_for_again_when_it_is_outdated() {
        let mut recent = Recent::default();
        assert_eq!(*recent.get(1, |before| before.unwrap_or(0) + 1), 1);
        assert_eq!(*recent.get(1, |before| before.unwrap_or(0) + 1), 1);
        recent.answers.get_mut(&1).unwrap().until = Instant::now();
        assert_eq!(*recent.get(1, |before| before.unwrap_or(0) + 1), 2);
        assert_eq!(*recent.get(2, |before| before.unwrap_or(7)), 7);
    }

    #[test]
    fn what_takes_long_holds_longer() {
        let mut recent = Recent::default();
        recent.get(1, |_| std::thread::sleep(Duration::from_millis(200)));
        assert!(recent.answers[&1].until > Instant::now() + Duration::from_millis(1500));
    }

    #[test]
    fn namespaces_are_bounded() {
        let mut recent = Recent::default();
        for netns in 0..1000 {
            recent.get(netns, |_| netns);
            assert!(recent.answers.len() <= CAPACITY);
        }
        assert_eq!(*recent.get(999, |_| 0), 999);
    }
}
