//! Packets that the kernel dropped, and what makes sense of them: what netfilter answered, what was closed before.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use tracer_common::{
    connection::Connection,
    counter::Counter,
    drop::{AfterClose, Answer, Dropped, Meaning, is_any_remembered, is_forgotten_too_soon},
    endpoint::Tuple,
    handshake::SharedHandshake,
    rejection::{Ended, Event, Key, PacketKind, Queue, RejectionRecord},
    settings::Settings,
};

use crate::{
    filter::{Filter, Filters},
    handshake,
    kernel::{Headers, Packet, accept_queue_at, inode_at, netns_at, now},
    maps::{
        ANSWERED, ANY, CLOSED, CLOSED_LATEST, HANDSHAKES, REASONS, Scratch, add_port, count, is_known_port, is_tracing,
    },
    passing,
    rejections::{Builder, begin, pass_on, reject, scratch, take_back},
};

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
    let kind = headers.kind();
    let dropped = Dropped { class, kind, is_own };
    if !Filters.wants_drop(&as_asked_for(tuple), dropped.is_refused()) {
        return;
    }
    let now = now();
    if matches!(kind, PacketKind::Syn) && passing::are_any() {
        passing::dropped(headers.tcp.sequence, now);
    }
    let record = begin(scratch, Event::Dropped, kind);
    record.payload = headers.payload;
    record.sequence = headers.tcp.sequence;
    record.acknowledges = headers.tcp.acknowledges;
    // TCP takes the device off a packet before it looks for the socket's state.
    record.key.netns = packet.netns();
    record.key.location = location;
    record.key.reason = reason;
    record.key.flags = if is_own { Key::OUTGOING } else { 0 };
    if dropped.may_be_after_close() && came_after_close(packet, &headers, scratch, now) {
        return;
    }
    let tuple = &scratch.tuple;
    let record = &mut scratch.record;
    if record.key.netns == 0
        && dropped.may_end_handshake()
        && let Some(handshake) = HANDSHAKES.find(tuple)
    {
        record.key.netns = netns_at(handshake.listener.get());
    }
    match dropped.meaning() {
        Meaning::Nothing => return,
        Meaning::Rejection { by_firewall, unless_answered } => {
            if by_firewall {
                record.key.flags |= answer(tuple, now) & Answer::OF_FIREWALL;
            }
            if unless_answered && HANDSHAKES.find(tuple).is_some_and(|handshake| handshake.synack.get() != 0) {
                return;
            }
            if let Some(handshake) = explain(tuple, kind) {
                if matches!(kind, PacketKind::Syn) {
                    // Ahead of the count of this drop, because fewer paths lead here and the verifier walks each of them.
                    if let Some(taken_back) = handshake::dropped_before_queue(handshake, now) {
                        take_back(record, &mut scratch.key, taken_back, now);
                    }
                }
                if dropped.carries_ack()
                    && let Some(queue) = queue_of(handshake, tuple)
                {
                    record.key.flags |= note_listener(record, handshake, queue, tuple, now);
                }
            }
        }
        Meaning::LastAck => {
            let Some(handshake) = explain(tuple, kind) else { return };
            let Some(queue) = queue_of(handshake, tuple) else { return };
            if !queue.is_full() {
                handshake.deferred(now);
                return;
            }
            record.key.flags |= Key::QUEUE_FULL | note_listener(record, handshake, queue, tuple, now);
        }
    }
    let is_known = || HANDSHAKES.find(tuple).is_some_and(|handshake| handshake.syn.get() != 0);
    if Filters.wants_packet(record.key.netns, || packet.received_by(), is_known) {
        reject(scratch, now);
    }
}

/// Notes the listener of a handshake, and its queue. Returns the flag that says whether it answered with a reset.
#[inline(always)]
fn note_listener(
    record: &mut RejectionRecord,
    handshake: &SharedHandshake,
    queue: Queue,
    tuple: &Tuple,
    now: u64,
) -> u16 {
    record.queue = queue;
    record.ended.connection = inode_at(handshake.listener.get()).into();
    answer(tuple, now) & Key::RESET_BY_LISTENER
}

/// Whether the packet came for a connection that this host had closed. The first data is reported, and a FIN that comes
/// right behind it.
#[inline(always)]
fn came_after_close(packet: Packet, headers: &Headers, scratch: &mut Scratch, now: u64) -> bool {
    let Some(ended) = CLOSED.find(&scratch.tuple) else { return false };
    if !ended.is_current(now) {
        return false;
    }
    let record = &mut scratch.record;
    record.ended = ended.get();
    record.key.netns = record.ended.netns;
    match ended.meets(headers.kind(), headers.tcp.is_fin(), now) {
        AfterClose::Data => {
            record.key.event = Event::DataAfterClose as u8;
            record.opening = packet.opening(headers.payload_at) as u32;
            // Each is reported, so no tally counts them. There are no more of them than connections that closed.
            record.count = 1;
            pass_on(record, Counter::LateRecordsLost, now);
            if headers.tcp.is_fin() {
                note_fin(record, now);
            }
        }
        AfterClose::Fin => note_fin(record, now),
        AfterClose::Nothing => {}
    }
    true
}

/// Reports that the peer's FIN came right behind data that is reported already.
#[inline(always)]
fn note_fin(record: &mut RejectionRecord, now: u64) {
    record.key.event = Event::FinAfterData as u8;
    pass_on(record, Counter::LateRecordsLost, now);
}

/// The ends as the peer asked for them, as far as that is known: of a handshake that is under way.
#[inline(always)]
fn as_asked_for(tuple: &Tuple) -> Tuple {
    let is_mapped = Filters.has(Settings::PORT_FILTER) && is_known_port(tuple.local.port);
    let handshake = if is_mapped { HANDSHAKES.find(tuple) } else { None };
    handshake::asked_for(tuple, handshake.map_or(0, |handshake| handshake.asked.get()))
}

/// The handshake of `tuple`, if the drop of a packet of that kind explains why nothing comes of it.
#[inline(always)]
fn explain<'a>(tuple: &Tuple, kind: PacketKind) -> Option<&'a SharedHandshake> {
    HANDSHAKES.find(tuple).filter(|handshake| handshake.dropped(kind))
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
    unsafe { ANSWERED.get(tuple) }.copied().map_or(0, |answer| answer.flag(now))
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
            && matches!(headers.kind(), PacketKind::Syn)
        {
            passing::forwarded(headers.tcp.sequence, &tuple.local, now());
        }
    } else if let Some(headers) = packet.headers(&mut tuple.local, &mut tuple.peer) {
        match headers.kind() {
            PacketKind::Reset => answered(&tuple, Key::REJECTED_WITH_RESET),
            PacketKind::SynAck => handshake::cookie_sent(&tuple, now()),
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
    if !Ended::is_of(connection) || !Filters.wants_reader(connection.reader.get()) {
        return;
    }
    let forgotten = CLOSED.put(
        &connection.tuple.get(),
        |ended| ended.ended.get(),
        |place| place.set(Ended::of(connection, expected)),
    );
    if is_forgotten_too_soon(forgotten, now) {
        count(Counter::ClosesForgotten);
    }
    // The only element of an array: it cannot fail.
    let _ = CLOSED_LATEST.set(0, now, ANY);
}

/// Forgets the connection that had the same ends before; without a look if none has been remembered for long.
#[inline(always)]
pub fn forget(tuple: &Tuple, now: u64) {
    let latest = CLOSED_LATEST.get(0).copied().unwrap_or(0);
    if is_any_remembered(latest, now) {
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
