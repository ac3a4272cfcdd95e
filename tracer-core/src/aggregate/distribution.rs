//! How a time is distributed.

use hdrhistogram::Histogram;
use serde::Serialize;
use std::borrow::Cow;

/// The longest time that is told apart: an hour, in nanoseconds.
const LONGEST: u64 = 3_600_000_000_000;

/// Times in nanoseconds: their sum exactly, their quantiles with a relative error.
#[derive(Debug)]
pub struct Distribution {
    /// Allocated with the first value; grows with the greatest.
    added: Option<Histogram<u32>>,
    /// What was taken out again: to subtract each at once would cost a walk through all buckets.
    removed: Option<Histogram<u32>>,
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
        Self { added: None, removed: None, digits, sum: 0 }
    }

    /// Adds a time. One beyond an hour counts as an hour in the quantiles.
    pub fn add(&mut self, time: u64) {
        self.sum = self.sum.saturating_add(time);
        record(&mut self.added, self.digits, time);
    }

    /// Takes a time out that was added before.
    pub fn remove(&mut self, time: u64) {
        self.sum = self.sum.saturating_sub(time);
        record(&mut self.removed, self.digits, time);
    }

    /// What it says now; `None` if there is no time in it.
    pub fn times(&self) -> Option<Times> {
        let left = self.left()?;
        let at = |quantile| left.value_at_quantile(quantile);
        let (p50, p90, p99, max) = (at(0.5), at(0.9), at(0.99), left.max());
        Some(Times { count: left.len(), sum: self.sum, p50, p90, p99, max })
    }

    /// What was added and not taken out, if there is something.
    fn left(&self) -> Option<Cow<'_, Histogram<u32>>> {
        let mut left = Cow::Borrowed(self.added.as_ref()?);
        if let Some(removed) = &self.removed {
            // Fails only for a time that was never added.
            let _ = left.to_mut().subtract(removed);
        }
        Some(left).filter(|histogram| !histogram.is_empty())
    }
}

/// Counts `time` in the histogram, which is made if there is none.
fn record(histogram: &mut Option<Histogram<u32>>, digits: u8, time: u64) {
    if histogram.is_none() {
        *histogram = Histogram::new(digits).ok();
    }
    if let Some(histogram) = histogram {
        // It resizes itself up to any value, so this cannot fail.
        let _ = histogram.record(time.min(LONGEST));
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

        #[test]
        fn removing_undoes_adding(kept in prop::collection::vec(0u64..LONGEST, 1..50), gone in prop::collection::vec(any::<u32>(), 0..50)) {
            let mut plain = Distribution::new(3);
            for &time in &kept { plain.add(time); }
            let mut amended = Distribution::new(3);
            for &time in &gone { amended.add(time.into()); }
            for &time in &kept { amended.add(time); }
            for &time in &gone { amended.remove(time.into()); }
            prop_assert_eq!(plain.times(), amended.times());
        }
    }

    #[test]
    fn nothing_has_no_quantiles_and_a_day_counts_as_an_hour() {
        let mut distribution = Distribution::new(2);
        assert_eq!(distribution.times(), None);
        distribution.add(24 * LONGEST);
        assert!(distribution.times().unwrap().max.abs_diff(LONGEST) <= LONGEST / 100);
        distribution.remove(24 * LONGEST);
        assert_eq!(distribution.times(), None);
    }
}
