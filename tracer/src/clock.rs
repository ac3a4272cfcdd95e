//! From `CLOCK_MONOTONIC`, which the kernel side stamps with, to the time of day.

use std::{fmt, io};

/// Nanoseconds of a day.
const DAY: i128 = 86_400 * 1_000_000_000;

/// How far the time of day is ahead of `CLOCK_MONOTONIC`. A recording keeps it, so that its times never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Nanoseconds: `CLOCK_REALTIME` minus `CLOCK_MONOTONIC`.
    pub offset: i64,
}

impl Clock {
    /// The offset as it is now.
    ///
    /// # Errors
    ///
    /// If the system has no such clocks.
    pub fn now() -> io::Result<Self> {
        // Of several tries the one with the least time between the two readings of the monotonic clock.
        let mut best = (i64::MAX, 0);
        for _ in 0..8 {
            let before = read(libc::CLOCK_MONOTONIC)?;
            let real = read(libc::CLOCK_REALTIME)?;
            let after = read(libc::CLOCK_MONOTONIC)?;
            best = best.min((after - before, real - before - (after - before) / 2));
        }
        Ok(Self { offset: best.1 })
    }

    /// Nanoseconds since 1970 of a monotonic moment.
    fn realtime(self, moment: u64) -> i128 {
        i128::from(moment) + i128::from(self.offset)
    }

    /// RFC 3339 in UTC with microseconds.
    #[must_use]
    pub fn rfc3339(self, moment: u64) -> impl fmt::Display {
        Rfc3339(self.realtime(moment))
    }

    /// The time of day in UTC with milliseconds: `HH:MM:SS.mmm`.
    #[must_use]
    pub fn time_of_day(self, moment: u64) -> impl fmt::Display {
        TimeOfDay(self.realtime(moment))
    }
}

/// `CLOCK_MONOTONIC` now, in nanoseconds.
///
/// # Errors
///
/// If the system has no such clock.
pub fn monotonic() -> io::Result<u64> {
    read(libc::CLOCK_MONOTONIC).map(i64::unsigned_abs)
}

fn read(clock: libc::clockid_t) -> io::Result<i64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writes for the duration of the call.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(time.tv_sec * 1_000_000_000 + time.tv_nsec)
}

struct Rfc3339(i128);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A damaged recording can name any offset: what is no date is shown as the number that it is.
        match jiff::Timestamp::from_nanosecond(self.0) {
            Ok(timestamp) => write!(f, "{timestamp:.6}"),
            Err(_) => write!(f, "{}ns", self.0),
        }
    }
}

struct TimeOfDay(i128);

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0.rem_euclid(DAY) / 1_000_000;
        let (seconds, milliseconds) = (milliseconds / 1000, milliseconds % 1000);
        let (minutes, seconds) = (seconds / 60, seconds % 60);
        write!(f, "{:02}:{:02}:{seconds:02}.{milliseconds:03}", minutes / 60, minutes % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_and_cut_to_their_unit() {
        let clock = Clock { offset: 1_700_000_000_000_000_000 };
        assert_eq!(clock.rfc3339(1_234_567_999).to_string(), "2023-11-14T22:13:21.234567Z");
        assert_eq!(clock.time_of_day(1_234_567_999).to_string(), "22:13:21.234");
        assert_eq!(Clock { offset: 0 }.rfc3339(0).to_string(), "1970-01-01T00:00:00.000000Z");
    }

    #[test]
    fn the_offset_of_now_gives_the_time_of_now() {
        let before = read(libc::CLOCK_REALTIME).unwrap();
        let now = Clock::now().unwrap().realtime(monotonic().unwrap());
        let after = read(libc::CLOCK_REALTIME).unwrap();
        let slack = 1_000_000;
        assert!((i128::from(before) - slack..=i128::from(after) + slack).contains(&now));
    }

    #[test]
    fn no_offset_panics() {
        for offset in [i64::MIN, i64::MAX] {
            assert!(!Clock { offset }.rfc3339(u64::MAX >> 1).to_string().is_empty());
            assert_eq!(Clock { offset }.time_of_day(u64::MAX >> 1).to_string().len(), 12);
        }
    }
}
