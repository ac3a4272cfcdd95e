//! Tests of what several closes of one listener say.

use super::{
    CLOSED, CLOSES, Close, Closes, IDLES, INSTANT, LISTENERS, ListenerClosed, WINDOW, WITH_LISTENER, Witnesses,
};
use crate::{
    explain::Limits,
    model::rejection::CloseReason,
    samples::{MS, S},
};
use proptest::prelude::*;
use std::{net::SocketAddr, time::Duration};

const NETNS: u32 = 7;
/// The server and one of its workers.
const PID: u32 = 812;

fn local() -> SocketAddr {
    "10.0.2.5:8080".parse().unwrap()
}

const fn close(at: u64, idle: u64) -> Close {
    Close { at, idle, pid: PID }
}

/// What is said about the last of `closes` once all of them are noted.
fn last_of(closes: &mut Closes, all: &[Close]) -> Witnesses {
    for &close in all {
        closes.closed(NETNS, local(), close);
    }
    of(closes, *all.last().unwrap())
}

fn of(closes: &Closes, close: Close) -> Witnesses {
    closes.witnesses(NETNS, local(), close, Limits::default())
}

/// Three closes after 5 s, each at another moment.
const KEEP_ALIVE: [Close; 3] = [close(10 * S, 5 * S), close(11 * S, 5_010 * MS), close(13 * S, 4_990 * MS)];

#[test]
fn one_close_says_nothing() {
    let mut closes = Closes::default();
    assert_eq!(of(&closes, close(S, 5 * S)), Witnesses { together: 1, ..Witnesses::default() });
    let found = last_of(&mut closes, &[close(10 * S, 5 * S)]);
    assert_eq!(found, Witnesses { together: 1, ..Witnesses::default() });
}

#[test]
fn closes_of_different_idle_times_in_one_instant_are_a_stop() {
    let stop = [close(10 * S, 5 * S), close(10 * S + MS, 9 * S), close(10 * S + INSTANT, 2 * S)];
    let mut closes = Closes::default();
    let found = last_of(&mut closes, &stop);
    assert_eq!((found.reason, found.together), (Some(CloseReason::Together), 3));
    // What came before it in that instant is explained as well.
    assert_eq!(of(&closes, stop[0]).reason, Some(CloseReason::Together));
    // Two are too few, and so are three of one idle time.
    assert_eq!(last_of(&mut Closes::default(), &stop[..2]).reason, None);
    let same = [close(10 * S, 5 * S), close(10 * S + MS, 5 * S), close(10 * S + 2 * MS, 5 * S)];
    let found = last_of(&mut Closes::default(), &same);
    assert_eq!((found.reason, found.together), (None, 3));
    // Another instant is not this one.
    let apart = [stop[0], stop[1], close(10 * S + INSTANT + 1, 2 * S)];
    let found = last_of(&mut Closes::default(), &apart);
    assert_eq!((found.reason, found.together), (None, 2));
}

#[test]
fn a_listener_that_closes_with_its_connections_stops() {
    let moment = 20 * S;
    for listener in ["10.0.2.5:8080", "0.0.0.0:8080", "[::]:8080"] {
        let stopped = || {
            let mut closes = Closes::default();
            closes.listener_closed(NETNS, listener.parse().unwrap(), moment, PID);
            closes
        };
        let closes = stopped();
        for at in [moment - INSTANT, moment, moment + WITH_LISTENER] {
            // Whether other closes are remembered or not.
            let found = [of(&closes, close(at, 5 * S)), last_of(&mut stopped(), &[close(at, 5 * S)])];
            assert_eq!(found.map(|it| it.listener), [Some(ListenerClosed::BySame); 2], "{listener} {at}");
        }
        // A connection that had closed before the listener did, or long after, had another reason.
        for at in [moment - WITH_LISTENER, moment - INSTANT - 1, moment + WITH_LISTENER + 1] {
            assert_eq!(of(&closes, close(at, 5 * S)).listener, None, "{listener} {at}");
        }
        assert_eq!(closes.witnesses(NETNS + 1, local(), close(moment, 5 * S), Limits::default()).listener, None);
        let other = "10.0.2.5:8081".parse().unwrap();
        assert_eq!(closes.witnesses(NETNS, other, close(moment, 5 * S), Limits::default()).listener, None);
    }
    let mut closes = Closes::default();
    closes.listener_closed(NETNS, "10.0.2.6:8080".parse().unwrap(), moment, PID);
    assert_eq!(of(&closes, close(moment, 5 * S)).listener, None, "another address of this host");
}

#[test]
fn who_closed_the_listener_is_told() {
    use ListenerClosed::{ByOther, BySame};
    let at = 20 * S;
    let cases: [(&[u32], u32, Option<ListenerClosed>); 6] = [
        (&[PID], PID, Some(BySame)),
        (&[PID + 1], PID, Some(ByOther)),
        // Several listeners of one port: that of the connection's process counts for more, in any order.
        (&[PID, PID + 1], PID, Some(BySame)),
        (&[PID + 1, PID], PID, Some(BySame)),
        // Processes that are not known are not the same one.
        (&[0], 0, Some(ByOther)),
        (&[], PID, None),
    ];
    for (listeners, pid, expected) in cases {
        let mut closes = Closes::default();
        for &listener in listeners {
            closes.listener_closed(NETNS, local(), at, listener);
        }
        assert_eq!(of(&closes, Close { at, idle: 5 * S, pid }).listener, expected, "{listeners:?} {pid}");
    }
    // Whether that was the last one of the port is not known here: what the other connections say is told beside it.
    let mut closes = Closes::default();
    closes.listener_closed(NETNS, local(), KEEP_ALIVE[2].at, PID + 1);
    let found = last_of(&mut closes, &KEEP_ALIVE);
    assert_eq!((found.reason, found.listener), (Some(CloseReason::KeepAlive), Some(ByOther)));
}

#[test]
fn closes_after_the_same_idle_time_at_different_moments_are_a_keep_alive_time() {
    let mut closes = Closes::default();
    assert_eq!(last_of(&mut closes, &KEEP_ALIVE[..2]).reason, None);
    let found = last_of(&mut closes, &KEEP_ALIVE[2..]);
    assert_eq!((found.reason, found.same_idle, found.together), (Some(CloseReason::KeepAlive), 3, 1));
    // All processes of a server have the same setting.
    let workers = [PID, PID + 1, PID + 2];
    let workers: Vec<_> = KEEP_ALIVE.iter().zip(workers).map(|(&close, pid)| Close { pid, ..close }).collect();
    assert_eq!(last_of(&mut Closes::default(), &workers).reason, Some(CloseReason::KeepAlive));
    // A server that looks once a second closes up to that much later.
    let seconds = [close(10 * S, 5 * S), close(12 * S, 5_900 * MS), close(14 * S, 5_400 * MS)];
    assert_eq!(last_of(&mut Closes::default(), &seconds).reason, Some(CloseReason::KeepAlive));
    // A second is the least time between the first and the last.
    let soon = [close(10 * S, 5 * S), close(10_500 * MS, 5 * S), close(11 * S - 1, 5 * S)];
    assert_eq!(last_of(&mut Closes::default(), &soon).reason, None);
}

#[test]
fn a_keep_alive_time_that_is_long_enough_or_no_idle_time_at_all_is_no_reason() {
    for (idle, too_short) in [(0, false), (S - 1, false), (S, true), (59 * S, true), (60 * S, false), (75 * S, false)] {
        let all = [close(100 * S, idle), close(200 * S, idle), close(300 * S, idle)];
        let found = last_of(&mut Closes::default(), &all);
        assert_eq!(found.reason, too_short.then_some(CloseReason::KeepAlive), "{idle}");
    }
    let mut closes = Closes::default();
    last_of(&mut closes, &KEEP_ALIVE);
    let limits = Limits { idle_timeout: Duration::from_secs(4) };
    assert_eq!(closes.witnesses(NETNS, local(), KEEP_ALIVE[2], limits).reason, None);
}

#[test]
fn what_another_connection_outlived_is_no_keep_alive_time() {
    let mut closes = Closes::default();
    closes.survived(NETNS, local(), 30 * S, 9 * S);
    let found = last_of(&mut closes, &KEEP_ALIVE);
    assert_eq!((found.reason, found.same_idle, found.outlived), (None, 0, Some(30 * S)));
    // One that lived on for no longer than such a time varies says nothing.
    let mut closes = Closes::default();
    closes.survived(NETNS, local(), 7 * S, 9 * S);
    assert_eq!(last_of(&mut closes, &KEEP_ALIVE).reason, Some(CloseReason::KeepAlive));
    // Nor does one of another listener.
    let mut closes = Closes::default();
    closes.survived(NETNS, "10.0.2.5:8081".parse().unwrap(), 30 * S, 9 * S);
    closes.survived(NETNS + 1, local(), 30 * S, 9 * S);
    assert_eq!(last_of(&mut closes, &KEEP_ALIVE).reason, Some(CloseReason::KeepAlive));
    // One that was closed later has outlived them, too.
    let mut closes = Closes::default();
    let found = last_of(&mut closes, &[&KEEP_ALIVE[..], &[close(14 * S, 30 * S), close(15 * S, 5 * S)]].concat());
    assert_eq!((found.reason, found.outlived), (None, Some(30 * S)));
}

#[test]
fn what_was_outlived_long_ago_is_forgotten() {
    let at = |began: u64| [close(began, 5 * S), close(began + 2 * S, 5 * S), close(began + 4 * S, 5 * S)];
    for (later, reason) in [(0, None), (WINDOW, None), (2 * WINDOW + 9 * S, Some(CloseReason::KeepAlive))] {
        // With and without others since.
        for survives in [false, true] {
            let mut closes = Closes::default();
            closes.survived(NETNS, local(), 30 * S, 9000 * S);
            let began = 9000 * S + later;
            if survives {
                closes.survived(NETNS, local(), S, began - 1);
            }
            assert_eq!(last_of(&mut closes, &at(began)).reason, reason, "{later} {survives}");
        }
    }
}

#[test]
fn closes_of_others_do_not_count() {
    let stop = [close(10 * S, 5 * S), close(10 * S + MS, 9 * S)];
    let last = close(10 * S + 2 * MS, 2 * S);
    let others: [(u32, SocketAddr, u32); 4] = [
        (NETNS, local(), PID + 1),
        (NETNS + 1, local(), PID),
        (NETNS, "10.0.2.5:8081".parse().unwrap(), PID),
        (NETNS, "10.0.2.6:8080".parse().unwrap(), PID),
    ];
    for (netns, local, pid) in others {
        let mut closes = Closes::default();
        for close in stop {
            closes.closed(netns, local, Close { pid, ..close });
        }
        let found = last_of(&mut closes, &[last]);
        assert_eq!((found.reason, found.together), (None, 1), "{netns} {local} {pid}");
    }
    for (netns, local, _) in &others[1..] {
        let mut closes = Closes::default();
        for &close in &KEEP_ALIVE[..2] {
            closes.closed(*netns, *local, close);
        }
        assert_eq!(last_of(&mut closes, &KEEP_ALIVE[2..]).reason, None, "{netns} {local}");
    }
}

#[test]
fn little_is_remembered_whatever_comes() {
    let mut closes = Closes::default();
    let at = |index: u16| 10 * S + u64::from(index);
    for index in 0..10_000 {
        let local = SocketAddr::from(([10, 0, 2, 5], index));
        closes.closed(NETNS, local, close(at(index), 5 * S));
        closes.survived(NETNS, local, 3 * S, at(index));
        closes.listener_closed(NETNS, local, at(index), PID);
    }
    assert_eq!((closes.listeners.len(), closes.closed.len()), (LISTENERS, CLOSED));
    // The latest ones.
    let latest = SocketAddr::from(([10, 0, 2, 5], 9_999));
    assert!(closes.listeners.contains_key(&(NETNS, latest)));
    assert_eq!(
        closes.witnesses(NETNS, latest, close(at(9_999), S), Limits::default()).listener,
        Some(ListenerClosed::BySame)
    );
    for index in 0..10_000 {
        closes.closed(NETNS, local(), close(at(index), 5 * S));
    }
    let listener = &closes.listeners[&(NETNS, local())];
    assert_eq!((listener.recent.len(), listener.idles.len()), (CLOSES, IDLES));
    assert_eq!(closes.listeners.len(), LISTENERS);
    // Those of some seconds ago are forgotten.
    closes.closed(NETNS, local(), close(30 * S, 5 * S));
    assert_eq!(closes.listeners[&(NETNS, local())].recent.len(), 1);
}

/// Closes within one instant, in any order.
fn instant() -> impl Strategy<Value = Vec<Close>> {
    let close = (0..=INSTANT, 0..70 * S, 0..3_u32);
    let close = close.prop_map(|(at, idle, pid)| Close { at: 1000 * S + at, idle, pid });
    prop::collection::vec(close, 1..200)
}

proptest! {
    #[test]
    fn closes_of_one_instant_are_never_a_keep_alive_time(
        all in instant(),
        same_idle in prop::option::of(S..60 * S),
        survived in prop::option::of((0..90 * S, 900 * S..1100 * S)),
    ) {
        let mut closes = Closes::default();
        if let Some((idle, at)) = survived {
            closes.survived(NETNS, local(), idle, at);
        }
        let all: Vec<_> = all.into_iter().map(|it| Close { idle: same_idle.unwrap_or(it.idle), ..it }).collect();
        for &it in &all {
            closes.closed(NETNS, local(), it);
            let found = of(&closes, it);
            prop_assert!(found.reason != Some(CloseReason::KeepAlive) && found.same_idle == 0, "{found:?}");
        }
        // Nor afterwards, when all of them are known.
        for &it in &all {
            let found = of(&closes, it);
            prop_assert_ne!(found.reason, Some(CloseReason::KeepAlive));
            let together = all.iter().filter(|other| other.pid == it.pid).count();
            prop_assert_eq!(found.together as usize, together);
        }
    }

    /// Reloads, of which each closes connections that had been idle for a moment, for long, and for anything between. The old
    /// workers live on.
    #[test]
    fn stops_one_after_the_other_are_never_a_keep_alive_time(
        stops in prop::collection::vec(prop::collection::vec((0..INSTANT / 2, 200 * MS..2_600 * MS), 0..10), 1..10),
        pause in S..60 * S,
    ) {
        let mut closes = Closes::default();
        for (stop, pid) in stops.iter().zip(PID..) {
            let at = 1000 * S + u64::from(pid) * pause;
            let between = stop.iter().map(|&(late, idle)| (at + late, idle));
            let ends = [(at, 200 * MS), (at, 2_600 * MS)];
            let all: Vec<_> = between.chain(ends).map(|(at, idle)| Close { at, idle, pid }).collect();
            last_of(&mut closes, &all);
            for &it in &all {
                prop_assert_ne!(of(&closes, it).reason, Some(CloseReason::KeepAlive));
            }
        }
    }

    #[test]
    fn what_was_outlived_is_never_a_keep_alive_time(
        moments in prop::collection::vec((0..300 * S, S..20 * S), 1..80),
        longer in 23 * S..90 * S,
    ) {
        let mut closes = Closes::default();
        closes.survived(NETNS, local(), longer, 1000 * S);
        for (at, idle) in moments {
            let found = last_of(&mut closes, &[close(1000 * S + at, idle)]);
            prop_assert_ne!(found.reason, Some(CloseReason::KeepAlive));
            prop_assert_eq!(found.outlived, Some(longer));
        }
    }

    #[test]
    fn a_keep_alive_time_is_found_in_any_order_of_its_closes(
        idle in S..59 * S,
        late in prop::collection::vec(0..90 * MS, 3..60),
        shift in any::<prop::sample::Index>(),
    ) {
        // One a second, by servers that are up to 90 ms late.
        let mut all: Vec<_> = (100..).zip(&late).map(|(second, late)| close(second * S, idle + late)).collect();
        let length = all.len();
        all.rotate_left(shift.index(length));
        let found = last_of(&mut Closes::default(), &all);
        prop_assert_eq!((found.reason, found.outlived), (Some(CloseReason::KeepAlive), None));
        prop_assert_eq!(found.same_idle as usize, length);
    }
}
