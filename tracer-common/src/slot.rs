//! Where an entry lies in the kernel side's caches: shared, because user space reads some of them.

/// Entries of the cache of accept times, as a power of two.
pub const ACCEPTS_BITS: u32 = 15;
/// Slots in which an accept time may lie.
pub const ACCEPTS_WAYS: u32 = 4;

/// Mixes the lower bits into the upper ones: the fractional part of the golden ratio.
#[inline(always)]
#[must_use]
pub const fn mixed(bits: u64) -> u64 {
    bits.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The first slot of a key with that hash, in a cache of `2^bits` entries; the others are this number with lower bits
/// flipped: `first ^ 1`, `first ^ 2` and so on.
#[inline(always)]
#[must_use]
pub const fn first(hash: u64, bits: u32) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "a cache has at most 2^32 entries")]
    let slot = (hash >> (u64::BITS - bits)) as u32;
    slot
}
