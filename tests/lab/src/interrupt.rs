//! Ctrl-C (and SIGTERM, SIGHUP): noted, so that everything that was made is undone on the way out.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};

const SIGNALS: [libc::c_int; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

static CAME: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_signal: libc::c_int) {
    CAME.store(true, Ordering::Relaxed);
}

/// From here on the signals are noted and end nothing. Children start with the default again.
///
/// # Errors
/// Where the kernel refuses to.
pub fn listen() -> Result<()> {
    for signal in SIGNALS {
        let handler: extern "C" fn(libc::c_int) = note;
        // SAFETY: the handler only stores into an atomic, which is allowed at any moment.
        let previous = unsafe { libc::signal(signal, handler as libc::sighandler_t) };
        if previous == libc::SIG_ERR {
            return Err(io::Error::last_os_error()).context("cannot listen for Ctrl-C");
        }
    }
    Ok(())
}

/// Whether one of them came.
#[must_use]
pub fn came() -> bool {
    CAME.load(Ordering::Relaxed)
}

/// Runs `action` with the signals held back, from the programs that it starts too: a terminal sends Ctrl-C to all of
/// them, and what makes or removes a namespace is not to be cut short. `action` must not start what outlives it.
pub fn hold<T>(action: impl FnOnce() -> T) -> T {
    mask(libc::SIG_BLOCK);
    let result = action();
    mask(libc::SIG_UNBLOCK);
    result
}

fn mask(how: libc::c_int) {
    // SAFETY: the set is initialised before it is used, and both calls only touch it and this thread's mask. They fail
    // only for a signal or an operation that does not exist.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in SIGNALS {
            libc::sigaddset(&raw mut set, signal);
        }
        libc::pthread_sigmask(how, &raw const set, std::ptr::null_mut());
    }
}
