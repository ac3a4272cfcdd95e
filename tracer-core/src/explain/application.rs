//! What the host says about the process of a rejection, as far as it explains that rejection.

use crate::model::{
    application::Application,
    place::Place,
    rejection::{Cause, Rejection},
};

/// Adds to `rejection` what `answer` says about its process: which server it is and how it is restarted, its limits where one of
/// them may be the reason, its keep-alive time where the connection was idle.
pub fn describe(rejection: &mut Rejection, answer: Application) {
    let was_idle = matches!(rejection.cause, Cause::KeepaliveRace | Cause::KeepaliveTooShort);
    let place = answer.cgroup.map(|cgroup| Place { cgroup });
    let facts = &mut rejection.facts;
    let is_unread = rejection.cause == Cause::NoResponse && facts.never_read;
    let may_be_files = facts.closed_unread || (is_unread && facts.never_accepted);
    facts.open_files = facts.open_files.or(answer.open_files.filter(|_| may_be_files));
    facts.threads = answer.threads.filter(|_| facts.closed_unread || is_unread);
    if is_unread && facts.never_accepted {
        (facts.queue_length, facts.queue_limit) = answer.queue.unzip();
    }
    facts.process = facts.process.take().or(answer.process);
    facts.server = answer.server;
    facts.setting = answer.keep_alive.filter(|_| was_idle);
    facts.container = place.as_ref().and_then(Place::container).map(str::to_owned);
    // The unit around a container is that of its engine.
    let unit = place.as_ref().filter(|place| place.container().is_none()).and_then(Place::service);
    facts.unit = unit.map(str::to_owned);
}
