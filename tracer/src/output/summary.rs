//! The figures of a run for people: first a sentence that says where the time goes, then its evidence.

use super::units::{Bytes, Count, Nanoseconds, Plural, percent};
use crate::{
    aggregate::{GROUPS, Summary, distribution::Distribution, figures::Figures},
    clock::Clock,
    enrich::peer,
    request::{Request, comm},
    status::{Counters, Hook, Shortfalls},
};
use std::{
    cmp::Reverse,
    fmt,
    io::{self, Write},
};
use tracer_common::stage::{ConnectionStage, RequestStage};

/// Waiting requests that are listed, the longest waits first.
const WAITING: usize = 20;
/// Processes that are listed.
const PROCESSES: usize = 20;

/// Whose time a stage is, as the end of "of their time is ...".
const fn whose(stage: RequestStage) -> &'static str {
    match stage {
        RequestStage::Ingress => "this host's kernel between network device and socket",
        RequestStage::Pickup => "the application, busy elsewhere before it read them",
        RequestStage::Upload => "the sender, who had not sent all of them yet",
        RequestStage::Service => "the application computing or waiting",
        RequestStage::Egress => "this host's kernel between socket and network device",
        RequestStage::Download => "the application writing on, or the peer's window",
        RequestStage::Drain => "the network and the load balancer, until all was acknowledged",
    }
}
const WHOSE_ACCEPT: &str = "the application, slow to accept connections";

/// Writes the figures.
///
/// # Errors
///
/// If `out` cannot be written to.
pub fn summary(out: &mut impl Write, summary: &Summary) -> io::Result<()> {
    verdict(out, &summary.all)?;
    if summary.all.requests == 0 && summary.all.connections == 0 {
        return Ok(());
    }
    writeln!(out)?;
    table(out, &summary.all)?;
    let groups = summary.groups();
    if groups.len() > 1 {
        for (group, figures) in groups {
            write!(out, "\n:{} from {}: ", group.port, group.network)?;
            verdict(out, figures)?;
            table(out, figures)?;
        }
    }
    if let Some(other) = &summary.other_groups {
        writeln!(out, "\nAll other ports and peers (only {GROUPS} are kept apart): {}", Counts(other))?;
        table(out, other)?;
    }
    processes(out, summary)
}

/// Where the time goes: only what was measured.
fn verdict(out: &mut impl Write, all: &Figures) -> io::Result<()> {
    if all.requests == 0 {
        return writeln!(out, "No request ended{}.", Opened(all.connections));
    }
    write!(out, "{}", Counts(all))?;
    let longest = all.stages.iter().zip(RequestStage::ALL).max_by_key(|(it, stage)| (it.sum(), Reverse(*stage)));
    let Some((distribution, stage)) = longest else { return writeln!(out, ".") };
    let whole = all.whole();
    let accept = &all.connection_stages[ConnectionStage::Accept as usize];
    let (name, time, times, owner) = if all.accept_wait > distribution.sum() {
        (ConnectionStage::Accept.name(), all.accept_wait, accept, WHOSE_ACCEPT)
    } else {
        (stage.name(), distribution.sum(), distribution, whose(stage))
    };
    if time == 0 {
        return writeln!(out, "; no stage of them was measured.");
    }
    write!(out, "; {}% of their time is {name}", percent(time, whole))?;
    if let (Some(p50), Some(p99)) = (times.quantile(0.5), times.quantile(0.99)) {
        write!(out, " (p50 {}, p99 {})", Nanoseconds(p50), Nanoseconds(p99))?;
    }
    writeln!(out, ": {owner}.")
}

struct Opened(u64);

impl fmt::Display for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { Ok(()) } else { write!(f, " on {}", Plural(self.0, "connection")) }
    }
}

/// `1 204 requests (3 unanswered) on 37 connections, 512B in, 20.5kB out, 2 retransmits`.
struct Counts<'a>(&'a Figures);

impl fmt::Display for Counts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let it = self.0;
        write!(f, "{}", Plural(it.requests, "request"))?;
        match (it.unanswered, it.cut) {
            (0, 0) => {}
            (unanswered, 0) => write!(f, " ({} unanswered)", Count(unanswered))?,
            (0, cut) => write!(f, " ({} cut)", Count(cut))?,
            (unanswered, cut) => write!(f, " ({} unanswered, {} cut)", Count(unanswered), Count(cut))?,
        }
        write!(f, "{}, {} in, {} out", Opened(it.connections), Bytes(it.bytes_in), Bytes(it.bytes_out))?;
        if it.retransmits != 0 {
            write!(f, ", {}", Plural(it.retransmits, "retransmit"))?;
        }
        Ok(())
    }
}

fn table(out: &mut impl Write, figures: &Figures) -> io::Result<()> {
    writeln!(out, "{:<10}{:>10}{:>8}{:>8}{:>8}{:>8}{:>7}", "STAGE", "COUNT", "P50", "P90", "P99", "MAX", "SHARE")?;
    let whole = figures.whole();
    for (index, stage) in RequestStage::ALL.into_iter().enumerate() {
        let distribution = &figures.stages[index];
        write!(out, "{}{}", Row(stage.name(), distribution), Share(distribution, distribution.sum(), whole))?;
        match figures.merged[index] {
            0 => writeln!(out)?,
            merged => writeln!(out, "  {} more are in the stage before", Count(merged))?,
        }
    }
    writeln!(out, "{}", Row("total", &figures.total))?;
    for (stage, distribution) in ConnectionStage::ALL.into_iter().zip(&figures.connection_stages) {
        write!(out, "{}", Row(stage.name(), distribution))?;
        match stage {
            // Only the part of it for which requests waited is part of their time.
            ConnectionStage::Accept => writeln!(out, "{}", Share(distribution, figures.accept_wait, whole))?,
            ConnectionStage::Synack | ConnectionStage::Handshake => writeln!(out)?,
        }
    }
    Ok(())
}

struct Row<'a>(&'static str, &'a Distribution);

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(name, distribution) = self;
        write!(f, "{name:<10}{:>10}", Count(distribution.count()).to_string())?;
        let quantiles = [0.5, 0.9, 0.99].map(|quantile| distribution.quantile(quantile));
        for value in quantiles.into_iter().chain([distribution.max()]) {
            write!(f, "{:>8}", value.map_or_else(|| "-".to_owned(), |value| Nanoseconds(value).to_string()))?;
        }
        Ok(())
    }
}

/// What `.1` is of `.2`; absent if the distribution is empty, as nothing was measured then.
struct Share<'a>(&'a Distribution, u64, u64);

impl fmt::Display for Share<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.count() {
            0 => write!(f, "{:>7}", "-"),
            _ => write!(f, "{:>6}%", percent(self.1, self.2)),
        }
    }
}

fn processes(out: &mut impl Write, summary: &Summary) -> io::Result<()> {
    let processes = summary.processes();
    if processes.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{:>10}{:>8}{:>8}{:>8}{:>8}  READ BY", "REQUESTS", "P50", "P90", "P99", "MAX")?;
    for process in processes.iter().take(PROCESSES) {
        // The same columns as a row, less its name.
        let row = Row("", &process.total).to_string();
        write!(out, "{:>10}{}", Count(process.requests).to_string(), &row[20..])?;
        write!(out, "  {}", Printable(&process.comm))?;
        if let Some(pid) = process.pid {
            write!(out, "[{pid}]")?;
        }
        // The root group, in which everything is that is in no other, says nothing.
        match process.unit.as_deref().or(process.cgroup.as_deref().filter(|&cgroup| cgroup != "/")) {
            Some(unit) => writeln!(out, " {}", Printable(unit))?,
            None => writeln!(out)?,
        }
    }
    let rest = processes.iter().skip(PROCESSES).map(|it| it.requests).sum::<u64>() + summary.other_processes;
    if rest != 0 {
        writeln!(out, "{:>10}{:34}others", Count(rest).to_string(), "")?;
    }
    Ok(())
}

/// Lists the requests that were still waiting, the longest wait first.
///
/// # Errors
///
/// If `out` cannot be written to.
pub fn waiting(out: &mut impl Write, clock: Clock, requests: &[Request<'_>]) -> io::Result<()> {
    if requests.is_empty() {
        return Ok(());
    }
    let still = Plural(requests.len() as u64, "request");
    writeln!(out, "\n{still} still waiting when tracing ended:")?;
    let mut requests: Vec<_> = requests.iter().collect();
    requests.sort_by_key(|request| (Reverse(request.total()), request.record.connection));
    for request in requests.iter().take(WAITING) {
        let (record, tuple) = (request.record, &request.record.tuple);
        write!(
            out,
            "  since {} {} -> :{}",
            clock.time_of_day(request.start()),
            peer::socket(&tuple.peer),
            tuple.local.port
        )?;
        if record.process.pid != 0 {
            write!(out, " {}[{}]", Printable(&comm(&record.process)), record.process.pid)?;
        }
        match request.latest() {
            Some((part, time)) => writeln!(out, ": in {} for {}", part.name(), Nanoseconds(time))?,
            None => writeln!(out)?,
        }
    }
    match requests.len().checked_sub(WAITING) {
        None | Some(0) => Ok(()),
        Some(more) => writeln!(out, "  and {}", Plural(more as u64, "other")),
    }
}

/// Says what is missing from the figures; nothing if nothing is.
///
/// # Errors
///
/// If `out` cannot be written to.
pub fn missing(
    out: &mut impl Write,
    counters: Option<&Counters>,
    hooks: &[Hook],
    shortfalls: Shortfalls,
) -> io::Result<()> {
    let mut lines = Vec::new();
    match counters {
        Some(counters) => lines.extend(lost(counters)),
        None => lines.push("The kernel's totals are missing: whether records were lost is not known.".to_owned()),
    }
    let shortfalls = [
        (shortfalls.undecodable, "record", "could not be decoded"),
        (shortfalls.evicted, "connection", "forgotten early because too many were open at once"),
        (shortfalls.unmatched, "report", "skipped because no request that is remembered belongs to it"),
    ];
    let counted = shortfalls.into_iter().filter(|(count, ..)| *count != 0);
    lines.extend(counted.map(|(count, noun, what)| format!("{} {what}.", Plural(count, noun))));
    for hook in hooks.iter().filter(|hook| hook.attached.is_none() || hook.lost.is_some()) {
        let how = if hook.attached.is_some() { "is attached in part" } else { "is not attached" };
        let why = hook.refused.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
        let lost = hook.lost.as_deref().map(|lost| format!(": {lost}")).unwrap_or_default();
        lines.push(format!("Hook {} {how}{why}{lost}.", hook.hook));
    }
    if !lines.is_empty() {
        writeln!(out)?;
    }
    lines.into_iter().try_for_each(|line| writeln!(out, "{line}"))
}

fn lost(counters: &Counters) -> Vec<String> {
    use tracer_common::counter::Counter;
    let mut lines = Vec::new();
    match counters.records_lost() {
        0 => {}
        lost => lines.push(format!(
            "{} lost on the way from the kernel; it counted {} ended: the figures above lack some.",
            Plural(lost, "record"),
            Plural(counters.get(Counter::RequestsEnded), "request"),
        )),
    }
    match counters.events_missed() {
        0 => {}
        missed => lines.push(format!(
            "{} missed, which came while the same program was interrupted: a stage or a request may lack it.",
            Plural(missed, "event"),
        )),
    }
    for (counter, what) in [
        (Counter::StorageFailed, "not traced: the kernel had no memory for their state"),
        (Counter::HandshakeInsertFailed, "without the stages synack and handshake: no room for their times"),
        (Counter::AcceptInsertFailed, "without the stage accept: no room for its time"),
    ] {
        match counters.get(counter) {
            0 => {}
            count => lines.push(format!("{} {what}.", Plural(count, "connection"))),
        }
    }
    lines
}

/// Names come from processes and must not steer the terminal.
struct Printable<'a>(&'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|it| write!(f, "{}", if it.is_control() { '?' } else { it }))
    }
}

#[cfg(test)]
mod tests;
