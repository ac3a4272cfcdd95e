//! The end of the output for people: first the verdict, then its evidence.

use super::{
    rejection,
    terminal::{Printable, Terminal},
    verdict::{Mostly, where_the_time_goes},
};
use crate::{
    aggregate::{GROUPS, Summary, distribution::Distribution, figures::Figures, rejections::Explained},
    model::{
        clock::Clock,
        namespaces::{Label, Namespaces},
        peer,
        request::{Request, comm},
        status::{Counters, Run},
    },
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

/// What the end of the output is about.
#[derive(Clone, Copy, Debug)]
pub struct Ending<'a> {
    /// The figures.
    pub summary: &'a Summary,
    /// What was rejected, in words.
    pub rejected: &'a [Explained<'a>],
    /// What is to be said first.
    pub verdict: &'a [String],
    /// From moments to times of day.
    pub clock: Clock,
    /// The names of the network namespaces.
    pub namespaces: &'a Namespaces,
}

/// Writes the figures.
pub fn summary(out: &mut impl Write, terminal: Terminal, ending: &Ending<'_>) -> io::Result<()> {
    let Ending { summary, rejected, verdict, clock, namespaces } = *ending;
    for sentence in verdict {
        writeln!(out, "{}", Printable(sentence))?;
    }
    rejection::tables(out, terminal, clock, rejected, namespaces)?;
    let all = &summary.all;
    // Where nothing was rejected, this is what the verdict ends with.
    let gap = if rejected.is_empty() { "" } else { "\n" };
    writeln!(out, "{gap}{}", where_the_time_goes(summary))?;
    if all.requests == 0 && all.connections == 0 {
        return Ok(());
    }
    writeln!(out)?;
    table(out, all)?;
    groups(out, summary, namespaces)?;
    processes(out, summary)
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

/// A row a group, unless there is only one: its figures are those of all.
fn groups(out: &mut impl Write, summary: &Summary, namespaces: &Namespaces) -> io::Result<()> {
    let mut groups = summary.groups();
    if groups.len() < 2 {
        return Ok(());
    }
    groups.sort_by_key(|(_, figures)| Reverse(figures.requests));
    writeln!(out, "\n{:>10}{:>8}{:>8}  {:<15}ON PORT, FROM", "REQUESTS", "P50", "P99", "MOSTLY")?;
    let (listed, rest) = groups.split_at(groups.len().min(GROUPS_LISTED));
    for (group, figures) in listed {
        let place = In(namespaces.label(group.listener.netns));
        writeln!(out, "{}:{}{place} from {}", Compact(figures), group.listener.port(), group.network)?;
    }
    if !rest.is_empty() {
        let requests = rest.iter().map(|(_, figures)| figures.requests).sum();
        writeln!(out, "{:>10}{:33}{} more", Count(requests).to_string(), "", rest.len())?;
    }
    match &summary.other_groups {
        Some(other) => writeln!(out, "{}others (only {GROUPS} are kept apart)", Compact(other)),
        None => Ok(()),
    }
}

/// The figures of a group in a row: requests, quantiles of their totals, what most of their time is.
struct Compact<'a>(&'a Figures);

impl fmt::Display for Compact<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(figures) = self;
        write!(f, "{:>10}", Count(figures.requests).to_string())?;
        for quantile in [0.5, 0.99] {
            write!(f, "{:>8}", Known(figures.total.quantile(quantile)).to_string())?;
        }
        let share = |it: Mostly<'_>| {
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

struct Row<'a>(&'static str, &'a Distribution);

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(name, distribution) = self;
        write!(f, "{name:<10}{:>10}{}", Count(distribution.count()).to_string(), Quantiles(distribution))
    }
}

/// The columns `P50`, `P90`, `P99` and `MAX`.
struct Quantiles<'a>(&'a Distribution);

impl fmt::Display for Quantiles<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quantiles = [0.5, 0.9, 0.99].map(|quantile| self.0.quantile(quantile));
        for value in quantiles.into_iter().chain([self.0.max()]) {
            write!(f, "{:>8}", Known(value).to_string())?;
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
        write!(out, "{:>10}{}", Count(process.requests).to_string(), Quantiles(&process.total))?;
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
pub fn missing(out: &mut impl Write, run: &Run<'_>) -> io::Result<()> {
    let Run { counters, hooks, shortfalls, .. } = *run;
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
        ListenersUncounted, NamespacesUncounted, RejectionRecordsLost, RejectionsUncounted, RequestRecordsLost,
        StorageFailed,
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
