//! How much there is of everything, and when it is due.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::clock::sleep;

/// A run is a number of rounds that are all alike. The first one fills what may be filled.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub rounds: u32,
    pub round: Duration,
    /// Connections with requests, per round.
    pub connections: u32,
    /// Addresses from which a SYN comes, per round; none of them comes again.
    pub peers: u32,
    /// Network namespaces that are made and removed, per round.
    pub namespaces: u32,
}

impl Plan {
    /// Months in ten minutes: 100 000 connections, a million peers, 5 000 namespaces.
    pub const FULL: Self =
        Self { rounds: 10, round: Duration::from_mins(1), connections: 10_000, peers: 100_000, namespaces: 500 };
    /// The same at the same rates, for little more than a minute.
    pub const SHORT: Self =
        Self { rounds: 5, round: Duration::from_secs(15), connections: 2_500, peers: 25_000, namespaces: 120 };

    /// The whole time.
    pub fn duration(&self) -> Duration {
        self.round * self.rounds
    }
}

/// A run of the plan. What fails ends all of it.
pub struct Run {
    pub plan: Plan,
    pub start: Instant,
    failed: AtomicBool,
}

impl Run {
    pub fn new(plan: Plan) -> Self {
        Self { plan, start: Instant::now(), failed: AtomicBool::new(false) }
    }

    /// Does a part of it.
    pub fn part<T>(&self, name: &'static str, part: impl FnOnce() -> Result<T>) -> Result<T> {
        let outcome = part().context(name);
        if outcome.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        outcome
    }

    /// So many things, at equal distances over the whole time: calls `each` with the number of each when it is due.
    pub fn paced(&self, count: u32, mut each: impl FnMut(u32) -> Result<()>) -> Result<()> {
        let (period, deadline) = (self.plan.duration() / count.max(1), self.plan.duration() * 3 / 2);
        for number in 0..count {
            sleep((period * number).saturating_sub(self.start.elapsed()));
            ensure!(!self.failed.load(Ordering::Relaxed), "another part failed");
            ensure!(
                self.start.elapsed() < deadline,
                "this machine is too slow: {number} of {count} done in {deadline:?}"
            );
            each(number)?;
        }
        Ok(())
    }

    /// The number of the round that is under way, from 0.
    pub fn round(&self) -> usize {
        let round = self.start.elapsed().as_nanos() / self.plan.round.as_nanos();
        usize::try_from(round).unwrap_or(usize::MAX).min(self.plan.rounds as usize - 1)
    }
}
