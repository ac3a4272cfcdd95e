//! How a time is distributed.

use hdrhistogram::Histogram;
use serde::Serialize;

/// The longest time that is told apart: an hour, in nanoseconds.
const LONGEST: u64 = 3_600_000_000_000;

/// Times in nanoseconds: their sum exactly, their quantiles with a relative error.
#[derive(Debug)]
pub struct Distribution {
    /// Allocated with the first value; grows with the greatest.
    times: Option<Histogram<u32>>,
    /// Significant decimal digits of the quantiles.
    digits: u8,
    sum: u64,
}

/// A distribution at one moment. Times are in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Times {
    /// How many.
    pub count: u64,
    /// Their exact sum.
    pub sum: u64,
    /// What half of them do not exceed.
    pub p50: u64,
    /// What nine of ten do not exceed.
    pub p90: u64,
    /// What ninety-nine of a hundred do not exceed.
    pub p99: u64,
    /// The longest.
    pub max: u64,
}

impl Distribution {
    /// No times yet; quantiles will have `digits` significant decimal digits (1 to 5).
    pub const fn new(digits: u8) -> Self {
        Self { times: None, digits, sum: 0 }
    }

    /// Adds a time. One beyond an hour counts as an hour in the quantiles.
    pub fn add(&mut self, time: u64) {
        self.sum = self.sum.saturating_add(time);
        if self.times.is_none() {
            self.times = Histogram::new(self.digits).ok();
        }
        if let Some(times) = &mut self.times {
            // It resizes itself up to any value, so this cannot fail.
            let _ = times.record(time.min(LONGEST));
        }
    }

    /// Adds the times of `other`, which has as many digits.
    pub fn merge(&mut self, other: &Self) {
        self.sum = self.sum.saturating_add(other.sum);
        match (&mut self.times, &other.times) {
            (_, None) => {}
            (None, Some(_)) => self.times.clone_from(&other.times),
            // It resizes itself up to any value, so this cannot fail.
            (Some(times), Some(others)) => drop(times.add(others)),
        }
    }

    /// What it says now; `None` if there is no time in it.
    pub fn times(&self) -> Option<Times> {
        let times = self.times.as_ref()?;
        let at = |quantile| times.value_at_quantile(quantile);
        let (p50, p90, p99, max) = (at(0.5), at(0.9), at(0.99), times.max());
        Some(Times { count: times.len(), sum: self.sum, p50, p90, p99, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn quantiles_are_within_the_stated_error(mut times in prop::collection::vec(0u64..LONGEST, 1..200)) {
            for digits in [2, 3] {
                let mut distribution = Distribution::new(digits);
                for &time in &times { distribution.add(time); }
                times.sort_unstable();
                let seen = distribution.times().unwrap();
                prop_assert_eq!((seen.count, seen.sum), (times.len() as u64, times.iter().sum::<u64>()));
                let exact = times[times.len().div_ceil(2) - 1];
                let error = exact / 10u64.pow(u32::from(digits)) + 1;
                prop_assert!(seen.p50.abs_diff(exact) <= error);
                prop_assert!(seen.max.abs_diff(times[times.len() - 1]) <= LONGEST / 100);
            }
        }
    }

    #[test]
    fn nothing_has_no_quantiles_and_a_day_counts_as_an_hour() {
        let mut distribution = Distribution::new(2);
        assert_eq!(distribution.times(), None);
        distribution.add(24 * LONGEST);
        assert!(distribution.times().unwrap().max.abs_diff(LONGEST) <= LONGEST / 100);
    }
}
