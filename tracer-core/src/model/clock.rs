//! From `CLOCK_MONOTONIC`, which the kernel side stamps with, to the time of day.

use crate::direct::{Direct, ascii, digits};
use jiff::{Timestamp, tz::Offset};
use std::fmt;

/// Nanoseconds of a second.
const SECOND: i64 = 1_000_000_000;
/// Nanoseconds of a day.
const DAY: i64 = 86_400 * SECOND;

/// How far the time of day is ahead of `CLOCK_MONOTONIC`. A recording keeps it, so that its times never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Nanoseconds: `CLOCK_REALTIME` minus `CLOCK_MONOTONIC`.
    pub offset: i64,
}

impl Clock {
    /// Nanoseconds since 1970 of a monotonic moment.
    pub fn realtime(self, moment: u64) -> i128 {
        i128::from(moment) + i128::from(self.offset)
    }

    /// RFC 3339 in UTC with microseconds.
    pub fn rfc3339(self, moment: u64) -> Rfc3339 {
        Rfc3339(self.realtime(moment))
    }

    /// The time of day in UTC with milliseconds: `HH:MM:SS.mmm`.
    pub fn time_of_day(self, moment: u64) -> TimeOfDay {
        TimeOfDay(self.realtime(moment))
    }
}

/// A date and a time, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Rfc3339(i128);

impl Rfc3339 {
    /// The text, if the year has four digits.
    fn text(self) -> Option<[u8; 27]> {
        // Not as `i128`, which is divided in software.
        let nanoseconds = i64::try_from(self.0).ok()?;
        let fraction = i32::try_from(nanoseconds.rem_euclid(SECOND)).ok()?;
        let timestamp = Timestamp::new(nanoseconds.div_euclid(SECOND), fraction).ok()?;
        let it = Offset::UTC.to_datetime(timestamp);
        let year = u64::try_from(it.year()).ok()?;
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        digits(&mut text[..4], year);
        for (place, number) in [(5, it.month()), (8, it.day()), (11, it.hour()), (14, it.minute()), (17, it.second())] {
            digits(&mut text[place..place + 2], u64::from(number.unsigned_abs()));
        }
        digits(&mut text[20..26], u64::from(fraction.unsigned_abs()) / 1000);
        Some(text)
    }
}

impl Direct for Rfc3339 {
    fn write_to(&self, out: &mut impl fmt::Write) -> fmt::Result {
        if let Some(text) = self.text() {
            return ascii(out, &text);
        }
        // A damaged recording can name any offset: what is no date is shown as the number that it is.
        match Timestamp::from_nanosecond(self.0) {
            Ok(timestamp) => write!(out, "{timestamp:.6}"),
            Err(_) => write!(out, "{}ns", self.0),
        }
    }
}

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_to(f)
    }
}

/// A time of day, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct TimeOfDay(i128);

impl Direct for TimeOfDay {
    fn write_to(&self, out: &mut impl fmt::Write) -> fmt::Result {
        // Few are beyond: an `i128` is divided in software.
        let nanoseconds = i64::try_from(self.0).or_else(|_| i64::try_from(self.0 % i128::from(DAY))).unwrap_or(0);
        let milliseconds = nanoseconds.rem_euclid(DAY).unsigned_abs() / 1_000_000;
        let (seconds, milliseconds) = (milliseconds / 1000, milliseconds % 1000);
        let (minutes, seconds) = (seconds / 60, seconds % 60);
        let mut text = *b"00:00:00.000";
        digits(&mut text[..2], minutes / 60);
        digits(&mut text[3..5], minutes % 60);
        digits(&mut text[6..8], seconds);
        digits(&mut text[9..], milliseconds);
        ascii(out, &text)
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_to(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn dates_are_those_of_jiff(nanoseconds: i64) {
            let timestamp = Timestamp::from_nanosecond(nanoseconds.into()).unwrap();
            prop_assert_eq!(Rfc3339(nanoseconds.into()).to_string(), format!("{timestamp:.6}"));
            prop_assert_eq!(TimeOfDay(nanoseconds.into()).to_string(), format!("{timestamp:.3}")[11..23].to_owned());
        }
    }

    #[test]
    fn times_are_utc_and_cut_to_their_unit() {
        let clock = Clock { offset: 1_700_000_000_000_000_000 };
        assert_eq!(clock.rfc3339(1_234_567_999).to_string(), "2023-11-14T22:13:21.234567Z");
        assert_eq!(clock.time_of_day(1_234_567_999).to_string(), "22:13:21.234");
        assert_eq!(Clock { offset: 0 }.rfc3339(0).to_string(), "1970-01-01T00:00:00.000000Z");
    }

    #[test]
    fn no_offset_panics() {
        for offset in [i64::MIN, i64::MAX] {
            assert!(!Clock { offset }.rfc3339(u64::MAX >> 1).to_string().is_empty());
            assert_eq!(Clock { offset }.time_of_day(u64::MAX >> 1).to_string().len(), 12);
        }
    }
}
