//! `tracer report`: shows a recording as `watch` showed what it records, the same bytes every time.

use crate::{
    cli::{ReportArgs, ShowArgs},
    decode::{Record, decode},
    enrich::{peer, process::Processes},
    output::terminal::Terminal,
    pipeline::{Options, Pipeline, View},
    recording::read::{Block, ReadError, Reader},
};
use anyhow::Context;
use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write},
    net::IpAddr,
    process::ExitCode,
};
use tracer_common::{endpoint::Tuple, record::RequestRecord};

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
    let mut waiting = Vec::new();
    let mut counters = None;
    let end = loop {
        match reader.next() {
            Ok(Some(Block::Record(bytes))) => {
                if is_wanted(bytes, args) {
                    pipeline.record(bytes).map_err(ReportError::Output)?;
                }
            }
            Ok(Some(Block::Rejection(rejection))) => {
                if is_wanted_end(rejection.local.port(), rejection.peer.ip(), args) {
                    pipeline.rejection(&rejection).map_err(ReportError::Output)?;
                }
            }
            Ok(Some(Block::Host(facts))) => pipeline.host_says(*facts),
            Ok(Some(Block::Look(bytes))) => {
                if let Some(record) = waiting_request(bytes, args) {
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
            Ok(Some(Block::Reconciliation(mut namespaces))) => {
                // The kernel's counters know no filters.
                let is_filtered = !(args.ports.is_empty() && args.peers.is_empty());
                for it in &mut namespaces {
                    it.filtered |= is_filtered;
                }
                pipeline.reconciliation(namespaces);
            }
            Ok(Some(Block::Waiting(bytes))) => waiting.extend(waiting_request(bytes, args)),
            Ok(Some(Block::End(totals))) => counters = totals,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    pipeline.finish(&waiting, counters.as_ref()).map_err(ReportError::Output)?;
    Ok(end?)
}

/// Whether the filters let a record through. What cannot be decoded is for the pipeline to count.
fn is_wanted(bytes: &[u8], args: &ShowArgs) -> bool {
    if args.ports.is_empty() && args.peers.is_empty() {
        return true;
    }
    match decode(bytes) {
        Ok(Record::Request(record)) => is_wanted_request(&record, args),
        Ok(Record::Opened(record) | Record::Closed(record)) => is_wanted_tuple(&record.tuple, args),
        Ok(Record::Rejection(record)) => is_wanted_tuple(&record.tuple(), args),
        // The peers of a listener are not known.
        Ok(Record::Listener(record)) => args.ports.is_empty() || args.ports.contains(&record.local.port),
        Err(_) => true,
    }
}

/// Behind a port mapping either port is one of its names.
fn is_wanted_request(record: &RequestRecord, args: &ShowArgs) -> bool {
    let is_by = |port| is_wanted_end(port, peer::address(&record.tuple.peer), args);
    is_by(record.tuple.local.port) || record.asked().is_some_and(is_by)
}

fn is_wanted_tuple(tuple: &Tuple, args: &ShowArgs) -> bool {
    is_wanted_end(tuple.local.port, peer::address(&tuple.peer), args)
}

/// Where the peer stands for several, the address of their network decides.
fn is_wanted_end(port: u16, peer: IpAddr, args: &ShowArgs) -> bool {
    (args.ports.is_empty() || args.ports.contains(&port))
        && (args.peers.is_empty() || args.peers.iter().any(|network| network.contains(&peer)))
}

fn waiting_request(bytes: &[u8], args: &ShowArgs) -> Option<RequestRecord> {
    match decode(bytes) {
        Ok(Record::Request(record)) if is_wanted_request(&record, args) => Some(record),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
