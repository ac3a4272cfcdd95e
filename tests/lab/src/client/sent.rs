//! When each request of this process was sent, by connection: kept for whoever compares it with the other end's times.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

/// The times of the requests of the latest connection from an address, in order.
static LOG: LazyLock<Mutex<HashMap<SocketAddr, Vec<u64>>>> = LazyLock::new(Mutex::default);

fn log() -> MutexGuard<'static, HashMap<SocketAddr, Vec<u64>>> {
    LOG.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A new connection from `local`: what an earlier one sent is forgotten.
pub(super) fn forget(local: SocketAddr) {
    log().remove(&local);
}

/// The next request of the connection from `local` goes now.
pub(super) fn note(local: SocketAddr, first_byte_ns: u64) {
    log().entry(local).or_default().push(first_byte_ns);
}

/// When the first byte of a request was sent, `CLOCK_MONOTONIC` nanoseconds: of the latest connection of this process
/// from `local`, the request number `sequence`, from 1.
#[must_use]
pub fn sent_ns(local: SocketAddr, sequence: usize) -> Option<u64> {
    log().get(&local)?.get(sequence.checked_sub(1)?).copied()
}
