//! Shows a recording as it was shown while it was made, the same bytes every time.

mod shown;

use crate::{
    decode::{Record, decode},
    explain::Limits,
    model::{selection::Selection, status::Counters},
    pipeline::{Options, Pipeline, View},
    recording::read::{Block, ReadError, Reader},
};
use shown::Shown;
use std::io::{self, Read, Write};
use tracer_common::record::RequestRecord;

/// What is shown of a recording.
#[derive(Clone, Debug)]
pub struct Show {
    /// Which connections and packets.
    pub selection: Selection,
    /// In which form.
    pub view: View,
    /// Requests that took less are not shown, in nanoseconds; the figures count all.
    pub min: u64,
    /// What is assumed of the load balancer; `None`: what the recording says.
    pub limits: Option<Limits>,
}

/// Why a replay is not whole.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The recording.
    #[error(transparent)]
    Recording(#[from] ReadError),
    /// The output.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
}

/// Shows the recording in `input` on `out`.
///
/// # Errors
///
/// If it is no recording, or not whole: what is whole has then been shown.
pub fn replay(input: impl Read, show: &Show, out: impl Write) -> Result<(), ReplayError> {
    let (clock, mut reader) = Reader::new(input)?;
    let options = Options { view: show.view, min: show.min, count: None };
    let mut pipeline = Pipeline::new(clock, options, out);
    pipeline.assume(show.limits.unwrap_or_default());
    let mut shown = Shown::new(show.selection.clone());
    let mut waiting = Vec::new();
    let mut counters = None;
    let end = loop {
        match reader.next() {
            Ok(Some(Block::Record(bytes))) => {
                if let Some(record) = shown.record(decode(bytes)) {
                    pipeline.decoded(&record, bytes).map_err(ReplayError::Output)?;
                }
            }
            Ok(Some(Block::Rejection(rejection))) => {
                if shown.rest(&rejection) {
                    pipeline.rejection(&rejection).map_err(ReplayError::Output)?;
                }
            }
            Ok(Some(Block::Host(facts))) => pipeline.host_says(*facts),
            Ok(Some(Block::Look(bytes))) => {
                if let Some(record) = request(bytes).filter(|record| shown.request(record)) {
                    pipeline.look(&record);
                }
            }
            Ok(Some(Block::Answer(number, answer))) => pipeline.answer(number, *answer),
            Ok(Some(Block::Moment(now))) => pipeline.decide(now).map_err(ReplayError::Output)?,
            Ok(Some(Block::Fact(fact))) => pipeline.learn(&fact),
            Ok(Some(Block::Namespace(netns, name))) => pipeline.name_namespace(netns, &name),
            Ok(Some(Block::Hooks(hooks))) => pipeline.hooks(hooks),
            Ok(Some(Block::Limits(limits))) => {
                if show.limits.is_none() {
                    pipeline.assume(limits);
                }
            }
            Ok(Some(Block::Selection(selection))) => shown.recorded(&selection),
            Ok(Some(Block::Reconciliation(mut namespaces))) => {
                // The kernel's counters know no filters.
                for it in &mut namespaces {
                    it.filtered |= !shown.is_all();
                }
                pipeline.reconciliation(namespaces);
            }
            Ok(Some(Block::Waiting(bytes))) => {
                waiting.extend(request(bytes).filter(|record| shown.request(record)));
            }
            Ok(Some(Block::End(totals))) => {
                counters = if shown.is_all() { totals } else { totals.map(Counters::without_totals) };
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    pipeline.finish(&waiting, counters.as_ref()).map_err(ReplayError::Output)?;
    Ok(end?)
}

fn request(bytes: &[u8]) -> Option<RequestRecord> {
    match decode(bytes) {
        Ok(Record::Request(record)) => Some(record),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
