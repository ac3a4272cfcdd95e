//! Typed access to kernel structs: the only place that adds an offset to a kernel pointer.
//!
//! The pointers come from BTF-typed arguments, so the verifier knows what they point to and turns each load into one
//! that cannot fault (a bad pointer reads 0). The offsets are constants to it: user space sets them before loading.

use core::ptr::{addr_of, read_volatile};

use aya_ebpf::{
    cty::c_void,
    helpers::generated::{
        bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_task_btf, bpf_get_socket_cookie,
        bpf_ktime_get_ns, bpf_probe_read_kernel, bpf_skc_to_tcp_sock,
    },
};
use tracer_common::{
    connection::{self, Acknowledgement, Tcp},
    endpoint::{Address, Endpoint, Tuple},
    offsets::{MISSING, Offset, Offsets},
    packet::{family, protocol},
    rejection::{Ender, How, Queue},
    settings::Settings,
};

pub use self::{
    packet::{Headers, Packet},
    reader::first_bytes,
};

/// Set by user space from the running kernel's BTF.
#[unsafe(no_mangle)]
static OFFSETS: Offsets = Offsets::UNRESOLVED;

/// Set by user space from the command line.
#[unsafe(no_mangle)]
static SETTINGS: Settings = Settings { filters: 0, pid: 0, netns: 0, reads: [0; 2], vector_read: 0, message_read: 0 };

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

// Behind the macros that they use.
mod packet;
mod reader;

/// Now, in nanoseconds of `CLOCK_MONOTONIC`.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: no argument.
    unsafe { bpf_ktime_get_ns() }
}

/// The bits that user space has set: filters, and whether `accept()` is looked at.
#[inline(always)]
pub fn settings_bits() -> u32 {
    setting!(filters)
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

/// Whether `tcp_retransmit_skb` says if the packet was sent.
#[inline(always)]
pub fn are_retransmit_errors_known() -> bool {
    setting!(filters) & Settings::RETRANSMIT_ERRORS != 0
}

/// Whether no hook looks at `accept()`, as was asked for.
#[inline(always)]
pub fn is_accept_unseen() -> bool {
    setting!(filters) & Settings::ACCEPT_UNSEEN != 0
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

    /// The local port and the peer's, as the first word of a TCP header holds them, host byte order.
    #[inline(always)]
    pub fn ports(self) -> u32 {
        u32::from(self.local_port()) << 16 | u32::from(u16::from_be(self.0.load_or_zero(offset!(sk_dport))))
    }

    /// Both ends; also of request sockets.
    #[inline(always)]
    pub fn tuple(self) -> Tuple {
        let peer_port = u16::from_be(self.0.load_or_zero(offset!(sk_dport)));
        let local_port = self.local_port();
        if self.0.load_or_zero::<u16>(offset!(sk_family)) == family::INET6 {
            Tuple {
                peer: Endpoint::new(self.address_v6(offset!(sk_v6_daddr)), peer_port),
                local: Endpoint::new(self.address_v6(offset!(sk_v6_rcv_saddr)), local_port),
            }
        } else {
            let peer = Address::v4(self.0.load_or_zero(offset!(sk_daddr)));
            let local = Address::v4(self.0.load_or_zero(offset!(sk_rcv_saddr)));
            Tuple { peer: Endpoint::new(peer, peer_port), local: Endpoint::new(local, local_port) }
        }
    }

    #[inline(always)]
    fn address_v6(self, offset: Offset) -> Address {
        let word = |at| self.0.load_or_zero(if offset == MISSING { MISSING } else { offset + at });
        Address::v6([word(0), word(4), word(8), word(12)])
    }

    /// The network namespace, by inode number.
    #[inline(always)]
    pub fn netns(self) -> u32 {
        match self.0.load::<*const u8>(offset!(sk_net)) {
            Some(net) if !net.is_null() => Object(net).load_or_zero(offset!(net_inum)),
            _ => 0,
        }
    }

    /// Whether a process has the socket: it has accepted the connection, and not closed it.
    #[inline(always)]
    pub fn is_held(self) -> bool {
        self.0.load::<*const u8>(offset!(sk_socket)).is_some_and(|socket| !socket.is_null())
    }

    /// Whether the socket is an ICMP one, of IPv4 or IPv6.
    #[inline(always)]
    pub fn is_icmp(self) -> bool {
        let protocol: u16 = self.0.load_or_zero(offset!(sk_protocol));
        protocol == protocol::ICMP.into() || protocol == protocol::ICMPV6.into()
    }

    /// Whether a process holds the socket's lock and works on it now: not a softirq, in which the current task is whoever
    /// was interrupted.
    #[inline(always)]
    pub fn is_owned(self) -> bool {
        self.0.load_or_zero::<i32>(offset!(sk_lock_owned)) != 0
    }

    /// The process that works on the socket now, if one does.
    #[inline(always)]
    pub fn ender(self) -> Ender {
        const PF_EXITING: u32 = 4;
        let mut ender = Ender::default();
        if !self.is_owned() {
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
            let how = if signal == 0 {
                How::Exited
            } else if is_chosen_by_oom_killer(task) {
                How::OutOfMemory
            } else {
                How::Killed
            };
            ender.how = how as u16;
            ender.signal = signal;
        }
        ender
    }

    /// Whether the peer's FIN has been received: `rcv_nxt` counts it.
    #[inline(always)]
    pub fn has_received_fin(self) -> bool {
        const SOCK_DONE: u64 = 1 << 1;
        self.0.load_or_zero::<u64>(offset!(sk_flags)) & SOCK_DONE != 0
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

    /// Of a request socket: the address of its listener; 0: not known. Other sockets keep something else in its place.
    #[inline(always)]
    pub fn listener(self) -> u64 {
        let is_request = self.state() == connection::state::NEW_SYN_RECV;
        if is_request { self.0.load_or_zero(offset!(skc_listener)) } else { 0 }
    }

    /// The socket cookie: unique until the host restarts.
    #[inline(always)]
    pub fn cookie(self) -> u64 {
        // SAFETY: a typed socket.
        unsafe { bpf_get_socket_cookie(self.pointer()) }
    }
}

/// Whether the process of `task` ends because memory is short: `oom_mm` is set once the killer has chosen it.
#[inline(always)]
fn is_chosen_by_oom_killer(task: Object) -> bool {
    match task.load::<*const u8>(offset!(task_signal)) {
        Some(signal) if !signal.is_null() => Object(signal).load_or_zero::<u64>(offset!(signal_oom_mm)) != 0,
        _ => false,
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

    /// Whether something was written that has not been sent for the first time.
    #[inline(always)]
    pub fn has_unsent(self) -> bool {
        let (Some(written), Some(sent)) = (self.0.load::<u32>(offset!(write_seq)), self.0.load(offset!(snd_nxt)))
        else {
            return false;
        };
        written != sent
    }

    /// Payload bytes received, as a sequence number counts them.
    #[inline(always)]
    pub fn bytes_received(self) -> u32 {
        self.0.load_or_zero::<u64>(offset!(bytes_received)) as u32
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

    /// Whether something else than a system call of the application may read from the socket.
    #[inline(always)]
    pub fn is_read_by_kernel(self) -> bool {
        // One after the other: the verifier does not let pointers be combined.
        let is_set = |offset| self.0.load_or_zero::<u64>(offset) != 0;
        is_set(offset!(icsk_ulp_ops)) || is_set(offset!(sk_user_data))
    }

    /// Of a listener: whether a BPF program picks which one of its group (`SO_REUSEPORT`) gets a SYN.
    #[inline(always)]
    pub fn is_steered(self) -> bool {
        match self.0.load::<*const u8>(offset!(sk_reuseport_cb)) {
            Some(group) if !group.is_null() => Object(group).load_or_zero::<u64>(offset!(reuseport_prog)) != 0,
            _ => false,
        }
    }

    /// The inode number of the socket; 0: not known.
    #[inline(always)]
    pub fn inode(self) -> u32 {
        let follow = |object: Object, offset| object.load::<*const u8>(offset).filter(|it| !it.is_null()).map(Object);
        let file = follow(self.0, offset!(sk_socket)).and_then(|socket| follow(socket, offset!(socket_file)));
        let inode = file.and_then(|file| follow(file, offset!(file_inode)));
        inode.map_or(0, |inode| inode.load_or_zero::<u64>(offset!(inode_ino)) as u32)
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
#[repr(u32)]
#[derive(Clone, Copy)]
pub enum SynQueue {
    /// A SYN is taken, or answered with a cookie.
    HasRoom,
    /// As long as it may be: some kernels drop a SYN now, others at the next one.
    AtLimit,
    /// A SYN is dropped.
    Full,
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

/// The inode number of the listener at `address`, as [`TcpSock::inode`], read without its type.
#[inline(always)]
pub fn inode_at(address: u64) -> u32 {
    let inode = || {
        let socket = probe::<u64>(address, offset!(sk_socket))?;
        let file = probe::<u64>(socket, offset!(socket_file))?;
        probe::<u64>(probe::<u64>(file, offset!(file_inode))?, offset!(inode_ino))
    };
    inode().unwrap_or(0) as u32
}

/// The network namespace of the `struct sock` at `address`, by inode number, read without its type; 0: not known.
#[inline(always)]
pub fn netns_at(address: u64) -> u32 {
    probe::<u64>(address, offset!(sk_net)).and_then(|net| probe(net, offset!(net_inum))).unwrap_or(0)
}

/// Whether the `struct sock` at `address` is TCP over IP, read without its type.
#[inline(always)]
pub fn is_tcp_at(address: u64) -> bool {
    matches!(probe::<u16>(address, offset!(sk_family)), Some(family::INET | family::INET6))
        && probe::<u16>(address, offset!(sk_protocol)) == Some(protocol::TCP.into())
}

/// The local port of the `struct sock` at `address`, read without its type.
#[inline(always)]
pub fn local_port_at(address: u64) -> u16 {
    probe(address, offset!(sk_num)).unwrap_or_default()
}
