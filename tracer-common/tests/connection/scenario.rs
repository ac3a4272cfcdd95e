//! Both TCP ends of a connection, as far as the state machine sees them: which events the host's kernel fires, in
//! which order, with which sequence numbers.

use std::cell::RefCell;
use tracer_common::{
    connection::{ADOPTED, Acknowledgement, Change, Connection, Report, Segment, Tcp, Times, state},
    record::RequestRecord,
    rejection::Ender,
    stage::RequestSplit,
};

/// Nanoseconds from each event to the next.
pub const STEP: u64 = 1000;

/// The window that is offered: 16 MiB.
pub const WINDOW: u32 = 16 << 20;

/// A connection, its events so far and what was reported.
pub struct Scenario {
    pub connection: Connection,
    pub now: u64,
    pub state: u8,
    /// The end of what the peer has sent.
    peer_end: u32,
    /// The end of what the host's TCP has received in order.
    expected: u32,
    /// The end of what the application wrote, its FIN included.
    written: u32,
    /// The end of what was given to the device.
    sent: u32,
    /// The end of what the peer received.
    peer_received: u32,
    /// The end of what the peer acknowledged.
    unacknowledged: u32,
    /// When it last acknowledged something.
    acknowledged_at: u64,
    /// In whose context the states change.
    pub by: Ender,
    /// What the application has not read.
    pub unread: u32,
    /// When TCP passes on what is sent next; 0: not known.
    pub passed_on: u64,
    /// The peer's FIN has come.
    has_fin: bool,
    reports: RefCell<Vec<RequestRecord>>,
}

impl Scenario {
    /// A connection whose streams begin at these sequence numbers, not yet followed.
    pub fn at(input: u32, output: u32) -> Self {
        Self {
            connection: Connection::default(),
            now: 1_000_000,
            state: state::SYN_RECV,
            peer_end: input,
            expected: input,
            written: output,
            sent: output,
            peer_received: output,
            unacknowledged: output,
            acknowledged_at: 0,
            by: Ender::default(),
            passed_on: 0,
            unread: 0,
            has_fin: false,
            reports: RefCell::new(Vec::new()),
        }
    }

    pub fn new() -> Self {
        Self::at(1000, 5000)
    }

    pub fn tcp(&self) -> Tcp {
        Tcp { expected: self.expected, written: self.written, window: WINDOW }
    }

    pub fn wait(&mut self, time: u64) -> &mut Self {
        self.now += time;
        self
    }

    /// The handshake, seen.
    pub fn handshake(&mut self) -> &mut Self {
        self.state = state::ESTABLISHED;
        self.connection.moments.syn.set(self.now);
        self.connection.moments.synack.set(self.now + STEP);
        self.connection.moments.established.set(self.now + 2 * STEP);
        self.connection.follow(self.tcp());
        self.wait(3 * STEP)
    }

    /// Tracing begins on the open connection.
    pub fn adopted(&mut self) -> &mut Self {
        self.state = state::ESTABLISHED;
        self.connection.flags.insert(ADOPTED);
        self.connection.follow(self.tcp());
        self
    }

    pub fn accept(&mut self) -> &mut Self {
        self.connection.accepted(self.now);
        self.wait(STEP)
    }

    /// A segment of `length` new bytes arrives and is queued a step later. It acknowledges all that the peer has
    /// received, in this or any later step.
    pub fn request(&mut self, length: u32) -> &mut Self {
        let start = self.peer_end;
        self.peer_end = start.wrapping_add(length);
        self.arrives(start, self.peer_end, self.peer_received);
        self.expected = self.peer_end;
        self
    }

    /// Bytes that the peer sent with the last ACK of the handshake: no hook sees them.
    pub fn request_with_handshake(&mut self, length: u32) -> &mut Self {
        self.peer_end = self.peer_end.wrapping_add(length);
        self.expected = self.peer_end;
        self
    }

    /// A segment arrives as the network gave it, whatever its numbers; TCP's own are left as they are.
    pub fn arrives(&mut self, start: u32, end: u32, acknowledges: u32) -> &mut Self {
        if self.state == state::ESTABLISHED {
            let segment = Segment { start, end, acknowledges };
            let arrived = self.now;
            self.now += STEP;
            let (queued, tcp) = (self.now, self.tcp());
            self.connection.segment(segment, tcp, || Times { arrived, queued }, record(&self.reports));
        }
        if self.unacknowledged != acknowledges {
            self.acknowledged_at = self.now;
        }
        self.unacknowledged = acknowledges;
        self.wait(STEP)
    }

    /// The peer's TCP probes the idle connection: one byte before what is expected.
    pub fn keep_alive_probe(&mut self) -> &mut Self {
        let end = self.expected;
        self.arrives(end.wrapping_sub(1), end.wrapping_sub(1), self.peer_received);
        self.arrives(end.wrapping_sub(1), end, self.peer_received)
    }

    pub fn read(&mut self) -> &mut Self {
        self.connection.read(self.tcp(), || self.now);
        self.wait(STEP)
    }

    pub fn write(&mut self, length: u32) -> &mut Self {
        self.connection.write(|| self.now);
        self.written = self.written.wrapping_add(length);
        self.wait(STEP)
    }

    /// A packet with all that was written and not sent leaves; the peer gets it.
    pub fn send(&mut self) -> &mut Self {
        self.send_lost();
        self.peer_received = self.written;
        self
    }

    /// The same, but the peer does not get it.
    pub fn send_lost(&mut self) -> &mut Self {
        self.connection.sent(self.sent, self.written, self.passed_on, || self.now);
        self.sent = self.written;
        self.wait(STEP)
    }

    /// All that the peer has not acknowledged is sent again; it gets it.
    pub fn retransmit(&mut self) -> &mut Self {
        self.connection.retransmitted(self.sent.wrapping_sub(self.unacknowledged));
        self.connection.sent(self.unacknowledged, self.sent, 0, || self.now);
        self.peer_received = self.sent;
        self.wait(STEP)
    }

    /// An ACK without data arrives.
    pub fn acknowledge(&mut self) -> &mut Self {
        self.arrives(self.peer_end, self.peer_end, self.peer_received)
    }

    /// A response in one piece, acknowledged.
    pub fn respond(&mut self, length: u32) -> &mut Self {
        self.write(length).send().acknowledge()
    }

    /// A FIN of the peer arrives.
    pub fn peer_closes(&mut self) -> &mut Self {
        self.acknowledge();
        self.expected = self.expected.wrapping_add(1);
        match self.state {
            state::ESTABLISHED => self.change(state::CLOSE_WAIT),
            state::FIN_WAIT1 => self.change(state::CLOSING),
            _ => self.change(state::CLOSE),
        }
    }

    /// The application closes; what it wrote is sent, its FIN too.
    pub fn close(&mut self) -> &mut Self {
        self.change(if self.state == state::CLOSE_WAIT { state::LAST_ACK } else { state::FIN_WAIT1 });
        self.send();
        self.written = self.written.wrapping_add(1);
        self
    }

    /// The peer acknowledges all, the host's FIN too.
    pub fn fin_acknowledged(&mut self) -> &mut Self {
        self.peer_received = self.written;
        self.unacknowledged = self.written;
        self.acknowledged_at = self.now;
        self.change(if self.state == state::FIN_WAIT1 { state::FIN_WAIT2 } else { state::CLOSE })
    }

    pub fn peer_resets(&mut self) -> &mut Self {
        self.connection.reset_received(self.now);
        self.change(state::CLOSE)
    }

    /// Bytes arrive where no hook sees them.
    pub fn receives_unseen(&mut self, bytes: u32) -> &mut Self {
        self.peer_end = self.peer_end.wrapping_add(bytes);
        self.expected = self.peer_end;
        self
    }

    /// The peer's FIN arrives after that of this host: the socket goes away in order.
    pub fn peer_finishes(&mut self) -> &mut Self {
        self.expected = self.expected.wrapping_add(1);
        self.has_fin = true;
        self.change(state::CLOSE)
    }

    /// The socket goes away, as after a reset by this host or `TIME_WAIT`.
    pub fn gone(&mut self) -> &mut Self {
        self.change(state::CLOSE)
    }

    pub fn change(&mut self, new: u8) -> &mut Self {
        self.ends(new, false)
    }

    pub fn times_out(&mut self) -> &mut Self {
        self.ends(state::CLOSE, true)
    }

    fn ends(&mut self, new: u8, timed_out: bool) -> &mut Self {
        let (tcp, now) = (self.tcp(), self.now);
        let report = record(&self.reports);
        let acknowledgement = Acknowledgement { unacknowledged: self.unacknowledged, latest: self.acknowledged_at };
        let change = Change {
            old: self.state,
            new,
            timed_out,
            by: self.by,
            unread: self.unread,
            received: self.expected.wrapping_sub(u32::from(self.has_fin)),
        };
        self.connection.state_changed(change, (acknowledgement, tcp), now, report);
        self.state = new;
        self.wait(STEP)
    }

    /// Every report so far, in order.
    pub fn reports(&self) -> Vec<RequestRecord> {
        self.reports.borrow().clone()
    }

    /// The last report of each request.
    pub fn requests(&self) -> Vec<RequestRecord> {
        let mut last: Vec<RequestRecord> = Vec::new();
        for report in self.reports() {
            last.retain(|earlier| earlier.sequence != report.sequence);
            last.push(report);
        }
        last
    }

    /// Bytes received and written, of each request.
    pub fn bytes(&self) -> Vec<(u64, u64)> {
        self.requests().iter().map(|request| (request.bytes_in, request.bytes_out)).collect()
    }

    /// The stages of the only request, in steps.
    pub fn steps(&self) -> [Option<u64>; 7] {
        let [request] = self.requests()[..] else { panic!("{:#?}", self.reports()) };
        split(&request).split.stages.map(|stage| stage.map(|time| time / STEP))
    }
}

/// A request's stages.
pub fn split(request: &RequestRecord) -> RequestSplit {
    request.moments.split(request.accepted, 0)
}

pub fn is_complete(request: &RequestRecord) -> bool {
    request.flags & RequestRecord::COMPLETE != 0
}

pub fn is_final(request: &RequestRecord) -> bool {
    request.flags & RequestRecord::FINAL != 0
}

fn record(reports: &RefCell<Vec<RequestRecord>>) -> impl Fn(&Connection, Report, u64) {
    |connection, why, now| reports.borrow_mut().push(RequestRecord::of(connection, why == Report::Over, 0, now))
}
