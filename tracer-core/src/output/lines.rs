//! A line a request, and a line a rejection.

use super::{
    columns::{Column, Wanted, columns},
    rejection::{Told, port},
    terminal::{BOLD, PLAIN, Printable, RED, Terminal, YELLOW},
};
use crate::{
    aggregate::rejections::{Class, Peer},
    direct::{Direct, Line},
    explain::Explanation,
    model::{
        clock::Clock,
        namespaces::Label,
        peer::Socket,
        rejection::Rejection,
        request::{Outcome, Part, Request, comm},
    },
    units::{Bytes, Nanoseconds, percent},
};
use std::{
    fmt::{self, Write as _},
    io::{self, Write},
};
use tracer_common::{record::RequestRecord, turn::Turn};

/// Lines after which a terminal shows the header once more.
const HEADER_EVERY: u32 = 40;
/// What marks the stage that dominates, also where there is no colour.
const MARK: &str = "*";
/// The least time that is marked, in nanoseconds: what took longest of next to nothing says nothing.
const MARKED_FROM: u64 = 1_000_000;
/// A stage whose time is in the one before it.
const MERGED: &str = "<";
/// A stage that was not measured.
const ABSENT: &str = "-";

/// The table of requests, with rejections between them.
#[derive(Debug)]
pub struct Lines {
    columns: Vec<Column>,
    terminal: Terminal,
    clock: Clock,
    /// These grow with the longest peer address and process, so that the columns stay aligned.
    peer_width: usize,
    process_width: usize,
    namespace_width: usize,
    /// Lines since the header; `None`: it has not been shown.
    since_header: Option<u32>,
    /// A unit was seen.
    units: bool,
    /// Several network namespaces were seen.
    namespaces: bool,
    /// A rejection was shown.
    rejected: bool,
    line: Line,
    cell: Line,
}

impl Lines {
    /// A table for `terminal`.
    pub fn new(clock: Clock, terminal: Terminal) -> Self {
        Self {
            columns: columns(terminal.width, Wanted::default()),
            terminal,
            clock,
            peer_width: Column::Peer.width(),
            process_width: Column::Process.width(),
            namespace_width: Column::Namespace.width(),
            since_header: None,
            units: false,
            namespaces: false,
            rejected: false,
            line: Line::new(),
            cell: Line::new(),
        }
    }

    /// Writes the line of `request`, after the header if it is due.
    pub fn request(&mut self, out: &mut impl Write, request: &Request<'_>) -> io::Result<()> {
        self.make_room(unit(request).is_some(), request.namespace.is_some());
        if self.since_header.is_none_or(|lines| self.terminal.interactive && lines >= HEADER_EVERY) {
            self.header(out)?;
        }
        self.since_header = self.since_header.map(|lines| lines.saturating_add(1));
        let dominant = request.dominant().filter(|&(_, time)| time >= MARKED_FROM).map(|(part, _)| part);
        self.line.clear();
        for index in 0..self.columns.len() {
            let column = self.columns[index];
            self.cell.clear();
            let mut cell = std::mem::take(&mut self.cell);
            // It takes everything.
            let _ = self.fill(&mut cell, column, request);
            let marked = dominant.is_some_and(|part| is_of(column, part));
            self.push(column, cell.as_str(), marked);
            self.cell = cell;
        }
        self.end_line(out)
    }

    /// Writes the line of `rejection`, below the columns of the requests as far as it shares them, and folded rather than
    /// cut off: a sentence without its end says nothing.
    pub fn rejection(
        &mut self,
        out: &mut impl Write,
        rejection: &Rejection,
        explanation: &Explanation,
        namespace: Option<Label<'_>>,
    ) -> io::Result<()> {
        self.line.clear();
        if self.since_header.is_none() && !self.rejected {
            for column in [Column::Time, Column::Peer, Column::Local] {
                self.push(column, &column.heading(), false);
            }
            self.line.push_str("CAUSE\n");
        }
        self.rejected = true;
        self.push(Column::Time, &self.clock.time_of_day(rejection.last).to_string(), false);
        self.push(Column::Peer, &Peer::of(rejection).to_string(), false);
        self.push(Column::Local, &port(rejection.local), false);
        if let Some(namespace) = namespace {
            self.namespaces = true;
            let namespace = namespace.to_string();
            self.push(Column::Namespace, &Printable(&namespace).to_string(), false);
        }
        let class = Class::of(rejection, explanation);
        let colour = if class == Class::Rejected { RED } else { YELLOW };
        let (colour, plain) = if self.terminal.colour { (colour, PLAIN) } else { ("", "") };
        // It takes everything.
        let _ = write!(self.line, "{colour}{}{plain} {}", class.name(), Told(rejection, explanation));
        self.line.push_str("\n");
        out.write_all(self.terminal.fold(self.line.as_str()).as_bytes())
    }

    /// Hosts without systemd and control groups have nothing to show in `UNIT`, and most hosts nothing in `NETNS`: each of
    /// these columns comes with the first line that needs it.
    fn make_room(&mut self, units: bool, namespaces: bool) {
        if (units && !self.units) || (namespaces && !self.namespaces) {
            self.units |= units;
            self.namespaces |= namespaces;
            let columns = columns(self.terminal.width, Wanted { units: self.units, namespaces: self.namespaces });
            if columns != self.columns {
                self.columns = columns;
                self.since_header = None;
            }
        }
    }

    fn header(&mut self, out: &mut impl Write) -> io::Result<()> {
        self.line.clear();
        for index in 0..self.columns.len() {
            let column = self.columns[index];
            self.push(column, &column.heading(), false);
        }
        self.since_header = Some(0);
        self.end_line(out)
    }

    fn end_line(&mut self, out: &mut impl Write) -> io::Result<()> {
        self.terminal.cut(&mut self.line);
        self.line.truncate(self.line.as_str().trim_end().len());
        self.line.push_str("\n");
        out.write_all(self.line.as_bytes())
    }

    /// Appends a cell, padded to the width of its column.
    fn push(&mut self, column: Column, cell: &str, marked: bool) {
        let length = if cell.is_ascii() { cell.len() } else { cell.chars().count() };
        let mut width = match column {
            Column::Peer => grown(&mut self.peer_width, length),
            Column::Process => grown(&mut self.process_width, length),
            Column::Namespace => grown(&mut self.namespace_width, length),
            _ => column.width(),
        };
        let mark = column.is_marked() && length < width;
        width -= usize::from(mark);
        let padding = width.saturating_sub(length);
        if column.is_right() {
            self.pad(padding);
        }
        let bold = marked && self.terminal.colour;
        self.line.push_str(if bold { BOLD } else { "" });
        self.line.push_str(cell);
        if mark {
            self.line.push_str(if marked { MARK } else { " " });
        }
        self.line.push_str(if bold { PLAIN } else { "" });
        if !column.is_right() {
            self.pad(padding);
        }
        self.line.push_str(" ");
    }

    fn pad(&mut self, mut padding: usize) {
        const SPACES: &str = "                                ";
        while padding > 0 {
            let spaces = &SPACES[..padding.min(SPACES.len())];
            self.line.push_str(spaces);
            padding -= spaces.len();
        }
    }

    fn fill(&self, cell: &mut Line, column: Column, request: &Request<'_>) -> fmt::Result {
        let record = request.record;
        match column {
            Column::Time => self.clock.time_of_day(request.start()).write_to(cell),
            Column::Peer => Socket(&record.tuple.peer).write_to(cell),
            Column::Local => {
                cell.push_str(":");
                u64::from(record.tuple.local.port).write_to(cell)
            }
            Column::Namespace => match request.namespace {
                Some(namespace) => Printable(&namespace.to_string()).write_to(cell),
                None => cell.write_str(ABSENT),
            },
            Column::Process if record.process.pid == 0 => cell.write_str(ABSENT),
            Column::Process => {
                Printable(&comm(&record.process)).write_to(cell)?;
                cell.push_str("[");
                u64::from(record.process.pid).write_to(cell)?;
                cell.write_str("]")
            }
            Column::In => Bytes(record.bytes_in).write_to(cell),
            Column::Out => Bytes(record.bytes_out).write_to(cell),
            Column::Total => time(cell, request.total()),
            Column::Accept => time(cell, request.accept),
            Column::Stage(stage) if request.split.is_merged(stage) => cell.write_str(MERGED),
            Column::Stage(stage) => time(cell, request.split.stages[stage]),
            Column::Mostly => match request.dominant() {
                Some((part, longest)) => {
                    cell.push_str(part.name());
                    cell.push_str(if is_merged(request, part) { "+ " } else { " " });
                    Nanoseconds(longest).write_to(cell)?;
                    cell.push_str(" ");
                    percent(longest, request.total().unwrap_or(0)).write_to(cell)?;
                    cell.write_str("%")
                }
                None => cell.write_str(ABSENT),
            },
            Column::Note => note(cell, request),
            Column::Unit => Printable(unit(request).unwrap_or(ABSENT)).write_to(cell),
        }
    }
}

/// A width that is at least `length` from here on.
fn grown(width: &mut usize, length: usize) -> usize {
    *width = length.max(*width);
    *width
}

/// The systemd unit or the control group; the root group, in which everything is that is in no other, says nothing.
fn unit<'a>(request: &Request<'a>) -> Option<&'a str> {
    let place = request.place?;
    place.unit().or_else(|| (place.cgroup != "/").then_some(&place.cgroup))
}

/// The part holds the time of the stages after it, which were not told apart.
fn is_merged(request: &Request<'_>, part: Part) -> bool {
    matches!(part, Part::Stage(stage) if !request.split.is_apart(stage))
}

fn is_of(column: Column, part: Part) -> bool {
    match part {
        Part::Accept => matches!(column, Column::Accept | Column::Mostly),
        Part::Stage(stage) => column == Column::Stage(stage) || column == Column::Mostly,
    }
}

fn time(cell: &mut Line, time: Option<u64>) -> fmt::Result {
    match time {
        Some(time) => Nanoseconds(time).write_to(cell),
        None => cell.write_str(ABSENT),
    }
}

fn note(cell: &mut Line, request: &Request<'_>) -> fmt::Result {
    let turn = (request.turn != Turn::Request).then(|| request.word());
    let outcome = match request.outcome {
        Outcome::Complete => None,
        // A message needs no answer.
        Outcome::Unanswered if request.turn == Turn::Message => None,
        Outcome::Unanswered => Some("unanswered"),
        Outcome::Cut => Some("cut"),
    };
    let incomplete = request.may_be_incomplete.then_some("incomplete?");
    let adopted = (request.record.flags & RequestRecord::ADOPTED != 0).then_some("adopted");
    let amended = request.amended.then_some("amended");
    for (index, note) in [turn, outcome, incomplete, adopted, amended].into_iter().flatten().enumerate() {
        cell.write_str(if index == 0 { "" } else { "," })?;
        cell.write_str(note)?;
    }
    match request.record.retransmits {
        0 => {}
        retransmits => write!(cell, "{}retrans:{retransmits}", if cell.as_bytes().is_empty() { "" } else { "," })?,
    }
    Ok(())
}

#[cfg(test)]
mod tests;
