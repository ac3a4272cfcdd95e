//! Which cause an event in the kernel has. Pure: what the kernel reported and what this host said when asked go in.

use super::{
    ending::{self, Late},
    reasons,
};
use crate::model::{
    facts::HostFacts,
    peer::socket,
    rejection::{
        Cause::{
            self, AcceptQueueFull, ConntrackFull, FirewallDrop, FirewallReject, KeepaliveRace, NoListener, NoRouteBack,
        },
        Evidence::{self, Inferred, Observed},
        Facts, ProcessName, Rejection,
    },
    request::comm,
};
use std::net::SocketAddr;
use tracer_common::{
    endpoint::Endpoint,
    record::Process,
    rejection::{Ender, Event, How, Key, PacketKind, Queue, RejectionRecord, Tally},
};

/// The rejection that `record` is an example of; `None` if the event is harmless. It counts for one event. Data that came
/// after the close is for [`of_late`].
pub fn of_record(record: &RejectionRecord, host: &HostFacts) -> Option<Rejection> {
    let (cause, evidence) = cause(&record.key, host)?;
    let mut facts = facts(cause, &record.key, host);
    if is_known(record.queue) {
        (facts.queue_length, facts.queue_limit) = (Some(record.queue.length), Some(record.queue.limit));
    }
    Some(Rejection {
        count: 1,
        first: record.reported,
        last: record.reported,
        peer: socket(&record.peer),
        ..rejection(cause, evidence, &record.key, host, facts)
    })
}

/// What the data in `record`, which came after the close, is to be reported as; `None` if it was harmless. `has_fin` says
/// that the peer's FIN came right behind it.
pub fn of_late(record: &RejectionRecord, has_fin: bool, host: &HostFacts) -> Option<Rejection> {
    let ended = &record.ended;
    let (cause, evidence) = match ending::of_late(record, has_fin) {
        Late::Harmless => return None,
        Late::FirstRequest => (Cause::ResetBeforeResponse, Observed),
        Late::Upload(evidence) => (Cause::ResetDuringUpload, evidence),
        Late::Request(evidence) => (KeepaliveRace, evidence),
    };
    let is_first = cause == Cause::ResetBeforeResponse;
    let facts = Facts {
        idle_ns: (ended.idle != 0 && !is_first).then_some(ended.idle),
        late_ns: (ended.ended != 0).then(|| record.reported.saturating_sub(ended.ended)),
        ended_by: ender(&ended.by),
        closed_unread: is_first,
        never_read: is_first,
        unread: Some(record.payload),
        ..facts(cause, &record.key, host)
    };
    Some(Rejection {
        count: 1,
        first: record.reported,
        last: record.reported,
        peer: socket(&record.peer),
        connection: (ended.connection != 0).then_some(ended.connection),
        ..rejection(cause, evidence, &record.key, host, facts)
    })
}

/// The rejection that all events of `key` are, without an example.
pub fn of_tally(key: &Key, tally: &Tally, host: &HostFacts) -> Option<Rejection> {
    let (cause, evidence) = cause(key, host)?;
    Some(Rejection {
        count: tally.events(),
        first: tally.first,
        last: tally.last,
        ..rejection(cause, evidence, key, host, facts(cause, key, host))
    })
}

/// The process that ended a connection on this side, if one did.
pub fn ender(by: &Ender) -> Option<ProcessName> {
    let how = match by.how {
        how if how == How::Closed as u16 => Some("closed".to_owned()),
        how if how == How::Exited as u16 => Some("exited".to_owned()),
        how if how == How::Killed as u16 => Some(format!("killed by signal {}", by.signal)),
        how if how == How::OutOfMemory as u16 => Some("killed by the kernel for lack of memory".to_owned()),
        _ => None,
    };
    let process = Process { pid: by.pid, comm: by.comm, ..Process::default() };
    (by.pid != 0).then(|| ProcessName { pid: by.pid, comm: comm(&process).into_owned(), how })
}

/// The cause is a function of what events are counted by and of the host.
fn cause(key: &Key, host: &HostFacts) -> Option<(Cause, Evidence)> {
    match Event::of(key.event)? {
        Event::Dropped => dropped(key, host),
        Event::AcceptQueueFull => Some((AcceptQueueFull, Observed)),
        Event::SynQueueFull => Some((Cause::SynQueueFull, Observed)),
        Event::SynUnanswered if host.route.is_some() => Some((NoRouteBack, Inferred)),
        Event::SynUnanswered => (is_steered(key) && host.full.is_some()).then_some((AcceptQueueFull, Inferred)),
        Event::SynackUnanswered => Some((Cause::SynackUnanswered, Observed)),
        // What the data was is known of the connection only.
        Event::DataAfterClose | Event::FinAfterData | Event::TakenBack => None,
    }
}

fn dropped(key: &Key, host: &HostFacts) -> Option<(Cause, Evidence)> {
    let packet = PacketKind::numbered(key.packet);
    // Beyond the handshake's SYN, the kernel does not say that it was for want of room.
    let found_full = key.flags & Key::QUEUE_FULL != 0 && matches!(packet, Some(PacketKind::Ack | PacketKind::Data));
    let location = function(host);
    // Before Linux 5.17 there are no reasons.
    let reason = host.reason.as_deref().unwrap_or(match location {
        "nf_hook_slow" | "nft_do_chain" => "NETFILTER_DROP",
        _ => "NOT_SPECIFIED",
    });
    match (reason, location) {
        ("NO_SOCKET", _) if packet == Some(PacketKind::Syn) => Some((NoListener, Observed)),
        // With a SYN cookie; where the caller drops the packet, as older kernels have it; and without.
        ("NO_SOCKET", "cookie_v4_check" | "cookie_v6_check")
        | ("NOT_SPECIFIED" | "NO_SOCKET", "tcp_v4_do_rcv" | "tcp_v6_do_rcv")
        | ("NOT_SPECIFIED", "tcp_v4_rcv" | "tcp_v6_rcv")
            if found_full =>
        {
            Some((AcceptQueueFull, Inferred))
        }
        // A generic XDP program's drop has no reason of its own.
        ("NOT_SPECIFIED", at) if at.contains("xdp") => Some((Cause::BpfDrop, Observed)),
        ("TCP_RFC7323_TW_PAWS", _) if packet == Some(PacketKind::Syn) => Some((Cause::PacketDropped, Observed)),
        // A SYN without a socket, or one that was refused otherwise, has a reason; one that was answered before is not reported.
        ("NOT_SPECIFIED", "tcp_v4_rcv" | "tcp_v6_rcv") if packet == Some(PacketKind::Syn) && host.reason.is_some() => {
            Some((Cause::PacketDropped, Inferred))
        }
        ("TCP_LISTEN_OVERFLOW", _) => Some((AcceptQueueFull, Observed)),
        ("NETFILTER_DROP", at) => Some(filtered(key, at, host)),
        ("IP_OUTNOROUTES" | "IP_INNOROUTES", _) if is_outgoing(key) => Some((NoRouteBack, Observed)),
        (reason, _) => reasons::of(reason).map(|reason| (reason.cause, Observed)),
    }
}

/// Netfilter drops what a rule tells it to, and what it has no room to track.
fn filtered(key: &Key, at: &str, host: &HostFacts) -> (Cause, Evidence) {
    let is_full = host.conntrack_dropped || host.conntrack.is_some_and(|(used, limit)| limit != 0 && used >= limit);
    if key.flags & (Key::REJECTED_WITH_RESET | Key::REJECTED_WITH_ICMP) != 0 {
        (FirewallReject, Observed)
    } else if at == "nf_hook_slow" && is_full {
        (ConntrackFull, Inferred)
    } else if host.rule_rejects {
        (FirewallReject, Inferred)
    } else {
        (FirewallDrop, Observed)
    }
}

/// The name of the function without what the compiler or the symbol table adds, as in `tcp_v4_rcv.isra.0+0x1d/0x90`.
fn function(host: &HostFacts) -> &str {
    let location = host.location.as_deref().unwrap_or_default();
    location.split(['.', '+']).next().unwrap_or_default()
}

/// What is the same with and without an example.
fn rejection(cause: Cause, evidence: Evidence, key: &Key, host: &HostFacts, facts: Facts) -> Rejection {
    Rejection {
        cause,
        evidence,
        count: 0,
        first: 0,
        last: 0,
        peer: socket(&Endpoint::new(key.network, 0)),
        local: socket(&key.local),
        netns: key.netns,
        connection: None,
        sequence: None,
        reason: host.reason.clone(),
        location: host.location.clone(),
        facts,
    }
}

fn facts(cause: Cause, key: &Key, host: &HostFacts) -> Facts {
    let mut facts = Facts {
        packet: packet(key).map(str::to_owned),
        outgoing: is_outgoing(key),
        process: host.owner.clone().or_else(|| server(socket(&key.local), host)),
        ..Facts::default()
    };
    match cause {
        NoListener => listeners_elsewhere(&mut facts, socket(&key.local), host),
        FirewallDrop | FirewallReject => {
            facts.rule.clone_from(&host.rule);
            facts.candidates.clone_from(&host.candidates);
            facts.answer = answer(key).map(str::to_owned);
        }
        ConntrackFull => facts.conntrack = host.conntrack,
        AcceptQueueFull => full_queue(&mut facts, key, host),
        NoRouteBack => facts.route.clone_from(&host.route),
        _ => {}
    }
    facts
}

fn full_queue(facts: &mut Facts, key: &Key, host: &HostFacts) {
    facts.open_files = host.open_files;
    facts.answer = (key.flags & Key::RESET_BY_LISTENER != 0).then(|| "a reset".to_owned());
    if is_steered(key) {
        // Which of the listeners it was is known only of the one that is full.
        let full = host.full.clone();
        facts.process = full.as_ref().and_then(|(.., process)| process.clone());
        (facts.queue_length, facts.queue_limit) =
            full.map_or((None, None), |(length, limit, _)| (Some(length), Some(limit)));
    }
}

/// Something may have begun to listen at `local` since: that is not elsewhere.
fn listeners_elsewhere(facts: &mut Facts, local: SocketAddr, host: &HostFacts) {
    facts.only_v6 = host.only_v6 && local.is_ipv4();
    let is_elsewhere = |at: SocketAddr| !serves(at, local) || (facts.only_v6 && at.ip().is_unspecified());
    let elsewhere = host.listens.iter().filter(|(at, _)| is_elsewhere(*at));
    let (listens, processes): (Vec<_>, Vec<_>) = elsewhere.cloned().unzip();
    facts.listens = listens;
    // Only if it is the same one everywhere.
    facts.process = match processes.split_first() {
        Some((first, rest)) if rest.iter().all(|it| it == first) => first.clone(),
        _ => None,
    };
}

/// The process of the listener to which the kernel gives connections to `local`: that of the address itself, before
/// one of all addresses.
fn server(local: SocketAddr, host: &HostFacts) -> Option<ProcessName> {
    let exact = host.listens.iter().find(|(at, _)| *at == local);
    exact.or_else(|| host.listens.iter().find(|(at, _)| serves(*at, local))).and_then(|(_, process)| process.clone())
}

/// The wildcard of IPv6 stands for that of both families.
fn serves(listener: SocketAddr, local: SocketAddr) -> bool {
    let wildcard = listener.ip().is_unspecified() && (listener.is_ipv6() || local.is_ipv4());
    listener.port() == local.port() && (wildcard || listener.ip() == local.ip())
}

const fn is_steered(key: &Key) -> bool {
    key.flags & Key::STEERED != 0
}

const fn is_outgoing(key: &Key) -> bool {
    key.flags & Key::OUTGOING != 0
}

const fn is_known(queue: Queue) -> bool {
    queue.length != 0 || queue.limit != 0
}

fn packet(key: &Key) -> Option<&'static str> {
    Some(match PacketKind::numbered(key.packet)? {
        PacketKind::Syn => "SYN",
        PacketKind::SynAck => "SYN-ACK",
        PacketKind::Ack => "ACK",
        PacketKind::Data => "data",
        PacketKind::Fin => "FIN",
        PacketKind::Reset => "RST",
        PacketKind::Other => return None,
    })
}

const fn answer(key: &Key) -> Option<&'static str> {
    if key.flags & Key::REJECTED_WITH_RESET != 0 {
        Some("a reset")
    } else if key.flags & Key::REJECTED_WITH_ICMP != 0 {
        Some("an ICMP error")
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
