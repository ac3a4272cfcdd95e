//! A cache in an array: every key has a few slots, and where none is free, the oldest of their entries may make way.
//!
//! To find, to store and to take costs no call, which a hash map asks for each: the array's look-up is inlined. Entries
//! that nobody takes make way in the end; those of [`Slots::put_free`] keep their slot. Two CPUs may be at one slot at
//! once, as in the kernel's own maps that evict; who takes an entry sees whether it was overwritten meanwhile.

use aya_ebpf::maps::Array;
use tracer_common::{
    endpoint::{Address, Endpoint, Tuple},
    shared::Shared,
    slot::{first, mixed},
};

/// What entries are found by.
pub trait Key: Copy {
    /// No entry's key.
    const NONE: Self;

    /// Well mixed in the upper bits.
    fn hash(&self) -> u64;

    /// Whether both are the same.
    fn is(&self, other: &Self) -> bool;
}

/// A place for an entry. Its value is made of cells.
#[repr(C)]
pub struct Slot<K, V> {
    /// Whose it is; [`Key::NONE`] if it is free.
    key: Shared<K>,
    value: V,
}

impl<K: Key, V> Slot<K, V> {
    /// Writes the value, and the key behind it: a CPU that finds the key finds no value of the entry before.
    #[inline(always)]
    fn fill(&self, key: &K, write: impl FnOnce(&V)) {
        self.key.set(K::NONE);
        write(&self.value);
        self.key.set(*key);
    }
}

/// Slots for `2^BITS` entries, `WAYS` (a power of two) for each key.
#[repr(transparent)]
pub struct Slots<K, V, const BITS: u32, const WAYS: u32>(Array<Slot<K, V>>);

impl<K: Key + 'static, V: 'static, const BITS: u32, const WAYS: u32> Slots<K, V, BITS, WAYS> {
    /// An empty cache.
    pub const fn new() -> Self {
        Self(Array::with_max_entries(1 << BITS, 0))
    }

    /// The value of `key`.
    #[inline(always)]
    pub fn find(&self, key: &K) -> Option<&V> {
        self.slot(key).map(|slot| &slot.value)
    }

    /// Takes the value of `key` out, as `read` reads it.
    #[inline(always)]
    pub fn take<T>(&self, key: &K, read: impl FnOnce(&V) -> T) -> Option<T> {
        let slot = self.slot(key)?;
        let value = read(&slot.value);
        // Another CPU may have given the slot to another key meanwhile.
        if !slot.key.reread().is(key) {
            return None;
        }
        slot.key.set(K::NONE);
        Some(value)
    }

    /// Puts the value that `write` writes into a slot for `key`, which has none, if one is free. True if one was.
    #[inline(always)]
    pub fn put_free(&self, key: &K, write: impl FnOnce(&V)) -> bool {
        let index = Self::index(key);
        let mut way = 0;
        while way < WAYS
            && let Some(slot) = self.at(index ^ way)
        {
            if slot.key.get().is(&K::NONE) {
                slot.fill(key, write);
                return true;
            }
            way += 1;
        }
        false
    }

    /// Puts the value that `write` writes into a slot for `key`, which has none. That is one that is free, or else that of the
    /// entry with the least `moment`, which is returned; 0: none made way.
    #[inline(always)]
    pub fn put(&self, key: &K, moment: impl Fn(&V) -> u64, write: impl FnOnce(&V)) -> u64 {
        self.replace(key, moment, write).unwrap_or(0)
    }

    #[inline(always)]
    fn replace(&self, key: &K, moment: impl Fn(&V) -> u64, write: impl FnOnce(&V)) -> Option<u64> {
        let index = Self::index(key);
        let (mut best, mut least) = (self.at(index)?, u64::MAX);
        let mut way = 0;
        while way < WAYS && least != 0 {
            let slot = self.at(index ^ way)?;
            let age = if slot.key.get().is(&K::NONE) { 0 } else { moment(&slot.value) };
            if age < least {
                (best, least) = (slot, age);
            }
            way += 1;
        }
        best.fill(key, write);
        Some(least)
    }

    #[inline(always)]
    fn slot(&self, key: &K) -> Option<&Slot<K, V>> {
        let index = Self::index(key);
        let mut way = 0;
        while way < WAYS {
            let slot = self.at(index ^ way)?;
            if slot.key.get().is(key) {
                return Some(slot);
            }
            way += 1;
        }
        None
    }

    #[inline(always)]
    fn at(&self, index: u32) -> Option<&Slot<K, V>> {
        self.0.get(index)
    }

    #[inline(always)]
    fn index(key: &K) -> u32 {
        first(key.hash(), BITS)
    }
}

/// An address in the kernel.
impl Key for u64 {
    const NONE: Self = 0;

    #[inline(always)]
    fn hash(&self) -> u64 {
        mixed(*self)
    }

    #[inline(always)]
    fn is(&self, other: &Self) -> bool {
        self == other
    }
}

impl Key for Tuple {
    const NONE: Self = Self { peer: Endpoint::NONE, local: Endpoint::NONE };

    #[inline(always)]
    fn hash(&self) -> u64 {
        let folded = |address: Address| address.words().into_iter().fold(0, |all, word| all ^ word);
        let addresses = u64::from(folded(self.peer.address)) << 32 | u64::from(folded(self.local.address));
        let ports = u64::from(self.peer.port) << 16 | u64::from(self.local.port);
        mixed(mixed(addresses) ^ ports)
    }

    #[inline(always)]
    fn is(&self, other: &Self) -> bool {
        let differ = |a: Endpoint, b: Endpoint| {
            let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (a.address.words(), b.address.words());
            (a0 ^ b0) | (a1 ^ b1) | (a2 ^ b2) | (a3 ^ b3) | u32::from(a.port ^ b.port)
        };
        differ(self.peer, other.peer) | differ(self.local, other.local) == 0
    }
}
