//! Packets that the kernel dropped, and what makes sense of them: what netfilter answered, what was closed before.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use tracer_common::{
    connection::{CLOSED_BY_APPLICATION, Connection, RESET_BY_HOST},
    counter::Counter,
    endpoint::Tuple,
    handshake::SharedHandshake,
    record::ConnectionRecord,
    rejection::{Ended, Event, Key, Packet as Sort, Queue, RejectionRecord},
    settings::{Settings, class},
};

use crate::{
    filter::{Filter, Filters},
    handshake,
    kernel::{Headers, Packet, accept_queue_at, inode_at, netns_at},
    maps::{
        ANSWERED, ANY, Answer, CLOSED, CLOSED_LATEST, HANDSHAKES, REASONS, Scratch, add_port, count, is_known_port,
        is_tracing,
    },
    passing,
    rejections::{Builder, begin, pass_on, reject, scratch},
    traced::now,
};

/// Netfilter drops a packet as soon as it has answered it.
const ANSWER_NS: u64 = 100_000_000;
/// A connection that was closed is remembered no longer than its port is (`TIME_WAIT` and a little more).
const CLOSED_NS: u64 = 130_000_000_000;
/// A request that is under way when the connection closes comes within this time.
const MEETS_NS: u64 = 2_000_000_000;
/// A FIN that comes within this many milliseconds of data was sent together with it.
const TOGETHER_MS: u32 = 100;

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
    let is_own = packet.received_by() == 0;
    let tuple = &mut scratch.tuple;
    let (from, to) = if is_own { (&mut tuple.local, &mut tuple.peer) } else { (&mut tuple.peer, &mut tuple.local) };
    let Some(headers) = packet.headers(from, to) else { return };
    let sort = headers.sort;
    let is_refused = class & class::SYN != 0 && matches!(sort, Sort::Syn);
    if !Filters.wants_drop(&as_asked_for(tuple), is_refused) {
        return;
    }
    let now = now();
    let late = class & class::LATE != 0 && !is_own;
    let record = begin(scratch, Event::Dropped, sort);
    record.payload = headers.payload;
    record.sequence = headers.sequence;
    record.acknowledges = headers.acknowledges;
    // TCP takes the device off a packet before it looks for the socket's state.
    record.key.netns = packet.netns();
    record.key.location = location;
    record.key.reason = reason;
    record.key.flags = if is_own { Key::OUTGOING } else { 0 };
    if late && matches!(sort, Sort::Data | Sort::Fin) && came_after_close(packet, &headers, scratch, now) {
        return;
    }
    let tuple = &scratch.tuple;
    let record = &mut scratch.record;
    if record.key.netns == 0
        && late
        && matches!(sort, Sort::Ack | Sort::Data)
        && let Some(handshake) = HANDSHAKES.find(tuple)
    {
        record.key.netns = netns_at(handshake.listener.get());
    }
    if class & class::ALWAYS != 0 || (class & (class::SYN | class::PLACE) != 0 && matches!(sort, Sort::Syn)) {
        if class & class::FIREWALL != 0 {
            // Who resets wants nothing more: a stray one that a rule drops harms nobody.
            if matches!(sort, Sort::Reset) && !is_own {
                return;
            }
            record.key.flags |= answer(tuple, now) & !Key::RESET_BY_LISTENER;
        }
        // A SYN that comes again although it was answered is dropped without a reason, and harmless.
        let may_be_answered = class & (class::ALWAYS | class::SYN) == 0;
        if may_be_answered && HANDSHAKES.find(tuple).is_some_and(|handshake| handshake.synack.get() != 0) {
            return;
        }
        let handshake = explain(tuple, sort);
        if let (Sort::Ack | Sort::Data, Some(handshake)) = (sort, handshake)
            && let Some(queue) = queue_of(handshake, tuple)
        {
            record.queue = queue;
            record.ended.connection = inode_at(handshake.listener.get()).into();
            record.key.flags |= answer(tuple, now) & Key::RESET_BY_LISTENER;
        }
    } else if late
        && matches!(sort, Sort::Ack | Sort::Data)
        && let Some(handshake) = explain(tuple, sort)
        && let Some(queue) = queue_of(handshake, tuple)
    {
        if queue.length <= queue.limit {
            // There was room: the listener waits for the first data (`TCP_DEFER_ACCEPT`).
            if handshake.acknowledged.get() == 0 {
                handshake.acknowledged.set(now);
            }
            return;
        }
        record.key.flags |= Key::QUEUE_FULL | (answer(tuple, now) & Key::RESET_BY_LISTENER);
        record.queue = queue;
        record.ended.connection = inode_at(handshake.listener.get()).into();
    } else {
        return;
    }
    let is_known = || HANDSHAKES.find(tuple).is_some_and(|handshake| handshake.syn.get() != 0);
    if Filters.wants_packet(record.key.netns, || packet.received_by(), is_known) {
        reject(scratch, now);
    }
}

/// Whether the packet came for a connection that this host had closed. The first data is reported, and a FIN that comes
/// right behind it.
#[inline(always)]
fn came_after_close(packet: Packet, headers: &Headers, scratch: &mut Scratch, now: u64) -> bool {
    let Some(ended) = CLOSED.find(&scratch.tuple) else { return false };
    if now.wrapping_sub(ended.ended.get()) >= CLOSED_NS {
        return false;
    }
    // Never 0, which stands for "not yet".
    let moment = (now / 1_000_000) as u32 | 1;
    let record = &mut scratch.record;
    record.ended = ended.get();
    record.key.netns = record.ended.netns;
    let met = record.ended.met;
    if met == 0 && matches!(headers.sort, Sort::Data) {
        ended.met.set(moment);
        record.key.event = Event::DataAfterClose as u8;
        record.opening = packet.opening(headers.payload_at) as u32;
        reject(scratch, now);
        if headers.is_fin {
            note_fin(&mut scratch.record, now);
        }
    } else if headers.is_fin && met != 0 && moment.wrapping_sub(met) <= TOGETHER_MS {
        note_fin(record, now);
    }
    true
}

/// Reports that the peer's FIN came right behind data that is reported already.
#[inline(always)]
fn note_fin(record: &mut RejectionRecord, now: u64) {
    record.key.event = Event::FinAfterData as u8;
    pass_on(record, now);
}

/// The ends as the peer asked for them, as far as that is known: of a handshake that is under way.
#[inline(always)]
fn as_asked_for(tuple: &Tuple) -> Tuple {
    let is_mapped = Filters.has(Settings::PORT_FILTER) && is_known_port(tuple.local.port);
    let handshake = if is_mapped { HANDSHAKES.find(tuple) } else { None };
    handshake::asked_for(tuple, handshake.map_or(0, |handshake| handshake.asked.get()))
}

/// Notes that a drop explains why nothing came of the handshake of `tuple`, and returns the handshake.
#[inline(always)]
fn explain<'a>(tuple: &Tuple, sort: Sort) -> Option<&'a SharedHandshake> {
    let handshake = HANDSHAKES.find(tuple)?;
    // Without a SYN-ACK, an ACK belongs to something else.
    if !matches!(sort, Sort::Syn | Sort::SynAck) && handshake.synack.get() == 0 {
        return None;
    }
    handshake.explained.set(1);
    Some(handshake)
}

/// The accept queue of the listener of a handshake.
#[inline(always)]
fn queue_of(handshake: &SharedHandshake, tuple: &Tuple) -> Option<Queue> {
    accept_queue_at(handshake.listener.get(), tuple.local.port)
}

/// How netfilter, or a listener without room, answered the packet that is dropped now.
#[inline(always)]
fn answer(tuple: &Tuple, now: u64) -> u16 {
    // SAFETY: the value is copied at once.
    match unsafe { ANSWERED.get(tuple) } {
        Some(answer) if now.wrapping_sub(answer.sent) < ANSWER_NS => answer.flag as u16,
        _ => 0,
    }
}

/// A packet without a socket leaves. Of those that this host has made, a reset is netfilter's, and a SYN-ACK has a cookie. Of
/// those that came through another interface a SYN is of interest.
#[inline(never)]
pub fn sent_without_socket(packet: Packet) {
    let mut tuple = Tuple::default();
    if packet.received_by() != 0 {
        if passing::are_any()
            && packet.may_be_syn()
            && let Some(headers) = packet.headers(&mut tuple.peer, &mut tuple.local)
            && matches!(headers.sort, Sort::Syn)
        {
            passing::forwarded(headers.sequence, &tuple.local, now());
        }
    } else if let Some(headers) = packet.headers(&mut tuple.local, &mut tuple.peer) {
        match headers.sort {
            Sort::Reset => answered(&tuple, Key::REJECTED_WITH_RESET),
            Sort::SynAck => handshake::cookie_sent(&tuple, now()),
            _ => {}
        }
    }
}

/// A listener answers `packet` with a reset: it has no room for the connection (`net.ipv4.tcp_abort_on_overflow`), and drops
/// the packet just after; or the packet makes no sense to it.
#[inline(always)]
pub fn reset_by_listener(packet: Packet) {
    let mut tuple = Tuple::default();
    if packet.headers(&mut tuple.peer, &mut tuple.local).is_some() {
        answered(&tuple, Key::RESET_BY_LISTENER);
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
    // Without it a reject looks like a drop. The map is as large as a second of them.
    if ANSWERED.insert(tuple, Answer { sent: now(), flag: flag.into() }, ANY).is_err() {
        count(Counter::AnswersLost);
    }
}

/// Remembers the connection, which is gone, if this host ended it and no request waited for its response: what comes for
/// it now is lost, and no other event reports it. `expected` is the sequence number behind the last byte received.
#[inline(always)]
pub fn remember(connection: &Connection, expected: u32, now: u64) {
    if !connection.flags.has(CLOSED_BY_APPLICATION | RESET_BY_HOST)
        || !Filters.wants_reader(connection.reader.get())
        || !matches!(connection.pending(), ConnectionRecord::NOTHING | ConnectionRecord::CUT)
    {
        return;
    }
    let forgotten = CLOSED.put(
        &connection.tuple.get(),
        |ended| ended.ended.get(),
        |place| {
            place.set(Ended {
                connection: connection.id.get(),
                ended: connection.ended.get(),
                idle: connection.idle.get(),
                by: connection.by.get(),
                netns: connection.netns.get(),
                requests: connection.sequence.get(),
                flags: connection.flags.get(),
                expected,
                written: connection.response_end(),
                met: 0,
            });
        },
    );
    if forgotten != 0 && now.saturating_sub(forgotten) < MEETS_NS {
        count(Counter::ClosesForgotten);
    }
    // The only element of an array: it cannot fail.
    let _ = CLOSED_LATEST.set(0, now, ANY);
}

/// Forgets the connection that had the same ends before; without a look if none has been remembered for long.
#[inline(always)]
pub fn forget(tuple: &Tuple, now: u64) {
    let latest = CLOSED_LATEST.get(0).copied().unwrap_or(0);
    if latest != 0 && now.saturating_sub(latest) < CLOSED_NS {
        let _ = CLOSED.take(tuple, |_| ());
    }
}

/// Something listens on `port` from now on.
#[inline(always)]
pub fn serve(port: u16) {
    // Those of a port filter are known.
    if Filters.wants_port(port) {
        add_port(port);
    }
}
