//! Trying a case of precise timing again: the host may be busy with other things at any one time.

use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

/// How often a case may be tried.
const ATTEMPTS: u32 = 3;

/// Runs `case` until it succeeds, three times at most; says on stderr what each failure was. A case returns an error for
/// a time out of bounds, and asserts what must be exact: a panic is not tried again. One case at a time: they share the
/// host's processors.
///
/// # Errors
/// The last error, where every attempt failed.
pub fn attempt(name: &str, mut case: impl FnMut() -> Result<()>) -> Result<()> {
    static RUNNING: Mutex<()> = Mutex::new(());
    let _running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut outcome = Ok(());
    for attempt in 1..=ATTEMPTS {
        outcome = case();
        match &outcome {
            Ok(()) => break,
            Err(error) => eprintln!("{name}, attempt {attempt} of {ATTEMPTS}: {error:#}"),
        }
    }
    outcome.with_context(|| format!("{name} failed {ATTEMPTS} times"))
}
