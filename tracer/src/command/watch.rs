//! `tracer watch`: shows every request, and every rejection, as it happens.

mod asker;
mod ending;
mod ticker;

use crate::{
    cli::WatchArgs,
    clock::{self, monotonic},
    probe::{Filters, Probe, ProbeError, SYN, Ways, host, namespace},
    terminal,
};
use anyhow::Context;
use asker::Asker;
use aya::maps::{MapData, RingBuf};
use std::{
    io::{self, BufWriter, Write},
    process::ExitCode,
    time::Duration,
};
use ticker::Ticker;
use tokio::{
    io::unix::AsyncFd,
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep_until},
};
use tracer_common::{counter::Counter, record::RequestRecord};
use tracer_core::{
    decode::{Record, decode, encode_request},
    explain::{Limits, reasons::Names},
    model::status::Hook,
    pipeline::{Options, Pipeline, totals::Scope},
    recording::write::Recorder,
};

/// How often the records are fetched, unless so many wait that the kernel asks for it.
const FETCH: Duration = Duration::from_millis(50);

/// How many fetches lie between two looks at the kernel's counters.
const FETCHES_A_LOOK: u32 = 10;

/// For how many looks after a request was reopened the kernel is asked for such requests: long enough for it to have
/// become quiet.
const LOOKS_AFTER_REOPENING: u32 = 4;

/// Runs the command.
pub fn run(args: &WatchArgs) -> anyhow::Result<ExitCode> {
    // First: without them even a namespace that is there cannot be found.
    host::require_privileges()?;
    let filters = filters(args)?;
    let clock = clock::now();
    // Before anything is attached: a file that cannot be written is to be known now.
    let mut recorder = args.write.as_deref().map(|path| Recorder::create(path, clock)).transpose()?;
    let mut probe = Probe::attach(&filters, Ways::Best, args.kernel_log)?;
    probe.require_essential()?;
    if let Some(recorder) = &mut recorder {
        recorder.selection(&args.show.selection())?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    let (view, min) = (args.show.view(terminal::of_stdout()), args.show.min());
    let options = Options { view, min, count: args.count.map(Into::into) };
    let out = BufWriter::with_capacity(1 << 16, io::stdout());
    let mut pipeline = Pipeline::new(clock, options, out);
    if let Some(recorder) = recorder {
        pipeline.record_to(recorder);
    }
    pipeline.assume(args.show.limits());
    pipeline.hooks(probe.hooks().iter().map(Hook::from).collect());
    let scope = scope(&filters, &probe);
    let asker = Asker::new(Names::new(probe.drop_reasons()), filters.netns)
        .context("starting the thread that asks the host")?;
    let mut sink = Sink { pipeline, asker };
    let until = sink.asker.ask_counters();
    let began = sink.asker.wait_for_counters(until, &mut sink.pipeline);
    let whole = runtime.block_on(async {
        // SAFETY: the ring buffer owns its file descriptor, which stays open and the same for as long as it lives.
        let mut records = unsafe { AsyncFd::register(probe.records()?) }?;
        let outcome = follow(&mut probe, &mut records, &mut sink, args).await;
        ending::finish(&mut probe, records.get_mut(), sink, (scope, began), outcome)
    })?;
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where records go, and who answers what they do not say.
struct Sink {
    pipeline: Pipeline<'static>,
    asker: Asker,
}

impl Sink {
    fn record(&mut self, bytes: &[u8]) -> io::Result<()> {
        match decode(bytes) {
            Ok(Record::Rejection(record)) => self.asker.event(&record, &mut self.pipeline),
            record => self.pipeline.decoded(&record, bytes),
        }
    }

    fn tick(&mut self) -> anyhow::Result<()> {
        self.pipeline.tick(monotonic())?;
        Ok(self.asker.tick(&mut self.pipeline)?)
    }
}

fn filters(args: &WatchArgs) -> anyhow::Result<Filters> {
    let mut netns = args.netns.as_ref().map(|netns| netns.inode().map_err(ProbeError::Namespace)).transpose()?;
    if netns.is_none() && !args.interfaces.is_empty() {
        netns = Some(namespace::own().context("finding this process's network namespace")?);
    }
    Ok(Filters {
        ports: args.show.ports.clone(),
        peers: args.show.peers.iter().map(|network| (network.network(), network.prefix_len())).collect(),
        pid: args.pid,
        netns,
        interfaces: args.interfaces.clone(),
        without: args.without.clone(),
    })
}

/// What is watched, for what is said at the end.
fn scope(filters: &Filters, probe: &Probe) -> Scope {
    let sees_syns = probe.hooks().iter().any(|hook| hook.name == SYN && hook.through.is_some());
    let Filters { pid, interfaces, peers, ports, netns, .. } = filters;
    Scope {
        ports: ports.clone(),
        netns: *netns,
        filtered: !filters.let_all_through(),
        sees_arrivals: sees_syns && pid.is_none() && interfaces.is_empty() && peers.is_empty(),
        began: monotonic(),
    }
}

/// Tells on standard error what is watched and what is missing, so that an empty screen is not a riddle.
fn announce(probe: &Probe, args: &WatchArgs) {
    let mut err = io::stderr();
    for hook in probe.hooks().iter().filter(|hook| hook.through.is_none()) {
        let why = if hook.unwanted { "as was asked for" } else { "tracer check tells why" };
        let _ = writeln!(err, "tracer: no hook for {}: {} is not measured ({why})", hook.name, hook.lost);
    }
    let until = match (args.duration, args.count) {
        (Some(time), _) => format!("for {time:?}"),
        (None, Some(count)) => format!("until {count} requests were seen"),
        (None, None) => "until Ctrl-C".to_owned(),
    };
    let ports = probe.ports();
    let listed = ports.iter().take(8).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let more = if ports.len() > 8 { ", ..." } else { "" };
    let what = match (args.show.ports.is_empty(), ports.is_empty()) {
        (false, _) => format!("port {listed}{more}"),
        (true, true) => "every port on which something will listen; nothing does now".to_owned(),
        (true, false) => format!("every port with a listener (now {listed}{more})"),
    };
    let _ = writeln!(err, "tracer: watching {what}, {until}");
}

/// Follows the records until it is time to end.
async fn follow(
    probe: &mut Probe,
    records: &mut AsyncFd<Records>,
    sink: &mut Sink,
    args: &WatchArgs,
) -> anyhow::Result<()> {
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    // Who reads it may send a signal at once.
    announce(probe, args);
    let mut kernel_log =
        if args.kernel_log { Some(probe.kernel_log().context("opening the kernel log")?) } else { None };
    let fetch = Ticker::every(FETCH).context("setting a timer")?;
    let end = args.duration.map(|time| Instant::now() + time);
    let mut sweeps = Sweeps::new(args.show.limits());
    while !sink.pipeline.is_done() {
        tokio::select! {
            biased;
            _ = interrupted.recv() => break,
            _ = terminated.recv() => break,
            () = sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => break,
            ticked = fetch.tick() => {
                ticked.context("waiting for a timer")?;
                probe.keep_time()?;
                if let Some(log) = &mut kernel_log {
                    log.flush();
                }
                drain(records.get_mut(), sink)?;
                if sweeps.is_due(probe)? {
                    for record in sweep(probe, records.get_mut(), sink)? {
                        sink.pipeline.look(&record);
                    }
                }
                if sweeps.is_look() && !sink.asker.has_tallies() {
                    sink.asker.tallies(probe.take_tallies()?, &mut sink.pipeline)?;
                    probe.take_accept_queues()?.iter().for_each(|(key, tally)| sink.asker.listener(key, tally));
                }
                sink.tick()?;
            }
            guard = records.readable_mut() => {
                let mut guard = guard?;
                drain(guard.get_inner_mut(), sink)?;
                guard.clear_ready();
            }
        }
    }
    Ok(())
}

/// The ring buffer.
type Records = RingBuf<MapData>;

/// Hands what is in the ring buffer to the pipeline: at most as much as it holds, so that signals are heard under any
/// load.
fn drain(records: &mut Records, sink: &mut Sink) -> anyhow::Result<()> {
    const AT_MOST: usize = 1 << 16;
    for _ in 0..AT_MOST {
        match records.next() {
            Some(record) if !sink.pipeline.is_done() => sink.record(&record)?,
            _ => break,
        }
    }
    Ok(())
}

/// When to ask the kernel for requests: for those that were answered further after they had been reported, while there
/// are some; and for those that have waited for too long.
struct Sweeps {
    fetches: u32,
    /// Fetches between two looks for requests that wait.
    patience: u32,
    reopened: u64,
    looks_left: u32,
}

impl Sweeps {
    fn new(limits: Limits) -> Self {
        // Often enough to tell a timeout soon after it, seldom enough for a host with very many connections.
        let eighths = (limits.idle_timeout / 8).as_millis() / FETCH.as_millis();
        let patience = u32::try_from(eighths).unwrap_or(u32::MAX).clamp(FETCHES_A_LOOK, 10 * FETCHES_A_LOOK);
        Self { fetches: 0, patience, reopened: 0, looks_left: 0 }
    }

    /// Whether it is time to look at the kernel's counters.
    const fn is_look(&self) -> bool {
        self.fetches.is_multiple_of(FETCHES_A_LOOK)
    }

    fn is_due(&mut self, probe: &Probe) -> anyhow::Result<bool> {
        self.fetches += 1;
        if !self.is_look() {
            return Ok(false);
        }
        let reopened = probe.count(Counter::RequestsReopened)?;
        if reopened != self.reopened {
            self.reopened = reopened;
            self.looks_left = LOOKS_AFTER_REOPENING;
        }
        let due = self.looks_left > 0 || self.fetches % self.patience < FETCHES_A_LOOK;
        self.looks_left = self.looks_left.saturating_sub(1);
        Ok(due)
    }
}

/// Hands the requests that were answered further to the pipeline, and returns those that wait for an answer, or for
/// the rest of it.
fn sweep(probe: &Probe, records: &mut Records, sink: &mut Sink) -> anyhow::Result<Vec<RequestRecord>> {
    let mut waiting = Vec::new();
    let mut answered = Vec::new();
    probe.sweep(|record| {
        if record.flags & RequestRecord::COMPLETE == 0 { waiting.push(record) } else { answered.push(record) }
    })?;
    // What was reported before the sweep came before what it found.
    drain(records, sink)?;
    for record in &answered {
        // What went on while the sweep ran has been reported too, for good if the request is over.
        if sink.pipeline.is_current(record) {
            sink.record(encode_request(record))?;
        }
    }
    Ok(waiting)
}
