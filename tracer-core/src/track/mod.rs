//! The join: from reports to requests, each shown once and counted once.
//!
//! The kernel reports a request when all of its response is acknowledged and, if the application wrote on, once more.
//! The latest report of each connection is therefore held back until a report is marked final, or until nothing has
//! followed for [`QUIET`]. What follows later *amends* what was shown. A request counts when nothing can follow (the next
//! request, the close), or when nothing has followed for [`SETTLED`]: a figure that was read never goes down, so what
//! follows even later is counted as a revision and changes no other figure. Time is that of the records or of the caller,
//! never of a clock, so a replay decides as the live run.

mod slots;

use slots::{Queue, Slots};
use std::collections::HashMap;
use tracer_common::{
    connection,
    opening::Opening,
    record::{ConnectionRecord, RequestRecord},
    stage::RequestMoments,
    turn::Turn,
};

use crate::decode::Record;

/// Nanoseconds without another report after which a request is shown.
pub const QUIET: u64 = 1_000_000_000;

/// Nanoseconds without another report after which a request counts. Few responses pause for longer than this, and
/// figures that are read while tracing lag behind by no more.
pub const SETTLED: u64 = 10_000_000_000;

/// Connections followed at once: 7/8 of a power of two, the load at which a hash table doubles.
const CAPACITY: usize = 28_672;

/// What the join finds out.
#[derive(Debug)]
pub enum Event<'a> {
    /// A request is over, or quiet: to be shown.
    Request {
        /// Its latest report.
        record: &'a RequestRecord,
        /// This replaces what was shown of it before.
        amends: bool,
        /// When it counts.
        counts: Counts,
    },
    /// A request counts that was shown before, when it was not yet certain to be over.
    Settled(&'a RequestRecord),
    /// The stages of a connection are known; once a connection.
    Connection(&'a ConnectionRecord),
    /// A connection is gone.
    Closed(&'a ConnectionRecord),
    /// A connection was idle for a second or more, and then this request came.
    Survived {
        /// The request.
        record: &'a RequestRecord,
        /// Nanoseconds without a byte before it.
        idle: u64,
    },
}

/// When a request that is shown counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    /// At once: nothing can follow.
    Now,
    /// More may follow: [`Event::Settled`] follows in any case.
    Later,
    /// It has been counted: this is a revision.
    Before,
}

/// The length of `HTTP/1.1 100 Continue` and an empty line. No final response is as short.
const INTERIM: u64 = 25;

/// A close within this many nanoseconds of the last byte of a response belongs to that response.
const BEHIND: u64 = 100_000_000;

/// The shortest time without a byte that [`Event::Survived`] reports, in nanoseconds.
const LEAST_IDLE: u64 = 1_000_000_000;

/// What has become of the latest request of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// It was not shown.
    New,
    /// It was shown, and may go on.
    Shown,
    /// It was shown and counted.
    Counted,
}

/// What is known of a connection.
#[derive(Debug)]
struct Entry {
    connection: u64,
    /// The connection's stages were counted.
    opened: bool,
    latest: Option<RequestRecord>,
    /// The latest request has not been shown as it is now.
    held: bool,
    progress: Progress,
    /// The numbers of the requests that came, as bits: the lowest is the latest, the next one the number before it.
    came: u64,
    /// The number of the latest turn that was reported, whatever it is.
    turn: u32,
    /// The number of the turn with the latest request's body, and what was known of that request before it: its head.
    head: Option<Box<(u32, RequestRecord)>>,
}

impl Entry {
    const fn new(connection: u64) -> Self {
        let (opened, held, progress) = (false, false, Progress::New);
        Self { connection, opened, latest: None, held, progress, came: 0, turn: 0, head: None }
    }

    /// Takes the first report of the next request.
    fn begin(&mut self, record: &RequestRecord) {
        let ahead = self.latest.as_ref().map_or(0, |latest| record.sequence.saturating_sub(latest.sequence));
        self.came = self.came.checked_shl(ahead).unwrap_or(0) | 1;
        self.latest = Some(*record);
        (self.held, self.progress) = (true, Progress::New);
    }

    /// Notes a request that came behind the one with the number `latest`. True if it had come before.
    fn come_late(&mut self, sequence: u32, latest: u32) -> bool {
        let bit = 1_u64.checked_shl(latest - sequence).unwrap_or(0);
        let has_come = self.came & bit != 0;
        self.came |= bit;
        has_come
    }
}

/// The join.
#[derive(Debug)]
pub struct Tracker {
    index: HashMap<u64, u32, foldhash::fast::FixedState>,
    slots: Slots<Entry>,
    capacity: usize,
    /// Connections forgotten because there were too many.
    pub evicted: u64,
    /// Reports that belong to no request that is remembered.
    pub unmatched: u64,
}

impl Default for Tracker {
    fn default() -> Self {
        Self::with_capacity(CAPACITY)
    }
}

impl Tracker {
    /// Follows at most `capacity` connections at once.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { index: HashMap::default(), slots: Slots::new(), capacity, evicted: 0, unmatched: 0 }
    }

    /// Takes a record; `on` is called for what follows from it.
    pub fn record(&mut self, record: &Record, on: &mut impl FnMut(Event<'_>)) {
        match record {
            Record::Request(record) => self.request(record, on),
            Record::Opened(record) => self.opened(record, on),
            Record::Closed(record) => self.closed(record, on),
            // These belong to no request.
            Record::Rejection(_) | Record::Listener(_) => {}
        }
    }

    /// Whether the request of `record` is still the latest of its connection, and the connection still open.
    pub fn is_current(&self, record: &RequestRecord) -> bool {
        let entry = self.index.get(&record.connection).and_then(|&slot| self.slots.get(slot));
        entry.is_some_and(|entry| entry.latest.as_ref().is_none_or(|latest| latest.sequence <= record.sequence))
    }

    /// Shows or counts one request that is due at `now` (monotonic nanoseconds). False if there is none.
    pub fn step(&mut self, now: u64, on: &mut impl FnMut(Event<'_>)) -> bool {
        for (queue, after) in [(Queue::Held, QUIET), (Queue::Shown, SETTLED)] {
            if let Some(slot) = self.slots.front(queue)
                && now.saturating_sub(self.reported(slot)) > after
            {
                let is_over = queue == Queue::Shown;
                if is_over && self.slots.get(slot).and_then(|entry| entry.latest.as_ref()).is_some_and(may_be_interim) {
                    self.slots.touch(slot, Queue::Idle);
                } else {
                    self.release(slot, is_over, on);
                }
                return true;
            }
        }
        false
    }

    /// Shows and counts everything, and forgets every connection.
    pub fn finish(&mut self, on: &mut impl FnMut(Event<'_>)) {
        self.index.clear();
        while let Some(slot) = self.oldest() {
            self.release(slot, true, on);
            self.slots.remove(slot);
        }
    }

    /// The connection that is missed least.
    fn oldest(&self) -> Option<u32> {
        [Queue::Idle, Queue::Shown, Queue::Held].iter().find_map(|&queue| self.slots.front(queue))
    }

    fn reported(&self, slot: u32) -> u64 {
        self.slots.get(slot).and_then(|entry| entry.latest.as_ref()).map_or(0, |latest| latest.reported)
    }

    fn request(&mut self, record: &RequestRecord, on: &mut impl FnMut(Event<'_>)) {
        let known = self.index.get(&record.connection).copied();
        if known.is_none() && record.revision != 0 && self.evicted != 0 {
            // Most likely it amends a request of a connection that was forgotten: counted once already.
            self.unmatched += 1;
            return;
        }
        let slot = known.unwrap_or_else(|| self.enter(record.connection, on));
        let follows = self.follows(slot, record.sequence);
        let joined = match record.turn().turn() {
            Turn::Rest => {
                self.rest(slot, record, follows, on);
                return;
            }
            Turn::Body if follows => self.joined(slot, record),
            _ => None,
        };
        let record = joined.as_ref().unwrap_or(record);
        let Some(entry) = self.slots.get_mut(slot) else { return };
        if let Some(idle) = entry.latest.as_ref().and_then(|latest| idle_between(latest, record)) {
            on(Event::Survived { record, idle });
        }
        let Some(latest) = entry.latest.as_mut().filter(|latest| record.sequence <= latest.sequence) else {
            self.begin(slot, record, on);
            return;
        };
        if record.sequence < latest.sequence {
            self.late(slot, record, on);
            return;
        }
        if order(record) <= order(latest) {
            // Overtaken by a later report: the sweep's come another way than the rest.
            return;
        }
        if differs(latest, record) {
            *latest = *record;
            entry.held = true;
            self.slots.touch(slot, Queue::Held);
        } else if entry.held {
            // It is quiet since the report that told the same: the sweep's are no sign of life.
            *latest = RequestRecord { reported: latest.reported, ..*record };
        }
        self.show_if_final(slot, record, on);
    }

    /// The next request of a connection: the one before it is over.
    fn begin(&mut self, slot: u32, record: &RequestRecord, on: &mut impl FnMut(Event<'_>)) {
        self.release(slot, true, on);
        if let Some(entry) = self.slots.get_mut(slot) {
            entry.begin(record);
            self.slots.touch(slot, Queue::Held);
        }
        self.show_if_final(slot, record, on);
    }

    /// A report that is marked final is shown at once. It may not count yet, because the next turn may be the rest of an
    /// upload, or a body that an interim response had asked for.
    fn show_if_final(&mut self, slot: u32, record: &RequestRecord, on: &mut impl FnMut(Event<'_>)) {
        if record.flags & RequestRecord::FINAL != 0 {
            self.release(slot, false, on);
        }
    }

    /// A report of a request before the latest one. If it is the first of its request, that cannot have been counted, unless
    /// a later report overtook this one, or with the request whose body it is; another one can no longer be told from a
    /// repetition.
    fn late(&mut self, slot: u32, record: &RequestRecord, on: &mut impl FnMut(Event<'_>)) {
        let Some(entry) = self.slots.get_mut(slot) else { return };
        let latest = entry.latest.as_ref().map_or(0, |latest| latest.sequence);
        if record.revision == 0 && record.turn().turn() != Turn::Body && !entry.come_late(record.sequence, latest) {
            on(Event::Request { record, amends: false, counts: Counts::Now });
        } else {
            self.unmatched += 1;
        }
    }

    /// Whether `turn` is the one behind the latest turn that was reported, or that one again: then no turn between was lost.
    fn follows(&mut self, slot: u32, turn: u32) -> bool {
        let Some(entry) = self.slots.get_mut(slot) else { return false };
        let before = entry.turn;
        entry.turn = turn.max(before);
        turn == before || turn == before.saturating_add(1)
    }

    /// The rest of an upload that was answered early belongs to the request before it, once all of it is known. If the record
    /// of that request was lost, its rest is not shown.
    fn rest(&mut self, slot: u32, rest: &RequestRecord, follows: bool, on: &mut impl FnMut(Event<'_>)) {
        let Some(entry) = self.slots.get_mut(slot) else { return };
        if rest.flags & RequestRecord::FINAL == 0 {
            return;
        }
        let Some(latest) = entry.latest.as_mut().filter(|latest| latest.sequence < rest.sequence) else { return };
        if !follows {
            self.unmatched += 1;
            return;
        }
        latest.bytes_in = latest.bytes_in.saturating_add(rest.bytes_in);
        latest.revision = latest.revision.saturating_add(1);
        if !entry.held {
            let counts = if entry.progress == Progress::Counted { Counts::Before } else { Counts::Later };
            on(Event::Request { record: latest, amends: true, counts });
        }
    }

    /// The request whose head got an interim response, and now its body; `None` if the head was not seen.
    fn joined(&mut self, slot: u32, body: &RequestRecord) -> Option<RequestRecord> {
        let entry = self.slots.get_mut(slot)?;
        let latest = entry.latest.filter(|latest| latest.sequence < body.sequence)?;
        let is_known = entry.head.as_ref().is_some_and(|head| head.0 == body.sequence);
        if !is_known {
            entry.head = Some(Box::new((body.sequence, latest)));
        }
        entry.head.as_ref().map(|head| join(&head.1, body))
    }

    fn opened(&mut self, record: &ConnectionRecord, on: &mut impl FnMut(Event<'_>)) {
        let known = self.index.get(&record.connection).copied();
        let slot = known.unwrap_or_else(|| self.enter(record.connection, on));
        if let Some(entry) = self.slots.get_mut(slot)
            && !std::mem::replace(&mut entry.opened, true)
        {
            on(Event::Connection(record));
        }
    }

    fn closed(&mut self, record: &ConnectionRecord, on: &mut impl FnMut(Event<'_>)) {
        let mut counted = false;
        if let Some(slot) = self.index.remove(&record.connection) {
            self.note_close(slot, record);
            self.release(slot, true, on);
            counted = self.slots.remove(slot).is_some_and(|entry| entry.opened);
        }
        // The record of the opening may have been lost; but if connections were forgotten, it may have been counted.
        let opened = record.flags & connection::OPENED != 0;
        if !counted && (!opened || self.evicted == 0) {
            on(Event::Connection(record));
        }
        on(Event::Closed(record));
    }

    /// Notes that the application closed right behind the latest response, if that is reported already and not yet shown.
    fn note_close(&mut self, slot: u32, record: &ConnectionRecord) {
        let Some(entry) = self.slots.get_mut(slot).filter(|entry| entry.held) else { return };
        let turn = entry.head.as_ref().map(|head| head.0);
        let is_behind = record.flags & connection::CLOSED_BY_APPLICATION != 0 && record.idle < BEHIND;
        let of_latest =
            |latest: &&mut RequestRecord| latest.sequence == record.requests || turn == Some(record.requests);
        if let Some(latest) = entry.latest.as_mut().filter(of_latest)
            && is_behind
        {
            latest.flags |= RequestRecord::CLOSED;
        }
    }

    fn enter(&mut self, connection: u64, on: &mut impl FnMut(Event<'_>)) -> u32 {
        if self.slots.len() >= self.capacity
            && let Some(oldest) = self.oldest()
        {
            self.release(oldest, true, on);
            if let Some(entry) = self.slots.remove(oldest) {
                self.index.remove(&entry.connection);
            }
            self.evicted += 1;
        }
        let slot = self.slots.insert(Entry::new(connection), Queue::Idle);
        self.index.insert(connection, slot);
        slot
    }

    /// Shows the latest request of a connection, if that is still to be done, and counts it if it is over.
    fn release(&mut self, slot: u32, is_over: bool, on: &mut impl FnMut(Event<'_>)) {
        let Some(entry) = self.slots.get_mut(slot) else { return };
        let Some(record) = &entry.latest else { return };
        let was_counted = entry.progress == Progress::Counted;
        if std::mem::take(&mut entry.held) {
            let counts = match (was_counted, is_over) {
                (true, _) => Counts::Before,
                (false, true) => Counts::Now,
                (false, false) => Counts::Later,
            };
            on(Event::Request { record, amends: entry.progress != Progress::New, counts });
        } else if is_over && !was_counted {
            on(Event::Settled(record));
        } else {
            return;
        }
        let is_counted = was_counted || is_over;
        entry.progress = if is_counted { Progress::Counted } else { Progress::Shown };
        self.slots.touch(slot, if is_counted { Queue::Idle } else { Queue::Shown });
    }
}

/// Whether the response to `record` may be an interim one, behind which a body comes: that may take any time.
const fn may_be_interim(record: &RequestRecord) -> bool {
    record.bytes_out != 0 && record.bytes_out <= INTERIM && record.turn().marks.has_seen(Opening::Http)
}

/// The request that `head` began and whose body is `body`. The interim response between them is no response.
fn join(head: &RequestRecord, body: &RequestRecord) -> RequestRecord {
    let moments = RequestMoments {
        arrived: head.moments.arrived,
        queued: head.moments.queued,
        first_read: head.moments.first_read,
        last_read: head.moments.last_read.max(body.moments.last_read),
        ..body.moments
    };
    RequestRecord {
        moments,
        flags: body.flags | head.flags & RequestRecord::ADOPTED,
        accepted: head.accepted,
        bytes_in: head.bytes_in.saturating_add(body.bytes_in),
        zero_window: head.zero_window.saturating_add(body.zero_window),
        process: if body.process.pid == 0 { head.process } else { body.process },
        sequence: head.sequence,
        revision: head.revision.saturating_add(body.revision).saturating_add(1),
        retransmits: head.retransmits.saturating_add(body.retransmits),
        resent: body.resent,
        marks: head.marks,
        ..*body
    }
}

/// How long nothing had happened on a connection between the request `before` and the first byte of `next`, if that was
/// for long.
fn idle_between(before: &RequestRecord, next: &RequestRecord) -> Option<u64> {
    let moments = &before.moments;
    let last = moments.acknowledged.max(moments.last_out).max(moments.last_read);
    let idle = next.moments.queued.checked_sub(last).filter(|_| last != 0 && next.sequence > before.sequence)?;
    (idle >= LEAST_IDLE).then_some(idle)
}

/// What orders the reports of a request. The sweep's have the revision of the report that the kernel makes next, so those
/// between two of the kernel's own differ by their time only.
const fn order(record: &RequestRecord) -> (u32, u64) {
    (record.revision, record.reported)
}

/// Whether `new` tells something that was not in `old`.
fn differs(old: &RequestRecord, new: &RequestRecord) -> bool {
    let content = |record: &RequestRecord| RequestRecord {
        flags: record.flags & RequestRecord::COMPLETE,
        reported: 0,
        revision: 0,
        srtt_us: 0,
        // It grows while the window is closed.
        zero_window: 0,
        ..*record
    };
    content(old) != content(new)
}

#[cfg(test)]
mod tests;
