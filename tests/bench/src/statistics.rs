//! Medians and quartiles: figures of a shared machine have outliers, which a mean would follow.

use std::fmt;

use serde::Serialize;

/// The median of some figures, and between what half of them lie.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// A quarter of the figures is below.
    pub lower: f64,
    /// Half of the figures is below.
    pub median: f64,
    /// A quarter of the figures is above.
    pub upper: f64,
}

impl Spread {
    /// Of `figures` in any order; absent if there is none.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        Some(Self { lower: quantile(&sorted, 1)?, median: quantile(&sorted, 2)?, upper: quantile(&sorted, 3)? })
    }

    /// All three times `factor`.
    pub fn scaled(self, factor: f64) -> Self {
        Self { lower: self.lower * factor, median: self.median * factor, upper: self.upper * factor }
    }
}

impl fmt::Display for Spread {
    /// `median [lower upper]`, with as many places as the precision says.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = out.precision().unwrap_or(1);
        write!(out, "{:.places$} [{:.places$} {:.places$}]", self.median, self.lower, self.upper)
    }
}

/// A quartile of sorted figures: between two of them, in proportion.
fn quantile(sorted: &[f64], quarter: u32) -> Option<f64> {
    let last = u32::try_from(sorted.len().checked_sub(1)?).ok()?;
    let place = f64::from(last * quarter) / 4.0;
    let below = usize::try_from(last * quarter / 4).ok()?;
    let (low, high) = (*sorted.get(below)?, *sorted.get((below + 1).min(sorted.len() - 1))?);
    Some(low + (high - low) * place.fract())
}

/// The figure that `percent` of the sorted ones do not exceed; absent if there is none.
pub fn percentile(sorted: &[u64], percent: usize) -> Option<u64> {
    let last = sorted.len().checked_sub(1)?;
    sorted.get(last * percent.min(100) / 100).copied()
}

/// A count or a time as a number for ratios: exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "a figure for ratios")]
pub const fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::{Spread, percentile};

    fn spread(figures: &[f64]) -> (f64, f64, f64) {
        let spread = Spread::of(figures.iter().copied()).unwrap();
        (spread.lower, spread.median, spread.upper)
    }

    #[test]
    fn quartiles_lie_between_figures_in_proportion() {
        assert_eq!(spread(&[3.0, 1.0, 2.0, 5.0, 4.0]), (2.0, 3.0, 4.0));
        assert_eq!(spread(&[4.0, 1.0, 3.0, 2.0]), (1.75, 2.5, 3.25));
        assert_eq!(spread(&[7.0]), (7.0, 7.0, 7.0));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn an_outlier_does_not_move_the_median() {
        assert_eq!(spread(&[1.0, 1.0, 1.0, 1.0, 1000.0]), (1.0, 1.0, 1.0));
    }

    #[test]
    fn percentiles_are_figures_that_were_measured() {
        let sorted: Vec<u64> = (1..=101).collect();
        assert_eq!(
            (percentile(&sorted, 50), percentile(&sorted, 99), percentile(&sorted, 100)),
            (Some(51), Some(100), Some(101))
        );
        assert_eq!(percentile(&[], 50), None);
    }

    #[test]
    fn a_spread_is_shown_with_its_precision() {
        let spread = Spread { lower: 0.9, median: 1.0, upper: 1.25 };
        assert_eq!(format!("{spread:.2}"), "1.00 [0.90 1.25]");
    }
}
