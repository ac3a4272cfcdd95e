//! Packets that the kernel dropped, and what makes sense of them: what netfilter answered, what was closed before.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use tracer_common::{
    connection::{CLOSED_BY_APPLICATION, Connection, LEAST_REQUEST, RESET_BY_HOST},
    endpoint::Tuple,
    record::ConnectionRecord,
    rejection::{Ended, Event, Key, Packet as Sort, Queue},
    settings::{Settings, class},
};

use crate::{
    kernel::{self, Packet, accept_queue_at},
    maps::{
        ANSWERED, ANY, Answer, CLOSED, CLOSED_LATEST, HANDSHAKES, REASONS, Scratch, add_port, is_known_port,
        is_tracing, is_wanted_peer,
    },
    rejections::{Builder, begin, reject, scratch},
    traced::now,
};

/// Netfilter drops a packet as soon as it has answered it.
const ANSWER_NS: u64 = 100_000_000;
/// A connection on which something has just happened is not idle: what comes after its close may be the rest of that.
const IDLE_NS: u64 = 100_000_000;
/// A connection that was closed is remembered no longer than its port is (`TIME_WAIT` and a little more).
const CLOSED_NS: u64 = 130_000_000_000;

/// `kfree_skb(struct sk_buff *skb, void *location, enum skb_drop_reason reason[, struct sock *rx_sk])`: a packet is
/// dropped, anywhere in the kernel; the reason is from Linux 5.17 (commit c504e5c2f964).
#[btf_tracepoint(function = "kfree_skb")]
pub fn kfree_skb(context: BtfTracePointContext) -> u32 {
    let reason = context.arg::<u64>(2) as u32;
    let class = REASONS.get(reason).copied().unwrap_or(0);
    if class != 0
        && is_tracing()
        && let Some(scratch) = scratch(Builder::Drop)
    {
        dropped(Packet::new(context.arg(0)), scratch, class, (context.arg::<u64>(1), reason));
    }
    0
}

#[inline(always)]
fn dropped(packet: Packet, scratch: &mut Scratch, class: u8, (location, reason): (u64, u32)) {
    let is_own = packet.is_own();
    let tuple = &mut scratch.tuple;
    let (from, to) = if is_own { (&mut tuple.local, &mut tuple.peer) } else { (&mut tuple.peer, &mut tuple.local) };
    let Some((sort, payload)) = packet.headers(from, to) else { return };
    if !is_wanted(tuple, sort, class) {
        return;
    }
    let now = now();
    let late = class & class::LATE != 0 && !is_own;
    let record = begin(scratch, Event::Dropped, sort);
    record.payload = payload;
    // TCP takes the device off a packet before it looks for the socket's state.
    record.key.netns = packet.netns();
    record.key.location = location;
    record.key.reason = reason;
    record.key.flags = if is_own { Key::OUTGOING } else { 0 };
    let tuple = &scratch.tuple;
    let record = &mut scratch.record;
    if late && matches!(sort, Sort::Data) && payload >= LEAST_REQUEST && take_closed(tuple, &mut record.ended, now) {
        record.key.event = Event::DataAfterClose as u8;
        record.key.netns = record.ended.netns;
    } else if kernel::wanted_netns() != 0 && kernel::wanted_netns() != record.key.netns {
        return;
    } else if class & class::ALWAYS != 0 || (class & (class::SYN | class::PLACE) != 0 && matches!(sort, Sort::Syn)) {
        if class & class::FIREWALL != 0 {
            // Who resets wants nothing more: a stray one that a rule drops harms nobody.
            if matches!(sort, Sort::Reset) && !is_own {
                return;
            }
            record.key.flags |= answer(tuple, now);
        }
        let queue = explain(tuple, sort);
        if let (Sort::Ack | Sort::Data, Some(queue)) = (sort, queue) {
            record.queue = queue;
        }
    } else if late
        && let (Sort::Ack | Sort::Data, Some(queue)) = (sort, explain(tuple, sort))
        && queue.length > queue.limit
    {
        record.key.flags |= Key::QUEUE_FULL;
        record.queue = queue;
    } else {
        return;
    }
    reject(record, now);
}

/// Whether the filters want a packet of this connection.
#[inline(always)]
fn is_wanted(tuple: &Tuple, sort: Sort, class: u8) -> bool {
    let by_peer = kernel::has_filter(Settings::PEER_FILTER);
    if by_peer && !is_wanted_peer(tuple.peer.address) {
        return false;
    }
    // Where nothing listens there is no port to know; a SYN that is refused is told all the same.
    let refused = class & class::SYN != 0 && matches!(sort, Sort::Syn);
    let any_port = !kernel::has_filter(Settings::PORT_FILTER) && (by_peer || refused);
    any_port || is_known_port(tuple.local.port)
}

/// Notes that it is known why nothing came of the handshake of `tuple`; returns the accept queue of its listener.
#[inline(always)]
fn explain(tuple: &Tuple, sort: Sort) -> Option<Queue> {
    let handshake = HANDSHAKES.find(tuple)?;
    // Without a SYN-ACK, an ACK belongs to something else.
    if !matches!(sort, Sort::Syn | Sort::SynAck) && handshake.synack == 0 {
        return None;
    }
    handshake.explained = 1;
    accept_queue_at(handshake.listener, tuple.local.port)
}

/// How netfilter answered the packet that it drops now.
#[inline(always)]
fn answer(tuple: &Tuple, now: u64) -> u16 {
    // SAFETY: the value is copied at once.
    match unsafe { ANSWERED.get(tuple) } {
        Some(answer) if now.wrapping_sub(answer.sent) < ANSWER_NS => answer.flag as u16,
        _ => 0,
    }
}

/// A packet without a socket leaves that this host has made: a reset among them is netfilter's.
#[inline(never)]
pub fn reset_without_socket(packet: Packet) {
    let mut tuple = Tuple::default();
    if packet.is_own()
        && let Some((sort, _)) = packet.headers(&mut tuple.local, &mut tuple.peer)
        && matches!(sort, Sort::Reset)
    {
        answered(&tuple, Key::REJECTED_WITH_RESET);
    }
}

/// An ICMP error leaves.
#[inline(never)]
pub fn icmp_error(packet: Packet) {
    let mut tuple = Tuple::default();
    if packet.unreachable(&mut tuple.peer, &mut tuple.local).is_some() {
        answered(&tuple, Key::REJECTED_WITH_ICMP);
    }
}

#[inline(always)]
fn answered(tuple: &Tuple, flag: u16) {
    // What is lost here makes a reject look like a drop; the map is as large as a second of them.
    let _ = ANSWERED.insert(tuple, Answer { sent: now(), flag: flag.into() }, ANY);
}

/// Remembers the connection, which is gone, if this host ended it while no request was under way.
#[inline(always)]
pub fn remember(connection: &Connection, now: u64) {
    if connection.flags & (CLOSED_BY_APPLICATION | RESET_BY_HOST) != 0
        && connection.idle >= IDLE_NS
        && connection.pending() == ConnectionRecord::NOTHING
    {
        let ended = Ended {
            connection: connection.id,
            ended: connection.ended,
            idle: connection.idle,
            by: connection.by,
            netns: connection.netns,
            padding: 0,
        };
        let _ = CLOSED_LATEST.set(0, now, ANY);
        let _ = CLOSED.insert(connection.tuple, ended, ANY);
    }
}

/// Forgets the connection that had the same ends before; without a look if none has been remembered for long.
#[inline(always)]
pub fn forget(tuple: &Tuple, now: u64) {
    let latest = CLOSED_LATEST.get(0).copied().unwrap_or(0);
    if latest != 0 && now.saturating_sub(latest) < CLOSED_NS {
        let _ = CLOSED.remove(tuple);
    }
}

/// Takes the connection with these ends that was closed not long ago.
#[inline(always)]
fn take_closed(tuple: &Tuple, into: &mut Ended, now: u64) -> bool {
    // SAFETY: the value is copied at once.
    let Some(ended) = (unsafe { CLOSED.get(tuple) }) else { return false };
    *into = *ended;
    let _ = CLOSED.remove(tuple);
    now.wrapping_sub(into.ended) < CLOSED_NS
}

/// Something listens on `port` from now on.
#[inline(always)]
pub fn serve(port: u16) {
    if !kernel::has_filter(Settings::PORT_FILTER) {
        add_port(port);
    }
}
