//! Arithmetic of TCP sequence numbers, which wrap at 2^32 (RFC 9293, section 3.4).

/// Whether `a` comes after `b`, for numbers less than 2^31 apart.
#[inline(always)]
#[must_use]
pub const fn after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).wrapping_sub(1) < 0x7fff_ffff
}

#[cfg(test)]
mod tests {
    use super::after;

    #[test]
    fn order_survives_the_wrap() {
        assert!(after(1, 0));
        assert!(!after(0, 0));
        assert!(!after(0, 1));
        assert!(after(3, u32::MAX - 3));
        assert!(!after(u32::MAX - 3, 3));
    }
}
