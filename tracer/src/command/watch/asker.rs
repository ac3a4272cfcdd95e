//! Passes rejections to the pipeline together with what this host says about them, without blocking.
//!
//! Rejections, and counts that were not reported one by one, wait in the order in which they came until the host has answered. A
//! rejection whose answer takes too long, or whose question found no room, is shown with what the kernel side knows. It is counted.

use crate::host::{
    answers::Host,
    names::Namer,
    thread::{Answer, HostThread, Question},
};
use std::{
    collections::{BTreeMap, VecDeque},
    io,
    time::{Duration, Instant},
};
use tracer_common::rejection::{Event, Key, ListenerKey, ListenerTally, RejectionRecord, Tally};
use tracer_core::{
    decode::{Record, encode_rejection},
    explain::{connection, reasons::Names},
    model::{
        facts::HostFacts,
        reconciliation::TcpCounters,
        rejection::{ProcessName, Rejection},
    },
    pipeline::{
        Pipeline,
        totals::{OfKey, Rest},
    },
};

/// For how long a rejection waits for its answer. On a slow machine the answer to a dropped SYN takes seconds: it needs the ruleset
/// and the kernel's symbols.
const PATIENCE: Duration = Duration::from_secs(10);
/// For how long the end of a run waits for all answers.
const LAST_PATIENCE: Duration = Duration::from_secs(10);
/// For how long the start and the end wait for the kernel's own counters.
const COUNTERS: Duration = Duration::from_secs(1);
/// At most this many rejections wait. Beyond, the oldest is passed on without an answer.
const CAPACITY: usize = 4096;

/// What waits.
#[derive(Debug)]
enum What {
    /// An event that the kernel side reported.
    Event(Box<RejectionRecord>),
    /// Tallies that were taken out of the kernel's maps. They are looked at when what came before them has been reported.
    Tallies(VecDeque<(Key, Tally)>),
    /// What a key counted beyond that.
    Rest(Box<Rest>),
    /// A warning about a listener, whose process is not known yet.
    Listener(Box<Rejection>),
    /// An event that the kernel side took back.
    Nothing,
}

#[derive(Debug)]
struct Waiting {
    what: What,
    since: Instant,
    question: Asked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// There is nothing to ask.
    Not,
    /// It was asked.
    Yes,
    /// There was no room.
    Refused,
}

/// An answer for what waits.
enum Found {
    Facts(Box<HostFacts>),
    Listener(Option<ProcessName>),
}

/// Who asks.
pub struct Asker {
    thread: HostThread,
    /// `None`: namespaces go without names.
    namer: Option<Namer>,
    reasons: Names,
    waiting: VecDeque<Waiting>,
    /// Answers to the first of those that wait and were asked for.
    found: VecDeque<Found>,
    /// How many of the next answers belong to rejections that were already passed on.
    late: usize,
    /// The number of the latest question about the kernel's own counters.
    counters_asked: u32,
    /// The answer to that question, by network namespace.
    counters: Option<BTreeMap<u32, TcpCounters>>,
    netns: Option<u32>,
    /// Questions about rejections that were not answered in time, or had no room.
    pub unanswered: u64,
}

impl Asker {
    /// Starts the thread that answers. `reasons` are the names of the kernel's drop reasons, `netns` the one network namespace that is
    /// watched.
    pub fn new(reasons: Names, netns: Option<u32>) -> io::Result<Self> {
        let namer = Namer::start().inspect_err(|error| log::warn!("network namespaces have no names: {error}")).ok();
        let thread = HostThread::start(Host::default())?;
        let (waiting, found) = (VecDeque::new(), VecDeque::new());
        Ok(Self {
            thread,
            namer,
            reasons,
            waiting,
            found,
            late: 0,
            counters_asked: 0,
            counters: None,
            netns,
            unanswered: 0,
        })
    }

    /// Takes an event that the kernel side reported.
    pub fn event(&mut self, record: &RejectionRecord, pipeline: &mut Pipeline<'_>) -> io::Result<()> {
        if Event::of(record.key.event) == Some(Event::TakenBack) {
            self.take_back(record);
            return Ok(());
        }
        let is_known = Event::of(record.key.event) == Some(Event::FinAfterData);
        let reason = self.reasons.of(record.key.reason);
        let question = || Question::Event(Box::new(*record), reason);
        self.wait_for(What::Event(Box::new(*record)), (!is_known).then(question));
        self.go_on(pipeline)
    }

    /// Lets go of the SYN that `record` takes back. It still waits for its answer, because both records were made within microseconds.
    fn take_back(&mut self, record: &RejectionRecord) {
        let is_full = |it: &RejectionRecord| {
            matches!(Event::of(it.key.event), Some(Event::AcceptQueueFull | Event::SynQueueFull))
        };
        let is_it =
            |it: &RejectionRecord| is_full(it) && it.tuple() == record.tuple() && it.key.netns == record.key.netns;
        let is_waiting = |it: &&mut Waiting| matches!(&it.what, What::Event(event) if is_it(event));
        if let Some(waiting) = self.waiting.iter_mut().rev().find(is_waiting) {
            waiting.what = What::Nothing;
        }
    }

    /// Takes tallies that were taken out of the kernel's maps.
    pub fn tallies(&mut self, tallies: Vec<(Key, Tally)>, pipeline: &mut Pipeline<'_>) -> io::Result<()> {
        if tallies.is_empty() {
            return Ok(());
        }
        let places: Vec<_> = tallies.iter().map(|(key, _)| key.location).filter(|&it| it != 0).collect();
        if !places.is_empty() {
            // Without it each is looked up by itself.
            self.thread.ask(Question::Locate(places));
        }
        self.wait_for(What::Tallies(tallies.into()), None);
        self.go_on(pipeline)
    }

    /// Takes the tally of a listener's accept queue. A queue that was near its limit is a warning, for which the listener's
    /// process is still to be found.
    pub fn listener(&mut self, key: &ListenerKey, tally: &ListenerTally) {
        let Some(rejection) = connection::of_listener(key, tally) else { return };
        let question = Question::Listener { netns: rejection.netns, local: rejection.local };
        self.wait_for(What::Listener(Box::new(rejection)), Some(question));
    }

    /// Whether tallies wait. Then more of them are left in the kernel's maps.
    pub fn has_tallies(&self) -> bool {
        self.waiting.iter().any(|it| matches!(it.what, What::Tallies(_)))
    }

    /// Asks what the pipeline wants to know, and passes on what has been answered. To be called a few times per second.
    pub fn tick(&mut self, pipeline: &mut Pipeline<'_>) -> io::Result<()> {
        if let Some(namer) = &self.namer {
            pipeline.unnamed().into_iter().for_each(|netns| namer.ask(netns));
            namer.found().for_each(|(netns, name)| pipeline.name_namespace(netns, &name));
        }
        for process in pipeline.unplaced() {
            // Without an answer the pipeline asks again.
            self.thread.ask(Question::ControlGroup(process));
        }
        for question in pipeline.questions() {
            self.unanswered += u64::from(!self.thread.ask(Question::Application(question)));
        }
        while let Some(answer) = self.thread.answer() {
            self.take(answer, pipeline);
        }
        self.go_on(pipeline)
    }

    /// Asks for the kernel's own counters. Returns until when to wait for the answer.
    pub fn ask_counters(&mut self) -> Instant {
        self.counters = None;
        self.counters_asked += 1;
        self.thread.ask(Question::Counters { number: self.counters_asked, netns: self.netns });
        Instant::now() + COUNTERS
    }

    /// These counters, once they have been answered.
    pub fn counters(&mut self) -> Option<BTreeMap<u32, TcpCounters>> {
        self.counters.take()
    }

    /// Waits for the answer to [`Asker::ask_counters`] until `until`.
    pub fn wait_for_counters(&mut self, until: Instant, pipeline: &mut Pipeline<'_>) -> BTreeMap<u32, TcpCounters> {
        while self.counters.is_none()
            && let Some(answer) = self.thread.wait(until)
        {
            self.take(answer, pipeline);
        }
        self.counters.take().unwrap_or_default()
    }

    /// Waits for all answers, at most [`LAST_PATIENCE`], and passes on everything that waits.
    pub fn finish(&mut self, pipeline: &mut Pipeline<'_>) -> io::Result<()> {
        let until = Instant::now() + LAST_PATIENCE;
        let mut result = self.tick(pipeline);
        while let Some(answer) = self.thread.wait(until) {
            self.take(answer, pipeline);
            result = result.and(self.go_on(pipeline));
        }
        while let Some(first) = self.waiting.pop_front() {
            result = result.and(self.without_answer(first, pipeline));
        }
        let names = self.namer.as_mut().map(Namer::rest).unwrap_or_default();
        for (netns, name) in names {
            pipeline.name_namespace(netns, &name);
        }
        result
    }

    /// Lets `what` wait, for the answer to its question if it has one.
    fn wait_for(&mut self, what: What, question: Option<Question>) {
        let question = match question {
            None => Asked::Not,
            Some(question) => {
                if self.thread.ask(question) {
                    Asked::Yes
                } else {
                    Asked::Refused
                }
            }
        };
        self.waiting.push_back(Waiting { what, since: Instant::now(), question });
    }

    fn take(&mut self, answer: Answer, pipeline: &mut Pipeline<'_>) {
        match answer {
            Answer::Event(_) | Answer::Listener(_) if self.late != 0 => self.late -= 1,
            Answer::Event(facts) => self.found.push_back(Found::Facts(facts)),
            Answer::Listener(process) => self.found.push_back(Found::Listener(process)),
            Answer::Application(number, application) => pipeline.answer(number, *application),
            Answer::ControlGroup(fact) => fact.iter().for_each(|fact| pipeline.learn(fact)),
            Answer::Counters(number, counters) if number == self.counters_asked => {
                self.counters = Some(counters.into_iter().collect());
            }
            // To a question that nobody waits for any more, or to none.
            Answer::Counters(..) | Answer::Located => {}
        }
    }

    /// Passes on what need not wait any more.
    fn go_on(&mut self, pipeline: &mut Pipeline<'_>) -> io::Result<()> {
        let mut result = Ok(());
        while let Some(first) = self.waiting.pop_front() {
            let is_over = first.since.elapsed() >= PATIENCE || self.waiting.len() >= CAPACITY;
            match (first.question, self.found.pop_front()) {
                (Asked::Yes, Some(found)) => result = result.and(self.with_answer(first.what, found, pipeline)),
                (Asked::Yes, None) if !is_over => {
                    self.waiting.push_front(first);
                    break;
                }
                (_, found) => {
                    // The answer is for one that comes later.
                    if let Some(found) = found {
                        self.found.push_front(found);
                    }
                    let has_room = self.thread.has_room();
                    if matches!(first.what, What::Tallies(_)) && !has_room && !is_over {
                        self.waiting.push_front(first);
                        break;
                    }
                    result = result.and(self.without_answer(first, pipeline));
                }
            }
        }
        result
    }

    fn with_answer(&self, what: What, found: Found, pipeline: &mut Pipeline<'_>) -> io::Result<()> {
        match (what, found) {
            (What::Event(record), Found::Facts(facts)) => event(&record, *facts, pipeline),
            (What::Rest(rest), Found::Facts(facts)) => {
                rest.rejection(&facts).map_or(Ok(()), |it| pipeline.rejection(&it))
            }
            (What::Listener(mut rejection), Found::Listener(process)) => {
                rejection.facts.process = process;
                pipeline.rejection(&rejection)
            }
            // Answers come in the order of the questions.
            (what, _) => self.without_facts(what, pipeline),
        }
    }

    /// Passes on what was not answered, or needs no answer.
    fn without_answer(&mut self, first: Waiting, pipeline: &mut Pipeline<'_>) -> io::Result<()> {
        self.late += usize::from(first.question == Asked::Yes);
        self.unanswered += u64::from(first.question != Asked::Not && !matches!(first.what, What::Nothing));
        match first.what {
            What::Tallies(tallies) => self.count(tallies, first.since, pipeline),
            what => self.without_facts(what, pipeline),
        }
    }

    fn without_facts(&self, what: What, pipeline: &mut Pipeline<'_>) -> io::Result<()> {
        let known =
            |record: &RejectionRecord| HostFacts { reason: self.reasons.of(record.key.reason), ..HostFacts::default() };
        match what {
            What::Event(record) => event(&record, known(&record), pipeline),
            What::Rest(rest) => rest.rejection(&known(&rest.example())).map_or(Ok(()), |it| pipeline.rejection(&it)),
            What::Listener(rejection) => pipeline.rejection(&rejection),
            What::Tallies(_) | What::Nothing => Ok(()),
        }
    }

    /// Passes on what was counted in `tallies`, as far as there is room for questions.
    fn count(
        &mut self,
        mut tallies: VecDeque<(Key, Tally)>,
        since: Instant,
        pipeline: &mut Pipeline<'_>,
    ) -> io::Result<()> {
        let mut result = Ok(());
        if let Some((key, _)) = tallies.front() {
            // Records of the same events that come later count no more.
            pipeline.generation_ends(key.generation());
        }
        while let Some((key, tally)) = tallies.pop_front() {
            match pipeline.of_key(&key, &tally) {
                OfKey::Nothing => {}
                OfKey::Known(rejection) => result = result.and(pipeline.rejection(&rejection)),
                OfKey::Unknown(rest) => {
                    let example = rest.example();
                    let reason = self.reasons.of(example.key.reason);
                    self.wait_for(What::Rest(rest), Some(Question::Event(Box::new(example), reason)));
                }
            }
            if !self.thread.has_room() && since.elapsed() < PATIENCE {
                self.waiting.push_front(Waiting { what: What::Tallies(tallies), since, question: Asked::Not });
                break;
            }
        }
        result
    }
}

fn event(record: &RejectionRecord, facts: HostFacts, pipeline: &mut Pipeline<'_>) -> io::Result<()> {
    pipeline.host_says(facts);
    pipeline.decoded(&Ok(Record::Rejection(*record)), encode_rejection(record))
}
