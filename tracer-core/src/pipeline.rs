//! From bytes to what is shown: one way for the ring buffer and for recordings.

pub mod rejections;
pub mod totals;

use crate::{
    aggregate::Summary,
    decode::{DecodeError, Record, decode, encode_request},
    explain::{Limits, explain},
    model::{
        application::Application,
        clock::Clock,
        facts::HostFacts,
        namespaces::Namespaces,
        place::{Fact, Places},
        reconciliation::Reconciliation,
        rejection::Rejection,
        request::Request,
        status::{Counters, Hook, Run, Shortfalls},
    },
    output::{Output, json::Json, terminal::Terminal, text::Text},
    recording::write::{Recorder, WriteError},
    report::{Report, Waiting},
    track::{Counts, Event, Tracker},
};
use rejections::{ProcessQuestion, Rejections};
use std::io::{self, Write};
use totals::OfKey;
use tracer_common::{
    record::{ConnectionRecord, Process, RequestRecord},
    rejection::{Key, Tally},
    turn::Turn,
};

/// Which events are shown while records come in; the figures follow at the end in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Events {
    /// Requests, connections and rejections.
    All,
    /// Rejections only.
    Rejections,
    /// None.
    None,
}

/// How it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text, for this terminal.
    Text(Terminal),
    /// JSON.
    Json,
}

/// What is shown, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// What is shown while records come in.
    pub events: Events,
    /// How it is shown.
    pub format: Format,
}

impl View {
    /// The view for the flags `--json`, `--summary` and `--rejections`.
    pub const fn of(json: bool, only_summary: bool, only_rejections: bool, terminal: Terminal) -> Self {
        let events = match (only_summary, only_rejections) {
            (true, _) => Events::None,
            (false, true) => Events::Rejections,
            (false, false) => Events::All,
        };
        Self { events, format: if json { Format::Json } else { Format::Text(terminal) } }
    }

    /// The output that is wanted, on `out`.
    fn output<'a>(self, clock: Clock, out: impl Write + 'a) -> Box<dyn Output + 'a> {
        match self.format {
            Format::Text(terminal) => Box::new(Text::new(clock, terminal, out)),
            Format::Json => Box::new(Json::new(clock, out)),
        }
    }
}

/// What is wanted of a run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What is shown.
    pub view: View,
    /// Requests that took less are not shown, in nanoseconds; the figures count all.
    pub min: u64,
    /// Ends after so many requests that took at least `min`.
    pub count: Option<u64>,
}

/// The pipeline. Methods that return [`io::Result`] fail only if the output does.
pub struct Pipeline<'a> {
    tracker: Tracker,
    rejections: Rejections,
    /// What the host says about the next rejection record.
    host: HostFacts,
    shown: Shown<'a>,
    recorder: Option<Recorder>,
    hooks: Vec<Hook>,
    reconciliation: Vec<Reconciliation>,
    undecodable: u64,
}

/// The part that the join hands its events to.
struct Shown<'a> {
    out: Box<dyn Output + 'a>,
    clock: Clock,
    options: Options,
    places: Places,
    namespaces: Namespaces,
    summary: Summary,
    limits: Limits,
    /// Requests that were shown or would have been.
    matched: u64,
    /// Reports that came when their requests had been counted.
    revised: u64,
    /// The first error of `out`.
    error: Option<io::Error>,
}

impl<'a> Pipeline<'a> {
    /// Shows on `out` what `options` ask for.
    pub fn new(clock: Clock, options: Options, out: impl Write + 'a) -> Self {
        let shown = Shown {
            out: options.view.output(clock, out),
            clock,
            options,
            places: Places::default(),
            namespaces: Namespaces::default(),
            summary: Summary::default(),
            limits: Limits::default(),
            matched: 0,
            revised: 0,
            error: None,
        };
        Self {
            tracker: Tracker::default(),
            rejections: Rejections::default(),
            host: HostFacts::default(),
            shown,
            recorder: None,
            hooks: Vec::new(),
            reconciliation: Vec::new(),
            undecodable: 0,
        }
    }

    /// Records, too: everything from here on.
    pub fn record_to(&mut self, recorder: Recorder) {
        self.recorder = Some(recorder);
    }

    /// Notes what is assumed of the load balancer, for what is said of rejections and for the recording.
    pub fn assume(&mut self, limits: Limits) {
        self.keep(|recorder| recorder.limits(limits));
        self.rejections.assume(limits);
        self.shown.limits = limits;
    }

    /// Notes the state of the hooks, for the end and for the recording.
    pub fn hooks(&mut self, hooks: Vec<Hook>) {
        self.keep(|recorder| recorder.hooks(&hooks));
        self.hooks = hooks;
    }

    /// Notes what was seen held against the kernel's own counters, for the end and for the recording. A recording of many
    /// namespaces gives them in several parts.
    pub fn reconciliation(&mut self, namespaces: Vec<Reconciliation>) {
        self.keep(|recorder| recorder.reconciliation(&namespaces));
        self.reconciliation.extend(namespaces);
    }

    /// Notes a request that will be shown as one that waits at the end.
    pub fn notice_waiting(&mut self, record: &RequestRecord) {
        self.shown.places.notice(&record.process, record.reported);
    }

    /// The processes whose control groups have become of interest since the last call.
    pub fn unplaced(&mut self) -> Vec<Process> {
        self.shown.places.wanted()
    }

    /// Notes what is known about a control group.
    pub fn learn(&mut self, fact: &Fact) {
        if !self.shown.places.is_news(fact) {
            return;
        }
        self.keep(|recorder| recorder.fact(fact));
        self.shown.places.learn(fact);
    }

    /// The network namespaces whose names have become of interest since the last call, by inode number.
    pub fn unnamed(&mut self) -> Vec<u32> {
        self.shown.namespaces.wanted()
    }

    /// Notes that a network namespace, by inode number, may be named at the end.
    pub fn notice_namespace(&mut self, netns: u32, now: u64) {
        self.shown.namespaces.notice(netns, now);
    }

    /// Notes the name of a network namespace.
    pub fn name_namespace(&mut self, netns: u32, name: &str) {
        if !self.shown.namespaces.is_news(netns, name) {
            return;
        }
        self.keep(|recorder| recorder.namespace(netns, name));
        self.shown.namespaces.learn(netns, name);
    }

    /// Notes what the host says about the rejection record that comes next.
    pub fn host_says(&mut self, facts: HostFacts) {
        self.keep(|recorder| recorder.host(&facts));
        self.host = facts;
    }

    /// Takes a record as the kernel made it. Its time moves the time of the requests on, not that of the rejections.
    pub fn record(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.decoded(&decode(bytes), bytes)
    }

    /// The same for a record that was decoded before.
    pub fn decoded(&mut self, record: &Result<Record, DecodeError>, bytes: &[u8]) -> io::Result<()> {
        let Ok(record) = record else {
            self.undecodable += 1;
            return Ok(());
        };
        if let Record::Request(record) = record {
            self.shown.places.notice(&record.process, record.reported);
        }
        self.shown.namespaces.notice(record.netns(), record.reported());
        self.keep(|recorder| recorder.record(bytes));
        let reported = match record {
            Record::Request(record) => {
                if Rejections::is_of_interest(record) {
                    self.rejections.ended(record);
                }
                record.reported
            }
            Record::Opened(record) => record.reported,
            Record::Closed(record) => {
                self.rejections.closed(record);
                record.reported
            }
            Record::Listener(record) => {
                self.rejections.listener_closed(record);
                return Ok(());
            }
            Record::Rejection(record) => {
                self.rejections.event(record, std::mem::take(&mut self.host));
                return Ok(());
            }
        };
        // What was due before the record came is not held back for it: a live run and a replay agree.
        self.release(reported);
        let Self { tracker, shown, rejections, .. } = self;
        tracker.record(record, &mut |event| match event {
            Event::Survived { record, idle } => rejections.survived(record, idle),
            event => shown.event(&event),
        });
        self.shown.result()
    }

    /// Shows and counts the requests that are due at `now`, until as many were shown as were asked for.
    fn release(&mut self, now: u64) {
        let Self { tracker, shown, .. } = self;
        while !shown.is_done() && tracker.step(now, &mut |event| shown.event(&event)) {}
    }

    /// Takes a request that waits at this moment: `record.reported` is now.
    pub fn look(&mut self, record: &RequestRecord) {
        if self.rejections.waits(record) {
            self.keep(|recorder| recorder.look(encode_request(record)));
        }
    }

    /// The questions about processes that have come up.
    pub fn questions(&mut self) -> Vec<ProcessQuestion> {
        self.rejections.questions()
    }

    /// Takes the answer to the question of that number.
    pub fn answer(&mut self, number: u64, answer: Application) {
        self.keep(|recorder| recorder.answer(number, &answer));
        self.rejections.answer(number, answer);
    }

    /// Asks and decides about rejections what is due at `now` (monotonic nanoseconds), and shows it. [`u64::MAX`]: the
    /// end, at which everything is decided.
    pub fn decide(&mut self, now: u64) -> io::Result<()> {
        self.keep(|recorder| recorder.moment(now));
        if now == u64::MAX {
            self.rejections.decide_all();
        } else {
            self.rejections.tick(now);
        }
        self.show_rejections()
    }

    /// Asks the questions that are still to be asked, before the end.
    pub fn ask_all(&mut self) {
        self.rejections.ask_all();
    }

    /// Takes a rejection, resolved and classified.
    pub fn rejection(&mut self, rejection: &Rejection) -> io::Result<()> {
        self.keep(|recorder| recorder.rejection(rejection));
        self.rejections.take(rejection.clone());
        self.show_rejections()
    }

    /// The kernel side's tallies of `generation` have been taken out of its maps: records of that generation count no more.
    pub const fn generation_ends(&mut self, generation: u8) {
        self.rejections.generation_ends(generation);
    }

    /// What is to be made of what the kernel side counted under `key`.
    pub fn of_key(&mut self, key: &Key, tally: &Tally) -> OfKey {
        OfKey::new(key, tally, &mut self.rejections)
    }

    /// The rejections so far.
    pub const fn rejections(&self) -> &Rejections {
        &self.rejections
    }

    fn show_rejections(&mut self) -> io::Result<()> {
        self.rejections.ready().iter().try_for_each(|rejection| self.shown.rejection(rejection))
    }

    /// Whether the request of `record` is still the latest of its connection, and the connection still open, as far as
    /// the records tell that were taken.
    pub fn is_current(&self, record: &RequestRecord) -> bool {
        self.tracker.is_current(record)
    }

    /// Moves the time on to `now` (monotonic nanoseconds) and hands on what is buffered. To be called a few times a
    /// second while tracing live; a replay needs it not.
    pub fn tick(&mut self, now: u64) -> io::Result<()> {
        if self.rejections.is_due(now) {
            self.decide(now)?;
        }
        self.show_rejections()?;
        self.keep(Recorder::flush);
        self.release(now);
        self.shown.result()?;
        self.shown.out.flush()
    }

    /// Whether as many requests were shown as were asked for.
    pub fn is_done(&self) -> bool {
        self.shown.is_done()
    }

    /// Ends: shows what is held back, `waiting` (requests that have not ended; `reported` is when they were looked at),
    /// the figures, and what is missing from them. `counters` are the kernel's. True if the recording, if there is
    /// one, is whole.
    pub fn finish(mut self, waiting: &[RequestRecord], counters: Option<&Counters>) -> io::Result<bool> {
        let whole = self.end_recording(waiting, counters);
        // A recording that is cut off ends before everything was decided.
        self.rejections.decide_all();
        self.rejections.finish();
        self.show_rejections()?;
        let shown = &mut self.shown;
        self.tracker.finish(&mut |event| shown.event(&event));
        self.shown.result()?;
        for record in waiting {
            self.shown.namespaces.see(record.netns);
        }
        let mut report = self.report(counters);
        report.waiting = Waiting::of(waiting, &self.shown.places);
        self.shown.out.finish(&report)?;
        Ok(whole)
    }

    /// What is to be said of the run now. `counters` are the kernel's, as far as they are known. What is held back for a
    /// moment is not in it: requests that may not be over, and what comes in a flood of rejections. What it counts never
    /// goes down from one report to the next.
    pub fn report(&self, counters: Option<&Counters>) -> Report {
        let (evicted, unmatched) = (self.tracker.evicted, self.tracker.unmatched);
        let run = Run {
            counters: counters.cloned(),
            hooks: self.hooks.clone(),
            shortfalls: Shortfalls { undecodable: self.undecodable, evicted, unmatched, revised: self.shown.revised },
            reconciliation: self.reconciliation.clone(),
        };
        let Shown { clock, summary, namespaces, limits, .. } = &self.shown;
        Report::new(*clock, summary, namespaces, *limits, run)
    }

    /// Ends without showing anything more, because nobody reads `out`. True if the recording, if there is one, is whole.
    pub fn abandon(mut self, waiting: &[RequestRecord], counters: Option<&Counters>) -> bool {
        self.end_recording(waiting, counters)
    }

    fn end_recording(&mut self, waiting: &[RequestRecord], counters: Option<&Counters>) -> bool {
        for record in waiting {
            self.keep(|recorder| recorder.waiting(encode_request(record)));
        }
        self.keep(|recorder| recorder.end(counters));
        self.recorder.as_ref().is_none_or(Recorder::is_whole)
    }

    /// Records something. An error ends the recording, not the tracing, and is told at once.
    fn keep(&mut self, write: impl FnOnce(&mut Recorder) -> Result<(), WriteError>) {
        if let Some(Err(error)) = self.recorder.as_mut().map(write) {
            let _ = writeln!(io::stderr(), "tracer: {error}");
        }
    }
}

impl Shown<'_> {
    fn result(&mut self) -> io::Result<()> {
        self.error.take().map_or(Ok(()), Err)
    }

    fn is_done(&self) -> bool {
        self.options.count.is_some_and(|count| self.matched >= count)
    }

    fn event(&mut self, event: &Event<'_>) {
        let result = match event {
            Event::Request { record, amends, counts } => self.request(record, *amends, *counts),
            Event::Settled(record) => {
                self.summary.request(&located(record, &self.places, &self.namespaces));
                Ok(())
            }
            Event::Connection(record) => {
                self.namespaces.see(record.netns);
                self.summary.connection(record);
                Ok(())
            }
            Event::Closed(record) => self.closed(record),
            Event::Survived { .. } => Ok(()),
        };
        if let Err(error) = result {
            self.error.get_or_insert(error);
        }
    }

    fn request(&mut self, record: &RequestRecord, amends: bool, counts: Counts) -> io::Result<()> {
        // What comes after the last one that was asked for is neither shown nor counted.
        if self.is_done() {
            return Ok(());
        }
        self.namespaces.see(record.netns);
        let request = Request { amended: amends, ..located(record, &self.places, &self.namespaces) };
        match counts {
            Counts::Now => self.summary.request(&request),
            Counts::Later => {}
            Counts::Before => self.revised += 1,
        }
        if matches!(request.turn, Turn::Control | Turn::Farewell | Turn::Rest) {
            return Ok(());
        }
        if request.total().unwrap_or(0) < self.options.min {
            return Ok(());
        }
        if !request.amended && request.turn == Turn::Request {
            self.matched += 1;
        }
        if self.options.view.events == Events::All { self.out.request(&request) } else { Ok(()) }
    }

    fn rejection(&mut self, rejection: &Rejection) -> io::Result<()> {
        self.namespaces.see(rejection.netns);
        self.summary.rejections.add(rejection);
        // Unlike a request it is counted also after the last one that was asked for, as its count is of what came before.
        if self.is_done() {
            return Ok(());
        }
        if self.options.view.events == Events::None {
            return Ok(());
        }
        let namespace = self.namespaces.label(rejection.netns);
        self.out.rejection(rejection, &explain(rejection, self.limits), namespace)
    }

    fn closed(&mut self, record: &ConnectionRecord) -> io::Result<()> {
        let wanted = self.options.view.events == Events::All && record.moments.split().total >= self.options.min;
        if wanted && !self.is_done() { self.out.connection(record) } else { Ok(()) }
    }
}

/// The request of `record`, and where it was served.
fn located<'a>(record: &'a RequestRecord, places: &'a Places, namespaces: &'a Namespaces) -> Request<'a> {
    let (place, namespace) = (places.of(&record.process), namespaces.label(record.netns));
    Request { place, namespace, ..Request::of(record) }
}

#[cfg(test)]
mod tests;
