//! Typed access to kernel structs: the only place that adds an offset to a kernel pointer.
//!
//! The pointers come from BTF-typed arguments, so the verifier knows what they point to and turns each load into one
//! that cannot fault (a bad pointer reads 0). The offsets are constants to it: user space sets them before loading.

use core::ptr::{addr_of, read_volatile};

use aya_ebpf::{
    cty::c_void,
    helpers::generated::{
        bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_task_btf, bpf_get_socket_cookie,
        bpf_probe_read_kernel, bpf_skc_to_tcp_sock,
    },
};
use tracer_common::{
    connection::{self, Acknowledgement, Tcp},
    endpoint::{Endpoint, Tuple},
    offsets::{MISSING, Offset, Offsets},
    rejection::{Ender, How, Packet as Sort, Queue},
    settings::Settings,
};

/// Set by user space from the running kernel's BTF.
#[unsafe(no_mangle)]
static OFFSETS: Offsets = Offsets::UNRESOLVED;

/// Set by user space from the command line.
#[unsafe(no_mangle)]
static SETTINGS: Settings = Settings { filters: 0, pid: 0, netns: 0 };

/// A field of `OFFSETS`; volatile, because its value is not the one that the compiler sees.
macro_rules! offset {
    ($field:ident) => {{
        // SAFETY: an aligned, initialised static.
        unsafe { read_volatile(addr_of!(OFFSETS.$field)) }
    }};
}

/// A field of `SETTINGS`, likewise.
macro_rules! setting {
    ($field:ident) => {{
        // SAFETY: an aligned, initialised static.
        unsafe { read_volatile(addr_of!(SETTINGS.$field)) }
    }};
}

/// Whether any of the filter bits is set.
#[inline(always)]
pub fn has_filter(bits: u32) -> bool {
    setting!(filters) & bits != 0
}

/// The process to trace; 0: all.
#[inline(always)]
pub fn wanted_pid() -> u32 {
    setting!(pid)
}

/// The network namespace to trace; 0: all.
#[inline(always)]
pub fn wanted_netns() -> u32 {
    setting!(netns)
}

/// A kernel object, by a pointer of which the verifier knows the type.
#[derive(Clone, Copy)]
pub struct Object(*const u8);

impl Object {
    /// Loads the member at `offset`, if the running kernel has it.
    #[inline(always)]
    fn load<T: Copy>(self, offset: Offset) -> Option<T> {
        if offset == MISSING {
            return None;
        }
        // SAFETY: the verifier checks the access against the kernel's own type of the object.
        Some(unsafe { read_volatile(self.0.add(offset as usize).cast()) })
    }

    #[inline(always)]
    fn load_or_zero<T: Copy + Default>(self, offset: Offset) -> T {
        self.load(offset).unwrap_or_default()
    }
}

/// A `struct sock`.
#[derive(Clone, Copy)]
pub struct Sock(Object);

impl Sock {
    /// From a hook's argument.
    #[inline(always)]
    pub fn new(pointer: *const c_void) -> Self {
        Self(Object(pointer.cast()))
    }

    #[inline(always)]
    pub fn pointer(self) -> *mut c_void {
        self.0.0.cast_mut().cast()
    }

    #[inline(always)]
    pub fn is_null(self) -> bool {
        self.0.0.is_null()
    }

    /// The TCP state; also of request and time-wait sockets.
    #[inline(always)]
    pub fn state(self) -> u8 {
        self.0.load_or_zero(offset!(sk_state))
    }

    /// The local port, host byte order.
    #[inline(always)]
    pub fn local_port(self) -> u16 {
        self.0.load_or_zero(offset!(sk_num))
    }

    /// Both ends; also of request sockets.
    #[inline(always)]
    pub fn tuple(self) -> Tuple {
        const AF_INET6: u16 = 10;
        let peer_port = u16::from_be(self.0.load_or_zero(offset!(sk_dport)));
        let local_port = self.local_port();
        if self.0.load_or_zero::<u16>(offset!(sk_family)) == AF_INET6 {
            Tuple {
                peer: Endpoint::v6(self.address_v6(offset!(sk_v6_daddr)), peer_port),
                local: Endpoint::v6(self.address_v6(offset!(sk_v6_rcv_saddr)), local_port),
            }
        } else {
            let peer: u32 = self.0.load_or_zero(offset!(sk_daddr));
            let local: u32 = self.0.load_or_zero(offset!(sk_rcv_saddr));
            Tuple {
                peer: Endpoint::v4(peer.to_ne_bytes(), peer_port),
                local: Endpoint::v4(local.to_ne_bytes(), local_port),
            }
        }
    }

    #[inline(always)]
    fn address_v6(self, offset: Offset) -> [u8; 16] {
        // Two words: the verifier lets no load be wider than a register.
        let high: u64 = self.0.load_or_zero(offset);
        let low: u64 = self.0.load_or_zero(if offset == MISSING { MISSING } else { offset + 8 });
        // SAFETY: two words are 16 bytes.
        unsafe { core::mem::transmute([high, low]) }
    }

    /// The network namespace, by inode number.
    #[inline(always)]
    pub fn netns(self) -> u32 {
        match self.0.load::<*const u8>(offset!(sk_net)) {
            Some(net) if !net.is_null() => Object(net).load_or_zero(offset!(net_inum)),
            _ => 0,
        }
    }

    /// Whether the socket is an ICMP one, of IPv4 or IPv6.
    #[inline(always)]
    pub fn is_icmp(self) -> bool {
        const IPPROTO_ICMP: u16 = 1;
        const IPPROTO_ICMPV6: u16 = 58;
        matches!(self.0.load_or_zero::<u16>(offset!(sk_protocol)), IPPROTO_ICMP | IPPROTO_ICMPV6)
    }

    /// The process that works on the socket now, if one holds its lock: not a softirq, in which the current task is
    /// whoever was interrupted.
    #[inline(always)]
    pub fn ender(self) -> Ender {
        const PF_EXITING: u32 = 4;
        let mut ender = Ender::default();
        if self.0.load_or_zero::<i32>(offset!(sk_lock_owned)) == 0 {
            return ender;
        }
        // SAFETY: no arguments but a local of which the length is told; the task's members are checked by the verifier.
        let task = unsafe {
            ender.pid = (bpf_get_current_pid_tgid() >> 32) as u32;
            bpf_get_current_comm((&raw mut ender.comm).cast(), 16);
            Object(bpf_get_current_task_btf() as *const u8)
        };
        ender.how = How::Closed as u16;
        if task.load_or_zero::<u32>(offset!(task_flags)) & PF_EXITING != 0 {
            let signal = task.load_or_zero::<u32>(offset!(task_exit_code)) as u16 & 0x7f;
            ender.how = if signal == 0 { How::Exited } else { How::Killed } as u16;
            ender.signal = signal;
        }
        ender
    }

    /// Whether the socket's error says that the peer could not be reached: `ETIMEDOUT`, or why it did.
    #[inline(always)]
    pub fn has_timed_out(self) -> bool {
        const ENETUNREACH: i32 = 101;
        const ETIMEDOUT: i32 = 110;
        const EHOSTUNREACH: i32 = 113;
        matches!(self.0.load_or_zero::<i32>(offset!(sk_err)), ENETUNREACH | ETIMEDOUT | EHOSTUNREACH)
    }

    /// The same socket as a `struct tcp_sock`, if it is one: to the verifier the members of `struct sock` end where
    /// TCP's begin.
    #[inline(always)]
    pub fn as_tcp(self) -> Option<TcpSock> {
        // SAFETY: a typed socket.
        let tcp = unsafe { bpf_skc_to_tcp_sock(self.pointer()) };
        (!tcp.is_null()).then_some(TcpSock(Object(tcp.cast_const().cast())))
    }

    /// The socket cookie: unique until the host restarts.
    #[inline(always)]
    pub fn cookie(self) -> u64 {
        // SAFETY: a typed socket.
        unsafe { bpf_get_socket_cookie(self.pointer()) }
    }
}

/// A `struct tcp_sock`.
#[derive(Clone, Copy)]
pub struct TcpSock(Object);

impl TcpSock {
    /// What TCP expects and has been given to send.
    #[inline(always)]
    pub fn tcp(self) -> Tcp {
        Tcp {
            expected: self.0.load_or_zero(offset!(rcv_nxt)),
            written: self.0.load_or_zero(offset!(write_seq)),
            window: self.0.load_or_zero(offset!(rcv_wnd)),
        }
    }

    /// How far the peer has acknowledged.
    #[inline(always)]
    pub fn acknowledgement(self) -> Acknowledgement {
        Acknowledgement {
            unacknowledged: self.0.load_or_zero(offset!(snd_una)),
            latest: self.0.load_or_zero::<u64>(offset!(delivered_mstamp)) * 1000,
        }
    }

    /// The first byte that the application has not read.
    #[inline(always)]
    pub fn unread(self) -> u32 {
        self.0.load_or_zero(offset!(copied_seq))
    }

    /// Of a listener: the connections that wait for `accept()`.
    #[inline(always)]
    pub fn accept_queue(self) -> Queue {
        Queue {
            length: self.0.load_or_zero(offset!(sk_ack_backlog)),
            limit: self.0.load_or_zero(offset!(sk_max_ack_backlog)),
        }
    }

    /// Of a listener: whether TCP would drop a SYN because too many connections wait for the handshake's last ACK, as
    /// `tcp_conn_request()` decides. With SYN cookies it never does.
    #[inline(always)]
    pub fn syn_queue(self, accept: Queue) -> SynQueue {
        let (Some(length), Some(net)) =
            (self.0.load::<u32>(offset!(syn_queue_length)), self.0.load::<*const u8>(offset!(sk_net)))
        else {
            return SynQueue::HasRoom;
        };
        let cookies: Option<u8> = Object(net).load(offset!(net_syncookies));
        let most: u32 = Object(net).load_or_zero(offset!(net_max_syn_backlog));
        if cookies != Some(0) {
            SynQueue::HasRoom
        } else if length > accept.limit || most.wrapping_sub(length) < most >> 2 {
            // The last quarter is for peers that are known to be alive.
            SynQueue::Full
        } else if length == accept.limit {
            SynQueue::AtLimit
        } else {
            SynQueue::HasRoom
        }
    }

    /// The address of the socket, for [`accept_queue_at`].
    #[inline(always)]
    pub fn address(self) -> u64 {
        self.0.0 as u64
    }

    /// The socket without TCP's members.
    #[inline(always)]
    pub fn as_sock(self) -> Sock {
        Sock(self.0)
    }

    /// Microseconds; 0: not measured yet.
    #[inline(always)]
    pub fn smoothed_round_trip(self) -> u32 {
        self.0.load_or_zero::<u32>(offset!(srtt_us)) >> 3
    }
}

/// A listener's SYN queue.
#[derive(Clone, Copy)]
pub enum SynQueue {
    /// A SYN is taken, or answered with a cookie.
    HasRoom,
    /// As long as it may be: some kernels drop a SYN now, others at the next one.
    AtLimit,
    /// A SYN is dropped.
    Full,
}

/// A `struct sk_buff`.
#[derive(Clone, Copy)]
pub struct Packet(Object);

/// TCP's own view of a packet that it is about to receive.
pub struct Received {
    /// Sequence number of the first byte.
    pub start: u32,
    /// Sequence number after the last payload byte.
    pub end: u32,
    /// What it acknowledges.
    pub acknowledges: u32,
}

impl Packet {
    /// From a hook's argument.
    #[inline(always)]
    pub fn new(pointer: *const c_void) -> Self {
        Self(Object(pointer.cast()))
    }

    #[inline(always)]
    pub fn is_null(self) -> bool {
        self.0.0.is_null()
    }

    /// The socket that owns the packet.
    #[inline(always)]
    pub fn sock(self) -> Option<Sock> {
        let pointer: *const u8 = self.0.load(offset!(skb_sk))?;
        (!pointer.is_null()).then_some(Sock(Object(pointer)))
    }

    /// When it reached the device: nanoseconds of `CLOCK_REALTIME`; 0 if not stamped.
    #[inline(always)]
    pub fn stamped(self) -> u64 {
        self.0.load_or_zero(offset!(skb_tstamp))
    }

    /// What `tcp_v4_rcv` and `tcp_v6_rcv` have put into the control block.
    #[inline(always)]
    pub fn received(self) -> Option<Received> {
        let cb = offset!(skb_cb);
        let (seq, end, ack, flags) = (offset!(cb_seq), offset!(cb_end_seq), offset!(cb_ack_seq), offset!(cb_tcp_flags));
        if cb == MISSING || seq == MISSING || end == MISSING || ack == MISSING || flags == MISSING {
            return None;
        }
        let start: u32 = self.0.load(cb + seq)?;
        let end: u32 = self.0.load(cb + end)?;
        let flags: u8 = self.0.load(cb + flags)?;
        // A SYN (2) and a FIN (1) count as a byte each.
        let phantom = u32::from(flags & 1) + u32::from(flags >> 1 & 1);
        Some(Received { start, end: end.wrapping_sub(phantom), acknowledges: self.0.load(cb + ack)? })
    }

    /// A packet of the connection `tuple` at the device. `None` if it is another one: around a tunnel's device the same
    /// socket owns a packet of the tunnel's protocol.
    #[inline(always)]
    pub fn sent(self, tuple: &Tuple) -> Option<Sent> {
        let head: u64 = self.0.load(offset!(skb_head))?;
        let data: u64 = self.0.load(offset!(skb_data))?;
        let length: u32 = self.0.load(offset!(skb_len))?;
        let transport: u16 = self.0.load(offset!(skb_transport_header))?;
        let header = head + u64::from(transport);
        // Port, port, sequence, acknowledgement; length of the header, flags and window.
        let mut words = [0_u32; 4];
        // SAFETY: the helper checks the address and fills what fits the destination.
        let failed = unsafe { bpf_probe_read_kernel((&raw mut words).cast(), 16, header as *const c_void) };
        if failed != 0 {
            return None;
        }
        if u32::from_be(words[0]) != u32::from(tuple.local.port) << 16 | u32::from(tuple.peer.port) {
            return None;
        }
        let start = u32::from_be(words[1]);
        let last = u32::from_be(words[3]);
        let before = (header - data) as u32 + (last >> 28) * 4;
        // A SYN's window is not scaled, a reset's says nothing.
        let window = (last >> 16 & 6 == 0).then_some(last as u16);
        Some(Sent { start, end: start.wrapping_add(length.wrapping_sub(before)), window })
    }

    /// The network namespace of the device that it is at, by inode number.
    #[inline(always)]
    pub fn netns(self) -> u32 {
        let of_device = || {
            let device: *const u8 = self.0.load(offset!(skb_dev)).filter(|device: &*const u8| !device.is_null())?;
            let net: *const u8 = Object(device).load(offset!(dev_net)).filter(|net: &*const u8| !net.is_null())?;
            Object(net).load(offset!(net_inum))
        };
        of_device().or_else(|| self.sock().map(Sock::netns)).unwrap_or(0)
    }

    /// Whether this host made it, and did not receive it.
    #[inline(always)]
    pub fn is_own(self) -> bool {
        self.0.load_or_zero::<i32>(offset!(skb_iif)) == 0
    }

    /// The address of its IP header; 0 if it has none yet.
    #[inline(always)]
    fn network_header(self) -> u64 {
        let head: u64 = self.0.load_or_zero(offset!(skb_head));
        match self.0.load::<u16>(offset!(skb_network_header)) {
            Some(offset) if offset != 0 && head != 0 => head + u64::from(offset),
            _ => 0,
        }
    }

    /// Its ends, if it is TCP over IP (not behind extension headers), written into `from` and `to`; returns what it is
    /// and how many bytes of payload it has.
    #[inline(always)]
    pub fn headers(self, from: &mut Endpoint, to: &mut Endpoint) -> Option<(Sort, u32)> {
        let at = addresses(self.network_header(), IPPROTO_TCP, from, to)?;
        let words: [u32; 4] = probe(at.transport, 0)?;
        let last = u32::from_be(words[3]);
        let payload = at.length.saturating_sub((last >> 28) * 4);
        let ports = u32::from_be(words[0]);
        from.port = (ports >> 16) as u16;
        to.port = ports as u16;
        Some((Sort::of((last >> 16) as u8, payload), payload))
    }

    /// The TCP connection that an ICMP error is about, written into `from` and `to` as in the packet that came. `None` if
    /// it is none of those that say "unreachable".
    #[inline(always)]
    pub fn unreachable(self, from: &mut Endpoint, to: &mut Endpoint) -> Option<()> {
        const UNREACHABLE_V4: u8 = 3;
        const UNREACHABLE_V6: u8 = 1;
        let header = self.network_header();
        let at = match addresses(header, IPPROTO_ICMP, from, to) {
            Some(at) => at,
            None => addresses(header, IPPROTO_ICMPV6, from, to)?,
        };
        let kind: [u8; 1] = probe(at.transport, 0)?;
        if kind[0] != UNREACHABLE_V4 && kind[0] != UNREACHABLE_V6 {
            return None;
        }
        let at = addresses(at.transport + 8, IPPROTO_TCP, from, to)?;
        let ports = u32::from_be(probe::<u32>(at.transport, 0)?);
        from.port = (ports >> 16) as u16;
        to.port = ports as u16;
        Some(())
    }
}

const IPPROTO_ICMP: u8 = 1;
const IPPROTO_TCP: u8 = 6;
const IPPROTO_ICMPV6: u8 = 58;

/// A packet that leaves: its payload as sequence numbers `start..end`, and the window that it advertises.
pub struct Sent {
    /// Sequence number of the first byte.
    pub start: u32,
    /// Sequence number after the last one.
    pub end: u32,
    /// Not scaled; absent in a SYN or a reset.
    pub window: Option<u16>,
}

/// Where the header behind the IP header begins, and the bytes from there on.
struct Transport {
    transport: u64,
    length: u32,
}

/// Writes the addresses in the IP header at `header` into `from` and `to`, if it carries `protocol`.
#[inline(always)]
fn addresses(header: u64, protocol: u8, from: &mut Endpoint, to: &mut Endpoint) -> Option<Transport> {
    let first: [u32; 5] = probe(header, 0)?;
    let head = u32::from_be(first[0]);
    if head >> 28 == 4 {
        if (u32::from_be(first[2]) >> 16) as u8 != protocol {
            return None;
        }
        *from = Endpoint::v4(first[3].to_ne_bytes(), 0);
        *to = Endpoint::v4(first[4].to_ne_bytes(), 0);
        let ip_length = (head >> 24 & 15) * 4;
        return Some(Transport {
            transport: header + u64::from(ip_length),
            length: (head & 0xffff).saturating_sub(ip_length),
        });
    }
    let second = u32::from_be(first[1]);
    if head >> 28 != 6 || (second >> 8) as u8 != protocol {
        return None;
    }
    *from = Endpoint::v6(probe(header, 8)?, 0);
    *to = Endpoint::v6(probe(header, 24)?, 0);
    Some(Transport { transport: header + 40, length: second >> 16 })
}

/// Reads an unsigned word at `address + offset`, where the verifier knows no type.
#[inline(always)]
fn probe<T: Copy + Default>(address: u64, offset: Offset) -> Option<T> {
    if offset == MISSING || address == 0 {
        return None;
    }
    let mut value = T::default();
    let from = (address + u64::from(offset)) as *const c_void;
    // SAFETY: the helper checks the address and fills exactly the destination.
    let failed = unsafe { bpf_probe_read_kernel((&raw mut value).cast(), size_of::<T>() as u32, from) };
    (failed == 0).then_some(value)
}

/// The address of the TCP `struct sock` behind the current task's file descriptor `fd`, if that is what it is.
#[inline(always)]
pub fn tcp_sock_of_descriptor(task: u64, fd: u64) -> Option<u64> {
    let files: u64 = probe(task, offset!(task_files))?;
    let table: u64 = probe(files, offset!(files_fdt))?;
    if fd >= u64::from(probe::<u32>(table, offset!(fdt_max_fds))?) {
        return None;
    }
    let entries: u64 = probe(table, offset!(fdt_fd))?;
    let file: u64 = probe(entries + fd * 8, 0)?;
    let socket: u64 = probe(file, offset!(file_private_data))?;
    let sock: u64 = probe(socket, offset!(socket_sk))?;
    is_tcp_at(sock).then_some(sock)
}

/// The accept queue of the listener at `address`, which was one for `port` a moment ago and may be gone.
#[inline(always)]
pub fn accept_queue_at(address: u64, port: u16) -> Option<Queue> {
    let state: u8 = probe(address, offset!(sk_state))?;
    if state != connection::state::LISTEN || local_port_at(address) != port {
        return None;
    }
    let length = probe(address, offset!(sk_ack_backlog))?;
    Some(Queue { length, limit: probe(address, offset!(sk_max_ack_backlog))? })
}

/// Whether the `struct sock` at `address` is TCP over IP, read without its type.
#[inline(always)]
pub fn is_tcp_at(address: u64) -> bool {
    const AF_INET: u16 = 2;
    const AF_INET6: u16 = 10;
    const IPPROTO_TCP: u16 = 6;
    matches!(probe::<u16>(address, offset!(sk_family)), Some(AF_INET | AF_INET6))
        && probe::<u16>(address, offset!(sk_protocol)) == Some(IPPROTO_TCP)
}

/// The local port of the `struct sock` at `address`, read without its type.
#[inline(always)]
pub fn local_port_at(address: u64) -> u16 {
    probe(address, offset!(sk_num)).unwrap_or_default()
}
