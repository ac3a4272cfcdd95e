//! A precise HTTP client: it waits, dawdles and breaks off where it is told to, and says when each byte went and came.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::clock::{monotonic_ns, sleep};
use crate::netns::Namespace;

mod request;
mod sent;

pub use request::Request;
pub use sent::sent_ns;

const CHUNK: usize = 64 << 10;
const HEAD_LIMIT: usize = 64 << 10;

/// How to connect, and from where.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    namespace: &'a Namespace,
    source: Option<IpAddr>,
    source_port: u16,
    receive_buffer: Option<usize>,
    timeout: Duration,
}

impl<'a> Client<'a> {
    /// A client in `namespace`.
    #[must_use]
    pub fn new(namespace: &'a Namespace) -> Self {
        Self { namespace, source: None, source_port: 0, receive_buffer: None, timeout: Duration::from_mins(1) }
    }

    /// Connects from this port instead of one that the kernel chooses.
    #[must_use]
    pub fn source_port(self, source_port: u16) -> Self {
        Self { source_port, ..self }
    }

    /// Connects from this address, which the namespace has, instead of the one that its routes choose.
    #[must_use]
    pub fn source(self, source: IpAddr) -> Self {
        Self { source: Some(source), ..self }
    }

    /// Sets `SO_RCVBUF`, bytes: a small one closes the window of a slow reader early. The kernel doubles it.
    #[must_use]
    pub fn receive_buffer(self, bytes: usize) -> Self {
        Self { receive_buffer: Some(bytes), ..self }
    }

    /// How long to connect, and how long one read or write may take; 60 seconds unless told.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Opens a connection to `address`.
    ///
    /// # Errors
    /// Where it is refused, or not established in time.
    pub fn connect(&self, address: SocketAddr) -> Result<Connection> {
        self.namespace.enter(|| self.connect_here(address))
    }

    /// Opens `count` connections, one after the other, all of them left open.
    ///
    /// # Errors
    /// As [`Client::connect`], for the first that fails.
    pub fn connect_many(&self, address: SocketAddr, count: usize) -> Result<Vec<Connection>> {
        crate::process::raise_file_limit();
        self.namespace.enter(|| (0..count).map(|_| self.connect_here(address)).collect())
    }

    /// Opens a connection, sends one request and waits for its response.
    ///
    /// # Errors
    /// As [`Client::connect`] and [`Connection::request`].
    pub fn request(&self, address: SocketAddr, request: &Request) -> Result<Reply> {
        self.connect(address)?.request(request)
    }

    /// Opens a connection from the namespace of the calling thread.
    pub(crate) fn connect_here(&self, address: SocketAddr) -> Result<Connection> {
        let (family, any) = match address {
            SocketAddr::V4(_) => (AddressFamily::INET, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            SocketAddr::V6(_) => (AddressFamily::INET6, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        };
        let prepare = || {
            let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
            if let Some(bytes) = self.receive_buffer {
                sockopt::set_socket_recv_buffer_size(&socket, bytes)?;
            }
            if self.source_port != 0 || self.source.is_some() {
                sockopt::set_socket_reuseaddr(&socket, true)?;
                rustix::net::bind(&socket, &SocketAddr::new(self.source.unwrap_or(any), self.source_port))?;
            }
            // The timeouts hold for connect() too.
            sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(self.timeout))?;
            sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(self.timeout))?;
            rustix::io::Result::Ok(socket)
        };
        let socket = prepare().context("cannot make a socket")?;
        let connect_ns = monotonic_ns();
        match rustix::net::connect(&socket, &address) {
            Ok(()) => {}
            Err(rustix::io::Errno::INPROGRESS) => bail!("no connection to {address} within {:?}", self.timeout),
            Err(error) => return Err(error).with_context(|| format!("cannot connect to {address}")),
        }
        let connected_ns = monotonic_ns();
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true).context("cannot set TCP_NODELAY")?;
        let local = stream.local_addr()?;
        sent::forget(local);
        Ok(Connection { local, peer: address, stream, connect_ns, connected_ns })
    }
}

/// An open connection. Dropping it closes it: what was not read makes the kernel send a reset, else a FIN.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// This end.
    pub local: SocketAddr,
    /// The other end.
    pub peer: SocketAddr,
    /// `connect()` was called.
    pub connect_ns: u64,
    /// `connect()` returned.
    pub connected_ns: u64,
}

/// When a request was sent. Instants are `CLOCK_MONOTONIC` nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Before the write of the first byte.
    pub first_byte_ns: u64,
    /// After the write of the last byte.
    pub last_byte_ns: u64,
    /// Head and body.
    pub bytes: u64,
}

/// A response and its times. Instants are `CLOCK_MONOTONIC` nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// How the request was sent.
    pub sent: Sent,
    /// The read that brought the first byte returned.
    pub first_byte_ns: u64,
    /// The read that brought the last byte returned.
    pub last_byte_ns: u64,
    /// Head and body.
    pub bytes: u64,
    /// The body alone.
    pub body_bytes: u64,
    /// The status code.
    pub status: u16,
    /// The head as it came, without the empty line.
    pub head: String,
    /// The server has said or shown that it closes the connection.
    pub closed: bool,
}

impl Reply {
    /// From the first byte sent to the first byte of the response, nanoseconds.
    #[must_use]
    pub fn first_byte_after_ns(&self) -> u64 {
        self.first_byte_ns.saturating_sub(self.sent.first_byte_ns)
    }

    /// From the first byte sent to the last byte of the response, nanoseconds.
    #[must_use]
    pub fn total_ns(&self) -> u64 {
        self.last_byte_ns.saturating_sub(self.sent.first_byte_ns)
    }

    /// The value of a header, whatever the case of its name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        headers.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

/// What became of a request that may have met the server's close.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The server answered.
    Answered(Reply),
    /// The request left this end, and the server ended the connection without a byte of a response.
    Lost,
    /// The connection had been reset before: nothing left this end.
    NotSent,
}

impl Connection {
    /// Sends one request and waits for its response, on a connection that the server may close at any moment.
    ///
    /// # Errors
    /// As [`Connection::request`], and where the server ends the connection in the middle of its response.
    pub fn request_or_lose(&mut self, request: &Request) -> Result<Fate> {
        let sent = match self.send(request) {
            Ok(sent) => sent,
            Err(error) if is_ended(&error) => return Ok(Fate::NotSent),
            Err(error) => return Err(error),
        };
        match self.stream.peek(&mut [0]) {
            Ok(0) => Ok(Fate::Lost),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(Fate::Lost),
            _ => self.receive(request, sent).map(Fate::Answered),
        }
    }

    /// Sends one request and waits for its response.
    ///
    /// # Errors
    /// Where either fails.
    pub fn request(&mut self, request: &Request) -> Result<Reply> {
        let sent = self.send(request)?;
        self.receive(request, sent)
    }

    /// Sends the same request `count` times, each after the response to the one before and a `pause`.
    ///
    /// # Errors
    /// As [`Connection::request`], for the first that fails.
    pub fn requests(&mut self, count: usize, pause: Duration, request: &Request) -> Result<Vec<Reply>> {
        let turn = |index| {
            sleep(if index == 0 { Duration::ZERO } else { pause });
            self.request(request).with_context(|| format!("request {} of {count}", index + 1))
        };
        (0..count).map(turn).collect()
    }

    /// Sends a request, with its waits, and does not read.
    ///
    /// # Errors
    /// Where the connection breaks or the server does not take the bytes in time.
    pub fn send(&mut self, request: &Request) -> Result<Sent> {
        sleep(request.before_first_byte);
        let head = request.head(self.peer);
        let head_bytes = head.len() as u64;
        let first_byte_ns = monotonic_ns();
        sent::note(self.local, first_byte_ns);
        let body = request.body_bytes;
        if body > 0 && request.before_body.is_zero() && request.body_pieces == 1 {
            // One write for the head and the start of the body, as most clients do.
            self.send_bytes(head, head_bytes + body)?;
        } else {
            self.send_bytes(head, head_bytes)?;
            sleep(request.before_body);
            let pieces = request.body_pieces.clamp(1, body.max(1));
            for piece in 1..=pieces {
                sleep(if piece == 1 { Duration::ZERO } else { request.between_body_pieces });
                self.send_bytes(Vec::new(), body * piece / pieces - body * (piece - 1) / pieces)?;
            }
        }
        let last_byte_ns = monotonic_ns();
        if request.half_close {
            self.stream.shutdown(Shutdown::Write).context("cannot close the sending half")?;
        }
        Ok(Sent { first_byte_ns, last_byte_ns, bytes: head_bytes + body })
    }

    /// Sends bytes as they are: half a request, or none at all.
    ///
    /// # Errors
    /// Where the connection breaks.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("cannot send")
    }

    /// Reads the response to `request`, of which `sent` tells when it went.
    ///
    /// # Errors
    /// Where the connection breaks, nothing comes in time, or what comes is not a whole response.
    pub fn receive(&mut self, request: &Request, sent: Sent) -> Result<Reply> {
        sleep(request.before_read);
        let mut reply = Reply { sent, ..Reply::default() };
        let mut buffer = vec![0; request.read_bytes.unwrap_or(CHUNK).max(1)];
        let mut head = Vec::new();
        let body_start = loop {
            let count = self.read(&mut buffer, request, &mut reply)?;
            ensure!(count > 0, "the server closed after {} bytes of the response", reply.bytes);
            head.extend_from_slice(&buffer[..count]);
            if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            ensure!(head.len() < HEAD_LIMIT, "the response's head is longer than {HEAD_LIMIT} bytes");
        };
        reply.body_bytes = (head.len() - body_start) as u64;
        head.truncate(body_start - 4);
        reply.head = String::from_utf8(head).context("the response's head is not text")?;
        let status = reply.head.split(' ').nth(1).and_then(|status| status.parse().ok());
        reply.status = status.ok_or_else(|| anyhow!("not a response: {:?}", reply.head))?;
        reply.closed = reply.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let length: u64 = match reply.header("content-length") {
            _ if request.is_head() || matches!(reply.status, 204 | 304) => 0,
            Some(length) => length.parse().context("the response's Content-Length is not a number")?,
            None => u64::MAX,
        };
        while reply.body_bytes < length {
            match self.read(&mut buffer, request, &mut reply)? {
                0 if length == u64::MAX => break,
                0 => bail!("the server closed after {} of {length} bytes of the body", reply.body_bytes),
                count => reply.body_bytes += count as u64,
            }
        }
        Ok(reply)
    }

    /// Waits until the server closes: true for a FIN, false for a reset.
    ///
    /// # Errors
    /// Where it sends bytes, or nothing within the timeout.
    pub fn wait_closed(&mut self) -> Result<bool> {
        match self.stream.read(&mut [0]) {
            Ok(0) => Ok(true),
            Ok(_) => bail!("the server sent bytes instead of closing"),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(false),
            Err(error) => Err(error).context("the server did not close"),
        }
    }

    /// Whether the server has closed, as far as that has come here.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        let peeked = self.stream.set_nonblocking(true).and_then(|()| self.stream.peek(&mut [0]));
        let _ = self.stream.set_nonblocking(false);
        match peeked {
            Ok(count) => count == 0,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    }

    /// The timestamp (RFC 7323) that this end would send now.
    ///
    /// # Errors
    /// Where the kernel does not have it.
    pub fn timestamp(&self) -> Result<u32> {
        let (mut timestamp, mut length) = (0_u32, libc::socklen_t::try_from(size_of::<u32>())?);
        let (socket, place) = (self.stream.as_raw_fd(), (&raw mut timestamp).cast());
        // SAFETY: the kernel writes at most `length` bytes to `place`, which has that many.
        let result =
            unsafe { libc::getsockopt(socket, libc::IPPROTO_TCP, libc::TCP_TIMESTAMP, place, &raw mut length) };
        ensure!(result == 0, std::io::Error::last_os_error());
        Ok(timestamp)
    }

    /// Closes with a reset.
    ///
    /// # Errors
    /// Where `SO_LINGER` cannot be set.
    pub fn reset(self) -> Result<()> {
        sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO)).context("cannot set SO_LINGER")
    }

    /// Walks away from a request that may be under way: a plain close, so that whatever still comes is answered with a
    /// reset. The same as dropping the connection.
    pub fn abandon(self) {
        drop(self);
    }

    /// Sends `start` filled up to `total` bytes, in chunks.
    fn send_bytes(&mut self, mut start: Vec<u8>, total: u64) -> Result<()> {
        let mut left = total;
        while left > 0 {
            start.resize(usize::try_from(left).unwrap_or(CHUNK).min(CHUNK), b'u');
            self.stream.write_all(&start).with_context(|| format!("cannot send the last {left} bytes"))?;
            left -= start.len() as u64;
            start.clear();
        }
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8], request: &Request, reply: &mut Reply) -> Result<usize> {
        if reply.bytes > 0 {
            sleep(request.between_reads);
        }
        let count = self.stream.read(buffer).with_context(|| format!("cannot read after {} bytes", reply.bytes))?;
        let now = monotonic_ns();
        if count > 0 {
            if reply.bytes == 0 {
                reply.first_byte_ns = now;
            }
            reply.last_byte_ns = now;
            reply.bytes += count as u64;
        }
        Ok(count)
    }
}

/// Whether an attempt to send failed because the other end had reset the connection.
fn is_ended(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    matches!(kind, Some(ErrorKind::BrokenPipe | ErrorKind::ConnectionReset))
}
