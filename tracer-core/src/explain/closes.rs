//! Why connections were closed: what the other connections of the same listener say about it.
//!
//! One closed connection says little: a keep-alive time that runs out and a process that stops look alike. Several do say
//! something. A stop closes connections in one instant, however long each had been idle. So a connection that closed
//! together with one of another idle time is no sign of a keep-alive time. Often the listener closes with
//! them, or the process ends soon after. With `SO_REUSEPORT` a port has several listeners, and one that closes says
//! something only about the connections of its own process, unless it was the last. A keep-alive time closes them at
//! different moments, each after the same idle time, and no connection outlives it.
//!
//! All of it is bounded. Time is that of the records, so a replay decides as the live run did.

use super::{Limits, values::is_too_short};
use crate::model::rejection::CloseReason;
use foldhash::fast::FixedState;
use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
};

/// Listeners remembered at once; the one that was quiet for longest makes way.
const LISTENERS: usize = 256;
/// Closes of a listener that are remembered.
const CLOSES: usize = 4096;
/// Listeners that closed lately.
const CLOSED: usize = 256;
/// For how long a close is remembered to find others at the same moment, in nanoseconds.
const RECENT: u64 = 5_000_000_000;
/// Idle times that are remembered.
const IDLES: usize = 64;
/// Closes within this time happened in one instant, in nanoseconds.
const INSTANT: u64 = 100_000_000;
/// A stop closes the listener first, and the connections within this time, in nanoseconds. A listener that closes after a
/// connection has to do so in the same instant: later, the connection had another reason.
const WITH_LISTENER: u64 = 1_000_000_000;
/// On how many occasions connections have to close after the same idle time, until that is a keep-alive time.
const SAME_IDLE: u32 = 3;
/// And over how long a time: a stop does not take so long.
const SPAN: u64 = 1_000_000_000;
/// How many have to close in one instant, after different idle times, until that is a stop.
const TOGETHER: u32 = 3;
/// How long an observation of a connection that outlived others holds at least, in nanoseconds; at most twice as long.
const WINDOW: u64 = 600_000_000_000;

/// A connection that the application closed while nothing was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close {
    /// When, in monotonic nanoseconds.
    pub at: u64,
    /// Nanoseconds without anything before that; 0: not known.
    pub idle: u64,
    /// The process that closed it; 0: not known.
    pub pid: u32,
}

/// A listener that closed at the moment of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerClosed {
    /// The process that closed the connection closed it.
    BySame,
    /// Another process did: a master, a worker with the same listener, or one with a listener of its own on that port.
    ByOther,
}

/// What other connections say about a close.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Witnesses {
    /// The reason, if they tell one.
    pub reason: Option<CloseReason>,
    /// Whether a listener closed with it. If that was the last one of the port, it is the reason.
    pub listener: Option<ListenerClosed>,
    /// How many connections the same process closed in that instant, this one included.
    pub together: u32,
    /// How many connections closed after the same idle time, this one included, if that is a keep-alive time.
    pub same_idle: u32,
    /// The longest time, in nanoseconds, for which another connection was idle and lived on, if it is longer than that
    /// of this one.
    pub outlived: Option<u64>,
}

/// A listener, by network namespace and the local end of its connections.
type Key = (u32, SocketAddr);

/// What is remembered of the connections of all listeners.
#[derive(Debug, Default)]
pub struct Closes {
    listeners: HashMap<Key, Listener, FixedState>,
    /// When which listener closed, and by which process.
    closed: VecDeque<(u64, Key, u32)>,
}

#[derive(Debug, Default)]
struct Listener {
    /// When something was last noted.
    latest: u64,
    recent: VecDeque<Close>,
    /// The latest idle closes, not those of a process that died.
    idles: VecDeque<Close>,
    /// The longest idle time that a connection survived: in this window and in the one before.
    survived: [u64; 2],
    /// When this window began.
    window: u64,
}

/// Connections that one process closed in one instant.
struct Together {
    count: u32,
    /// The shortest idle time among them, in nanoseconds.
    shortest: u64,
    /// The longest one.
    longest: u64,
}

impl Closes {
    /// The process `pid` (0: not known) closed a listener at `at`.
    pub fn listener_closed(&mut self, netns: u32, local: SocketAddr, at: u64, pid: u32) {
        if self.closed.len() >= CLOSED {
            self.closed.pop_front();
        }
        self.closed.push_back((at, (netns, local), pid));
    }

    /// The application closed a connection to `local`.
    pub fn closed(&mut self, netns: u32, local: SocketAddr, close: Close) {
        let listener = self.listener((netns, local), close.at);
        while listener.recent.len() >= CLOSES
            || listener.recent.front().is_some_and(|it| close.at.saturating_sub(it.at) > RECENT)
        {
            listener.recent.pop_front();
        }
        // Records of two CPUs may overtake each other: the order of time makes an instant quick to find.
        let later = listener.recent.iter().rev().take_while(|it| it.at > close.at).count();
        listener.recent.insert(listener.recent.len() - later, close);
        if close.idle != 0 {
            if listener.idles.len() >= IDLES {
                listener.idles.pop_front();
            }
            listener.idles.push_back(close);
        }
    }

    /// A connection to `local` was idle for `idle` nanoseconds until `at` and lived on, or was closed by its peer only
    /// then.
    pub fn survived(&mut self, netns: u32, local: SocketAddr, idle: u64, at: u64) {
        let listener = self.listener((netns, local), at);
        listener.survived = listener.survived_until(at);
        if at.saturating_sub(listener.window) > WINDOW {
            listener.window = at;
        }
        listener.survived[0] = listener.survived[0].max(idle);
    }

    /// How many connections closed after the same idle time as `close`, itself included, if that is a keep-alive time; otherwise 0.
    /// Asked of every close, so it is quick.
    pub fn keep_alive(&self, netns: u32, local: SocketAddr, close: Close, limits: Limits) -> u32 {
        if !is_too_short(close.idle, limits) {
            return 0;
        }
        self.listeners.get(&(netns, local)).map_or(0, |listener| listener.keep_alive(close, limits))
    }

    /// Whether the process that closed `close` also closed a listener for `local` then.
    pub fn stops(&self, netns: u32, local: SocketAddr, close: Close) -> bool {
        self.listener_closed_with(netns, local, close) == Some(ListenerClosed::BySame)
    }

    /// What is to be said about `close`, from what is known now.
    pub fn witnesses(&self, netns: u32, local: SocketAddr, close: Close, limits: Limits) -> Witnesses {
        let closed = self.listener_closed_with(netns, local, close);
        let Some(listener) = self.listeners.get(&(netns, local)) else {
            return Witnesses { listener: closed, together: 1, ..Witnesses::default() };
        };
        let together = listener.together(close);
        let outlived = listener.outlived(close);
        let same_idle = listener.keep_alive(close, limits);
        let reason = if same_idle != 0 {
            Some(CloseReason::KeepAlive)
        } else if together.count >= TOGETHER && together.longest - together.shortest > tolerance(close.idle) {
            Some(CloseReason::Together)
        } else {
            None
        };
        Witnesses { reason, listener: closed, together: together.count, same_idle, outlived }
    }

    fn listener(&mut self, key: Key, now: u64) -> &mut Listener {
        if self.listeners.len() >= LISTENERS && !self.listeners.contains_key(&key) {
            let quietest = self.listeners.iter().min_by_key(|(_, it)| it.latest).map(|(key, _)| *key);
            quietest.and_then(|key| self.listeners.remove(&key));
        }
        let listener = self.listeners.entry(key).or_default();
        listener.latest = now;
        listener
    }

    /// Whether a listener for `local` closed at about the moment of `close`; one of the same process counts for more.
    fn listener_closed_with(&self, netns: u32, local: SocketAddr, close: Close) -> Option<ListenerClosed> {
        let serves = |listener: SocketAddr| {
            listener.port() == local.port() && (is_wildcard(listener.ip()) || listener.ip() == local.ip())
        };
        let with_it = self.closed.iter().filter(|&&(moment, key, _)| {
            key.0 == netns
                && serves(key.1)
                && moment.saturating_sub(close.at) <= INSTANT
                && close.at.saturating_sub(moment) <= WITH_LISTENER
        });
        let mut found = None;
        for &(_, _, pid) in with_it {
            if pid == close.pid && pid != 0 {
                return Some(ListenerClosed::BySame);
            }
            found = Some(ListenerClosed::ByOther);
        }
        found
    }
}

/// The wildcard of IPv6 stands for both families.
const fn is_wildcard(address: IpAddr) -> bool {
    address.is_unspecified()
}

impl Listener {
    /// The connections that the same process closed in the instant of `close`, itself included.
    fn together(&self, close: Close) -> Together {
        let begin = self.recent.partition_point(|it| it.at.saturating_add(INSTANT) < close.at);
        let instant = self.recent.range(begin..).take_while(|it| it.at <= close.at.saturating_add(INSTANT));
        let mut together = Together { count: 0, shortest: u64::MAX, longest: 0 };
        for it in instant.filter(|it| it.pid == close.pid) {
            together.count += 1;
            together.shortest = together.shortest.min(it.idle);
            together.longest = together.longest.max(it.idle);
        }
        together
    }

    /// See [`Closes::keep_alive`].
    fn keep_alive(&self, close: Close, limits: Limits) -> u32 {
        let same_idle = self.same_idle(close, limits);
        if same_idle != 0 && self.outlived(close).is_some() { 0 } else { same_idle }
    }

    /// The longest idle times that connections survived, as far as these still hold at `now`: in the window that `now` is
    /// in and in the one before.
    const fn survived_until(&self, now: u64) -> [u64; 2] {
        match now.saturating_sub(self.window) {
            0..=WINDOW => self.survived,
            age if age <= 2 * WINDOW => [0, self.survived[0]],
            _ => [0; 2],
        }
    }

    fn outlived(&self, Close { at, idle, .. }: Close) -> Option<u64> {
        let [current, before] = self.survived_until(at);
        let survived = current.max(before);
        let closed = self.idles.iter().map(|it| it.idle).max().unwrap_or(0);
        let longest = survived.max(closed);
        (idle != 0 && longest > idle.saturating_add(2 * tolerance(idle))).then_some(longest)
    }

    /// Whether the same process closed a connection of quite another idle time in the same instant. A timer for idle connections
    /// does not do that.
    fn is_in_company(&self, Close { at, idle, pid }: Close) -> bool {
        let is_other = |it: &Close| it.idle > BUSY && it.idle.abs_diff(idle) > tolerance(idle.max(it.idle));
        self.idles.iter().any(|it| it.pid == pid && it.at.abs_diff(at) <= INSTANT && is_other(it))
    }

    /// How many connections closed after the same idle time, if these are enough for a keep-alive time that is too short.
    fn same_idle(&self, close: Close, limits: Limits) -> u32 {
        if !is_too_short(close.idle, limits) {
            return 0;
        }
        let same = |it: &&Close| it.idle.abs_diff(close.idle) <= tolerance(close.idle);
        // This runs for every close. Few idle times occur three times, so the costly part comes behind that.
        if self.idles.iter().filter(same).count() < SAME_IDLE as usize || self.is_in_company(close) {
            return 0;
        }
        let mut instants = 0;
        let (mut count, mut first, mut last) = (0, u64::MAX, 0_u64);
        // In the order of time: closes within an instant are one occasion.
        for it in self.idles.iter().filter(same).filter(|it| !self.is_in_company(**it)) {
            instants += u32::from(count == 0 || it.at.abs_diff(last) > INSTANT);
            count += 1;
            (first, last) = (it.at.min(first), it.at.max(last));
        }
        if instants >= SAME_IDLE && last.saturating_sub(first) >= SPAN { count } else { 0 }
    }
}

/// A connection that was idle for less than this, in nanoseconds, closed with its response: `Connection: close`, most likely.
const BUSY: u64 = 100_000_000;

/// How much two idle times may differ and still be the same setting: servers look at their idle connections now and then,
/// some once a second only.
const fn tolerance(idle: u64) -> u64 {
    const LEAST: u64 = 100_000_000;
    const MOST: u64 = 1_100_000_000;
    let half = idle / 2;
    if half < LEAST {
        LEAST
    } else if half > MOST {
        MOST
    } else {
        half
    }
}

#[cfg(test)]
mod tests;
