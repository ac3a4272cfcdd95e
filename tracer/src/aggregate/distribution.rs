//! How a time is distributed: a histogram with buckets of the same relative width, as those of `HdrHistogram`.

/// The longest time that is told apart: an hour, in nanoseconds.
const LONGEST: u64 = 3_600_000_000_000;

/// Times in nanoseconds: their sum exactly, their quantiles with a relative error.
///
/// Times below `1 << bits` have a bucket each, and every power of two above has half as many buckets: the index of a
/// bucket is a shift and an addition, and taking a time out is as cheap as adding one.
#[derive(Debug)]
pub struct Distribution {
    /// The number of times in each bucket, as far as the greatest time needs them.
    counts: Vec<u32>,
    bits: u32,
    count: u64,
    sum: u64,
}

impl Distribution {
    /// No times yet; quantiles will have `digits` significant decimal digits (1 to 5).
    #[must_use]
    pub const fn new(digits: u8) -> Self {
        // Two times the digits, as a bucket of the upper half is as wide as two of the lower.
        let bits = (2 * 10_u64.pow(digits as u32)).next_power_of_two().ilog2();
        Self { counts: Vec::new(), bits, count: 0, sum: 0 }
    }

    /// Adds a time. One beyond an hour counts as an hour in the quantiles.
    #[inline]
    pub fn add(&mut self, time: u64) {
        self.sum = self.sum.saturating_add(time);
        self.count += 1;
        let bucket = self.bucket(time.min(LONGEST));
        if bucket >= self.counts.len() {
            self.grow(bucket);
        }
        if let Some(count) = self.counts.get_mut(bucket) {
            *count = count.saturating_add(1);
        }
    }

    /// Takes a time out that was added before.
    pub fn remove(&mut self, time: u64) {
        self.sum = self.sum.saturating_sub(time);
        let bucket = self.bucket(time.min(LONGEST));
        // There is none for a time that was never added.
        if let Some(count @ 1..) = self.counts.get_mut(bucket) {
            *count -= 1;
            self.count = self.count.saturating_sub(1);
        }
    }

    /// The number of times.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Their exact sum.
    #[must_use]
    pub const fn sum(&self) -> u64 {
        self.sum
    }

    /// The time that the fraction `quantile` of all does not exceed; `None` if there is none.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a fraction of a count"
    )]
    pub fn quantile(&self, quantile: f64) -> Option<u64> {
        let wanted = ((quantile * self.count as f64).ceil() as u64).max(1);
        let mut reached = 0;
        let bucket = self.counts.iter().position(|&count| {
            reached += u64::from(count);
            reached >= wanted
        });
        bucket.map(|bucket| self.longest(bucket))
    }

    /// The longest time; `None` if there is none.
    #[must_use]
    pub fn max(&self) -> Option<u64> {
        self.counts.iter().rposition(|&count| count != 0).map(|bucket| self.longest(bucket))
    }

    /// The bucket of `time`.
    #[expect(clippy::cast_possible_truncation, reason = "there are some ten thousand")]
    const fn bucket(&self, time: u64) -> usize {
        let shift = (u64::BITS - self.bits).saturating_sub(time.leading_zeros());
        ((shift as usize) << (self.bits - 1)) + (time >> shift) as usize
    }

    /// The longest time that `bucket` counts.
    const fn longest(&self, bucket: usize) -> u64 {
        let shift = (bucket >> (self.bits - 1)).saturating_sub(1);
        let first = ((bucket - (shift << (self.bits - 1))) as u64) << shift;
        first + (1 << shift) - 1
    }

    /// Makes room for `bucket`, and for all others of that power of two.
    #[cold]
    fn grow(&mut self, bucket: usize) {
        let length = ((bucket >> (self.bits - 1)) + 1) << (self.bits - 1);
        self.counts.reserve_exact(length - self.counts.len());
        self.counts.resize(length, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::Histogram;
    use proptest::prelude::*;

    const QUANTILES: [f64; 5] = [0.0001, 0.5, 0.9, 0.99, 1.0];

    /// Times of any length.
    fn times() -> impl Strategy<Value = Vec<u64>> {
        prop::collection::vec((0..LONGEST, 0..42_u32).prop_map(|(time, shift)| time >> shift), 1..200)
    }

    fn of(times: &[u64], digits: u8) -> Distribution {
        let mut distribution = Distribution::new(digits);
        for &time in times {
            distribution.add(time);
        }
        distribution
    }

    proptest! {
        #[test]
        fn quantiles_are_within_the_stated_error(mut times in times()) {
            for digits in [2, 3] {
                let distribution = of(&times, digits);
                times.sort_unstable();
                prop_assert_eq!(distribution.count(), times.len() as u64);
                prop_assert_eq!(distribution.sum(), times.iter().sum::<u64>());
                let exact = times[times.len().div_ceil(2) - 1];
                let error = exact / 10u64.pow(u32::from(digits)) + 1;
                prop_assert!(distribution.quantile(0.5).unwrap().abs_diff(exact) <= error);
                prop_assert!(distribution.max().unwrap().abs_diff(times[times.len() - 1]) <= LONGEST / 100);
            }
        }

        #[test]
        fn the_buckets_are_those_of_hdr_histogram(times in times(), digits in 1_u8..5) {
            let distribution = of(&times, digits);
            let mut histogram = Histogram::<u32>::new(digits).unwrap();
            for &time in &times { histogram.record(time).unwrap(); }
            for quantile in QUANTILES {
                prop_assert_eq!(distribution.quantile(quantile), Some(histogram.value_at_quantile(quantile)));
            }
            prop_assert_eq!(distribution.max(), Some(histogram.max()));
        }

        #[test]
        fn removing_undoes_adding(kept in times(), gone in times()) {
            let plain = of(&kept, 3);
            let mut amended = of(&[&gone[..], &kept].concat(), 3);
            for &time in &gone { amended.remove(time); }
            prop_assert_eq!(plain.count(), amended.count());
            prop_assert_eq!(plain.sum(), amended.sum());
            for quantile in QUANTILES {
                prop_assert_eq!(plain.quantile(quantile), amended.quantile(quantile));
            }
            prop_assert_eq!(plain.max(), amended.max());
        }
    }

    #[test]
    fn nothing_has_no_quantiles_and_a_day_counts_as_an_hour() {
        let mut distribution = Distribution::new(2);
        assert_eq!((distribution.quantile(0.5), distribution.max()), (None, None));
        distribution.add(24 * LONGEST);
        assert!(distribution.max().unwrap().abs_diff(LONGEST) <= LONGEST / 100);
        distribution.remove(24 * LONGEST);
        assert_eq!((distribution.count(), distribution.max()), (0, None));
    }
}
