//! Which causes show on a connection that has ended, in a request, in a request that waits, and at a listener.

use super::{
    Limits,
    classify::ender,
    ending::{self, Ending},
};
use crate::model::{
    peer::socket,
    rejection::{
        Cause::{
            self, AcceptQueueFilling, ApplicationNotReading, Forwarded, KeepaliveTooShort, NoResponse, NothingArrived,
        },
        Evidence::{self, Inferred, NotSeen, Observed},
        Facts, ProcessName, Rejection,
    },
    request::comm,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tracer_common::{
    connection::{ACCEPT_UNSEEN, ADOPTED, CLOSED_BY_APPLICATION, CLOSED_BY_PEER, ENDED_UNANSWERED, RESET_BY_HOST},
    record::{ConnectionRecord, Process, RequestRecord},
    rejection::{ArrivalTally, ListenerKey, ListenerTally},
    turn::Turn,
};

/// Zero window for less is an upload in full swing.
const LEAST_ZERO_WINDOW: u64 = 1_000_000_000;
/// Not acknowledged for less may be a packet lost.
const LEAST_UNACKNOWLEDGED: u64 = 10_000_000_000;
/// So much less is enough if the connection ends with it, after at least [`LEAST_RETRANSMITS`].
const LEAST_UNTIL_GIVEN_UP: u64 = 1_000_000_000;
const LEAST_RETRANSMITS: u16 = 3;
/// Payload bytes of packets that are lost because of their size alone: path MTUs are seldom less than this.
const LARGE: u16 = 1000;

/// What `ending`, which is that of the connection in `record`, is to be reported as; `None` if it harmed nothing.
pub fn of_closed(record: &ConnectionRecord, ending: Ending) -> Option<Rejection> {
    let (cause, evidence) = match ending {
        Ending::InOrder => return None,
        Ending::Idle => (KeepaliveTooShort, Inferred),
        Ending::Doubt => (Cause::ProcessDied, Inferred),
        Ending::Lost(cause, evidence) => (cause, evidence),
    };
    let ended = if record.ended == 0 { record.reported } else { record.ended };
    // What came after the close is no turn of the connection.
    let met_half_close = cause == Cause::KeepaliveRace && ending::met_a_half_close(record);
    let facts = match ending {
        Ending::Lost(..) if !met_half_close => lost(record, cause, ended),
        _ => Facts { half_closed: met_half_close, ..idle(record) },
    };
    let has_sequence = matches!(ending, Ending::Lost(..)) && record.requests != 0 && !met_half_close;
    Some(Rejection {
        cause,
        evidence,
        count: 1,
        first: ended,
        last: ended,
        peer: socket(&record.tuple.peer),
        local: socket(&record.tuple.local),
        netns: record.netns,
        connection: Some(record.connection),
        sequence: has_sequence.then_some(record.requests),
        reason: None,
        location: None,
        facts,
    })
}

fn idle(record: &ConnectionRecord) -> Facts {
    Facts {
        idle_ns: known(record.idle),
        process: process(&record.process),
        ended_by: ender(&record.by),
        ..Facts::default()
    }
}

/// The figures of a request that was lost when its connection ended.
fn lost(record: &ConnectionRecord, cause: Cause, ended: u64) -> Facts {
    // Behind an early response, what is unread is more than the request that was answered.
    let never_read = ending::is_unread(record) && record.bytes_out == 0;
    let first = record.requests == 1 && record.flags & ADOPTED == 0;
    let never_accepted = never_read && first && record.moments.accepted == 0 && record.flags & ACCEPT_UNSEEN == 0;
    let was_closed = record.flags & (CLOSED_BY_APPLICATION | RESET_BY_HOST) != 0;
    Facts {
        waited_ns: (record.queued != 0).then(|| ended.saturating_sub(record.queued)),
        bytes_in: Some(record.bytes_in),
        bytes_out: Some(record.bytes_out),
        unread: Some(record.unread),
        packet: last_packet(cause, record.flags).map(str::to_owned),
        process: process(&record.process),
        ended_by: ender(&record.by).filter(|_| cause != Cause::PeerGaveUp),
        ended_unanswered: record.flags & ENDED_UNANSWERED != 0,
        silent_ns: known(record.idle).filter(|_| cause == Cause::ClosedBeforeResponse),
        closed_unread: never_read && first && was_closed && !never_accepted && !ending::has_died(record),
        never_accepted,
        never_read,
        ..Facts::default()
    }
}

fn known(nanoseconds: u64) -> Option<u64> {
    (nanoseconds != 0).then_some(nanoseconds)
}

/// What ended it, where the peer did.
fn last_packet(cause: Cause, flags: u32) -> Option<&'static str> {
    match cause {
        Cause::PeerGaveUp if flags & CLOSED_BY_PEER != 0 => Some("FIN"),
        Cause::PeerGaveUp => Some("RST"),
        _ => None,
    }
}

/// What has gone wrong in a request that has ended.
pub fn of_ended(record: &RequestRecord, limits: Limits) -> Vec<Rejection> {
    let is_over = record.flags & RequestRecord::FINAL != 0;
    let given_up = is_over && record.retransmits >= LEAST_RETRANSMITS;
    let unacknowledged = unacknowledged(record, LEAST_UNTIL_GIVEN_UP).filter(|_| given_up);
    [unacknowledged, of_request(record, limits)].into_iter().flatten().collect()
}

/// Whether [`of_ended`] may find something.
pub const fn may_have_gone_wrong(record: &RequestRecord) -> bool {
    record.zero_window != 0 || (record.retransmits != 0 && record.flags & RequestRecord::COMPLETE == 0)
}

/// What has gone wrong in a request, over or not.
pub fn of_request(record: &RequestRecord, _limits: Limits) -> Option<Rejection> {
    let facts = Facts { zero_window_ns: Some(record.zero_window), ..request_facts(record) };
    (record.zero_window >= LEAST_ZERO_WINDOW).then(|| of(record, (ApplicationNotReading, Observed), facts))
}

/// What has gone wrong so far in a request that waits; [`RequestRecord::reported`] is now.
pub fn of_waiting(record: &RequestRecord, limits: Limits) -> Vec<Rejection> {
    let found = [unanswered(record, limits), unacknowledged(record, LEAST_UNACKNOWLEDGED), of_request(record, limits)];
    found.into_iter().flatten().collect()
}

fn unanswered(record: &RequestRecord, limits: Limits) -> Option<Rejection> {
    let moments = &record.moments;
    let latest = [moments.arrived, moments.queued, moments.first_read, moments.last_read, record.accepted];
    let latest = latest.into_iter().max().filter(|&latest| latest != 0)?;
    let waited = record.reported.saturating_sub(latest);
    let is_overdue = u128::from(waited) >= limits.idle_timeout.as_nanos();
    let turn = record.turn();
    let is_request = matches!(turn.turn(), Turn::Request | Turn::Body);
    if record.bytes_out != 0 || moments.first_write != 0 || !is_overdue || !is_request {
        return None;
    }
    let first = turn.is_first && record.flags & RequestRecord::ACCEPT_UNSEEN == 0;
    let not_seen_read = moments.first_read == 0;
    let never_accepted = first && not_seen_read && record.accepted == 0;
    let reads_unseen = not_seen_read && !never_accepted && record.flags & RequestRecord::READ_UNSEEN != 0;
    let never_read = not_seen_read && !reads_unseen;
    // What somebody has read and not answered may be a message that needs no answer, unless it says that it is a request.
    let is_observed = if never_read { !turn.may_be_control() } else { turn.is_certain() };
    let evidence = if is_observed { Observed } else { Inferred };
    let facts = Facts { waited_ns: Some(waited), never_accepted, never_read, reads_unseen, ..request_facts(record) };
    Some(of(record, (NoResponse, evidence), facts))
}

fn unacknowledged(record: &RequestRecord, least: u64) -> Option<Rejection> {
    let moments = &record.moments;
    let since = if moments.last_out == 0 { moments.first_write } else { moments.last_out };
    let waited = record.reported.saturating_sub(since);
    let is_answered = record.flags & RequestRecord::COMPLETE != 0;
    if is_answered || since == 0 || record.bytes_out == 0 || record.retransmits == 0 || waited < least {
        return None;
    }
    let facts = Facts {
        waited_ns: Some(waited),
        retransmits: Some(record.retransmits.into()),
        resent_bytes: (record.resent >= LARGE).then_some(record.resent.into()),
        ..request_facts(record)
    };
    Some(of(record, (Cause::ResponseNotAcknowledged, Inferred), facts))
}

fn request_facts(record: &RequestRecord) -> Facts {
    Facts {
        bytes_in: Some(record.bytes_in),
        bytes_out: Some(record.bytes_out),
        process: process(&record.process),
        ..Facts::default()
    }
}

fn of(record: &RequestRecord, (cause, evidence): (Cause, Evidence), facts: Facts) -> Rejection {
    Rejection {
        cause,
        evidence,
        count: 1,
        first: record.reported,
        last: record.reported,
        peer: socket(&record.tuple.peer),
        local: socket(&record.tuple.local),
        netns: record.netns,
        connection: Some(record.connection),
        sequence: Some(record.sequence),
        reason: None,
        location: None,
        facts,
    }
}

/// The warning that a listener's accept queue was half full at some SYN, though never over its limit.
pub fn of_listener(key: &ListenerKey, tally: &ListenerTally) -> Option<Rejection> {
    let queue = tally.longest;
    let is_half_full = queue.length != 0 && u64::from(queue.length) * 2 >= u64::from(queue.limit);
    let facts = Facts { queue_length: Some(queue.length), queue_limit: Some(queue.limit), ..Facts::default() };
    (is_half_full && queue.length <= queue.limit).then(|| {
        let local = socket(&key.local);
        Rejection { facts, ..without_peer((AcceptQueueFilling, Observed), local, key.netns, (tally.last, tally.last)) }
    })
}

/// That no SYN, no request, no connection and no rejection was seen for `local` (port 0: any port) from `began` to
/// `ended`. `xdp` are the programs that may have taken them before.
pub fn nothing_arrived(local: SocketAddr, netns: u32, (began, ended): (u64, u64), xdp: Vec<String>) -> Rejection {
    let facts = Facts { waited_ns: Some(ended.saturating_sub(began)), xdp, ..Facts::default() };
    Rejection { facts, ..without_peer((NothingArrived, NotSeen), local, netns, (began, ended)) }
}

/// That packets for `local` came, for which this host had no socket: SYNs, if there is a tally of them.
pub fn forwarded(local: SocketAddr, netns: u32, tally: Option<&ArrivalTally>, now: u64) -> Rejection {
    let to = tally.filter(|it| it.forwarded != 0).map(|it| socket(&it.to));
    let again = tally.filter(|it| it.answered == 0 && it.again != 0).and_then(|it| it.again.try_into().ok());
    let facts = Facts { forwarded_to: to, retransmits: again, ..Facts::default() };
    let moments = tally.map_or((now, now), |it| (it.first, it.last));
    let rejection = without_peer((Forwarded, NotSeen), local, netns, moments);
    Rejection { facts, count: tally.map_or(1, |it| it.syns.saturating_add(it.again)), ..rejection }
}

fn without_peer(
    (cause, evidence): (Cause, Evidence),
    local: SocketAddr,
    netns: u32,
    (first, last): (u64, u64),
) -> Rejection {
    let nobody = if local.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    Rejection {
        cause,
        evidence,
        count: 1,
        first,
        last,
        peer: SocketAddr::new(nobody, 0),
        local,
        netns,
        connection: None,
        sequence: None,
        reason: None,
        location: None,
        facts: Facts::default(),
    }
}

fn process(process: &Process) -> Option<ProcessName> {
    (process.pid != 0).then(|| ProcessName { pid: process.pid, comm: comm(process).into_owned(), how: None })
}

#[cfg(test)]
mod tests;
