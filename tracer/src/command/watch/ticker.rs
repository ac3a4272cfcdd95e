//! Ticks at equal intervals, each of which wakes this process once: tokio's own timers, which are sorted by powers of 64
//! milliseconds, wake it nearly twice.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::Duration,
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
        // SAFETY: without pointers; a descriptor that is returned is new and owned by nobody.
        let timer = unsafe {
            let timer = libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC);
            if timer < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(timer)
        };
        let period = libc::timespec {
            tv_sec: period.as_secs().try_into().map_err(io::Error::other)?,
            tv_nsec: period.subsec_nanos().into(),
        };
        let ticks = libc::itimerspec { it_interval: period, it_value: period };
        // SAFETY: an open timer, and a struct that is valid for the duration of the call.
        let result = unsafe { libc::timerfd_settime(timer.as_raw_fd(), 0, &raw const ticks, std::ptr::null_mut()) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
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
    let mut ticks = [0; 8];
    // SAFETY: an open timer, and as many bytes as the call is told.
    let read = unsafe { libc::read(timer.as_raw_fd(), ticks.as_mut_ptr().cast(), ticks.len()) };
    if read < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
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
