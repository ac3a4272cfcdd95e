//! Why a connection was closed: what other connections say, and what the host says of the process a moment later.

use super::{
    closes::{ListenerClosed, Witnesses},
    ending::REQUESTS_TO_END,
};
use crate::model::{
    application::Application,
    rejection::{CloseReason, Facts, Setting},
};

/// Notes why the connection was closed, and returns that.
pub fn of_close(facts: &mut Facts, witnesses: &Witnesses, answer: Option<&Application>) -> Option<CloseReason> {
    let has_died = facts.ended_by.as_ref().is_some_and(|by| by.how.as_deref().is_some_and(|how| how != "closed"));
    let stop = stop(facts, witnesses, answer);
    let reason = match witnesses.reason {
        _ if has_died && was_asked_to_end(facts) && is_served_by_others(facts, answer) => {
            Some(CloseReason::WorkerEnded)
        }
        _ if has_died => Some(CloseReason::ProcessEnded),
        _ if stop.is_some() => stop,
        // If nothing listens there any more, the whole server ended within that second, perhaps for another reason.
        _ if answer.is_some_and(|it| !it.is_alive && it.listens) => Some(CloseReason::WorkerEnded),
        // The keep-alive time is inferred from other connections, while this setting was read.
        None | Some(CloseReason::KeepAlive) if answer.is_some_and(|it| is_early(facts, it)) => Some(CloseReason::Early),
        reason => reason,
    };
    facts.closed_because = reason;
    facts.closed_together = (witnesses.together > 1).then_some(witnesses.together);
    facts.same_idle = (witnesses.same_idle != 0).then_some(witnesses.same_idle);
    facts.outlived_ns = witnesses.outlived;
    reason
}

/// Whether the process was killed by a signal that asks a process to end, as masters do with their workers at a reload.
fn was_asked_to_end(facts: &Facts) -> bool {
    let how = facts.ended_by.as_ref().and_then(|by| by.how.as_deref());
    let signal = how.and_then(|how| how.strip_prefix("killed by signal ")?.parse().ok());
    signal.is_some_and(|signal| REQUESTS_TO_END.contains(&signal))
}

/// Whether another process has listened there for longer, and still does.
fn is_served_by_others(facts: &Facts, answer: Option<&Application>) -> bool {
    let pid = facts.ended_by.as_ref().map_or(0, |by| by.pid);
    answer.is_some_and(|it| it.elders.iter().any(|&elder| elder != pid))
}

/// Whether the connection closed long before the keep-alive time that the server's configuration shows.
fn is_early(facts: &Facts, answer: &Application) -> bool {
    let keep_alive = answer.keep_alive.as_ref().and_then(Setting::time);
    facts.idle_ns.zip(keep_alive).is_some_and(|(idle, keep_alive)| u128::from(idle) < keep_alive.as_nanos() / 2)
}

/// What it means that a listener closed with the connection. If another one of that port had been there before and stays, only
/// a worker has ended, provided that the listener was its own.
fn stop(facts: &Facts, witnesses: &Witnesses, answer: Option<&Application>) -> Option<CloseReason> {
    let pid = facts.ended_by.as_ref().map_or(0, |by| by.pid);
    let listener = witnesses.listener?;
    let Some(answer) = answer else {
        // Whether another one listens is not known.
        return (listener == ListenerClosed::BySame).then_some(CloseReason::Stopped);
    };
    match listener {
        ListenerClosed::BySame if answer.elders.iter().any(|&elder| elder != pid) => Some(CloseReason::WorkerEnded),
        ListenerClosed::ByOther if !answer.elders.is_empty() => None,
        _ if answer.listens => Some(CloseReason::Replaced),
        _ => Some(CloseReason::Stopped),
    }
}

/// Notes that a request was lost because the server stopped: its listener closed at the same moment. One that was never
/// accepted is lost with its listener in any case, and one of a process that died with that process.
pub fn of_request(facts: &mut Facts, witnesses: &Witnesses, answer: Option<&Application>) {
    let has_died = facts.ended_by.as_ref().is_some_and(|by| by.how.as_deref().is_some_and(|how| how != "closed"));
    if has_died || facts.never_accepted {
        return;
    }
    // That the process is gone a moment later is no reason: a crash and a worker timeout close connections as they unwind.
    if let Some(stop) = stop(facts, witnesses, answer) {
        facts.closed_because = Some(stop);
        facts.closed_together = (witnesses.together > 1).then_some(witnesses.together);
    }
}
