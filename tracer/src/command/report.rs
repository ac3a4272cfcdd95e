//! `tracer report`: shows a recording as `watch` showed what it records, the same bytes every time.

mod shown;

use crate::{
    cli::{ReportArgs, ShowArgs},
    decode::{Record, decode},
    enrich::process::Processes,
    output::terminal::Terminal,
    pipeline::{Options, Pipeline, View},
    recording::read::{Block, ReadError, Reader},
    status::Counters,
};
use anyhow::Context;
use shown::Shown;
use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write},
    process::ExitCode,
};
use tracer_common::record::RequestRecord;

/// Runs the command.
///
/// # Errors
///
/// If the file is no recording, or not whole: what is whole has then been shown.
pub fn run(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    let name = || format!("reporting {}", args.file.display());
    let file = File::open(&args.file).with_context(name)?;
    let out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    report(BufReader::with_capacity(1 << 16, file), &args.show, Terminal::of_stdout(), out).with_context(name)?;
    Ok(ExitCode::SUCCESS)
}

/// Why a report is not whole.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The recording.
    #[error(transparent)]
    Recording(#[from] ReadError),
    /// The output.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
}

/// Shows the recording in `input` on `out`.
fn report(input: impl Read, args: &ShowArgs, terminal: Terminal, out: impl Write) -> Result<(), ReportError> {
    let (clock, mut reader) = Reader::new(input)?;
    let view = View::of(args.json, args.summary, terminal).only_rejections(args.rejections);
    let min = args.min.map_or(0, |min| u64::try_from(min.as_nanos()).unwrap_or(u64::MAX));
    let options = Options { view, min, count: None };
    let mut pipeline = Pipeline::new(clock, options, Processes::recorded(), out);
    pipeline.assume(args.limits());
    let mut shown = Shown::new(args.selection());
    let mut waiting = Vec::new();
    let mut counters = None;
    let end = loop {
        match reader.next() {
            Ok(Some(Block::Record(bytes))) => {
                if let Some(record) = shown.record(decode(bytes)) {
                    pipeline.decoded(&record, bytes).map_err(ReportError::Output)?;
                }
            }
            Ok(Some(Block::Rejection(rejection))) => {
                if shown.rest(&rejection) {
                    pipeline.rejection(&rejection).map_err(ReportError::Output)?;
                }
            }
            Ok(Some(Block::Host(facts))) => pipeline.host_says(*facts),
            Ok(Some(Block::Look(bytes))) => {
                if let Some(record) = request(bytes).filter(|record| shown.request(record)) {
                    pipeline.look(&record);
                }
            }
            Ok(Some(Block::Answer(number, answer))) => pipeline.answer(number, *answer),
            Ok(Some(Block::Moment(now))) => pipeline.decide(now).map_err(ReportError::Output)?,
            Ok(Some(Block::Fact(fact))) => pipeline.learn(&fact),
            Ok(Some(Block::Namespace(netns, name))) => pipeline.name_namespace(netns, &name),
            Ok(Some(Block::Hooks(hooks))) => pipeline.hooks(hooks),
            Ok(Some(Block::Limits(limits))) => {
                if args.idle_timeout.is_none() {
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
    pipeline.finish(&waiting, counters.as_ref()).map_err(ReportError::Output)?;
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
