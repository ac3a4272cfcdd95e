//! A steady load of HTTP requests, each on a client connection of its own, as browsers behind a load balancer make it.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use crate::client::{Client, Request};
use crate::clock::{monotonic_ns, sleep_until};
use crate::netns::Namespace;

/// How many requests are sent at the same moment, so that a load balancer needs several connections at once.
const AT_ONCE: u64 = 8;

/// Sends `GET /` to `address` from `namespace`, `rate` times per second for `duration`, in bursts of eight. Returns the
/// statuses in no particular order.
///
/// # Errors
/// Where a request gets no response at all.
pub fn get(namespace: &Namespace, address: SocketAddr, rate: u64, duration: Duration) -> Result<Vec<u16>> {
    let milliseconds = u64::try_from(duration.as_millis()).context("too long a time")?;
    let bursts = rate * milliseconds / 1000 / AT_ONCE;
    let period = 1_000_000_000 * AT_ONCE / rate;
    let start = monotonic_ns() + period;
    let request = Request::get("/").header("Connection", "close");
    let client = Client::new(namespace).timeout(Duration::from_secs(20));
    let one = || -> Result<Vec<u16>> {
        let mut statuses = Vec::new();
        for burst in 0..bursts {
            sleep_until(start + burst * period);
            let reply = client.connect_here(address).and_then(|mut connection| connection.request(&request));
            statuses.push(reply.with_context(|| format!("in burst {burst} of {bursts}"))?.status);
        }
        Ok(statuses)
    };
    thread::scope(|scope| {
        let senders: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(|| namespace.enter(one))).collect();
        let mut statuses = Vec::new();
        for sender in senders {
            statuses.extend(sender.join().map_err(|_| anyhow!("a sender has panicked"))??);
        }
        Ok(statuses)
    })
}
