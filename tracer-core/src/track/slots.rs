//! A slab whose entries stand in one of three queues, each in the order in which its entries were last touched.

/// The queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// Entries with a request that is to be shown.
    Held,
    /// Entries with a request that was shown and is to be counted.
    Shown,
    /// Entries that are only remembered.
    Idle,
}

/// No slot.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Slot<T> {
    entry: Option<T>,
    queue: Queue,
    previous: u32,
    next: u32,
}

#[derive(Clone, Copy, Debug)]
struct Ends {
    front: u32,
    back: u32,
}

/// The slab.
#[derive(Debug)]
pub struct Slots<T> {
    cells: Vec<Slot<T>>,
    free: Vec<u32>,
    queues: [Ends; 3],
}

impl<T> Slots<T> {
    /// An empty slab.
    pub const fn new() -> Self {
        Self { cells: Vec::new(), free: Vec::new(), queues: [Ends { front: NONE, back: NONE }; 3] }
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.cells.len() - self.free.len()
    }

    /// Puts `entry` at the back of `queue` and returns its slot.
    pub fn insert(&mut self, entry: T, queue: Queue) -> u32 {
        let slot = Slot { entry: Some(entry), queue, previous: NONE, next: NONE };
        let index = if let Some(index) = self.free.pop() {
            self.cells[index as usize] = slot;
            index
        } else {
            self.cells.push(slot);
            u32::try_from(self.cells.len() - 1).unwrap_or(NONE)
        };
        self.link(index, queue);
        index
    }

    /// The entry of `index`, if it holds one.
    pub fn get(&self, index: u32) -> Option<&T> {
        self.cells.get(index as usize)?.entry.as_ref()
    }

    /// The entry of `index`, if it holds one.
    pub fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.cells.get_mut(index as usize)?.entry.as_mut()
    }

    /// Moves the entry of `index` to the back of `queue`.
    pub fn touch(&mut self, index: u32, queue: Queue) {
        let slot = &self.cells[index as usize];
        if slot.queue != queue || slot.next != NONE {
            self.unlink(index);
            self.link(index, queue);
        }
    }

    /// The slot that has not been touched for longest in `queue`.
    pub fn front(&self, queue: Queue) -> Option<u32> {
        let front = self.queues[queue as usize].front;
        (front != NONE).then_some(front)
    }

    /// Takes the entry out of `index`.
    pub fn remove(&mut self, index: u32) -> Option<T> {
        let entry = self.cells.get_mut(index as usize)?.entry.take()?;
        self.unlink(index);
        self.free.push(index);
        Some(entry)
    }

    fn link(&mut self, index: u32, queue: Queue) {
        let ends = &mut self.queues[queue as usize];
        let previous = std::mem::replace(&mut ends.back, index);
        if previous == NONE {
            ends.front = index;
        } else {
            self.cells[previous as usize].next = index;
        }
        let slot = &mut self.cells[index as usize];
        (slot.queue, slot.previous, slot.next) = (queue, previous, NONE);
    }

    fn unlink(&mut self, index: u32) {
        let Slot { queue, previous, next, .. } = self.cells[index as usize];
        let ends = &mut self.queues[queue as usize];
        if previous == NONE {
            ends.front = next;
        } else {
            self.cells[previous as usize].next = next;
        }
        if next == NONE {
            ends.back = previous;
        } else {
            self.cells[next as usize].previous = previous;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        /// Against plain queues.
        #[test]
        fn behaves_like_plain_queues(steps in prop::collection::vec((0u8..3, 0..3_usize, any::<u8>()), 0..200)) {
            const QUEUES: [Queue; 3] = [Queue::Held, Queue::Shown, Queue::Idle];
            let mut slots = Slots::new();
            let mut model: [VecDeque<(u32, usize)>; 3] = Default::default();
            for (number, (step, queue, pick)) in steps.into_iter().enumerate() {
                let queue = QUEUES[queue];
                let all: Vec<u32> = model.iter().flatten().map(|&(index, _)| index).collect();
                match (step, all.is_empty()) {
                    (0, _) | (_, true) => {
                        let index = slots.insert(number, queue);
                        prop_assert!(!all.contains(&index));
                        model[queue as usize].push_back((index, number));
                    }
                    (step, false) => {
                        let index = all[pick as usize % all.len()];
                        let from = model.iter_mut().find(|queue| queue.iter().any(|entry| entry.0 == index)).unwrap();
                        let at = from.iter().position(|entry| entry.0 == index).unwrap();
                        let entry = from.remove(at).unwrap();
                        if step == 1 {
                            slots.touch(index, queue);
                            model[queue as usize].push_back(entry);
                        } else {
                            prop_assert_eq!(slots.remove(index), Some(entry.1));
                        }
                    }
                }
                prop_assert_eq!(slots.len(), model.iter().map(VecDeque::len).sum::<usize>());
            }
            for queue in QUEUES {
                for &(index, entry) in &model[queue as usize] {
                    prop_assert_eq!(slots.front(queue), Some(index));
                    prop_assert_eq!(slots.remove(index), Some(entry));
                }
                prop_assert_eq!(slots.front(queue), None);
            }
        }
    }
}
