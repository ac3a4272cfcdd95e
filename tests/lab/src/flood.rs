//! Exactly so many requests over so many connections, with our own client.

use std::net::SocketAddr;
use std::thread;

use anyhow::{Result, anyhow};

use crate::client::{Client, Request};
use crate::clock::monotonic_ns;
use crate::netns::Namespace;

/// What a flood came to. Latencies are nanoseconds from the first byte sent to the last byte received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flood {
    /// Requests answered with the status 200.
    pub answered: u64,
    /// Requests answered with another status, or not at all.
    pub failed: u64,
    /// The first error, in words.
    pub first_error: Option<String>,
    /// How long the whole took, nanoseconds.
    pub elapsed_ns: u64,
    /// The latency of each answered request, in ascending order.
    pub latencies_ns: Vec<u64>,
}

impl Flood {
    /// The latency that `percent` of the answered requests did not exceed; absent if none was answered.
    #[must_use]
    pub fn percentile_ns(&self, percent: usize) -> Option<u64> {
        let last = self.latencies_ns.len().checked_sub(1)?;
        self.latencies_ns.get(last * percent.min(100) / 100).copied()
    }

    fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.failed += other.failed;
        self.first_error = self.first_error.take().or(other.first_error);
        self.latencies_ns.extend(other.latencies_ns);
    }
}

/// Sends exactly `count` times `request` from `namespace` over `connections` at once, a thread each: kept alive, or one
/// connection a request. No request is tried twice: after one that failed, the next goes over a new connection.
///
/// # Errors
/// Where the namespace cannot be entered. What happens to the requests is in the [`Flood`].
pub fn flood(
    namespace: &Namespace,
    address: SocketAddr,
    request: &Request,
    count: usize,
    connections: usize,
    keep_alive: bool,
) -> Result<Flood> {
    let client = Client::new(namespace);
    let request = if keep_alive { request.clone() } else { request.clone().header("Connection", "close") };
    let start = monotonic_ns();
    let mut total = namespace.enter(|| {
        // Threads inherit the namespace of the one that starts them.
        thread::scope(|scope| {
            let share = |index| count * (index + 1) / connections - count * index / connections;
            let start = |index| {
                scope.spawn({
                    let request = &request;
                    move || send(&client, address, request, share(index), keep_alive)
                })
            };
            let threads: Vec<_> = (0..connections).map(start).collect();
            let mut total = Flood::default();
            for thread in threads {
                total.add(thread.join().map_err(|_| anyhow!("a thread of the flood panicked"))?);
            }
            Ok(total)
        })
    })?;
    total.elapsed_ns = monotonic_ns() - start;
    total.latencies_ns.sort_unstable();
    Ok(total)
}

fn send(client: &Client, address: SocketAddr, request: &Request, count: usize, keep_alive: bool) -> Flood {
    let mut flood = Flood::default();
    let mut open = None;
    for _ in 0..count {
        let answer = open.take().map_or_else(|| client.connect_here(address), Ok).and_then(|mut connection| {
            let reply = connection.request(request)?;
            Ok((connection, reply))
        });
        match answer {
            Ok((connection, reply)) if reply.status == 200 => {
                flood.answered += 1;
                flood.latencies_ns.push(reply.total_ns());
                open = (keep_alive && !reply.closed).then_some(connection);
            }
            Ok((_, reply)) => {
                flood.failed += 1;
                flood.first_error.get_or_insert_with(|| format!("status {}", reply.status));
            }
            Err(error) => {
                flood.failed += 1;
                flood.first_error.get_or_insert_with(|| format!("{error:#}"));
            }
        }
    }
    flood
}
