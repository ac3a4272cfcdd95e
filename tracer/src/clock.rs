//! The clocks of this host.

use rustix::time::{ClockId, clock_gettime};
use tracer_core::model::clock::Clock;

/// The offset between the two clocks as it is now.
pub fn now() -> Clock {
    // Of several tries the one with the least time between the two readings of the monotonic clock.
    let readings = (0..8).map(|_| {
        let (before, real, after) = (read(ClockId::Monotonic), read(ClockId::Realtime), read(ClockId::Monotonic));
        (after - before, real - before - (after - before) / 2)
    });
    Clock { offset: readings.min().map_or(0, |(_, offset)| offset) }
}

/// `CLOCK_MONOTONIC` now, in nanoseconds.
pub fn monotonic() -> u64 {
    read(ClockId::Monotonic).unsigned_abs()
}

fn read(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_of_now_gives_the_time_of_now() {
        let before = read(ClockId::Realtime);
        let then = now().realtime(monotonic());
        let after = read(ClockId::Realtime);
        let slack = 1_000_000;
        assert!((i128::from(before) - slack..=i128::from(after) + slack).contains(&then));
    }
}
