//! A fixed pace: requests are due at equal distances, whether or not earlier ones have been answered.

/// When requests are due.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    start_ns: u64,
    rate: u64,
    next: u64,
}

impl Pace {
    /// `rate` requests a second from `start_ns` on.
    pub fn new(start_ns: u64, rate: u32) -> Self {
        Self { start_ns, rate: u64::from(rate.max(1)), next: 0 }
    }

    /// When the next one is due, nanoseconds.
    pub fn next_ns(&self) -> u64 {
        self.start_ns + u64::try_from(u128::from(self.next) * 1_000_000_000 / u128::from(self.rate)).unwrap_or(u64::MAX)
    }

    /// The number of the next one, and when it was due, if that is not after `now_ns`.
    pub fn due(&mut self, now_ns: u64) -> Option<(u64, u64)> {
        let due_ns = self.next_ns();
        (due_ns <= now_ns).then(|| {
            self.next += 1;
            (self.next - 1, due_ns)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Pace;

    #[test]
    fn requests_are_due_at_equal_distances_however_late_they_are_fetched() {
        let mut pace = Pace::new(1000, 4);
        assert_eq!(pace.due(999), None);
        assert_eq!(pace.due(1000), Some((0, 1000)));
        assert_eq!(pace.due(1000), None);
        let late = 1000 + 750_000_000;
        let due: Vec<_> = std::iter::from_fn(|| pace.due(late)).collect();
        assert_eq!(due, [(1, 250_001_000), (2, 500_001_000), (3, 750_001_000)]);
        assert_eq!(pace.next_ns(), 1_000_001_000);
    }

    #[test]
    fn a_second_holds_as_many_as_the_rate_says() {
        let mut pace = Pace::new(0, 3);
        assert_eq!(std::iter::from_fn(|| pace.due(999_999_999)).count(), 3);
    }
}
