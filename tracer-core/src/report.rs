//! A picture of a run at one moment. Everything that is shown or exported is formatted from a [`Report`], or from single
//! events: nothing is computed in output.

pub mod verdict;

use crate::{
    aggregate::{
        Group, ProcessPicture, Summary,
        figures::{Figures, Picture},
        rejections::{Explained, total},
    },
    explain::Limits,
    model::{
        clock::Clock,
        namespaces::Namespaces,
        place::{Place, Places},
        request::Request,
        status::Run,
    },
};
use tracer_common::{record::RequestRecord, turn::Turn};

/// The picture.
#[derive(Clone, Debug)]
pub struct Report {
    /// From moments to times of day.
    pub clock: Clock,
    /// What is to be said first: what was rejected, in at most three sentences, or that nothing was.
    pub verdict: Vec<String>,
    /// How many requests there were, and where their time goes.
    pub time: String,
    /// The figures of all requests and connections.
    pub all: Picture,
    /// Messages: turns that are no requests.
    pub messages: u64,
    /// Responses that went on for long, in pieces.
    pub streams: u64,
    /// The figures by listener and peer network, in that order.
    pub groups: Vec<(Group, Picture)>,
    /// Those of the groups that were not kept apart.
    pub other_groups: Option<Picture>,
    /// The processes, the one that read most requests first.
    pub processes: Vec<ProcessPicture>,
    /// Requests of the processes that were not kept apart.
    pub other_processes: u64,
    /// What was rejected, in words, the most harmful first.
    pub rejected: Vec<Explained>,
    /// How many packets and connections that was.
    pub rejections: u64,
    /// Requests that have not ended.
    pub waiting: Vec<Waiting>,
    /// The names of the network namespaces.
    pub namespaces: Namespaces,
    /// How the run goes: its hooks, and what was lost.
    pub run: Run,
}

/// A request that has not ended.
#[derive(Clone, Debug)]
pub struct Waiting {
    record: RequestRecord,
    place: Option<Place>,
}

impl Waiting {
    /// The requests among `records`, which were looked at when they were reported.
    pub fn of(records: &[RequestRecord], places: &Places) -> Vec<Self> {
        let is_request =
            |it: &&RequestRecord| matches!(Request::of(it).turn, Turn::Request | Turn::Body | Turn::Stream);
        let waiting = |record: &RequestRecord| Self { record: *record, place: places.of(&record.process).cloned() };
        records.iter().filter(is_request).map(waiting).collect()
    }
}

impl Report {
    /// Of what was counted until now.
    pub fn new(clock: Clock, summary: &Summary, namespaces: &Namespaces, limits: Limits, run: Run) -> Self {
        let rejected = summary.rejections.explained(limits);
        let all = summary.all.picture();
        let (messages, streams) = (summary.messages, summary.streams);
        Self {
            clock,
            verdict: verdict::sentences(summary, &rejected, limits, &run, namespaces),
            time: verdict::where_the_time_goes(&all, messages, streams),
            all,
            messages,
            streams,
            groups: summary.groups().into_iter().map(|(group, figures)| (group, figures.picture())).collect(),
            other_groups: summary.other_groups.as_ref().map(Figures::picture),
            processes: summary.processes(),
            other_processes: summary.other_processes,
            rejections: total(&rejected),
            rejected,
            waiting: Vec::new(),
            namespaces: namespaces.clone(),
            run,
        }
    }

    /// The requests that have not ended.
    pub fn waiting(&self) -> Vec<Request<'_>> {
        let requests = self.waiting.iter().map(|it| Request {
            place: it.place.as_ref(),
            namespace: self.namespaces.label(it.record.netns),
            ..Request::of(&it.record)
        });
        requests.collect()
    }
}
