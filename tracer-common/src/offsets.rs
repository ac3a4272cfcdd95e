//! Where the running kernel keeps the struct members that the programs read.
//!
//! User space resolves them from the kernel's BTF (`tracer::probe::btf`); the programs add them to a BTF-typed
//! pointer and load directly (`tracer_ebpf::kernel`).

/// A byte offset in a kernel struct, or [`MISSING`]. As narrow as may be: all of them lie in three cache lines, and a BPF
/// program compares one with a constant in one instruction.
pub type Offset = u16;

/// The member does not exist in the running kernel: the verifier sees the constant and removes the code behind it.
pub const MISSING: Offset = Offset::MAX;

/// Declares [`Offsets`] and the list of members that user space resolves for it: one place for both.
macro_rules! offsets {
    ($($(#[$doc:meta])* $field:ident: $kernel_struct:literal $member:literal,)+) => {
        /// Byte offsets of kernel struct members, in the `OFFSETS` global.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Offsets { $($(#[$doc])* pub $field: Offset,)+ }

        impl Offsets {
            /// Nothing resolved.
            pub const UNRESOLVED: Self = Self { $($field: MISSING,)+ };

            /// The offsets in bytes that `resolve(struct, member)` finds; a member may be a path, dots between its parts.
            /// One that is not less than [`MISSING`] counts as not found: no struct that is read here is as large.
            pub fn resolve(mut resolve: impl FnMut(&'static str, &'static str) -> Option<u32>) -> Self {
                let mut narrow = |kernel_struct, member| {
                    resolve(kernel_struct, member).and_then(|offset| Offset::try_from(offset).ok()).unwrap_or(MISSING)
                };
                Self { $($field: narrow($kernel_struct, $member),)+ }
            }

            /// The members that were not found, as `struct.member`.
            pub fn missing(&self) -> impl Iterator<Item = &'static str> {
                [$((self.$field, concat!($kernel_struct, ".", $member)),)+]
                    .into_iter()
                    .filter(|(offset, _)| *offset == MISSING)
                    .map(|(_, name)| name)
            }
        }
    };
}

offsets! {
    /// `u16`, host byte order.
    sk_family: "sock" "__sk_common.skc_family",
    /// `u8`: `TCP_ESTABLISHED` and so on.
    sk_state: "sock" "__sk_common.skc_state",
    /// `u16`: the local port, host byte order.
    sk_num: "sock" "__sk_common.skc_num",
    /// `u16`: the peer's port, network byte order.
    sk_dport: "sock" "__sk_common.skc_dport",
    /// `u32`: the peer's IPv4 address, network byte order.
    sk_daddr: "sock" "__sk_common.skc_daddr",
    /// `u32`: this host's IPv4 address, network byte order.
    sk_rcv_saddr: "sock" "__sk_common.skc_rcv_saddr",
    /// 16 bytes: the peer's IPv6 address.
    sk_v6_daddr: "sock" "__sk_common.skc_v6_daddr",
    /// 16 bytes: this host's IPv6 address.
    sk_v6_rcv_saddr: "sock" "__sk_common.skc_v6_rcv_saddr",
    /// Pointer to `struct net`.
    sk_net: "sock" "__sk_common.skc_net",
    /// `u16`: `IPPROTO_TCP` and so on.
    sk_protocol: "sock" "sk_protocol",
    /// `i32`: the socket's pending error, as errno.
    sk_err: "sock" "sk_err",
    /// `unsigned long`: a set of bits, numbered by `enum sock_flags`.
    sk_flags: "sock" "__sk_common.skc_flags",
    /// `int`: whether a process holds the socket's lock.
    sk_lock_owned: "sock" "sk_lock.owned",
    /// `u32`: connections that wait for `accept()`.
    sk_ack_backlog: "sock" "sk_ack_backlog",
    /// `u32`: how many may wait.
    sk_max_ack_backlog: "sock" "sk_max_ack_backlog",
    /// `int`: a listener's connections that wait for the handshake's last ACK.
    syn_queue_length: "tcp_sock" "inet_conn.icsk_accept_queue.qlen.counter",
    /// `u8`: `net.ipv4.tcp_syncookies`.
    net_syncookies: "net" "ipv4.sysctl_tcp_syncookies",
    /// `int`: `net.ipv4.tcp_max_syn_backlog`.
    net_max_syn_backlog: "net" "ipv4.sysctl_max_syn_backlog",
    /// `u32`: the inode number of a network namespace, as in `/proc/PID/ns/net`.
    net_inum: "net" "ns.inum",
    /// `u32`: next sequence number expected.
    rcv_nxt: "tcp_sock" "rcv_nxt",
    /// `u64`: payload bytes received.
    bytes_received: "tcp_sock" "bytes_received",
    /// `u32`: the window offered.
    rcv_wnd: "tcp_sock" "rcv_wnd",
    /// `u32`: first sequence number not yet read by the application.
    copied_seq: "tcp_sock" "copied_seq",
    /// `u32`: the end of what the application has written, plus 1 once a FIN is queued.
    write_seq: "tcp_sock" "write_seq",
    /// `u32`: the end of what was sent.
    snd_nxt: "tcp_sock" "snd_nxt",
    /// `u32`: first sequence number not yet acknowledged.
    snd_una: "tcp_sock" "snd_una",
    /// `u64`: when an ACK last acknowledged something, microseconds of `CLOCK_MONOTONIC`.
    delivered_mstamp: "tcp_sock" "delivered_mstamp",
    /// `u32`: the smoothed round-trip time in microseconds, times 8.
    srtt_us: "tcp_sock" "srtt_us",
    /// Pointer to `struct sock`.
    skb_sk: "sk_buff" "sk",
    /// `u64`: when the packet reached the device, nanoseconds of `CLOCK_REALTIME`; 0 if not stamped.
    skb_tstamp: "sk_buff" "tstamp",
    /// `u32`: bytes from `data` on, paged ones included.
    skb_len: "sk_buff" "len",
    /// The 48 bytes that each layer uses as its own.
    skb_cb: "sk_buff" "cb",
    /// Pointer to the start of the buffer.
    skb_head: "sk_buff" "head",
    /// Pointer to the current header.
    skb_data: "sk_buff" "data",
    /// `u16`: offset of the TCP header from `head`.
    skb_transport_header: "sk_buff" "transport_header",
    /// `u16`: offset of the IP header from `head`.
    skb_network_header: "sk_buff" "network_header",
    /// Pointer to `struct net_device`.
    skb_dev: "sk_buff" "dev",
    /// `int`: the interface that received the packet; 0: this host made it.
    skb_iif: "sk_buff" "skb_iif",
    /// Pointer to `struct net`.
    dev_net: "net_device" "nd_net.net",
    /// `u32`, inside `sk_buff.cb`.
    cb_seq: "tcp_skb_cb" "seq",
    /// `u32`, inside `sk_buff.cb`: a SYN and a FIN count as one each.
    cb_end_seq: "tcp_skb_cb" "end_seq",
    /// `u32`, inside `sk_buff.cb`.
    cb_ack_seq: "tcp_skb_cb" "ack_seq",
    /// The low byte of the TCP flags, inside `sk_buff.cb`.
    cb_tcp_flags: "tcp_skb_cb" "tcp_flags",
    /// Pointer: not null where a protocol above TCP, such as kernel TLS, reads for the application.
    icsk_ulp_ops: "tcp_sock" "inet_conn.icsk_ulp_ops",
    /// Pointer: not null where somebody else, such as a sockmap, reads for the application.
    sk_user_data: "sock" "sk_user_data",
    /// `long`: the number of the system call, on x86.
    regs_orig_ax: "pt_regs" "orig_ax",
    /// `long`: the second argument of the system call, on x86.
    regs_si: "pt_regs" "si",
    /// `int`: the number of the system call, on arm64.
    regs_syscallno: "pt_regs" "syscallno",
    /// An array of `u64`: the arguments of the system call, on arm64.
    regs_regs: "pt_regs" "regs",
    /// Pointer to `struct signal_struct`.
    task_signal: "task_struct" "signal",
    /// Pointer: not null if the out-of-memory killer has chosen the process.
    signal_oom_mm: "signal_struct" "oom_mm",
    /// `u32`: the bytes of a packet that lie in its pages.
    skb_data_len: "sk_buff" "data_len",
    /// `unsigned int`: `PF_EXITING` and the like.
    task_flags: "task_struct" "flags",
    /// `int`: the signal that kills the task, or its exit status shifted by 8.
    task_exit_code: "task_struct" "exit_code",
    /// Pointer to `struct files_struct`.
    task_files: "task_struct" "files",
    /// Pointer to `struct fdtable`.
    files_fdt: "files_struct" "fdt",
    /// Pointer to an array of pointers to `struct file`.
    fdt_fd: "fdtable" "fd",
    /// `u32`: the length of that array.
    fdt_max_fds: "fdtable" "max_fds",
    /// Pointer: `struct socket` if the file is a socket.
    file_private_data: "file" "private_data",
    /// Pointer to `struct sock`.
    socket_sk: "socket" "sk",
    /// Pointer to `struct socket`; null until `accept()` returns the connection, and once the application has no descriptor of it.
    sk_socket: "sock" "sk_socket",
    /// Pointer to `struct file`.
    socket_file: "socket" "file",
    /// Pointer to `struct inode`.
    file_inode: "file" "f_inode",
    /// `unsigned long`: the inode number, as in `/proc/PID/fd` and `/proc/net/tcp`.
    inode_ino: "inode" "i_ino",
    /// Pointer to `struct sock_reuseport`: the group of listeners with one address and port (`SO_REUSEPORT`).
    sk_reuseport_cb: "sock" "sk_reuseport_cb",
    /// Pointer: not null if a BPF program picks the listener of the group.
    reuseport_prog: "sock_reuseport" "prog",
    /// Pointer to the listener, in a request socket.
    skc_listener: "sock" "__sk_common.skc_listener",
}

const _: () = assert!(size_of::<Offsets>() == 67 * 2);

#[cfg(test)]
mod tests {
    use super::{MISSING, Offsets};

    #[test]
    fn missing_members_are_named() {
        let offsets = Offsets::resolve(|_, member| (member != "ns.inum" && member != "tstamp").then_some(8));
        assert_eq!(offsets.net_inum, MISSING);
        assert_eq!(offsets.missing().collect::<Vec<_>>(), ["net.ns.inum", "sk_buff.tstamp"]);
        assert_eq!(Offsets::UNRESOLVED.missing().count(), size_of::<Offsets>() / 2);
    }
}
