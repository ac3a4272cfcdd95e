//! Trying a case of precise timing again: the host may be busy with other things at any one time.

use std::error::Error;
use std::fmt::{self, Display};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::clock::sleep;

/// How often a case may fail.
const FAILURES: u32 = 3;
/// How often it may be tried in all.
const ATTEMPTS: u32 = 20;
/// How much longer to wait before each further attempt: what keeps the host busy may be over by then.
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 100 });

/// Says that an attempt was spoiled: clocks that do not depend on what is being tested show that this host was late, by
/// itself. It speaks neither for nor against what is being tested, so it does not count as a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Busy(pub String);

impl Display for Busy {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "the host was busy: {}", self.0)
    }
}

impl Error for Busy {}

/// Runs `case` until it succeeds; says on stderr what each failure was. It may fail three times, and be tried twenty
/// times where [`Busy`] spoils it. A case returns an error for a time out of bounds, and asserts what must be exact: a
/// panic is not tried again. One case at a time: they share the host's processors.
///
/// # Errors
/// The last error, where no attempt succeeded.
pub fn attempt(name: &str, mut case: impl FnMut() -> Result<()>) -> Result<()> {
    static RUNNING: Mutex<()> = Mutex::new(());
    let _running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut tried, mut failed) = (0, 0);
    loop {
        let Err(error) = case() else { return Ok(()) };
        tried += 1;
        failed += u32::from(!error.is::<Busy>());
        eprintln!("{name}, attempt {tried}, {failed} of {FAILURES} failures: {error:#}");
        if failed == FAILURES || tried == ATTEMPTS {
            return Err(error).with_context(|| format!("{name} failed {failed} times in {tried} attempts"));
        }
        sleep(PAUSE * tried);
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    /// Runs attempts that end with what `error` makes of their number; returns how many there were.
    fn attempts(mut error: impl FnMut(u32) -> Option<anyhow::Error>) -> (Result<()>, u32) {
        let mut tried = 0;
        let outcome = attempt("test", || {
            tried += 1;
            error(tried).map_or(Ok(()), |error| Err(error).context("more words"))
        });
        (outcome, tried)
    }

    #[test]
    fn what_a_busy_host_spoils_does_not_count() {
        let busy = || Some(anyhow!(Busy("test".to_owned())));
        let (outcome, tried) = attempts(|attempt| if attempt < 9 { busy() } else { None });
        assert!(outcome.is_ok() && tried == 9, "{outcome:?}, {tried}");
        assert_eq!(attempts(|_| busy()).1, ATTEMPTS);
        assert_eq!(attempts(|_| Some(anyhow!("wrong"))).1, FAILURES);
        assert_eq!(attempts(|attempt| if attempt % 2 == 0 { busy() } else { Some(anyhow!("wrong")) }).1, 5);
    }
}
