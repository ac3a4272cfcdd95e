//! The target's server: blocking, a thread a connection, so that each instant in its log is the instant of one call.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionread;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::{Behaviour, Options, Served};
use crate::clock::{monotonic_ns, sleep};
use crate::process::raise_file_limit;

/// The head is read in pieces so small that a body sent along with it is not swallowed with it.
const HEAD_READ: usize = 512;
const HEAD_LIMIT: usize = 64 << 10;
const CHUNK: usize = 64 << 10;
/// Many threads wait at once; none of them needs much.
const STACK: usize = 128 << 10;

/// Serves until the process is ended. Prints a line `listening ADDRESS` for each listener once all of them are ready.
///
/// # Errors
/// Where it cannot listen, or cannot make its log.
pub fn run(options: Options) -> Result<()> {
    raise_file_limit();
    let log = options.log.as_ref().map(|path| File::create(path).context("cannot make the log")).transpose()?;
    let listeners = options.listen.iter().map(|address| listen(*address, &options)).collect::<Result<Vec<_>>>()?;
    for listener in &listeners {
        println!("listening {}", listener.local_addr()?);
    }
    let server = Arc::new(Server { options, log: log.map(Mutex::new), connections: AtomicU64::new(0) });
    let threads = listeners.into_iter().map(|listener| {
        let server = Arc::clone(&server);
        thread::spawn(move || server.accept(&listener))
    });
    for thread in threads.collect::<Vec<_>>() {
        thread.join().map_err(|_| anyhow!("a listener panicked"))??;
    }
    Ok(())
}

fn listen(address: SocketAddr, options: &Options) -> Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let start = || {
        let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        sockopt::set_socket_reuseport(&socket, options.reuse_port)?;
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&socket, !address.ip().is_unspecified())?;
        }
        rustix::net::bind(&socket, &address)?;
        rustix::net::listen(&socket, options.backlog)?;
        rustix::io::Result::Ok(socket)
    };
    Ok(start().with_context(|| format!("cannot listen on {address}"))?.into())
}

struct Server {
    options: Options,
    log: Option<Mutex<File>>,
    connections: AtomicU64,
}

impl Server {
    fn accept(self: &Arc<Self>, listener: &TcpListener) -> Result<()> {
        loop {
            readable(listener, None)?;
            let accept_ready_ns = monotonic_ns();
            sleep(self.options.before_accept);
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                // Its peer gave up while it waited in the queue.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error).context("cannot accept"),
            };
            let first = Served {
                accept_ready_ns: Some(accept_ready_ns),
                accepted_ns: Some(monotonic_ns()),
                connection: self.connections.fetch_add(1, Ordering::Relaxed) + 1,
                ..Served::default()
            };
            let server = Arc::clone(self);
            let serve = move || server.serve(stream, first);
            thread::Builder::new().stack_size(STACK).spawn(serve).context("cannot start a thread")?;
        }
    }

    fn serve(&self, mut stream: TcpStream, mut first: Served) {
        // The peer may be gone already: then the first read says so.
        let _ = stream.set_nodelay(true);
        first.peer = stream.peer_addr().ok().map(canonical);
        first.local = stream.local_addr().ok().map(canonical);
        for sequence in 1.. {
            let mut served = Served { sequence, ..first.clone() };
            let mut behaviour = self.options.behaviour.clone();
            let turn = self.turn(&mut stream, &mut served, &mut behaviour);
            if let Err(error) = &turn {
                served.error = Some(format!("{error:#}"));
            }
            if served.readable_ns.is_some() {
                self.record(&served);
            }
            if !matches!(turn, Ok(Next::Continue)) {
                if behaviour.linger0 {
                    // Without it the close is a plain one, which the test that asked for a reset will see.
                    let _ = sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
                }
                return;
            }
        }
    }

    /// One request and its response.
    fn turn(&self, stream: &mut TcpStream, served: &mut Served, behaviour: &mut Behaviour) -> Result<Next> {
        if !readable(&*stream, self.options.idle_close)? {
            return Ok(Next::Close);
        }
        let readable_ns = monotonic_ns();
        // Readable without bytes is the end. Asked without a peek, which a tracer would take for the first read.
        if !ioctl_fionread(&*stream).is_ok_and(|bytes| bytes > 0) {
            return Ok(Next::Close);
        }
        served.readable_ns = Some(readable_ns);
        sleep(self.options.before_read);
        let Some(request) = read_head(stream, served, behaviour)? else { return Ok(Next::Close) };
        served.request.clone_from(&request.line);
        if behaviour.early_response {
            respond(stream, served, behaviour, &request)?;
            read_body(stream, served, behaviour, &request)?;
        } else {
            if !read_body(stream, served, behaviour, &request)? {
                return Ok(Next::Close);
            }
            sleep(behaviour.before_write);
            respond(stream, served, behaviour, &request)?;
        }
        Ok(if behaviour.close || !request.keep_alive { Next::Close } else { Next::Continue })
    }

    fn record(&self, served: &Served) {
        let Some(log) = &self.log else { return };
        let mut line = serde_json::to_vec(served).unwrap_or_default();
        line.push(b'\n');
        // One write a line, so that a reader sees whole lines and a killed target loses none.
        if let Err(error) = log.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line) {
            eprintln!("cannot write the log: {error}");
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
    Continue,
    Close,
}

/// What the server needs to know of a request's head.
struct Request {
    line: String,
    keep_alive: bool,
    is_head: bool,
    /// Bytes of the body that are still to be read.
    unread: u64,
    /// Length of the body.
    length: u64,
}

/// Reads the head of a request, or nothing where `read_bytes_then_close` ends it before.
fn read_head(stream: &mut TcpStream, served: &mut Served, behaviour: &mut Behaviour) -> Result<Option<Request>> {
    let mut bytes = Vec::with_capacity(HEAD_READ);
    let end = loop {
        let limit = behaviour.read_bytes_then_close.map_or(u64::MAX, |limit| limit - served.bytes_in);
        if limit == 0 {
            return Ok(None);
        }
        let mut piece = [0; HEAD_READ];
        let wanted = usize::try_from(limit).unwrap_or(HEAD_READ).min(HEAD_READ);
        let count = read(stream, &mut piece[..wanted], served)?;
        bytes.extend_from_slice(&piece[..count]);
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        ensure!(bytes.len() < HEAD_LIMIT, "the head is longer than {HEAD_LIMIT} bytes");
    };
    let head = std::str::from_utf8(&bytes[..end]).context("the head is not text")?;
    let mut request = parse_head(head, behaviour)?;
    let swallowed = (bytes.len() - end) as u64;
    request.unread = request.length.checked_sub(swallowed).context("there is more than one request in the socket")?;
    Ok(Some(request))
}

fn parse_head(head: &str, behaviour: &mut Behaviour) -> Result<Request> {
    let mut lines = head.lines();
    let first = lines.next().unwrap_or_default();
    let Some((line, version)) = first.rsplit_once(' ') else { bail!("not a request: {first:?}") };
    let is_head = line.starts_with("HEAD ");
    let mut request =
        Request { line: line.to_owned(), keep_alive: version == "HTTP/1.1", is_head, unread: 0, length: 0 };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let (name, value) = (name.to_ascii_lowercase(), value.trim());
        match name.as_str() {
            "content-length" => request.length = value.parse().context("Content-Length is not a number")?,
            "transfer-encoding" => bail!("the target does not read chunked bodies: send a Content-Length"),
            "connection" => request.keep_alive = !value.eq_ignore_ascii_case("close"),
            _ => {
                if let Some(option) = name.strip_prefix("x-") {
                    // Other headers with an X- are not for us.
                    behaviour.set(option, value)?;
                }
            }
        }
    }
    Ok(request)
}

/// Reads the body; says whether the request is to be answered.
fn read_body(
    stream: &mut TcpStream,
    served: &mut Served,
    behaviour: &mut Behaviour,
    request: &Request,
) -> Result<bool> {
    let head = served.bytes_in - (request.length - request.unread);
    let mut left = request.unread;
    if let Some(limit) = behaviour.read_bytes_then_close {
        let left = limit.saturating_sub(served.bytes_in).min(left);
        read_exactly(stream, left, served)?;
        return Ok(false);
    }
    if !behaviour.between_reads.is_zero() && request.length > 0 {
        let half = head + request.length / 2;
        if let Some(first) = half.checked_sub(served.bytes_in) {
            read_exactly(stream, first, served)?;
            left -= first;
            sleep(behaviour.between_reads);
        } else {
            behaviour.status = 400;
        }
    }
    read_exactly(stream, left, served)?;
    Ok(true)
}

fn read_exactly(stream: &mut TcpStream, mut bytes: u64, served: &mut Served) -> Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    let mut chunk = vec![0; CHUNK];
    while bytes > 0 {
        let wanted = usize::try_from(bytes).unwrap_or(CHUNK).min(CHUNK);
        bytes -= read(stream, &mut chunk[..wanted], served)? as u64;
    }
    Ok(())
}

fn read(stream: &mut TcpStream, buffer: &mut [u8], served: &mut Served) -> Result<usize> {
    let count = stream.read(buffer).context("cannot read")?;
    let now = monotonic_ns();
    ensure!(count > 0, "the peer closed after {} bytes of the request", served.bytes_in);
    served.first_read_ns.get_or_insert(now);
    served.last_read_ns = Some(now);
    served.bytes_in += count as u64;
    Ok(count)
}

/// Writes the response in its pieces; the first one starts with the head.
fn respond(stream: &mut TcpStream, served: &mut Served, behaviour: &Behaviour, request: &Request) -> Result<()> {
    let close = if behaviour.close || !request.keep_alive { "close" } else { "keep-alive" };
    let length = behaviour.response_bytes;
    let head = format!("HTTP/1.1 {} Lab\r\nContent-Length: {length}\r\nConnection: {close}\r\n\r\n", behaviour.status);
    let body = if request.is_head { 0 } else { length };
    let pieces = behaviour.pieces.clamp(1, body.max(1));
    let mut bytes = head.into_bytes();
    let head = bytes.len() as u64;
    served.first_write_ns = Some(monotonic_ns());
    served.status = Some(behaviour.status);
    for piece in 1..=pieces {
        if piece > 1 {
            sleep(behaviour.between_pieces);
        }
        let end = head + body * piece / pieces;
        while served.bytes_out < end {
            bytes.resize(usize::try_from(end - served.bytes_out).unwrap_or(CHUNK).min(CHUNK), b'x');
            stream.write_all(&bytes).context("cannot write")?;
            served.last_write_ns = Some(monotonic_ns());
            served.bytes_out += bytes.len() as u64;
            bytes.clear();
        }
    }
    Ok(())
}

/// Waits until there is something to read (or to accept), or the other end has closed; says no after `timeout`.
fn readable(socket: impl AsFd, timeout: Option<Duration>) -> Result<bool> {
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    loop {
        match poll(&mut [PollFd::new(&socket, PollFlags::IN)], timeout.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for the socket"),
        }
    }
}

/// An IPv4-mapped address as IPv4.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
