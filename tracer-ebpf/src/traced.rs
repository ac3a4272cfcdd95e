//! Finding, creating and reporting the state of a connection.

use aya_ebpf::{
    EbpfContext,
    bindings::BPF_SK_STORAGE_GET_F_CREATE,
    helpers::generated::{bpf_get_current_cgroup_id, bpf_sk_storage_get},
};
use aya_log_ebpf::debug;
use tracer_common::{
    connection::{self, Connection, REOPENED, Report, Segment, Times, state},
    counter::Counter,
    endpoint::Tuple,
    record::{ConnectionRecord, Kind, ListenerRecord, Process, RequestRecord},
    sequence::after,
    shared::Shared,
    stage::ConnectionMoments,
};

use crate::{
    drops,
    filter::{Filter, Filters, may_want},
    handshake,
    kernel::{self, Sock, TcpSock, now},
    maps::{ACCEPTS, ACCEPTS_MORE, CONNECTIONS, HANDSHAKES, add_port, count, emit, is_known_port, is_tracing},
};

/// [`storage`] looks only.
pub const GET: u64 = 0;

/// [`storage`] creates what is missing, all zero.
pub const CREATE: u64 = BPF_SK_STORAGE_GET_F_CREATE as u64;

/// The state of `sock`, wanted or not.
#[inline(always)]
pub fn storage<'a>(sock: Sock, flags: u64) -> Option<&'a Connection> {
    // SAFETY: a typed socket; the value lives as long as the socket does, which is longer than this program runs, and consists of cells.
    unsafe {
        let map = (&raw const CONNECTIONS).cast_mut().cast();
        bpf_sk_storage_get(map, sock.pointer(), core::ptr::null_mut(), flags).cast::<Connection>().as_ref()
    }
}

/// The connection of `sock`, if it is traced and wanted.
#[inline(always)]
pub fn find<'a>(sock: Sock) -> Option<&'a Connection> {
    known(sock).filter(|connection| !connection.flags.has(connection::IGNORED))
}

/// The state of `sock`, wanted or not, if it is on a port that is served: that costs no call, and keeps the connections
/// that this host opens itself from costing one.
#[inline(always)]
pub fn known<'a>(sock: Sock) -> Option<&'a Connection> {
    if is_known_port(sock.local_port()) { storage(sock, GET) } else { None }
}

/// The connection of the established socket `sock`; one that was open before tracing began is adopted.
#[inline(always)]
pub fn find_or_adopt<'a>(context: &impl EbpfContext, sock: Sock) -> Option<(&'a Connection, TcpSock)> {
    if !is_known_port(sock.local_port()) {
        return None;
    }
    let connection = match storage(sock, GET) {
        Some(connection) if connection.id.get() != 0 || connection.flags.get() != 0 => connection,
        _ => adopt(context, sock)?,
    };
    let wanted = !connection.flags.has(connection::IGNORED);
    if wanted { Some((connection, sock.as_tcp()?)) } else { None }
}

/// Not inlined: what happens once in the life of a connection is not to lie between what happens at each of its packets.
#[inline(never)]
fn adopt<'a>(context: &impl EbpfContext, sock: Sock) -> Option<&'a Connection> {
    // Through which interface an open connection came is not known.
    if !Filters.wants_adopted() || !is_tracing() {
        return None;
    }
    let tcp_sock = sock.as_tcp()?;
    let tcp = tcp_sock.tcp();
    let connection = create(sock, &sock.tuple(), 0)?;
    connection.flags.insert(connection::ADOPTED);
    let unread = after(tcp.expected, tcp_sock.unread());
    let answered = tcp_sock.acknowledgement().unacknowledged != tcp.written;
    if unread || answered {
        connection.follow_midway(tcp, answered);
    } else {
        connection.follow(tcp);
    }
    if !connection.flags.has(connection::IGNORED) {
        if Filters.wants_unread() {
            count(Counter::ConnectionsAdopted);
        }
        debug!(context, "adopted connection {} on port {}", connection.id.get(), connection.tuple.get().local.port);
    }
    Some(connection)
}

/// Begins to trace the connection `sock` if it is being read before its handshake is over: the request came with the SYN (TCP
/// Fast Open).
#[inline(always)]
pub fn born_early(sock: Sock) {
    if sock.state() == state::SYN_RECV
        && is_known_port(sock.local_port())
        && storage(sock, GET).is_none_or(|connection| connection.id.get() == 0)
    {
        begin(sock);
    }
}

/// Begins to trace the connection `sock`, which is established now, if it is wanted.
#[inline(always)]
pub fn born(sock: Sock) {
    match known(sock) {
        Some(connection) if connection.id.get() != 0 => established_late(sock, connection),
        _ => begin(sock),
    }
}

/// The handshake of a connection is over whose request came with the SYN, and has been read. The handshake's last ACK may
/// acknowledge the response.
#[inline(never)]
fn established_late(sock: Sock, connection: &Connection) {
    let now = now();
    connection.moments.established.set(now);
    if connection.flags.has(connection::IGNORED) {
        return;
    }
    let Some(tcp) = sock.as_tcp() else { return };
    let view = tcp.tcp();
    let acknowledges = tcp.acknowledgement().unacknowledged;
    let segment = Segment { start: view.expected, end: view.expected, acknowledges };
    let times = || Times { arrived: 0, queued: now };
    connection.segment(segment, view, times, |connection, why, now| report_request(connection, why, tcp, now));
}

/// Begins to trace the connection `sock`, whose handshake ends now, or whose request came with the SYN. Not inlined, like
/// [`adopt`].
#[inline(never)]
fn begin(sock: Sock) {
    let port = sock.local_port();
    if !is_tracing() || !may_want(port) {
        return;
    }
    // Not that of its listener where a transparent proxy accepts.
    if !is_known_port(port) {
        add_port(port);
    }
    let Some(tcp_sock) = sock.as_tcp() else { return };
    let tuple = sock.tuple();
    // Not kept as an `Option`: Linux 6.1 refuses a program that copies one that is `None`.
    let (mut syn, mut synack, mut acknowledged, mut asked) = (0, 0, 0, 0);
    let found = HANDSHAKES.take(&tuple, |it| {
        (syn, synack, acknowledged, asked) = (it.syn.get(), it.synack.get(), it.acknowledged.get(), it.asked.get());
    });
    if found.is_none() {
        (syn, synack, acknowledged, asked) = (0, 0, 0, 0);
    }
    let Some(connection) = create(sock, &tuple, asked) else { return };
    let tcp = tcp_sock.tcp();
    let now = now();
    connection.moments.established.set(now);
    drops::forget(&tuple, now);
    // Only what came with the SYN has been received now.
    match tcp_sock.bytes_received() {
        0 => connection.follow(tcp),
        received => {
            let is_early = sock.state() == state::SYN_RECV;
            let answered = if is_early { tcp_sock.acknowledgement().unacknowledged } else { tcp.written };
            let queued = if syn == 0 { now } else { syn };
            counted(connection, |connection| connection.follow_fast_open(tcp, received, answered, queued));
        }
    }
    let mut moments = ConnectionMoments { syn, synack, established: now, accepted: 0 };
    moments.leave_deferral_out(acknowledged);
    connection.moments.syn.set(moments.syn);
    connection.moments.synack.set(moments.synack);
    if !Filters.wants_arrival(connection.moments.syn.get() != 0) {
        connection.flags.insert(connection::IGNORED);
    }
    if !connection.flags.has(connection::IGNORED) && Filters.wants_unread() {
        count_opened(connection);
    }
}

/// Counts a connection that the filters let through: at once, but with a process filter when that process first uses it.
#[inline(always)]
fn count_opened(connection: &Connection) {
    if connection.flags.has(connection::ADOPTED) {
        count(Counter::ConnectionsAdopted);
        return;
    }
    count(Counter::ConnectionsOpened);
    if connection.moments.syn.get() == 0 && connection.moments.synack.get() == 0 {
        count(Counter::HandshakesLost);
    }
}

/// Marks the connection `sock`, which this host opened, as none of ours: its port may be one that something listens on
/// in another network namespace.
#[inline(always)]
pub fn ignore_outgoing(sock: Sock) {
    if is_known_port(sock.local_port())
        && let Some(connection) = storage(sock, CREATE)
    {
        connection.flags.set(connection::IGNORED);
    }
}

#[inline(always)]
fn create<'a>(sock: Sock, tuple: &Tuple, asked: u16) -> Option<&'a Connection> {
    let Some(connection) = storage(sock, CREATE) else {
        storage_failed(sock);
        return None;
    };
    connection.id.set(sock.cookie());
    connection.address.set(sock.pointer() as u64);
    connection.tuple.set(*tuple);
    connection.asked.set(asked.into());
    connection.netns.set(sock.netns());
    let is_wanted = Filters.wants_connection(&handshake::asked_for(tuple, asked), connection.netns.get());
    let unseen = if kernel::is_accept_unseen() { connection::ACCEPT_UNSEEN } else { 0 };
    connection.flags.set(if is_wanted { unseen } else { connection::IGNORED });
    Some(connection)
}

/// Not inlined: it happens next to never.
#[inline(never)]
fn storage_failed(sock: Sock) {
    if Filters.wants_socket(|| sock.tuple(), || sock.netns()) {
        count(Counter::StorageFailed);
    }
}

/// Runs `event` and counts the request that it began, or that it saw answered further.
#[inline(always)]
pub fn counted<T>(connection: &Connection, event: impl FnOnce(&Connection) -> T) -> T {
    let (sequence, acknowledged) = (connection.sequence.get(), connection.acknowledged_end.get());
    let result = event(connection);
    if connection.sequence.get() != sequence {
        // Who reads the first one is not known yet: `note_reader` counts that.
        if is_wanted_reader(connection) {
            count(Counter::RequestsBegun);
        }
    } else if connection.flags.has(REOPENED)
        && connection.acknowledged_end.get() != acknowledged
        && is_wanted_reader(connection)
    {
        count(Counter::RequestsReopened);
    }
    result
}

/// Notes the current task as the reader of the current request. Only in process context: in a softirq the current
/// task is whoever was interrupted.
#[inline(always)]
pub fn note_reader(context: &impl EbpfContext, connection: &Connection) {
    let pid = context.tgid();
    if connection.reader.get() == pid {
        return;
    }
    if !is_wanted_reader(connection) && Filters.wants_reader(pid) {
        count(Counter::RequestsBegun);
    }
    connection.reader.set(pid);
    // SAFETY: no argument.
    let cgroup = unsafe { bpf_get_current_cgroup_id() };
    connection.process.set(Process { cgroup, pid, padding: 0, comm: context.command().unwrap_or_default() });
}

/// The application has begun to use the connection: reports it, if it was not.
#[inline(always)]
pub fn in_use(connection: &Connection, now: u64) {
    if !connection.flags.has(connection::OPENED) {
        first_used(connection, now);
    }
}

/// Not inlined, like [`adopt`].
#[inline(never)]
fn first_used(connection: &Connection, now: u64) {
    take_accept_time(connection);
    if is_wanted_reader(connection) {
        if !Filters.wants_unread() {
            count_opened(connection);
        }
        connection.flags.insert(connection::OPENED);
        report_connection(connection, Kind::Opened, now);
    }
}

#[inline(always)]
fn take_more(address: u64) -> Option<u64> {
    // SAFETY: the value is copied at once; only this socket's events touch its entry.
    let moment = unsafe { ACCEPTS_MORE.get(address) }.copied()?;
    let _ = ACCEPTS_MORE.remove(address);
    Some(moment)
}

/// Takes over the accept time that was stored under the socket's address, where no hook gave it with the socket.
#[inline(always)]
pub fn take_accept_time(connection: &Connection) {
    // An outgoing connection has no address here.
    if connection.moments.accepted.get() == 0
        && connection.address.get() != 0
        && let Some(moment) =
            ACCEPTS.take(&connection.address.get(), Shared::get).or_else(|| take_more(connection.address.get()))
        && !connection.flags.has(connection::ADOPTED)
    {
        connection.accepted(moment);
    }
}

/// Notes that a process has the connection although no hook saw `accept()`: some see a system call only, and an `io_uring`
/// accepts without one.
#[inline(always)]
pub fn note_unseen_accept(sock: Sock, connection: &Connection) {
    if connection.moments.accepted.get() == 0 && sock.is_held() {
        connection.flags.insert(connection::ACCEPT_UNSEEN);
    }
}

/// Reports the connection when it is gone.
#[inline(always)]
pub fn report_closed(connection: &Connection, now: u64) {
    if is_wanted_reader(connection) {
        count(Counter::ConnectionsClosed);
        report_connection(connection, Kind::Closed, now);
    }
}

#[inline(always)]
fn report_connection(connection: &Connection, kind: Kind, now: u64) {
    // SAFETY: the slot is the ring buffer's, reserved for this record.
    emit(Counter::ConnectionRecordsLost, now, |slot| unsafe { ConnectionRecord::write(slot, connection, kind, now) });
}

/// Reports that the listener `sock` closes, if its port is one that is traced.
#[inline(never)]
pub fn report_listener_closed(sock: Sock) {
    let local = sock.tuple().local;
    let netns = sock.netns();
    if !is_tracing() || !Filters.wants_listener(local.port, netns) {
        return;
    }
    let by = sock.ender();
    let now = now();
    // SAFETY: the slot is the ring buffer's, reserved for this record.
    emit(Counter::ConnectionRecordsLost, now, |slot| unsafe {
        let kind = Kind::Listener as u32;
        core::ptr::write(slot, ListenerRecord { kind, netns, reported: now, by, local, padding: 0 });
    });
}

/// Reports the current request of `connection`.
#[inline(always)]
pub fn report_request(connection: &Connection, why: Report, tcp: TcpSock, now: u64) {
    if !is_wanted_reader(connection) {
        return;
    }
    if connection.request.reports.get() == 0 {
        count(Counter::RequestsEnded);
    }
    let last = matches!(why, Report::Over);
    let round_trip = tcp.smoothed_round_trip();
    // SAFETY: the slot is the ring buffer's, reserved for this record.
    emit(Counter::RequestRecordsLost, now, |slot| unsafe {
        RequestRecord::write(slot, connection, last, round_trip, now);
    });
}

/// Whether the process filter lets the connection's latest reader through.
#[inline(always)]
pub fn is_wanted_reader(connection: &Connection) -> bool {
    Filters.wants_reader(connection.reader.get())
}
