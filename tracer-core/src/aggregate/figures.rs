//! The figures of a set of requests and connections.

use super::distribution::{Distribution, Times};
use crate::{
    explain::verdict::Totals,
    model::request::{Outcome, Request},
};
use tracer_common::{
    record::ConnectionRecord,
    stage::{RequestStage, Split},
};

/// Adds `amount` to `counter`, which stops at its greatest value.
pub const fn count(counter: &mut u64, amount: u64) {
    *counter = counter.saturating_add(amount);
}

/// The figures, with times as they are counted, or as they are at one moment.
#[derive(Clone, Debug)]
pub struct Figures<T = Distribution> {
    /// Requests.
    pub requests: u64,
    /// Of these, those to which the application wrote nothing.
    pub unanswered: u64,
    /// Of these, those whose response was not wholly acknowledged.
    pub cut: u64,
    /// Payload bytes received.
    pub bytes_in: u64,
    /// Payload bytes written.
    pub bytes_out: u64,
    /// Packets of responses that were sent again.
    pub retransmits: u64,
    /// The totals of the requests.
    pub total: T,
    /// Their stages.
    pub stages: [T; 7],
    /// How often each stage could not be told from the one before it.
    pub merged: [u64; 7],
    /// Nanoseconds of stages that could not be told apart, by the first and the last of them.
    pub spans: [[u64; 7]; 7],
    /// Nanoseconds of `download` for which packets waited in a queue of this host.
    pub held: u64,
    /// Requests that may not have come whole: see [`Request::may_be_incomplete`].
    pub incomplete: u64,
    /// Nanoseconds that they spent in the stage `service`.
    pub incomplete_service: u64,
    /// Nanoseconds for which requests waited for `accept()`.
    pub accept_wait: u64,
    /// Connections whose stages are known as far as they were measured.
    pub connections: u64,
    /// Their stages.
    pub connection_stages: [T; 3],
}

impl Figures {
    /// No figures yet; quantiles will have `digits` significant digits.
    pub fn new(digits: u8) -> Self {
        Self {
            requests: 0,
            unanswered: 0,
            cut: 0,
            bytes_in: 0,
            bytes_out: 0,
            retransmits: 0,
            total: Distribution::new(digits),
            stages: std::array::from_fn(|_| Distribution::new(digits)),
            merged: [0; 7],
            spans: [[0; 7]; 7],
            held: 0,
            incomplete: 0,
            incomplete_service: 0,
            accept_wait: 0,
            connections: 0,
            connection_stages: std::array::from_fn(|_| Distribution::new(digits)),
        }
    }

    /// Adds what `other` counted.
    pub fn merge(&mut self, other: &Self) {
        let Self { requests, unanswered, cut, bytes_in, bytes_out, retransmits, held, .. } = other;
        let Self { incomplete, incomplete_service, accept_wait, connections, .. } = other;
        count(&mut self.requests, *requests);
        count(&mut self.unanswered, *unanswered);
        count(&mut self.cut, *cut);
        count(&mut self.bytes_in, *bytes_in);
        count(&mut self.bytes_out, *bytes_out);
        count(&mut self.retransmits, *retransmits);
        count(&mut self.held, *held);
        count(&mut self.incomplete, *incomplete);
        count(&mut self.incomplete_service, *incomplete_service);
        count(&mut self.accept_wait, *accept_wait);
        count(&mut self.connections, *connections);
        let merged = self.merged.iter_mut().zip(&other.merged);
        let spans = self.spans.as_flattened_mut().iter_mut().zip(other.spans.as_flattened());
        merged.chain(spans).for_each(|(counter, amount)| count(counter, *amount));
        self.total.merge(&other.total);
        let stages = self.stages.iter_mut().zip(&other.stages);
        let connection_stages = self.connection_stages.iter_mut().zip(&other.connection_stages);
        stages.chain(connection_stages).for_each(|(times, others)| times.merge(others));
    }

    /// What they are now.
    pub fn picture(&self) -> Picture {
        Figures {
            requests: self.requests,
            unanswered: self.unanswered,
            cut: self.cut,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            retransmits: self.retransmits,
            total: self.total.times(),
            stages: self.stages.each_ref().map(Distribution::times),
            merged: self.merged,
            spans: self.spans,
            held: self.held,
            incomplete: self.incomplete,
            incomplete_service: self.incomplete_service,
            accept_wait: self.accept_wait,
            connections: self.connections,
            connection_stages: self.connection_stages.each_ref().map(Distribution::times),
        }
    }

    /// Counts the bytes and packets of a turn.
    pub fn bytes(&mut self, request: &Request<'_>) {
        let record = request.record;
        count(&mut self.bytes_in, record.bytes_in);
        count(&mut self.bytes_out, record.bytes_out);
        count(&mut self.retransmits, record.retransmits.into());
    }

    /// Counts a request.
    pub fn request(&mut self, request: &Request<'_>) {
        count(&mut self.requests, 1);
        self.bytes(request);
        match request.outcome {
            Outcome::Complete => {}
            Outcome::Unanswered => count(&mut self.unanswered, 1),
            Outcome::Cut => count(&mut self.cut, 1),
        }
        if let Some(total) = request.total() {
            self.total.add(total);
        }
        count(&mut self.held, request.record.held());
        if let Some(wait) = request.accept {
            count(&mut self.accept_wait, wait);
        }
        if request.may_be_incomplete {
            let wait = request.split.stages[RequestStage::Service as usize].unwrap_or(0);
            count(&mut self.incomplete, 1);
            count(&mut self.incomplete_service, wait);
        }
        count_split(&request.split, &mut self.stages);
        if request.split.merged != 0 {
            for stage in (0..self.merged.len()).filter(|&stage| request.split.is_merged(stage)) {
                count(&mut self.merged[stage], 1);
            }
            for (first, last, time) in request.split.spans() {
                count(&mut self.spans[first][last], time);
            }
        }
    }

    /// Counts a connection.
    pub fn connection(&mut self, record: &ConnectionRecord) {
        self.connections += 1;
        count_split(&record.moments.split(), &mut self.connection_stages);
    }
}

/// Figures at one moment.
pub type Picture = Figures<Option<Times>>;

impl Picture {
    /// The time of all requests in nanoseconds.
    pub fn whole(&self) -> u64 {
        self.total.map_or(0, |times| times.sum)
    }

    /// The nanoseconds of a stage (its index) in the requests in which it was measured apart from those after it.
    pub fn apart(&self, stage: usize) -> u64 {
        let all = self.stages[stage].map_or(0, |times| times.sum);
        all.saturating_sub(self.spans[stage].iter().sum())
    }
}

impl<T> From<&Figures<T>> for Totals {
    fn from(figures: &Figures<T>) -> Self {
        Self { requests: figures.requests, connections: figures.connections }
    }
}

fn count_split<const N: usize>(split: &Split<N>, stages: &mut [Distribution; N]) {
    let times = stages.iter_mut().zip(split.stages).filter_map(|(distribution, time)| Some((distribution, time?)));
    times.for_each(|(distribution, time)| distribution.add(time));
}
