//! Ticks at equal intervals, each of which wakes this process once: tokio's own timers, which are sorted by powers of 64
//! milliseconds, wake it nearly twice.

use std::{io, os::fd::OwnedFd, time::Duration};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::{Interest, unix::AsyncFd};

/// A timer of the kernel.
pub struct Ticker(AsyncFd<OwnedFd>);

impl Ticker {
    /// Ticks every `period`, for the first time after one. To be made within a runtime.
    ///
    /// # Errors
    ///
    /// If the system has no timer for it.
    pub fn every(period: Duration) -> io::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        let period = Timespec::try_from(period).map_err(io::Error::other)?;
        let ticks = Itimerspec { it_interval: period, it_value: period };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &ticks)?;
        // SAFETY: the timer owns its file descriptor, which stays open and the same for as long as it lives.
        Ok(Self(unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) }?))
    }

    /// Waits for the next tick. Ticks that were missed are one. Nothing is lost if it is no longer waited for.
    ///
    /// # Errors
    ///
    /// If the timer cannot be read.
    pub async fn tick(&self) -> io::Result<()> {
        loop {
            // A timer that has not ticked is not ready any more, and is waited for once more.
            if let Ok(ticked) = self.0.readable().await?.try_io(|timer| read(timer.get_ref())) {
                return ticked;
            }
        }
    }
}

/// Reads how often the timer has ticked, which makes it wait for the next tick.
fn read(timer: &OwnedFd) -> io::Result<()> {
    rustix::io::read(timer, &mut [0; 8])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn ticks_come_at_their_time_and_missed_ones_are_one() {
        const PERIOD: Duration = Duration::from_millis(20);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let ticker = Ticker::every(PERIOD).unwrap();
            let began = Instant::now();
            for _ in 0..5 {
                ticker.tick().await.unwrap();
            }
            assert!(began.elapsed() >= 5 * PERIOD);
            std::thread::sleep(10 * PERIOD);
            ticker.tick().await.unwrap();
            let missed = Instant::now();
            ticker.tick().await.unwrap();
            ticker.tick().await.unwrap();
            // One of them may have been due at once.
            assert!(missed.elapsed() >= PERIOD * 9 / 10, "{:?}", missed.elapsed());
        });
    }
}
