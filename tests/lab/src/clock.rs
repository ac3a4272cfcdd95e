//! The clocks of the lab, in nanoseconds, and sleeps that end on time.

use std::num::NonZeroU64;
use std::time::Duration;

use rustix::thread::{clock_nanosleep_absolute, set_current_timer_slack};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// One millisecond in nanoseconds.
pub const MS: u64 = 1_000_000;

/// `CLOCK_MONOTONIC`, nanoseconds.
#[must_use]
pub fn monotonic_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Monotonic))
}

/// `CLOCK_REALTIME`, nanoseconds since the epoch.
#[must_use]
pub fn realtime_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Realtime))
}

/// What to add to a monotonic instant to get the realtime one, nanoseconds: from the narrowest of a few readings.
#[must_use]
pub fn realtime_offset_ns() -> u64 {
    let reading = || {
        let before = monotonic_ns();
        let realtime = realtime_ns();
        let after = monotonic_ns();
        (after - before, realtime - (before + (after - before) / 2))
    };
    (0..32).map(|_| reading()).min().map_or(0, |(_, offset)| offset)
}

/// Sleeps for `duration` by the monotonic clock, without the default timer slack of 50 microseconds.
pub fn sleep(duration: Duration) {
    if !duration.is_zero() {
        sleep_until(monotonic_ns().saturating_add(duration_ns(duration)));
    }
}

/// Sleeps until the monotonic instant `deadline_ns`.
pub fn sleep_until(deadline_ns: u64) {
    // Slack only makes the sleep longer: where it cannot be set, the sleep is still right.
    let _ = set_current_timer_slack(NonZeroU64::new(1));
    let deadline = Timespec {
        tv_sec: i64::try_from(deadline_ns / 1_000_000_000).unwrap_or(i64::MAX),
        tv_nsec: (deadline_ns % 1_000_000_000).try_into().unwrap_or(0),
    };
    while clock_nanosleep_absolute(ClockId::Monotonic, &deadline) == Err(rustix::io::Errno::INTR) {}
}

/// A duration in whole nanoseconds, saturating.
#[must_use]
pub fn duration_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn nanoseconds(time: Timespec) -> u64 {
    // Neither clock is negative on a running host.
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}
