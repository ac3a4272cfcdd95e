//! Rejections in words: one in a line, and all of a run in a table.

use super::terminal::{Printable, Terminal};
use crate::{
    aggregate::rejections::Explained,
    explain::{Explanation, name},
    model::{clock::Clock, namespaces::Namespaces, rejection::Rejection},
    units::{Count, Plural},
};
use std::{
    fmt::{self, Write as _},
    io::{self, Write},
    net::SocketAddr,
};

/// Rows of a table that are listed.
const ROWS: usize = 20;
/// What stands before a sentence below its row: it begins below the cause.
const INDENT: &str = "      ";

/// A rejection in a line, behind its time, peer and port:
/// `accept_queue_full x17 (504): gunicorn[812] accepts too slowly ...`
pub struct Told<'a>(pub &'a Rejection, pub &'a Explanation);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(rejection, explanation) = self;
        f.write_str(name(rejection.cause))?;
        if rejection.count > 1 {
            write!(f, " x{}", rejection.count)?;
        }
        if !explanation.alb.is_empty() {
            write!(f, " ({})", codes(explanation))?;
        }
        // If it was inferred, or something was not seen, then the text says from what, and what.
        write!(f, ": {}", Printable(&explanation.text))
    }
}

/// What the load balancer answers: `502`, or `502/504`.
fn codes(explanation: &Explanation) -> String {
    explanation.alb.join("/")
}

/// Writes a table for each class, each row with its explanation and advice below it; nothing if there is nothing.
pub fn tables(
    out: &mut impl Write,
    terminal: Terminal,
    clock: Clock,
    rows: &[Explained],
    namespaces: &Namespaces,
) -> io::Result<()> {
    let mut classes = rows.chunk_by(|one, next| one.class() == next.class());
    classes.try_for_each(|rows| table(out, terminal, clock, rows, namespaces))
}

fn table(
    out: &mut impl Write,
    terminal: Terminal,
    clock: Clock,
    rows: &[Explained],
    namespaces: &Namespaces,
) -> io::Result<()> {
    let (shown, rest) = rows.split_at(rows.len().min(ROWS));
    let mut fitting = DETAILS.into_iter().map(|detail| Table::new(shown, clock, detail, namespaces));
    let fits = |table: &Table| terminal.width.is_none_or(|width| table.width() <= width);
    let table = fitting.clone().find(fits).or_else(|| fitting.next_back());
    let mut lines = table.iter().flat_map(Table::lines);
    writeln!(out, "\n{}", lines.next().unwrap_or_default())?;
    let mut said = ("", "");
    for (line, row) in lines.zip(shown) {
        writeln!(out, "{line}")?;
        let Explanation { text, advice, .. } = &row.explanation;
        if text != said.0 {
            writeln!(out, "{INDENT}{}", Printable(text))?;
        }
        if advice != said.1 {
            writeln!(out, "{INDENT}Advice: {}", Printable(advice))?;
        }
        said = (text, advice);
    }
    let more = rest.iter().fold(0, |sum: u64, it| sum.saturating_add(it.row.rejection.count));
    match rest.len() {
        0 => Ok(()),
        others => writeln!(out, "and {} more in {}", Count(more), Plural(others as u64, "other row")),
    }
}

/// How much a table shows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Detail {
    /// No times.
    Least,
    /// The time of the last, in seconds.
    Last,
    /// Both times.
    Times,
    /// Milliseconds, too, and the address of the listener.
    All,
}

/// What is given up when there is no room, in this order.
const DETAILS: [Detail; 4] = [Detail::All, Detail::Times, Detail::Last, Detail::Least];

/// The cells of the heading and of the rows; the first column stands at the right. A column without a cell is not shown.
struct Table(Vec<[String; COLUMNS]>);

const COLUMNS: usize = 8;

impl Table {
    fn new(rows: &[Explained], clock: Clock, detail: Detail, namespaces: &Namespaces) -> Self {
        let heading = rows.first().map_or("", |row| row.class().name());
        let (first, last) = if detail == Detail::All { ("FIRST(UTC)", "LAST(UTC)") } else { ("FIRST", "LAST") };
        let headings = ["COUNT", heading, "ALB", "LISTENER", "NETNS", "FROM", first, last];
        let mut cells: Vec<_> = rows.iter().map(|row| cells(row, clock, detail, namespaces)).collect();
        let has_cells = |column: usize| cells.iter().any(|row| !row[column].is_empty());
        let headings = std::array::from_fn(|it| if has_cells(it) { headings[it].to_owned() } else { String::new() });
        cells.insert(0, headings);
        Self(cells)
    }

    fn widths(&self) -> [usize; COLUMNS] {
        let width = |column: usize| self.0.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        std::array::from_fn(width)
    }

    fn width(&self) -> usize {
        self.widths().into_iter().filter(|&width| width > 0).map(|width| width + 1).sum::<usize>().saturating_sub(1)
    }

    fn lines(&self) -> impl Iterator<Item = String> {
        let widths = self.widths();
        self.0.iter().map(move |row| {
            let mut line = format!("{:>1$}", row[0], widths[0]);
            for (cell, &width) in row.iter().zip(&widths).skip(1).filter(|(_, width)| **width > 0) {
                // Writing to a string cannot fail.
                let _ = write!(line, " {cell:<width$}");
            }
            line.truncate(line.trim_end().len());
            line
        })
    }
}

/// The port of `local` as `:8080`; `:*` stands for several.
pub fn port(local: SocketAddr) -> String {
    if local.port() == 0 { ":*".to_owned() } else { format!(":{}", local.port()) }
}

/// The address of `local`, as it stands before a port; `*` if it is not known.
fn host(local: SocketAddr) -> String {
    match local {
        _ if local.ip().is_unspecified() => "*".to_owned(),
        SocketAddr::V4(local) => local.ip().to_string(),
        SocketAddr::V6(local) => format!("[{}]", local.ip()),
    }
}

fn cells(row: &Explained, clock: Clock, detail: Detail, namespaces: &Namespaces) -> [String; COLUMNS] {
    let (rejection, is_other) = (&row.row.rejection, row.row.is_other);
    let listener = match detail {
        _ if is_other => "others".to_owned(),
        Detail::All if rejection.local.port() == 0 => format!("{}:*", host(rejection.local)),
        Detail::All => rejection.local.to_string(),
        _ => port(rejection.local),
    };
    let network = row.row.network.map(|network| network.to_string());
    let unknown = if is_other { "others" } else { "-" };
    let time = |moment, needed| {
        let mut time = clock.time_of_day(moment).to_string();
        match detail {
            Detail::All => {}
            _ if detail < needed => time.clear(),
            _ => time.truncate("HH:MM:SS".len()),
        }
        time
    };
    [
        Count(rejection.count).to_string(),
        name(rejection.cause).to_owned(),
        codes(&row.explanation),
        listener,
        namespaces.label(rejection.netns).map(|label| Printable(&label.to_string()).to_string()).unwrap_or_default(),
        network.unwrap_or_else(|| unknown.to_owned()),
        time(rejection.first, Detail::Times),
        time(rejection.last, Detail::Last),
    ]
}

#[cfg(test)]
mod tests;
