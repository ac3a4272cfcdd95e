//! What is counted by key, for a bounded number of keys.

use super::GROUPS;
use foldhash::fast::FixedState;
use std::{collections::HashMap, hash::Hash};

/// One in this many uses of keys that are not kept makes room for its key. A key that is used often soon has such a use,
/// while many keys that are each used once cost little.
const PATIENCE: u32 = 64;

/// The [`GROUPS`] keys that are used most, and what is counted of each.
#[derive(Debug)]
pub struct Kept<K, T> {
    entries: HashMap<K, Entry<T>, FixedState>,
    /// Uses of keys that are not kept, since one of them made room.
    passed_over: u32,
    /// A use was ever not counted here, because its key was not kept.
    is_partial: bool,
}

#[derive(Debug)]
struct Entry<T> {
    /// How often the key was used. Older uses weigh less: this is halved whenever a key makes way.
    uses: u64,
    /// The key was kept from its first use on: nothing of it was counted elsewhere.
    is_whole: bool,
    counted: T,
}

impl<K, T> Default for Kept<K, T> {
    fn default() -> Self {
        Self { entries: HashMap::default(), passed_over: 0, is_partial: false }
    }
}

impl<K: Copy + Eq + Hash + Ord, T> Kept<K, T> {
    /// What is counted of `key`, which is used once more. `None` if the key is not kept. If a key had to make way,
    /// `make_way` is called with what was counted of it.
    pub fn entry(&mut self, key: K, new: impl FnOnce() -> T, make_way: impl FnOnce(T)) -> Option<&mut T> {
        if self.entries.len() >= GROUPS && !self.entries.contains_key(&key) {
            self.is_partial = true;
            self.passed_over += 1;
            if self.passed_over < PATIENCE {
                return None;
            }
            self.passed_over = 0;
            make_way(self.remove_least()?);
        }
        let entry =
            self.entries.entry(key).or_insert_with(|| Entry { uses: 0, is_whole: !self.is_partial, counted: new() });
        entry.uses = entry.uses.saturating_add(1);
        Some(&mut entry.counted)
    }

    /// What is counted, by key, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (K, &T)> {
        self.entries.iter().map(|(key, entry)| (*key, &entry.counted))
    }

    /// Whether all uses of `key` are counted here. Those of a key that was not kept at first, or that made way once, are not.
    pub fn is_whole(&self, key: &K) -> bool {
        self.entries.get(key).map_or(!self.is_partial, |entry| entry.is_whole)
    }

    fn remove_least(&mut self) -> Option<T> {
        let (_, least) = self.entries.iter().map(|(key, entry)| (entry.uses, *key)).min()?;
        for entry in self.entries.values_mut() {
            entry.uses /= 2;
        }
        self.entries.remove(&least).map(|entry| entry.counted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Counts one use of `key`, in `others` if the key is not kept.
    fn count(kept: &mut Kept<u32, u64>, key: u32, others: &mut u64) {
        let mut made_way = 0;
        match kept.entry(key, || 0, |counted| made_way = counted) {
            Some(counted) => *counted += 1,
            None => *others += 1,
        }
        *others += made_way;
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_no_more_is_kept(keys in prop::collection::vec(0..200_u32, 0..2000)) {
            let (mut kept, mut others) = (Kept::default(), 0);
            for &key in &keys {
                count(&mut kept, key, &mut others);
            }
            prop_assert!(kept.iter().count() <= GROUPS);
            prop_assert_eq!(kept.iter().map(|(_, counted)| counted).sum::<u64>() + others, keys.len() as u64);
        }
    }

    /// After months, with keys that were used a lot and are gone, and beside a scan.
    #[test]
    fn what_is_used_often_is_kept_and_what_is_no_longer_used_makes_way() {
        let (mut kept, mut others) = (Kept::default(), 0);
        for key in (0..64).cycle().take(64 * 10_000) {
            count(&mut kept, key, &mut others);
        }
        let mut scan = 1000..;
        for turn in 0..20_000 {
            count(&mut kept, if turn % 2 == 0 { turn / 2 % 10 } else { 500 }, &mut others);
            scan.next().map(|key| count(&mut kept, key, &mut others)).unwrap();
        }
        for key in (0..10).chain([500]) {
            assert!(kept.entries.contains_key(&key), "{key}");
        }
        assert!((10..64).all(|key| !kept.entries.contains_key(&key)));
    }
}
