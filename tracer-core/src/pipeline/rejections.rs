//! From records to rejections: what is a rejection, of which cause, and whether it has been reported.
//!
//! Pure: records, looks at requests that wait, what this host says and the time go in; rejections come out. A live run and
//! a replay differ in who answers the questions, a host or a recording.
//!
//! Some verdicts wait for up to [`HOLD`]: why a connection was closed shows only in what else is closed in that instant, and
//! in whether the process still runs a moment later.

use crate::{
    aggregate::sampler::Sampler,
    explain::{
        Limits, application, classify, close_reason,
        closes::{Close, Closes},
        connection,
        ending::{self, Ending},
    },
    model::{
        application::Application,
        facts::HostFacts,
        peer::socket,
        rejection::{Cause, CloseReason, Facts, Rejection, Rule},
    },
};
use foldhash::fast::FixedState;
use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::SocketAddr,
};
use tracer_common::{
    connection::{CLOSED_BY_APPLICATION, CLOSED_BY_PEER, RESET_BY_HOST},
    record::{ConnectionRecord, ListenerRecord, RequestRecord},
    rejection::{Event, Key, RejectionRecord, Tally},
};

/// Requests remembered of which something was reported before they ended.
const CAPACITY: usize = 65_536;
/// For how long a verdict waits for what else happens, in nanoseconds.
pub const HOLD: u64 = 1_000_000_000;
/// And then for the answer to a question, in nanoseconds.
const ANSWER: u64 = 1_000_000_000;
/// Verdicts that wait at once. Beyond, the oldest is given with what is known.
const WAITING: usize = 8192;
/// Rules that are named for the events of a key at most.
const MOST_RULES: usize = 16;
/// Deaths of processes that are remembered at once.
const DEATHS: usize = 256;

/// A question about the process that ended a connection or listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessQuestion {
    /// Names the question in its answer: the connection.
    pub number: u64,
    /// The process; 0: whichever listens.
    pub pid: u32,
    /// The network namespace, by inode number.
    pub netns: u32,
    /// What it serves.
    pub local: SocketAddr,
}

/// What was reported of the events of a key.
#[derive(Debug, Default)]
struct Reported {
    /// How many.
    count: u64,
    /// When the latest one happened.
    at: u64,
    /// What it was; `None`: harmless.
    latest: Option<Box<Rejection>>,
    /// The rules of all of them, if they were not the same.
    rules: Vec<Rule>,
}

impl Reported {
    /// What happened between the latest report and `found`, if that was by different rules: which of them is not known.
    /// `found` is left to stand for itself.
    fn between(&mut self, found: &mut Rejection) -> Option<Rejection> {
        let rules = |it: &Rejection| it.facts.rule.iter().chain(&it.facts.candidates).cloned().collect::<Vec<_>>();
        let latest = self.latest.as_deref().filter(|latest| latest.apart() != found.apart());
        let seen = latest.map(|latest| [rules(latest), rules(found)].concat()).unwrap_or_default();
        for rule in seen {
            if self.rules.len() < MOST_RULES && !self.rules.iter().any(|it| is_same(it, &rule)) {
                self.rules.push(rule);
            }
        }
        if self.rules.is_empty() || found.count < 2 {
            return None;
        }
        let others = Rejection { count: found.count - 1, ..found.clone() };
        found.count = 1;
        Some(by_one_of(others, self.rules.clone()))
    }
}

/// One of these rules did it.
fn by_one_of(rejection: Rejection, rules: Vec<Rule>) -> Rejection {
    let facts = Facts { rule: None, candidates: rules, ..rejection.facts };
    Rejection { facts, ..rejection }
}

/// A handle names a rule whatever its text.
fn is_same(one: &Rule, other: &Rule) -> bool {
    let is_same = if one.handle.is_some() { one.handle == other.handle } else { one.text == other.text };
    one.chain == other.chain && is_same
}

/// The generations of tallies, of which the kernel side counts in one at a time.
#[derive(Debug, Default)]
struct Generations {
    newest: u8,
    /// The latest one of which the tallies were taken out of the kernel's maps.
    ended: Option<u8>,
}

impl Generations {
    /// A record of `generation` came: true if its tally is still to come. What was reported of generations that are over is
    /// forgotten, also in a replay, which takes no tallies.
    fn begin(&mut self, generation: u8, reported: &mut HashMap<Key, Reported, FixedState>) -> bool {
        // Numbers begin again at 0 behind 255: half of them lie before.
        let is_after = |one: u8, other: u8| one != other && one.wrapping_sub(other) < 128;
        if self.ended.is_some_and(|ended| !is_after(generation, ended)) {
            return false;
        }
        if is_after(generation, self.newest) {
            self.newest = generation;
            reported.retain(|key, _| generation.wrapping_sub(key.generation()) < 2);
        }
        true
    }
}

/// A verdict that waits.
#[derive(Debug)]
struct Waiting {
    /// Names its question.
    number: u64,
    rejection: Rejection,
    /// When its question is asked.
    ask_at: u64,
    /// The question was asked.
    is_asked: bool,
    /// For data that came after the close: the record. The verdict is made when it is known whether a FIN came.
    late: Option<Box<(RejectionRecord, HostFacts)>>,
    has_fin: bool,
    /// The close that the verdict is about.
    close: Option<Close>,
}

/// A process that died, and the connections that ended with it.
#[derive(Debug)]
struct Death {
    rejection: Rejection,
    due: u64,
}

/// What was reported until now, and what waits.
#[derive(Debug, Default)]
pub struct Rejections {
    limits: Limits,
    sampler: Sampler,
    /// By the keys of the kernel's maps.
    reported: HashMap<Key, Reported, FixedState>,
    generations: Generations,
    /// Requests, by connection and number, of which a cause was reported: each is reported once.
    requests: HashSet<(u64, u32, Cause), FixedState>,
    /// Rejections that were counted, by network namespace and cause.
    counted: HashMap<(u32, Cause), u64, FixedState>,
    /// Connections with whose end a request was lost. What still comes for one belongs to that request.
    lost: HashSet<u64, FixedState>,
    closes: Closes,
    waiting: VecDeque<Waiting>,
    deaths: HashMap<(u32, u32, SocketAddr), Death, FixedState>,
    questions: Vec<ProcessQuestion>,
    answers: HashMap<u64, Application, FixedState>,
    /// What is to be shown.
    ready: Vec<Rejection>,
}

impl Rejections {
    /// What is assumed of the load balancer from here on.
    pub const fn assume(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// An event that the kernel side reported, and what this host says about it.
    pub fn event(&mut self, record: &RejectionRecord, host: HostFacts) {
        match Event::of(record.key.event) {
            Some(Event::FinAfterData) => return self.fin_after_data(record),
            Some(Event::DataAfterClose) => return self.late(record, host),
            _ => {}
        }
        if !self.generations.begin(record.generation, &mut self.reported) {
            return;
        }
        let reported = self.reported.entry(record.counted_by()).or_default();
        // Reports of two CPUs may overtake each other.
        let Some(count @ 1..) = record.count.checked_sub(reported.count) else { return };
        (reported.count, reported.at) = (record.count, record.reported);
        let mut found =
            classify::of_record(record, &host).map(|rejection| Rejection { count, ..rejection }.mixed(record.mixed));
        let between = found.as_mut().and_then(|found| reported.between(found));
        reported.latest = found.clone().map(Box::new);
        for rejection in found.into_iter().chain(between) {
            self.take(rejection);
        }
    }

    /// Data came after the close: what it was and why the connection was closed shows in a moment. Each record stands for itself, because
    /// what the data was is known of that connection only. Where a record is lost nothing is said: the kernel side counts the loss.
    fn late(&mut self, record: &RejectionRecord, host: HostFacts) {
        let (ended, now) = (&record.ended, record.reported);
        if self.lost.contains(&ended.connection) {
            return;
        }
        let Some(rejection) = classify::of_late(record, false, &host) else { return };
        let close = Close { at: ended.ended, idle: ended.idle, pid: ended.by.pid };
        let ask_at = if rejection.cause == Cause::KeepaliveRace { now + HOLD } else { now };
        let late = Some(Box::new((*record, host)));
        self.hold(rejection, ask_at, Some(close), late);
    }

    fn fin_after_data(&mut self, record: &RejectionRecord) {
        let connection = record.ended.connection;
        let of_it = |it: &&mut Waiting| it.late.as_ref().is_some_and(|late| late.0.ended.connection == connection);
        if let Some(waiting) = self.waiting.iter_mut().rev().find(of_it) {
            waiting.has_fin = true;
        }
    }

    /// A connection that is gone.
    pub fn closed(&mut self, record: &ConnectionRecord) {
        let ending = ending::of_connection(record);
        self.note_close(record, ending);
        // Most connections end so. The words are found only for those of which something is to be said.
        if ending == Ending::Idle && self.same_idle(record) == 0 {
            return;
        }
        let Some(rejection) = connection::of_closed(record, ending) else { return };
        match ending {
            Ending::InOrder => {}
            Ending::Idle => self.idle(record, rejection),
            Ending::Doubt => self.died(record, rejection),
            Ending::Lost(..) => self.lost(record, rejection),
        }
    }

    /// Notes when and how long after the last byte it closed, for what other connections are closed for.
    fn note_close(&mut self, record: &ConnectionRecord, ending: Ending) {
        let local = socket(&record.tuple.local);
        if record.flags & CLOSED_BY_PEER != 0 {
            if ending == Ending::InOrder && record.requests != 0 {
                self.closes.survived(record.netns, local, record.idle, record.ended);
            }
        } else if record.flags & (CLOSED_BY_APPLICATION | RESET_BY_HOST) != 0 {
            let is_idle = ending == Ending::Idle || ending::met_a_half_close(record);
            let idle = if is_idle { record.idle } else { 0 };
            self.closes.closed(record.netns, local, Close { idle, ..close_of(record) });
        }
    }

    fn same_idle(&self, record: &ConnectionRecord) -> u32 {
        self.closes.keep_alive(record.netns, socket(&record.tuple.local), close_of(record), self.limits)
    }

    /// The application closed an idle connection: a warning, if that is a keep-alive time that is too short.
    fn idle(&mut self, record: &ConnectionRecord, mut rejection: Rejection) {
        let close = close_of(record);
        if !self.closes.stops(rejection.netns, rejection.local, close) {
            rejection.facts.same_idle = Some(self.same_idle(record));
            // Whether the process stops shows in a moment.
            self.hold(rejection, close.at + HOLD, Some(close), None);
        }
    }

    /// A process died: one line, however many connections it took along.
    fn died(&mut self, record: &ConnectionRecord, rejection: Rejection) {
        let key = (record.by.pid, record.netns, rejection.local);
        if self.deaths.len() >= DEATHS && !self.deaths.contains_key(&key) {
            self.release_deaths(u64::MAX);
        }
        let due = rejection.last + HOLD;
        let death = self
            .deaths
            .entry(key)
            .or_insert_with(|| Death { rejection: Rejection { count: 0, ..rejection.clone() }, due });
        let count = death.rejection.count + 1;
        // The shortest time since the last byte is the greatest doubt.
        if rejection.facts.idle_ns < death.rejection.facts.idle_ns {
            death.rejection = rejection;
        }
        death.rejection.count = count;
        death.rejection.facts.closed_together = u32::try_from(count).ok();
    }

    /// A request was lost when its connection ended.
    fn lost(&mut self, record: &ConnectionRecord, rejection: Rejection) {
        // What was reported of the request while it waited explains its end, too.
        let waited = [Cause::NoResponse, Cause::ResponseNotAcknowledged];
        if waited.iter().any(|&cause| self.requests.contains(&(record.connection, record.requests, cause))) {
            return;
        }
        if self.lost.len() >= CAPACITY {
            self.lost.clear();
        }
        self.lost.insert(record.connection);
        let now = rejection.last;
        match rejection.cause {
            Cause::KeepaliveRace => self.hold(rejection, now + HOLD, Some(close_of(record)), None),
            Cause::ClosedBeforeResponse | Cause::ResetBeforeResponse => {
                // A limit of open files shows at once only; a stop shows once it is over.
                let ask_at = if rejection.facts.closed_unread { now } else { now + HOLD };
                self.hold(rejection, ask_at, Some(close_of(record)), None);
            }
            Cause::ResetDuringUpload => self.hold(rejection, now, None, None),
            _ => self.take(rejection),
        }
    }

    /// A listener closed.
    pub fn listener_closed(&mut self, record: &ListenerRecord) {
        self.closes.listener_closed(record.netns, socket(&record.local), record.reported, record.by.pid);
    }

    /// A connection was idle for `idle` nanoseconds before the request of `record`.
    pub fn survived(&mut self, record: &RequestRecord, idle: u64) {
        self.closes.survived(record.netns, socket(&record.tuple.local), idle, record.reported);
    }

    /// A request that ended.
    pub fn ended(&mut self, record: &RequestRecord) {
        for rejection in connection::of_ended(record, self.limits) {
            self.once(rejection);
        }
    }

    /// Whether [`Rejections::ended`] wants to see it.
    pub const fn is_of_interest(record: &RequestRecord) -> bool {
        connection::may_have_gone_wrong(record)
    }

    /// A request that waits; `record.reported` is now. True if something new was found.
    pub fn waits(&mut self, record: &RequestRecord) -> bool {
        let found = connection::of_waiting(record, self.limits);
        let mut is_new = false;
        for rejection in found {
            is_new |= self.once(rejection);
        }
        is_new
    }

    /// A rejection that is resolved and classified.
    pub fn take(&mut self, rejection: Rejection) {
        // Beyond the capacity those of other namespaces are counted together.
        let is_new = !self.counted.contains_key(&(rejection.netns, rejection.cause));
        let netns = if is_new && self.counted.len() >= CAPACITY { 0 } else { rejection.netns };
        *self.counted.entry((netns, rejection.cause)).or_default() += rejection.count;
        let Self { sampler, ready, .. } = self;
        sampler.take(rejection, &mut |rejection| ready.push(rejection));
    }

    /// The questions that have come up.
    pub fn questions(&mut self) -> Vec<ProcessQuestion> {
        std::mem::take(&mut self.questions)
    }

    /// The answer to a question.
    pub fn answer(&mut self, number: u64, answer: Application) {
        self.answers.insert(number, answer);
    }

    /// Whether [`Rejections::tick`] has something to do at `now`.
    pub fn is_due(&self, now: u64) -> bool {
        self.sampler.is_due(now)
            || self.waiting.iter().any(|it| it.is_due(now, &self.answers) || (!it.is_asked && it.ask_at <= now))
            || self.deaths.values().any(|death| death.due <= now)
    }

    /// Asks and decides what is due at `now` (monotonic nanoseconds).
    pub fn tick(&mut self, now: u64) {
        self.ask(now);
        let (due, waiting): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|it| it.is_due(now, &self.answers));
        self.waiting = waiting;
        if !due.is_empty() {
            for waiting in due {
                self.decide(waiting);
            }
            // An answer is for the questions of its moment: a later verdict on the same connection asks again.
            let numbers: HashSet<_, FixedState> = self.waiting.iter().map(|it| it.number).collect();
            self.answers.retain(|number, _| numbers.contains(number));
        }
        self.release_deaths(now);
        let Self { sampler, ready, .. } = self;
        sampler.tick(now, &mut |rejection| ready.push(rejection));
    }

    /// What was decided and is to be shown.
    pub fn ready(&mut self) -> Vec<Rejection> {
        std::mem::take(&mut self.ready)
    }

    /// Asks everything that is still to be asked. Decides nothing: a replay, which has the answers, does not ask.
    pub fn ask_all(&mut self) {
        self.ask(u64::MAX);
    }

    fn ask(&mut self, now: u64) {
        for waiting in self.waiting.iter_mut().filter(|it| !it.is_asked && it.ask_at <= now) {
            waiting.is_asked = true;
            self.questions.extend(waiting.question());
        }
    }

    /// Decides everything with what is known.
    pub fn decide_all(&mut self) {
        for waiting in std::mem::take(&mut self.waiting) {
            self.decide(waiting);
        }
        self.release_deaths(u64::MAX);
    }

    /// Ends: passes on what is held back.
    pub fn finish(&mut self) {
        let Self { sampler, ready, .. } = self;
        sampler.finish(&mut |rejection| ready.push(rejection));
    }

    /// The tallies of `generation` are about to be taken out of the kernel's maps: its records count no more.
    pub const fn generation_ends(&mut self, generation: u8) {
        self.generations.ended = Some(generation);
    }

    /// How many events of `key`, which is one of the maps, were not reported one by one, and what they are most likely: what
    /// the latest one was that was, and when that was. `None` if all were reported.
    pub fn unreported(&mut self, key: &Key, tally: &Tally) -> Option<Unreported> {
        let reported = self.reported.remove(key).unwrap_or_default();
        let count = tally.events().checked_sub(reported.count).filter(|&count| count != 0)?;
        let is_known = reported.count != 0;
        let Reported { at, latest, rules, .. } = reported;
        let latest = latest.map(|it| if rules.is_empty() { *it } else { by_one_of(*it, rules) });
        Some(Unreported { count, since: at, is_known, latest })
    }

    /// How many rejections of `cause` in a network namespace were counted.
    pub fn counted(&self, netns: u32, cause: Cause) -> u64 {
        self.counted.get(&(netns, cause)).copied().unwrap_or(0)
    }

    /// The network namespaces in which rejections were counted, by inode number.
    pub fn namespaces(&self) -> impl Iterator<Item = u32> {
        self.counted.keys().map(|(netns, _)| *netns)
    }

    /// Whether nothing was rejected.
    pub fn is_empty(&self) -> bool {
        self.counted.is_empty() && self.waiting.is_empty()
    }

    fn hold(
        &mut self,
        rejection: Rejection,
        ask_at: u64,
        close: Option<Close>,
        late: Option<Box<(RejectionRecord, HostFacts)>>,
    ) {
        if self.waiting.len() >= WAITING
            && let Some(oldest) = self.waiting.pop_front()
        {
            self.decide(oldest);
        }
        let number = rejection.connection.unwrap_or(0);
        let (is_asked, has_fin) = (false, false);
        self.waiting.push_back(Waiting { number, rejection, ask_at, is_asked, late, has_fin, close });
    }

    fn decide(&mut self, waiting: Waiting) {
        let Waiting { number, mut rejection, late, has_fin, close, .. } = waiting;
        if let Some(late) = late
            && has_fin
        {
            let count = rejection.count;
            match classify::of_late(&late.0, true, &late.1) {
                Some(again) => rejection = Rejection { count, ..again },
                None => return,
            }
        }
        let answer = self.answers.get(&number).cloned();
        let was_idle = matches!(rejection.cause, Cause::KeepaliveRace | Cause::KeepaliveTooShort);
        if let Some(close) = close
            && was_idle
        {
            let witnesses = self.closes.witnesses(rejection.netns, rejection.local, close, self.limits);
            let reason = close_reason::of_close(&mut rejection.facts, &witnesses, answer.as_ref());
            // Meanwhile the process has stopped, or another connection has outlived this one.
            if rejection.cause == Cause::KeepaliveTooShort && reason != Some(CloseReason::KeepAlive) {
                return;
            }
        }
        if let Some(close) = close
            && matches!(rejection.cause, Cause::ClosedBeforeResponse | Cause::ResetBeforeResponse)
        {
            let witnesses = self.closes.witnesses(rejection.netns, rejection.local, close, self.limits);
            close_reason::of_request(&mut rejection.facts, &witnesses, answer.as_ref());
        }
        if let Some(answer) = answer {
            application::describe(&mut rejection, answer);
        }
        self.take(rejection);
    }

    fn release_deaths(&mut self, now: u64) {
        let due: Vec<_> = self.deaths.iter().filter(|(_, it)| it.due <= now).map(|(key, _)| *key).collect();
        let mut due: Vec<_> = due.into_iter().filter_map(|key| self.deaths.remove(&key)).collect();
        due.sort_by_key(|death| (death.rejection.last, death.rejection.local));
        for death in due {
            self.take(death.rejection);
        }
    }

    /// Takes a rejection of a request, once per cause. True if it was new.
    fn once(&mut self, rejection: Rejection) -> bool {
        let (Some(connection), Some(sequence)) = (rejection.connection, rejection.sequence) else { return false };
        if self.requests.len() >= CAPACITY {
            self.requests.clear();
        }
        let is_new = self.requests.insert((connection, sequence, rejection.cause));
        if is_new && rejection.facts.never_read {
            // Who should accept and read, and why it does not, is for the host to say.
            let now = rejection.last;
            self.hold(rejection, now, None, None);
        } else if is_new {
            self.take(rejection);
        }
        is_new
    }
}

/// What of a key was not reported one by one.
#[derive(Debug)]
pub struct Unreported {
    /// How many events.
    pub count: u64,
    /// When the latest one was reported; 0: none was.
    pub since: u64,
    /// Something of the key was reported.
    pub is_known: bool,
    /// What that was; `None`: harmless.
    pub latest: Option<Rejection>,
}

impl Waiting {
    fn is_due(&self, now: u64, answers: &HashMap<u64, Application, FixedState>) -> bool {
        let is_answered = answers.contains_key(&self.number) || self.question().is_none();
        self.is_asked
            && (is_answered || self.ask_at.saturating_add(ANSWER) <= now)
            && self.late.as_ref().is_none_or(|late| late.0.reported.saturating_add(HOLD) <= now)
    }

    fn question(&self) -> Option<ProcessQuestion> {
        let Rejection { netns, local, ref facts, .. } = self.rejection;
        let process = facts.ended_by.as_ref().or(facts.process.as_ref()).map(|process| process.pid);
        let pid = process.or((self.rejection.cause == Cause::NoResponse).then_some(0))?;
        Some(ProcessQuestion { number: self.number, pid, netns, local })
    }
}

const fn close_of(record: &ConnectionRecord) -> Close {
    Close { at: record.ended, idle: record.idle, pid: record.by.pid }
}

#[cfg(test)]
mod tests;
