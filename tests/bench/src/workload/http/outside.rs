//! The loop of the client that is outside of this kernel: a TCP stack in user space behind a TAP device. Of each connection
//! only the server's end is a socket of this host, and only its packets pass hooks, as where the load balancer is another
//! machine.

use std::{
    net::{Ipv4Addr, SocketAddr},
    os::fd::AsRawFd as _,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use lab::clock::monotonic_ns;
use smoltcp::{
    iface::{Config, Interface, SocketHandle, SocketSet},
    phy::{Medium, TunTapInterface, wait},
    socket::tcp,
    time::{Duration, Instant},
    wire::{EthernetAddress, IpCidr, Ipv4Cidr},
};

use super::{Exchange, Finished, GOOD, Shared};
use crate::workload::{Http, scene::Tap};

/// How long answers may be outstanding when no further requests are sent.
const PATIENCE_NS: u64 = 5_000_000_000;
/// How long the loop sleeps at most, so that it sees that it is to end.
const NAP: Duration = Duration::from_millis(20);
/// Buffers of a connection: a request, and an answer that is small.
const BUFFER: usize = 4096;
/// The number of the next connection, over all samples: for a minute the server remembers the ports of those that it closed.
static NEXT: AtomicU32 = AtomicU32::new(0);
/// Addresses of the client, and ports of each.
const ADDRESSES: u32 = 250;
const PORTS: u32 = 60_000;
const FIRST_PORT: u32 = 2_000;

/// All connections.
pub struct Outside<'a> {
    exchange: &'a Exchange,
    http: Http,
    shared: &'a Shared,
    device: TunTapInterface,
    interface: Interface,
    sockets: SocketSet<'static>,
    places: Vec<Place>,
    /// An answer is followed by the next request.
    goes_on: bool,
    finished: Finished,
}

/// A connection, or the place of those that follow each other.
struct Place {
    handle: SocketHandle,
    state: State,
    /// When the request under way was due.
    due_ns: u64,
    /// How much of the answer is to come.
    left: usize,
    /// Nothing of the answer has come.
    is_first: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// No request is under way.
    Quiet,
    /// A request waits for its connection.
    Connecting,
    Asking,
    /// The answer is whole, and the connection ends.
    Closing,
}

impl<'a> Outside<'a> {
    /// Sets the stack up behind the device, in the namespace of the calling thread.
    pub fn new(exchange: &'a Exchange, http: Http, shared: &'a Shared) -> Result<Self> {
        ensure!(http.rate.is_none(), "the client outside of this kernel keeps no pace");
        let mut device = TunTapInterface::new(Tap::NAME, Medium::Ethernet).context("cannot open the TAP device")?;
        let mut config = Config::new(EthernetAddress([2, 0, 0, 0, 0, 1]).into());
        // The first sequence number of each connection.
        config.random_seed = monotonic_ns();
        let mut interface = Interface::new(config, &mut device, Instant::now());
        let full = || anyhow!("the stack has no room for an address or a route");
        let mut added = Ok(());
        interface.update_ip_addrs(|addresses| {
            added = addresses.push(IpCidr::new(Tap::PEER.into(), Tap::PREFIX)).map_err(|_| full());
        });
        added?;
        interface.routes_mut().add_default_ipv4_route(Tap::ADDRESS)?;
        let clients = Ipv4Cidr::new(Tap::CLIENTS, 24);
        let mut routed = Ok(());
        interface.routes_mut().update(|routes| {
            let route = smoltcp::iface::Route {
                cidr: clients.into(),
                via_router: Tap::PEER.into(),
                preferred_until: None,
                expires_at: None,
            };
            routed = routes.push(route).map_err(|_| full());
        });
        routed?;
        // It answers for all addresses of the route.
        interface.set_any_ip(true);
        let mut sockets = SocketSet::new(Vec::new());
        let place = |_| {
            let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER]);
            let handle = sockets.add(tcp::Socket::new(buffer(), buffer()));
            Place { handle, state: State::Quiet, due_ns: 0, left: 0, is_first: false }
        };
        let places = (0..http.connections).map(place).collect();
        let finished = Finished::default();
        Ok(Self { exchange, http, shared, device, interface, sockets, places, goes_on: false, finished })
    }

    /// One whole request on each connection that stays.
    pub fn greet(&mut self) -> Result<()> {
        if self.http.keep_alive {
            for place in 0..self.places.len() {
                self.ask(place, monotonic_ns())?;
                self.settle()?;
            }
            ensure!(self.finished.failed == 0, "{} first requests failed", self.finished.failed);
        }
        Ok(())
    }

    /// Sends requests until it is to stop and what is under way is answered.
    pub fn run(&mut self) -> Result<Finished> {
        self.goes_on = true;
        for place in 0..self.places.len() {
            self.ask(place, monotonic_ns())?;
        }
        while !self.shared.stop.load(Relaxed) {
            self.turn()?;
        }
        self.goes_on = false;
        self.settle()?;
        for place in &self.places {
            self.sockets.get_mut::<tcp::Socket>(place.handle).close();
        }
        let end_ns = monotonic_ns() + PATIENCE_NS / 50;
        while monotonic_ns() < end_ns {
            self.turn()?;
        }
        Ok(std::mem::take(&mut self.finished))
    }

    /// Waits until no request is under way.
    fn settle(&mut self) -> Result<()> {
        let start_ns = monotonic_ns();
        while self.places.iter().any(|place| place.state != State::Quiet) {
            ensure!(monotonic_ns() - start_ns < PATIENCE_NS, "requests are not answered");
            self.turn()?;
        }
        Ok(())
    }

    /// Takes in and sends what there is, and sees to every connection; sleeps where there is nothing.
    fn turn(&mut self) -> Result<()> {
        let now = Instant::now();
        self.interface.poll(now, &mut self.device, &mut self.sockets);
        let mut has_moved = false;
        for place in 0..self.places.len() {
            has_moved |= self.see_to(place)?;
        }
        if !has_moved {
            let delay = self.interface.poll_delay(now, &self.sockets).unwrap_or(NAP).min(NAP);
            if delay > Duration::ZERO {
                wait(self.device.as_raw_fd(), Some(delay)).context("cannot wait for packets")?;
            }
        }
        Ok(())
    }

    /// Begins a request.
    fn ask(&mut self, place: usize, due_ns: u64) -> Result<()> {
        let place = &mut self.places[place];
        place.due_ns = due_ns;
        let socket = self.sockets.get_mut::<tcp::Socket>(place.handle);
        place.state = State::Connecting;
        if !socket.is_open() {
            let number = NEXT.fetch_add(1, Relaxed);
            let address = Ipv4Addr::from(u32::from(Tap::CLIENTS) + 1 + number % ADDRESSES);
            let port = u16::try_from(FIRST_PORT + number / ADDRESSES % PORTS)?;
            let SocketAddr::V4(to) = self.exchange.address else { bail!("the client speaks IPv4 only") };
            let (to, from) = ((*to.ip(), to.port()), (address, port));
            socket.connect(self.interface.context(), to, from).context("cannot connect")?;
            socket.set_nagle_enabled(false);
        }
        Ok(())
    }

    /// Goes on with a connection as far as it can; whether there was anything to do.
    fn see_to(&mut self, index: usize) -> Result<bool> {
        let place = &mut self.places[index];
        let socket = self.sockets.get_mut::<tcp::Socket>(place.handle);
        match place.state {
            State::Quiet => Ok(false),
            State::Connecting if socket.may_send() => {
                let sent = socket.send_slice(&self.exchange.request).context("cannot send a request")?;
                ensure!(sent == self.exchange.request.len(), "a request did not fit into the socket");
                (place.state, place.left, place.is_first) = (State::Asking, self.exchange.length, true);
                Ok(true)
            }
            State::Connecting | State::Closing if socket.is_open() => Ok(false),
            State::Asking if socket.can_recv() => {
                let is_good = place.receive(socket)?;
                match (is_good, place.left) {
                    (false, _) => self.failed(index)?,
                    (true, 0) => self.answered(index)?,
                    (true, _) => {}
                }
                Ok(true)
            }
            State::Asking if socket.may_recv() => Ok(false),
            State::Connecting | State::Asking => self.failed(index).map(|()| true),
            State::Closing => self.go_on(index).map(|()| true),
        }
    }

    fn answered(&mut self, index: usize) -> Result<()> {
        let place = &mut self.places[index];
        self.finished.done += 1;
        self.shared.answered.store(self.finished.done, Relaxed);
        if self.shared.keep.load(Relaxed) {
            self.finished.latencies_ns.push(monotonic_ns() - place.due_ns);
        }
        if self.http.keep_alive {
            return self.go_on(index);
        }
        self.sockets.get_mut::<tcp::Socket>(place.handle).close();
        place.state = State::Closing;
        Ok(())
    }

    fn failed(&mut self, index: usize) -> Result<()> {
        self.finished.failed += 1;
        if self.finished.failed > 1000 {
            bail!("{} requests failed", self.finished.failed);
        }
        self.sockets.get_mut::<tcp::Socket>(self.places[index].handle).abort();
        self.places[index].state = State::Closing;
        Ok(())
    }

    /// The next request on the same place, if there is one.
    fn go_on(&mut self, index: usize) -> Result<()> {
        self.places[index].state = State::Quiet;
        if self.goes_on { self.ask(index, monotonic_ns()) } else { Ok(()) }
    }
}

impl Place {
    /// Reads what there is: whether it is what was expected.
    fn receive(&mut self, socket: &mut tcp::Socket) -> Result<bool> {
        let is_first = std::mem::take(&mut self.is_first);
        // The buffer is a ring: what is read at once may end within the first words.
        let is_good = |data: &[u8]| !is_first || data.starts_with(GOOD) || GOOD.starts_with(data);
        let read = |data: &mut [u8]| (data.len(), (data.len(), is_good(data)));
        let (count, is_good) = socket.recv(read).context("cannot read an answer")?;
        let is_good = is_good && count <= self.left;
        self.left = self.left.saturating_sub(count);
        Ok(is_good)
    }
}
