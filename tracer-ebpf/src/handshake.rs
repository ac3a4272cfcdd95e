//! The handshake's packets, before there is a socket: SYN in, SYN-ACK out; and why nothing comes of some.

use core::ptr::read_volatile;

use aya_ebpf::{
    bindings::{BPF_F_CURRENT_NETNS, BPF_NOEXIST, TC_ACT_UNSPEC, bpf_sock, bpf_sock_tuple},
    cty::c_void,
    helpers::generated::{bpf_get_smp_processor_id, bpf_sk_release, bpf_skb_load_bytes_relative, bpf_skc_lookup_tcp},
    macros::{btf_tracepoint, classifier},
    programs::{BtfTracePointContext, TcContext},
};
use tracer_common::{
    at_limit::{AtLimit, Verdict},
    counter::Counter,
    endpoint::{Address, Endpoint, Tuple},
    handshake::{Handshake, SharedHandshake, Syn, TakenBack, Unserved, full},
    packet::{IpHeader, TcpHeader, ethertype, flag, has_payload, protocol},
    rejection::{Key, ListenerKey, ListenerTally, PacketKind, Queue, Stray},
    settings::Settings,
};

use crate::{
    filter::{Filter, Filters},
    kernel::{Packet, Sock, SynQueue, TcpSock, now},
    maps::{AT_LIMIT, HANDSHAKES, LISTENERS, add, add_port, count, is_known_port, note_arrival, note_stray, value_or},
    passing,
    rejections::{Builder, begin, in_namespace, reject, scratch},
};

/// `tcx` or `clsact` ingress, for every packet that an interface receives. It looks at SYNs for listeners of this host.
#[classifier]
pub fn tc_ingress(context: TcContext) -> i32 {
    if !is_plainly_no_syn(&context)
        && let Some((tuple, sequence)) = syn(&context)
        && Filters.wants_ends(&tuple)
    {
        let now = now();
        match find_receiver(&context, &tuple, now) {
            Receiver::Listener(listener) => syn_received(&tuple, sequence, &listener, now),
            Receiver::Connection => note_stray(Stray::Connection, now),
            Receiver::Nobody => passing::arrived(&tuple, sequence, now),
        }
    }
    TC_ACT_UNSPEC
}

/// Which socket of this host gets a SYN.
enum Receiver {
    /// A listener. Also where a connection with the same ends has just ended (`TIME_WAIT`) and makes way.
    Listener(Listener),
    /// A connection with the same ends, open or with its handshake under way: the SYN was sent again.
    Connection,
    /// No socket.
    Nobody,
}

/// The listener that gets a SYN. Without padding: LLVM would copy that from a map of its own.
#[repr(C)]
struct Listener {
    /// The address of the socket; 0: it is found only once a connection that has just ended makes way.
    address: u64,
    queue: Queue,
    syn_queue: SynQueue,
    netns: u32,
    /// The inode number of the socket, if a SYN may find no room there; otherwise 0.
    inode: u32,
    /// [`Key::STEERED`] if a BPF program picks the socket, so that the queue is not known; otherwise 0.
    flags: u32,
}

impl Listener {
    /// A listener of which nothing is known.
    const UNKNOWN: Self = Self {
        address: 0,
        queue: Queue { length: 0, limit: 0 },
        syn_queue: SynQueue::HasRoom,
        netns: 0,
        inode: 0,
        flags: 0,
    };
}

#[inline(always)]
fn syn_received(tuple: &Tuple, sequence: u32, listener: &Listener, now: u64) {
    let at_limit = matches!(listener.syn_queue, SynQueue::AtLimit);
    let syn = Syn { sequence, listener: listener.address, is_steered: listener.flags != 0, at_limit };
    let handshake = HANDSHAKES.find(tuple);
    if handshake.is_some_and(|handshake| handshake.has_seen(&syn, now)) {
        return;
    }
    let full = full(syn_queue_drops(listener, now), listener.queue);
    let event = if let Some(handshake) = handshake {
        handshake.syn(&syn, full, now)
    } else {
        store(tuple, Handshake::begun(&syn, full, now));
        full
    };
    if let Some(event) = event {
        report(tuple, listener, event, now);
    }
}

/// Reports what became of a SYN. Not inlined: the verifier would walk through it for each way in which that is found out.
#[inline(never)]
fn report(tuple: &Tuple, listener: &Listener, unserved: Unserved, now: u64) {
    if Filters.wants_handshake(tuple, listener.netns, true)
        && let Some(scratch) = scratch(Builder::Syn)
    {
        scratch.tuple = *tuple;
        let record = begin(scratch, unserved.event, PacketKind::Syn);
        record.key.netns = listener.netns;
        record.key.flags = listener.flags as u16;
        record.repeats = unserved.before;
        record.queue = listener.queue;
        record.ended.connection = listener.inode.into();
        reject(scratch, now);
    }
}

/// Whether a SYN for that listener is dropped for want of room in its SYN queue.
#[inline(always)]
fn syn_queue_drops(listener: &Listener, now: u64) -> Verdict {
    let is_full = match listener.syn_queue {
        SynQueue::HasRoom => return Verdict::default(),
        SynQueue::AtLimit => false,
        SynQueue::Full => true,
    };
    let rule = at_limit(listener.address).or_else(|| {
        // Another CPU may be faster.
        let _ = AT_LIMIT.insert(listener.address, AtLimit::default(), BPF_NOEXIST.into());
        at_limit(listener.address)
    });
    let Some(rule) = rule else { return Verdict { drops: is_full, before: 0 } };
    // SAFETY: the helper has no argument.
    rule.syn(is_full, unsafe { bpf_get_smp_processor_id() }, now)
}

/// What is known of that listener's SYN queue.
#[inline(always)]
fn at_limit<'a>(listener: u64) -> Option<&'a AtLimit> {
    // SAFETY: the value of a map, which stays valid while the program runs; it consists of cells.
    AT_LIMIT.get_ptr_mut(listener).map(|rule| unsafe { &*rule })
}

/// Notes that something drops the latest SYN of `handshake` before the SYN comes to the listener's queues. Returns the
/// count that has to be taken back, if the SYN was counted for a full queue.
#[inline(always)]
pub fn dropped_before_queue(handshake: &SharedHandshake, now: u64) -> Option<TakenBack> {
    let taken_back = handshake.take_back(now);
    if taken_back.is_none()
        && handshake.at_limit.get()
        && handshake.synack.get() == 0
        && let Some(rule) = at_limit(handshake.listener.get())
    {
        rule.dropped_before();
    }
    taken_back
}

/// Notes that a SYN-ACK of the request socket `sock` left. Not inlined: it is not to lie in the way of other packets.
#[inline(never)]
pub fn synack_sent(packet: Packet, sock: Sock, now: u64) {
    let tuple = sock.tuple();
    let known = HANDSHAKES.find(&tuple);
    let mut first = Handshake { synack: now, listener: sock.listener(), ..Handshake::NONE };
    // The SYN may have passed an interface of the host, and then one of the container's.
    if known.is_none_or(|times| times.synack.get() == 0 && passing::are_any()) {
        mapped(packet, &tuple, &mut first, now);
    }
    if known.is_none() {
        if first.syn == 0 && Filters.wants_netns(sock.netns()) && Filters.wants_peer(&tuple) {
            passing::answered_unseen(now);
        }
        if !Filters.wants_connection(&asked_for(&tuple, first.asked), sock.netns()) {
            return;
        }
        if first.asked != 0 && !is_known_port(tuple.local.port) {
            add_port(tuple.local.port);
        }
    }
    let Some(known) = known else {
        store(&tuple, first);
        return;
    };
    if let Some(listener) = known.synack(first, now)
        && let Some(rule) = at_limit(listener)
    {
        rule.answered();
    }
}

/// The ends of a connection as the peer asked for them: the filters are about these. `asked` is 0 where the port is the same.
#[inline(always)]
pub fn asked_for(tuple: &Tuple, asked: u16) -> Tuple {
    let mut tuple = *tuple;
    if asked != 0 {
        tuple.local.port = asked;
    }
    tuple
}

/// Finds the SYN that the SYN-ACK `packet` of the request socket with these ends answers, if this host maps its port, or
/// forwards it to another network namespace.
#[inline(always)]
fn mapped(packet: Packet, tuple: &Tuple, first: &mut Handshake, now: u64) {
    let mut sent = Tuple::default();
    let Some(headers) = packet.headers(&mut sent.local, &mut sent.peer) else { return };
    // A sidecar: something listens on the port that was asked for as well.
    if sent.local.port != tuple.local.port
        && let Some((syn, seen, sequence)) =
            HANDSHAKES.take(&sent, |it| (it.syn.get(), it.seen.get(), it.sequence.get()))
    {
        (first.syn, first.seen, first.sequence) = (syn, seen, sequence);
        first.asked = sent.local.port;
    } else if passing::are_any()
        && let Some((seen, asked)) = passing::answered(headers.tcp.acknowledges.wrapping_sub(1), now)
    {
        (first.syn, first.seen) = (seen, seen);
        first.asked = if asked.port == tuple.local.port { 0 } else { asked.port };
    }
}

/// Notes that a SYN-ACK without a socket left: with a SYN cookie there is no request socket.
#[inline(always)]
pub fn cookie_sent(tuple: &Tuple, now: u64) {
    if let Some(handshake) = HANDSHAKES.find(tuple) {
        handshake.cookie(now);
    }
}

/// `tcp_retransmit_synack(const struct sock *sk, const struct request_sock *req)`: the last ACK of a handshake has not
/// come for a second, three seconds, and so on.
#[btf_tracepoint(function = "tcp_retransmit_synack")]
pub fn tcp_retransmit_synack(context: BtfTracePointContext) -> u32 {
    let (listener, request) = (Sock::new(context.arg(0)), Sock::new(context.arg(1)));
    let netns = listener.netns();
    in_namespace(netns, |tally| &tally.retransmits);
    let tuple = request.tuple();
    let Some(handshake) = HANDSHAKES.find(&tuple) else { return 0 };
    if let Some(event) = handshake.resent()
        && Filters.wants_handshake(&asked_for(&tuple, handshake.asked.get()), netns, handshake.syn.get() != 0)
        && let Some(scratch) = scratch(Builder::SynAck)
    {
        scratch.tuple = tuple;
        let record = begin(scratch, event, PacketKind::SynAck);
        record.key.netns = netns;
        reject(scratch, now());
    }
    0
}

#[inline(always)]
fn store(tuple: &Tuple, times: Handshake) {
    // One that makes way is most often a SYN to which nothing follows: a connection that misses its own is counted.
    HANDSHAKES.put(tuple, SharedHandshake::latest, |place| place.set(times));
}

/// Loads words of the packet, in network byte order, from `offset` behind the start of its network header.
#[inline(always)]
fn load<const WORDS: usize>(context: &TcContext, offset: u32) -> Option<[u32; WORDS]> {
    const FROM_NETWORK_HEADER: u32 = 1; // BPF_HDR_START_NET
    let mut words = [0_u32; WORDS];
    let destination = (&raw mut words).cast::<c_void>();
    // SAFETY: the helper fills exactly the destination or fails. Relative to the network header, so that it works
    // on devices without an Ethernet header as well.
    let failed = unsafe {
        bpf_skb_load_bytes_relative(
            context.skb.skb.cast(),
            offset,
            destination,
            size_of_val(&words) as u32,
            FROM_NETWORK_HEADER,
        )
    };
    (failed == 0).then_some(words)
}

/// Whether the packet is TCP over IPv4 and no SYN, as far as a look into it tells that costs no call: most are. A packet
/// that begins with its IP header is taken for no Ethernet frame: 0x45 would be an address of several stations. With the
/// port filter, the port of a packet with payload is noted.
#[inline(always)]
fn is_plainly_no_syn(context: &TcContext) -> bool {
    const ETHERNET: usize = 14;
    // SAFETY: a context field that the verifier knows.
    if unsafe { (*context.skb.skb).protocol } as u16 != ethertype::IPV4.to_be() {
        return false;
    }
    let (data, end) = (context.data(), context.data_end());
    // As far as TCP's flags.
    if data + ETHERNET + 34 > end {
        return false;
    }
    // SAFETY: inside the packet, as the verifier has seen.
    let byte = |at: usize| unsafe { read_volatile((data + at) as *const u8) };
    let is_no_syn = byte(0) != 0x45
        && byte(12) == 8
        && byte(13) == 0
        && byte(ETHERNET) == 0x45
        && byte(ETHERNET + 9) == protocol::TCP
        && byte(ETHERNET + 33) & flag::SYN == 0;
    if is_no_syn
        && Filters.has(Settings::PORT_FILTER)
        && has_payload(u16::from_be_bytes([byte(ETHERNET + 2), byte(ETHERNET + 3)]), byte(ETHERNET + 32))
    {
        note_arrival(u16::from_be_bytes([byte(ETHERNET + 22), byte(ETHERNET + 23)]));
    }
    is_no_syn
}

/// The ends of the connection that the packet wants to open, and its sequence number, if it is a SYN. Both headers are
/// loaded at once: every packet that comes pays for it.
#[inline(always)]
fn syn(context: &TcContext) -> Option<(Tuple, u32)> {
    // SAFETY: a context field that the verifier knows.
    let protocol = unsafe { (*context.skb.skb).protocol } as u16;
    let (peer, local, tcp) = if protocol == ethertype::IPV4.to_be() {
        let words: [u32; 10] = load(context, 0)?;
        let ip = IpHeader::v4([words[0], words[1], words[2]]);
        if ip.protocol != protocol::TCP {
            return None;
        }
        let tcp = if ip.length == IpHeader::PLAIN_V4 {
            [words[5], words[6], words[7], words[8]]
        } else {
            // There are options.
            load(context, ip.length)?
        };
        (Address::v4(words[3]), Address::v4(words[4]), tcp)
    } else if protocol == ethertype::IPV6.to_be() {
        let words: [u32; 14] = load(context, 0)?;
        if IpHeader::v6([words[0], words[1], words[2]]).protocol != protocol::TCP {
            return None;
        }
        let address = |at: usize| Address::v6([words[at], words[at + 1], words[at + 2], words[at + 3]]);
        (address(2), address(6), [words[10], words[11], words[12], words[13]])
    } else {
        return None;
    };
    let tcp = TcpHeader::of(tcp);
    let peer = Endpoint::new(peer, TcpHeader::from(tcp.ports));
    let local = Endpoint::new(local, TcpHeader::to(tcp.ports));
    tcp.is_syn().then_some((Tuple { peer, local }, tcp.sequence))
}

/// Looks up the socket that gets a SYN between these ends.
#[inline(always)]
fn find_receiver(context: &TcContext, tuple: &Tuple, now: u64) -> Receiver {
    const LISTEN: u32 = 10;
    const TIME_WAIT: u32 = 6;
    // SAFETY: an all-zero value is valid, and so is writing either form of the union; the socket that the helper
    // finds is released before the program ends.
    unsafe {
        let mut key: bpf_sock_tuple = core::mem::zeroed();
        let (peer, local) = (tuple.peer, tuple.local);
        let size = if let (Some(source), Some(destination)) = (peer.address.as_v4(), local.address.as_v4()) {
            let v4 = &raw mut key.__bindgen_anon_1.ipv4;
            (*v4).saddr = source;
            (*v4).daddr = destination;
            (*v4).sport = peer.port.to_be();
            (*v4).dport = local.port.to_be();
            size_of_val(&*v4)
        } else {
            let v6 = &raw mut key.__bindgen_anon_1.ipv6;
            (*v6).saddr = peer.address.words();
            (*v6).daddr = local.address.words();
            (*v6).sport = peer.port.to_be();
            (*v6).dport = local.port.to_be();
            size_of_val(&*v6)
        };
        let skb = context.skb.skb.cast();
        let sock: *mut bpf_sock =
            bpf_skc_lookup_tcp(skb, &raw mut key, size as u32, i64::from(BPF_F_CURRENT_NETNS) as u64, 0);
        if sock.is_null() {
            return Receiver::Nobody;
        }
        let receiver = match (*sock).state {
            LISTEN => match Sock::new(sock.cast_const().cast()).as_tcp() {
                Some(tcp) => Receiver::Listener(listener_seen(&tcp, now)),
                None => Receiver::Connection,
            },
            TIME_WAIT => Receiver::Listener(Listener::UNKNOWN),
            // Also a request socket: the kernel has answered the SYN before.
            _ => Receiver::Connection,
        };
        bpf_sk_release(sock.cast());
        receiver
    }
}

/// Notes the queue of the listener that gets a SYN `now`.
#[inline(always)]
fn listener_seen(tcp: &TcpSock, now: u64) -> Listener {
    let sock = tcp.as_sock();
    let netns = sock.netns();
    // The look-up picks by hash, as TCP does where no program does it.
    let is_steered = tcp.is_steered();
    let queue = if is_steered { Queue::default() } else { tcp.accept_queue() };
    let syn_queue = if is_steered { SynQueue::HasRoom } else { tcp.syn_queue(queue) };
    let has_room = matches!(syn_queue, SynQueue::HasRoom) && queue.length <= queue.limit;
    let inode = if has_room { 0 } else { tcp.inode() };
    let address = if is_steered { 0 } else { tcp.address() };
    let flags = if is_steered { Key::STEERED.into() } else { 0 };
    let listener = Listener { address, queue, syn_queue, netns, inode, flags };
    if !Filters.wants_unread() || !Filters.wants_netns(netns) {
        return listener;
    }
    let key = ListenerKey { netns, local: sock.tuple().local };
    if let Some(tally) = value_or(&LISTENERS, &key, ListenerTally::default) {
        // Several CPUs may write at once: then the latest or the longest is one of theirs.
        add(&tally.syns, 1);
        tally.last.set(now);
        if !is_steered {
            tally.queue.set(queue);
        }
        if !is_steered && queue.length >= tally.longest.get().length {
            tally.longest.set(queue);
        }
    } else {
        count(Counter::ListenersUncounted);
    }
    listener
}
