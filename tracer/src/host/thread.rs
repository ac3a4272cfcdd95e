//! A thread that answers questions about this host, because who drains the records must not wait for `/proc`, a child
//! process or a network namespace.

use super::{answers::Host, netstat, process::ControlGroups};
use crate::probe::namespace;
use std::{
    io,
    net::SocketAddr,
    sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    thread,
    time::Instant,
};
use tracer_common::{record::Process, rejection::RejectionRecord};
use tracer_core::{
    model::{
        application::Application, facts::HostFacts, place::Fact, reconciliation::TcpCounters, rejection::ProcessName,
    },
    pipeline::rejections::ProcessQuestion,
};

/// Questions that wait at once.
const CAPACITY: usize = 1024;

/// A question.
#[derive(Debug)]
pub enum Question {
    /// What is known of an event of the kernel side, whose drop reason has this name?
    Event(Box<RejectionRecord>, Option<String>),
    /// What is known of a process?
    Application(ProcessQuestion),
    /// Which process listens on `local` in the network namespace `netns`?
    Listener { netns: u32, local: SocketAddr },
    /// What is the control group of the process?
    ControlGroup(Process),
    /// What are the kernel's own counters of the network namespace `netns`, or of all? `number` names the question.
    Counters { number: u32, netns: Option<u32> },
    /// Look up the kernel functions at these addresses, because events that name them follow.
    Locate(Vec<u64>),
}

/// An answer.
#[derive(Debug)]
pub enum Answer {
    /// To [`Question::Event`], in the order of these questions.
    Event(Box<HostFacts>),
    /// To [`Question::Application`], with its number.
    Application(u64, Box<Application>),
    /// To [`Question::Listener`], in the order of these questions and of [`Question::Event`].
    Listener(Option<ProcessName>),
    /// To [`Question::ControlGroup`], if it was found.
    ControlGroup(Option<Fact>),
    /// To [`Question::Counters`], with its number.
    Counters(u32, Vec<(u32, TcpCounters)>),
    /// To [`Question::Locate`].
    Located,
}

/// The thread. Once this is dropped, the thread ends after its current question. Nobody waits for that.
pub struct HostThread {
    questions: SyncSender<Question>,
    answers: Receiver<Answer>,
    /// Questions that have no answer yet.
    open: usize,
}

impl HostThread {
    /// Starts it.
    pub fn start(host: Host) -> io::Result<Self> {
        let (questions, asked) = sync_channel(CAPACITY);
        let (found, answers) = channel();
        thread::Builder::new().name("host".to_owned()).spawn(move || answer(host, &asked, &found))?;
        Ok(Self { questions, answers, open: 0 })
    }

    /// Whether one more question has room.
    pub const fn has_room(&self) -> bool {
        self.open < CAPACITY
    }

    /// Asks, without waiting. False if too many questions are open.
    pub fn ask(&mut self, question: Question) -> bool {
        let is_asked = self.has_room() && self.questions.try_send(question).is_ok();
        self.open += usize::from(is_asked);
        is_asked
    }

    /// An answer that is there.
    pub fn answer(&mut self) -> Option<Answer> {
        let answer = self.answers.try_recv().ok()?;
        self.open -= 1;
        Some(answer)
    }

    /// The next answer to one of the open questions. Waits for it until `until`.
    pub fn wait(&mut self, until: Instant) -> Option<Answer> {
        if self.open == 0 {
            return None;
        }
        let answer = self.answers.recv_timeout(until.saturating_duration_since(Instant::now())).ok()?;
        self.open -= 1;
        Some(answer)
    }
}

/// Answers questions until nobody asks any more.
fn answer(mut host: Host, questions: &Receiver<Question>, answers: &Sender<Answer>) {
    let mut groups = ControlGroups::of_this_host();
    while let Ok(question) = questions.recv() {
        let answer = match question {
            Question::Event(record, reason) => Answer::Event(Box::new(host.facts(&record, reason))),
            Question::Application(ProcessQuestion { number, pid, netns, local }) => {
                Answer::Application(number, Box::new(host.application(pid, netns, local)))
            }
            Question::Listener { netns, local } => Answer::Listener(host.listener(netns, local)),
            Question::ControlGroup(process) => Answer::ControlGroup(groups.find(&process)),
            Question::Counters { number, netns } => Answer::Counters(number, counters_of(netns)),
            Question::Locate(addresses) => {
                host.locate(&addresses);
                Answer::Located
            }
        };
        if answers.send(answer).is_err() {
            return;
        }
    }
}

/// The counters of the network namespace `netns`, or of all that a process is in. What vanishes meanwhile is left out.
fn counters_of(netns: Option<u32>) -> Vec<(u32, TcpCounters)> {
    let all = netns.map_or_else(namespace::all, |netns| vec![netns]);
    all.into_iter().filter_map(|netns| Some((netns, netstat::read(netns).ok()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::MetadataExt, time::Duration};

    #[test]
    fn the_thread_answers_and_more_questions_than_fit_are_refused() {
        let mut thread = HostThread::start(Host::default()).unwrap();
        let netns = u32::try_from(fs::metadata("/proc/self/ns/net").unwrap().ino()).unwrap();
        assert!(thread.ask(Question::Counters { number: 7, netns: Some(netns) }));
        let answer = thread.wait(Instant::now() + Duration::from_secs(10));
        assert!(matches!(answer, Some(Answer::Counters(7, counters)) if counters[0].0 == netns));
        let asked =
            (0..10 * CAPACITY).take_while(|_| thread.ask(Question::Counters { number: 0, netns: None })).count();
        assert_eq!(asked, CAPACITY);
        assert!(thread.wait(Instant::now() + Duration::from_secs(10)).is_some() && thread.has_room());
    }
}
