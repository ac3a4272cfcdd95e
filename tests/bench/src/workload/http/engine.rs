//! The loop of the client.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, Read as _, Write as _},
    net::TcpStream,
    os::fd::OwnedFd,
    sync::atomic::Ordering::Relaxed,
};

use anyhow::{Context as _, Result, bail, ensure};
use lab::clock::monotonic_ns;
use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, connect, socket_with},
};

use super::{Exchange, Finished, GOOD, Shared};
use crate::workload::{Http, paced::Pace};

/// How long answers may be outstanding when no further requests are sent.
const PATIENCE_NS: u64 = 5_000_000_000;
/// How long the loop sleeps at most, so that it sees that it is to end.
const NAP_NS: u64 = 20_000_000;
/// Connections that have their first request under way at once.
const GREETED_AT_ONCE: usize = 64;
/// Latencies for which there is room from the start.
const LATENCIES: usize = 1 << 18;

/// All connections.
pub struct Engine<'a> {
    exchange: &'a Exchange,
    http: Http,
    shared: &'a Shared,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    buffer: Vec<u8>,
    busy: usize,
    /// An answer is followed by the next request.
    goes_on: bool,
    finished: Finished,
}

/// A connection, or the place of those that follow each other.
#[derive(Default)]
struct Connection {
    stream: Option<TcpStream>,
    state: State,
    /// When the request under way was due.
    due_ns: u64,
    /// How much of the answer is to come.
    left: usize,
    /// Nothing of the answer has come.
    is_first: bool,
    /// When those were due that wait for the answer to the one under way.
    waiting: VecDeque<u64>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Quiet,
    Connecting,
    Asking,
}

impl<'a> Engine<'a> {
    /// Opens the connections that stay.
    pub fn open(exchange: &'a Exchange, http: Http, shared: &'a Shared) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("cannot make an epoll")?;
        let mut connections = Vec::new();
        for slot in 0..http.connections {
            let mut connection = Connection::default();
            if http.keep_alive {
                let stream = TcpStream::connect(exchange.address).context("cannot connect")?;
                stream.set_nonblocking(true)?;
                epoll::add(&epoll, &stream, data(slot), epoll::EventFlags::IN | epoll::EventFlags::ET)?;
                connection.stream = Some(stream);
            }
            connections.push(connection);
        }
        let finished = Finished { latencies_ns: Vec::with_capacity(LATENCIES), ..Finished::default() };
        Ok(Self {
            exchange,
            http,
            shared,
            epoll,
            connections,
            buffer: vec![0; 1 << 18],
            busy: 0,
            goes_on: false,
            finished,
        })
    }

    /// One whole request on each connection that stays: a first request is another piece of work than those behind it.
    pub fn greet(&mut self) -> Result<()> {
        if self.http.keep_alive {
            for slot in 0..self.connections.len() {
                self.ask(slot, monotonic_ns())?;
                self.settle(GREETED_AT_ONCE)?;
            }
            self.settle(0)?;
            ensure!(self.finished.failed == 0, "{} first requests failed", self.finished.failed);
        }
        Ok(())
    }

    /// Sends requests until it is to stop and what is under way is answered.
    pub fn run(&mut self) -> Result<Finished> {
        self.goes_on = true;
        let start_ns = monotonic_ns();
        let mut pace = self.http.rate.map(|rate| Pace::new(start_ns, rate));
        if pace.is_none() {
            for slot in 0..self.connections.len() {
                self.ask(slot, start_ns)?;
            }
        }
        let mut events = Vec::with_capacity(256);
        while !self.shared.stop.load(Relaxed) {
            self.due(&mut pace)?;
            self.wait(pace.as_ref().map(Pace::next_ns), &mut events)?;
        }
        self.goes_on = false;
        self.settle(0)?;
        Ok(std::mem::take(&mut self.finished))
    }

    /// Waits until at most `busy` requests are under way; none may follow an answer.
    fn settle(&mut self, busy: usize) -> Result<()> {
        let (start_ns, mut events) = (monotonic_ns(), Vec::with_capacity(256));
        while self.busy > busy {
            ensure!(monotonic_ns() - start_ns < PATIENCE_NS, "{} requests are not answered", self.busy);
            self.wait(None, &mut events)?;
        }
        Ok(())
    }

    /// Waits for events, until the next request is due at the latest, and sees to them. `events` is room for them.
    fn wait(&mut self, next_ns: Option<u64>, events: &mut Vec<epoll::Event>) -> Result<()> {
        let nap_ns = next_ns.map_or(NAP_NS, |next_ns| next_ns.saturating_sub(monotonic_ns()).min(NAP_NS));
        let timeout = Timespec { tv_sec: 0, tv_nsec: nap_ns.try_into()? };
        match epoll::wait(&self.epoll, spare_capacity(events), Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for events"),
        }
        events.drain(..).try_for_each(|event| self.ready(usize::try_from(event.data.u64())?))
    }

    /// Begins the requests that are due: at once, or when their connection is free.
    fn due(&mut self, pace: &mut Option<Pace>) -> Result<()> {
        let Some(pace) = pace else { return Ok(()) };
        let now = monotonic_ns();
        while let Some((number, due_ns)) = pace.due(now) {
            let slot = usize::try_from(number)? % self.connections.len();
            match self.connections[slot].state {
                State::Quiet => self.ask(slot, due_ns)?,
                State::Connecting | State::Asking => self.connections[slot].waiting.push_back(due_ns),
            }
        }
        Ok(())
    }

    /// Begins a request.
    fn ask(&mut self, slot: usize, due_ns: u64) -> Result<()> {
        let connection = &mut self.connections[slot];
        connection.due_ns = due_ns;
        self.busy += 1;
        if connection.stream.is_some() {
            return connection.send(self.exchange);
        }
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket =
            socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).context("cannot make a socket")?;
        match connect(&socket, &self.exchange.address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error).context("cannot connect"),
        }
        let wanted = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(&self.epoll, &socket, data(slot), wanted)?;
        connection.stream = Some(socket.into());
        connection.state = State::Connecting;
        Ok(())
    }

    /// Something happened to a connection.
    fn ready(&mut self, slot: usize) -> Result<()> {
        let connection = &mut self.connections[slot];
        if connection.state == State::Connecting {
            let Some(stream) = &connection.stream else { bail!("an event of a connection that is closed") };
            return match stream.take_error()? {
                None => connection.send(self.exchange),
                Some(_) => self.failed(slot),
            };
        }
        match connection.receive(&mut self.buffer, self.http.keep_alive) {
            Ok(false) => Ok(()),
            Ok(true) => self.answered(slot),
            Err(_) => self.failed(slot),
        }
    }

    fn answered(&mut self, slot: usize) -> Result<()> {
        let now = monotonic_ns();
        self.finished.done += 1;
        self.shared.answered.store(self.finished.done, Relaxed);
        if self.shared.keep.load(Relaxed) {
            self.finished.latencies_ns.push(now - self.connections[slot].due_ns);
        }
        self.next(slot, now)
    }

    fn failed(&mut self, slot: usize) -> Result<()> {
        self.finished.failed += 1;
        self.connections[slot].stream = None;
        self.next(slot, monotonic_ns())
    }

    /// After an answer: the next request on the same place, if there is one.
    fn next(&mut self, slot: usize, now: u64) -> Result<()> {
        self.busy -= 1;
        let connection = &mut self.connections[slot];
        connection.state = State::Quiet;
        if !self.http.keep_alive {
            connection.stream = None;
        }
        if !self.goes_on {
            return Ok(());
        }
        match (self.http.rate, connection.waiting.pop_front()) {
            (None, _) => self.ask(slot, now),
            (Some(_), Some(due_ns)) => self.ask(slot, due_ns),
            (Some(_), None) => Ok(()),
        }
    }
}

impl Connection {
    fn send(&mut self, exchange: &Exchange) -> Result<()> {
        let stream = self.stream.as_mut().context("a request without a connection")?;
        let sent = stream.write(&exchange.request).context("cannot send a request")?;
        ensure!(sent == exchange.request.len(), "a request did not fit into the socket");
        (self.left, self.is_first) = (exchange.length, true);
        self.state = State::Asking;
        Ok(())
    }

    /// Reads what there is: whether the answer is whole, and the connection closed if it does not stay.
    fn receive(&mut self, buffer: &mut [u8], stays: bool) -> io::Result<bool> {
        // The server closed it while nothing was under way, or the event came with what was read before.
        let Some(stream) = self.stream.as_mut().filter(|_| self.state == State::Asking) else { return Ok(false) };
        loop {
            if stays && self.left == 0 {
                return Ok(true);
            }
            let is_first = std::mem::take(&mut self.is_first);
            match stream.read(buffer) {
                Ok(0) if !stays && self.left == 0 => return Ok(true),
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) if count > self.left => return Err(ErrorKind::InvalidData.into()),
                Ok(count) if is_first && !buffer[..count].starts_with(GOOD) => {
                    return Err(ErrorKind::InvalidData.into());
                }
                Ok(count) => self.left -= count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.is_first = is_first;
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn data(slot: usize) -> epoll::EventData {
    epoll::EventData::new_u64(slot as u64)
}
