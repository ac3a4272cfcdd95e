//! What the summary begins with: what was rejected, and where the time goes.

use crate::{
    aggregate::{
        Summary,
        distribution::Times,
        figures::Picture,
        rejections::{Class, Explained},
    },
    explain::{
        Limits,
        verdict::{Totals, verdict},
    },
    model::{
        namespaces::Namespaces,
        rejection::Cause,
        status::{Counters, Run},
    },
    units::{Bytes, Count, Nanoseconds, Plural, percent},
};
use std::fmt::{self, Write};
use tracer_common::{
    counter::Counter,
    stage::{ConnectionStage, RequestStage},
};

/// The sentences at most.
const SENTENCES: usize = 3;

/// What was rejected, in at most three sentences, or that nothing was; then what may yet be.
pub fn sentences(
    summary: &Summary,
    rejected: &[Explained],
    limits: Limits,
    run: &Run,
    namespaces: &Namespaces,
) -> Vec<String> {
    let only_warnings = rejected.iter().all(|it| it.class() == Class::Warning);
    // What a process that died took along may be a lost response.
    let in_doubt = rejected.iter().any(|it| it.row.rejection.cause == Cause::ProcessDied);
    let nothing = (only_warnings && !in_doubt).then(|| nothing_rejected(run, namespaces));
    let findings = summary.findings(rejected);
    let totals = Totals::from(&summary.all);
    let found = if findings.is_empty() { Vec::new() } else { verdict(&findings, totals, limits, namespaces) };
    nothing.into_iter().chain(found).take(SENTENCES).collect()
}

/// That nothing was rejected, as far as that can be said: only where every hook is attached and nothing was lost, and the
/// kernel counted nothing that was not seen.
fn nothing_rejected(run: &Run, namespaces: &Namespaces) -> String {
    if let Some(sentence) = unexplained(run, namespaces) {
        return sentence;
    }
    let all_hooks = run.hooks.iter().all(|hook| hook.attached.is_some() && hook.lost.is_none());
    let is_whole = |it: &Counters| {
        let unseen = [Counter::RejectionsUncounted, Counter::StorageFailed, Counter::ClosesForgotten];
        let unseen: u64 = unseen.into_iter().map(|counter| it.get(counter)).sum();
        it.records_lost() == 0 && it.events_missed() == 0 && unseen == 0 && it.untraced() == (0, 0)
    };
    let seen = if all_hooks && run.counters.as_ref().is_some_and(is_whole) { "" } else { "seen to be " };
    format!("Nothing was {seen}rejected.")
}

/// What the kernel counted as rejected and nobody saw, of the namespace with most of it.
fn unexplained(run: &Run, namespaces: &Namespaces) -> Option<String> {
    let counted = run.reconciliation.iter().filter_map(|it| Some((it, it.unexplained()?)));
    let (it, (count, name, what)) = counted.max_by_key(|(_, (count, ..))| *count)?;
    let place = if run.reconciliation.len() > 1 { format!(" in {}", namespaces.name(it.netns)) } else { String::new() };
    let counted = format!("the kernel counted {} ({name}){place}", Kinds(count, what));
    Some(if it.filtered {
        format!("Nothing was seen to be rejected of what was watched; {counted} that may be of other ports or peers.")
    } else {
        format!("Nothing was seen to be rejected, but {counted} that no hook saw.")
    })
}

/// `3 SYNs or last ACKs for a full accept queue`: several of what begins with a noun.
struct Kinds(u64, &'static str);

impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Count(self.0))?;
        for word in self.1.split(' ') {
            let several = self.0 != 1 && matches!(word, "SYN" | "ACK" | "connection");
            write!(f, " {word}{}", if several { "s" } else { "" })?;
        }
        Ok(())
    }
}

/// The part of a request's time that is the greatest of all requests together.
#[derive(Debug)]
pub struct Mostly {
    /// Its name.
    pub name: &'static str,
    /// Nanoseconds of all requests.
    pub time: u64,
    /// How it is distributed.
    times: Option<Times>,
    owner: Owner,
}

/// Whose time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// The end of "of their time is ...".
    Of(&'static str),
    /// Several stages could not be told apart, so nobody is named: the indices of the first and the last of them.
    Several(usize, usize),
}

impl Mostly {
    /// That of `figures`; `None` if there is no request, or no part of one was measured.
    pub fn of(figures: &Picture) -> Option<Self> {
        let stage = |first: RequestStage, time, owner| {
            let times = figures.stages[first as usize];
            Self { name: first.name(), time, times, owner }
        };
        let accept = Self {
            name: ConnectionStage::Accept.name(),
            time: figures.accept_wait,
            times: figures.connection_stages[ConnectionStage::Accept as usize],
            owner: Owner::Of("the application, slow to accept connections"),
        };
        let apart = RequestStage::ALL.map(|it| stage(it, figures.apart(it as usize), Owner::Of(whose(it, figures))));
        let together = RequestStage::ALL.into_iter().flat_map(|it| {
            let spans = figures.spans[it as usize].iter().enumerate();
            spans.map(move |(last, &time)| stage(it, time, Owner::Several(it as usize, last)))
        });
        let mut parts = apart.into_iter().chain([accept]).chain(together).filter(|it| it.time > 0);
        let first = parts.next()?;
        Some(parts.fold(first, |longest, it| if it.time > longest.time { it } else { longest }))
    }

    /// Several stages that could not be told apart.
    pub const fn is_merged(&self) -> bool {
        matches!(self.owner, Owner::Several(..))
    }

    /// Its quantiles, unless the stage was measured apart in some requests and not in others.
    fn quantiles(&self) -> Option<(u64, u64)> {
        let times = self.times.filter(|times| !self.is_merged() || times.sum == self.time)?;
        Some((times.p50, times.p99))
    }
}

fn whose(stage: RequestStage, figures: &Picture) -> &'static str {
    match stage {
        RequestStage::Ingress => "this host's kernel between network device and socket",
        RequestStage::Pickup => "the application, busy elsewhere before it read them",
        RequestStage::Upload => "the sender, who had not sent all of them yet",
        RequestStage::Service => "the application computing or waiting",
        RequestStage::Egress => "this host's kernel between socket and network device",
        // Most of it, at least.
        RequestStage::Download
            if figures.held.saturating_mul(2) >= figures.stages[stage as usize].map_or(0, |times| times.sum) =>
        {
            "this host's own queue, in which the packets waited: a shaper, or a link that is too slow (`tc -s qdisc show`)"
        }
        RequestStage::Download => "the application writing on, or the peer's window",
        RequestStage::Drain => "the network and the load balancer, until all was acknowledged",
    }
}

/// How many requests there were and where their time goes: only what was measured.
pub fn where_the_time_goes(all: &Picture, messages: u64, streams: u64) -> String {
    let others = Others { messages, streams }.to_string();
    if all.requests == 0 {
        return format!("No request ended{}{others}.", Opened(all.connections));
    }
    let mut sentence = Counts(all).to_string() + &others;
    let Some(mostly) = Mostly::of(all) else {
        return sentence + "; no stage of them was measured.";
    };
    // Writing to a string cannot fail.
    let _ = write!(sentence, "; {}% of their time is ", percent(mostly.time, all.whole()));
    match mostly.owner {
        Owner::Of(_) => sentence.push_str(mostly.name),
        Owner::Several(first, last) => {
            let names = RequestStage::ALL[first..=last].iter().map(|stage| stage.name()).collect::<Vec<_>>();
            let (last, before) = names.split_last().unwrap_or((&"", &[]));
            let _ = write!(sentence, "{} and {last} together", before.join(", "));
        }
    }
    if let Some((p50, p99)) = mostly.quantiles() {
        let _ = write!(sentence, " (p50 {}, p99 {})", Nanoseconds(p50), Nanoseconds(p99));
    }
    let owner = match mostly.owner {
        Owner::Of(owner) => owner,
        Owner::Several(..) => "what lies between them was not seen, so whose time it is cannot be told apart",
    };
    let _ = write!(sentence, ": {owner}");
    if mostly.owner == Owner::Of(whose(RequestStage::Service, all)) {
        let _ = write!(sentence, "{}", PerhapsTheSender(all));
    }
    sentence + "."
}

/// `, or the sender, who may not have sent all of them (inferred: ...)`: the part of `service` that may have been a wait for
/// the sender, unless that is next to nothing.
struct PerhapsTheSender<'a>(&'a Picture);

impl fmt::Display for PerhapsTheSender<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Picture { incomplete, incomplete_service, requests, .. } = *self.0;
        let service = self.0.apart(RequestStage::Service as usize);
        let whose = match percent(incomplete_service.min(service), service) {
            0 => return Ok(()),
            _ if incomplete == requests => ", or the sender, who may not have sent all of them".to_owned(),
            share => format!(
                ", or, in {share}% of that time, the sender, who may not have sent all of {}",
                Plural(incomplete, "request")
            ),
        };
        write!(f, "{whose} (inferred: the application then closed the connection)")
    }
}

/// `, beside 12 messages and 1 stream (inferred)`: the turns that are no requests.
struct Others {
    messages: u64,
    streams: u64,
}

impl fmt::Display for Others {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { messages, streams } = *self;
        match (messages, streams) {
            (0, 0) => Ok(()),
            (messages, 0) => write!(f, ", beside {} (inferred)", Plural(messages, "message")),
            (0, streams) => write!(f, ", beside {} (inferred)", Plural(streams, "stream")),
            (messages, streams) => {
                write!(f, ", beside {} and {} (inferred)", Plural(messages, "message"), Plural(streams, "stream"))
            }
        }
    }
}

struct Opened(u64);

impl fmt::Display for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { Ok(()) } else { write!(f, " on {}", Plural(self.0, "connection")) }
    }
}

/// `1 204 requests (3 unanswered) on 37 connections, 512B in, 20.5kB out, 2 retransmits`.
struct Counts<'a>(&'a Picture);

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
