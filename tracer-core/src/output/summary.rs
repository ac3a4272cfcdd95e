//! The end of the output for people: first the verdict, then its evidence.

use super::{
    rejection,
    terminal::{Printable, Terminal},
};
use crate::{
    aggregate::{GROUPS, distribution::Times, figures::Picture},
    model::{
        clock::Clock,
        namespaces::Label,
        peer,
        request::{Request, comm},
        status::{Counters, Run},
    },
    report::{Report, verdict::Mostly},
    units::{Count, Nanoseconds, Plural, percent},
};
use std::{
    cmp::Reverse,
    fmt,
    io::{self, Write},
};
use tracer_common::{
    counter::Counter,
    stage::{ConnectionStage, RequestStage},
};

/// Waiting requests that are listed, the longest waits first.
const WAITING: usize = 20;
/// Processes that are listed.
const PROCESSES: usize = 20;

/// Groups that are listed, those with most requests first.
const GROUPS_LISTED: usize = 20;

/// Writes the figures.
pub fn summary(out: &mut impl Write, terminal: Terminal, report: &Report) -> io::Result<()> {
    for sentence in &report.verdict {
        writeln!(out, "{}", Printable(sentence))?;
    }
    rejection::tables(out, terminal, report.clock, &report.rejected, &report.namespaces)?;
    let all = &report.all;
    // Where nothing was rejected, this is what the verdict ends with.
    let gap = if report.rejected.is_empty() { "" } else { "\n" };
    writeln!(out, "{gap}{}", report.time)?;
    if all.requests == 0 && all.connections == 0 {
        return Ok(());
    }
    writeln!(out)?;
    table(out, all)?;
    groups(out, report)?;
    processes(out, report)
}

fn table(out: &mut impl Write, figures: &Picture) -> io::Result<()> {
    writeln!(out, "{:<10}{:>10}{:>8}{:>8}{:>8}{:>8}{:>7}", "STAGE", "COUNT", "P50", "P90", "P99", "MAX", "SHARE")?;
    let whole = figures.whole();
    for (index, stage) in RequestStage::ALL.into_iter().enumerate() {
        let times = figures.stages[index];
        let share = times.map(|times| (times.sum, whole));
        write!(out, "{}{}", Row(stage.name(), times), Share(share))?;
        match figures.merged[index] {
            0 => writeln!(out)?,
            merged => writeln!(out, "  {} more are in the stage before", Count(merged))?,
        }
    }
    writeln!(out, "{}", Row("total", figures.total))?;
    for (stage, times) in ConnectionStage::ALL.into_iter().zip(figures.connection_stages) {
        write!(out, "{}", Row(stage.name(), times))?;
        match stage {
            // Only the part of it for which requests waited is part of their time.
            ConnectionStage::Accept => writeln!(out, "{}", Share(times.map(|_| (figures.accept_wait, whole))))?,
            ConnectionStage::Synack | ConnectionStage::Handshake => writeln!(out)?,
        }
    }
    Ok(())
}

/// A row a group, unless there is only one: its figures are those of all.
fn groups(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let mut groups: Vec<_> = report.groups.iter().collect();
    if groups.len() < 2 {
        return Ok(());
    }
    groups.sort_by_key(|(_, figures)| Reverse(figures.requests));
    writeln!(out, "\n{:>10}{:>8}{:>8}  {:<15}ON PORT, FROM", "REQUESTS", "P50", "P99", "MOSTLY")?;
    let (listed, rest) = groups.split_at(groups.len().min(GROUPS_LISTED));
    for (group, figures) in listed {
        let place = In(report.namespaces.label(group.listener.netns));
        writeln!(out, "{}:{}{place} from {}", Compact(figures), group.listener.port(), group.network)?;
    }
    if !rest.is_empty() {
        let requests = rest.iter().map(|(_, figures)| figures.requests).sum();
        writeln!(out, "{:>10}{:33}{} more", Count(requests).to_string(), "", rest.len())?;
    }
    match &report.other_groups {
        Some(other) => writeln!(out, "{}others (only {GROUPS} are kept apart)", Compact(other)),
        None => Ok(()),
    }
}

/// The figures of a group in a row: requests, quantiles of their totals, what most of their time is.
struct Compact<'a>(&'a Picture);

impl fmt::Display for Compact<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(figures) = self;
        write!(f, "{:>10}", Count(figures.requests).to_string())?;
        for quantile in [figures.total.map(|times| times.p50), figures.total.map(|times| times.p99)] {
            write!(f, "{:>8}", Known(quantile).to_string())?;
        }
        let share = |it: Mostly| {
            let more = if it.is_merged() { "+" } else { "" };
            format!("{}{more} {}%", it.name, percent(it.time, figures.whole()))
        };
        write!(f, "  {:<15}", Mostly::of(figures).map_or_else(|| "-".to_owned(), share))
    }
}

/// ` in web`: in which network namespace, if there are several.
struct In<'a>(Option<Label<'a>>);

impl fmt::Display for In<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |label| write!(f, " in {}", Printable(&label.to_string())))
    }
}

/// A time, if it is known.
struct Known(Option<u64>);

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(time) => Nanoseconds(time).fmt(f),
            None => f.write_str("-"),
        }
    }
}

/// A name, and the times that it stands for.
struct Row(&'static str, Option<Times>);

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(name, times) = self;
        let count = times.map_or(0, |times| times.count);
        write!(f, "{name:<10}{:>10}{}", Count(count).to_string(), Quantiles(*times))
    }
}

/// The columns `P50`, `P90`, `P99` and `MAX`.
struct Quantiles(Option<Times>);

impl fmt::Display for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quantiles = self.0.map(|Times { p50, p90, p99, max, .. }| [p50, p90, p99, max]);
        (0..4).try_for_each(|at| write!(f, "{:>8}", Known(quantiles.map(|it| it[at])).to_string()))
    }
}

/// What a time is of the whole; absent if it was not measured.
struct Share(Option<(u64, u64)>);

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => write!(f, "{:>7}", "-"),
            Some((part, whole)) => write!(f, "{:>6}%", percent(part, whole)),
        }
    }
}

fn processes(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let processes = &report.processes;
    if processes.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{:>10}{:>8}{:>8}{:>8}{:>8}  READ BY", "REQUESTS", "P50", "P90", "P99", "MAX")?;
    for process in processes.iter().take(PROCESSES) {
        write!(out, "{:>10}{}", Count(process.requests).to_string(), Quantiles(process.total))?;
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
    let rest = processes.iter().skip(PROCESSES).map(|it| it.requests).sum::<u64>() + report.other_processes;
    if rest != 0 {
        writeln!(out, "{:>10}{:34}others", Count(rest).to_string(), "")?;
    }
    Ok(())
}

/// Lists the requests that were still waiting, the longest wait first.
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
            "  since {} {} -> :{}{}",
            clock.time_of_day(request.start()),
            peer::socket(&tuple.peer),
            tuple.local.port,
            In(request.namespace)
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
pub fn missing(out: &mut impl Write, run: &Run) -> io::Result<()> {
    let Run { counters, hooks, shortfalls, .. } = run;
    let mut lines = Vec::new();
    match counters {
        Some(counters) => lines.extend(lost(counters)),
        None => lines.push("The kernel's totals are missing: whether records were lost is not known.".to_owned()),
    }
    let shortfalls = [
        (shortfalls.undecodable, "record", "could not be decoded"),
        (shortfalls.evicted, "connection", "forgotten early because too many were open at once"),
        (shortfalls.unmatched, "report", "skipped because no request that is remembered belongs to it"),
        (
            shortfalls.revised,
            "report",
            "shown but not counted, because its request was already counted as it was before",
        ),
    ];
    let counted = shortfalls.into_iter().filter(|(count, ..)| *count != 0);
    lines.extend(counted.map(|(count, noun, what)| format!("{} {what}.", Plural(count, noun))));
    for hook in hooks.iter().filter(|hook| hook.attached.is_none() || hook.lost.is_some()) {
        let how = match (&hook.attached, hook.unwanted) {
            (Some(_), _) => "is attached in part",
            (None, true) => "is off, as was asked for",
            (None, false) => "is not attached",
        };
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
    use Counter::{
        AcceptsLost, AnswersLost, ArrivalsUncounted, ClosesForgotten, ConnectionRecordsLost, HandshakesLost,
        LateRecordsLost, ListenersUncounted, NamespacesUncounted, RejectionRecordsLost, RejectionsUncounted,
        RequestRecordsLost, StorageFailed, SynsForgotten,
    };
    let ended = Plural(counters.get(Counter::RequestsEnded), "request");
    let ended = if counters.has_totals() { format!("; it counted {ended} ended") } else { String::new() };
    let records = counters.get(RequestRecordsLost).saturating_add(counters.get(ConnectionRecordsLost));
    let lost = [
        (records, "record", format!("lost on the way from the kernel{ended}: the figures above lack some")),
        (
            counters.events_missed(),
            "event",
            "missed, which came while the same program was interrupted: a stage or a request may lack it".to_owned(),
        ),
        (
            counters.unanswered(),
            "question",
            "not answered by this host in time: as many rejections lack a process, a rule or a reason".to_owned(),
        ),
    ];
    let unkept = [
        (StorageFailed, "connection", "not traced: the kernel had no memory for their state"),
        (
            HandshakesLost,
            "connection",
            "without the stages synack and handshake: their packets were not seen, or there was no room for their times",
        ),
        (AcceptsLost, "connection", "without the stage accept: no room for its time"),
        (RejectionRecordsLost, "rejection", "counted above without a line: their records were lost"),
        (RejectionsUncounted, "rejection", "not counted above: there were too many kinds at once"),
        (ListenersUncounted, "SYN", "whose accept queue was not noted: there were too many listeners at once"),
        (
            NamespacesUncounted,
            "reset or retransmit",
            "not held against the kernel's own counters: there were too many network namespaces",
        ),
        (
            ArrivalsUncounted,
            "SYN",
            "for which nothing listens here, not counted: there were too many addresses at once",
        ),
        (
            SynsForgotten,
            "handshake",
            "whose SYN was not seen, while there were too many SYNs for which nothing listens to remember: behind a port \
                mapping, such a connection lacks the stage synack, and with --port is missing",
        ),
        (
            LateRecordsLost,
            "packet",
            "for a closed connection, not told: the record was lost, and with it whether a request met the close",
        ),
        (AnswersLost, "answer of the firewall", "not noted: what it rejected may be called dropped"),
        (
            ClosesForgotten,
            "closed connection",
            "forgotten within two seconds: a request that met the close is not reported",
        ),
    ];
    let unkept = unkept.map(|(counter, noun, what)| (counters.get(counter), noun, what.to_owned()));
    let (interfaces, namespaces) = counters.untraced();
    let blind = "whose SYNs were not seen: connections there lack the stage synack, and a full accept queue shows only in the \
                 kernel's own counters";
    let untraced = [(interfaces, "interface"), (namespaces, "network namespace")];
    let untraced = untraced.map(|(count, noun)| (count, noun, blind.to_owned()));
    let counted = lost.into_iter().chain(unkept).chain(untraced).filter(|(count, ..)| *count != 0);
    counted.map(|(count, noun, what)| format!("{} {what}.", Plural(count, noun))).collect()
}

#[cfg(test)]
mod tests;
