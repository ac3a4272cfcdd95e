//! The targets, and whether they are met.

use std::{fs, path::Path};

use clap::ValueEnum as _;
use serde::Deserialize;

use super::{growth::Cost, kernel, table::Table};
use crate::{
    results::{Measured, Results},
    side::Side,
    statistics::{Spread, float},
    workload::{Kind, Workload},
};

/// Fewer pairs of samples than this say nothing, however alike they are.
const FEWEST: usize = 4;
/// A quarter to three quarters of the ratios lie within this, or nothing can be said of three percent.
const NARROW: f64 = 0.1;

/// A measured figure, and whether it is what it should be; absent where the figure is not exact enough to tell.
struct Outcome {
    measured: String,
    met: Option<bool>,
}

impl Outcome {
    fn at_most(figure: f64, limit: f64, shown: String) -> Self {
        Self { measured: shown, met: Some(figure <= limit) }
    }
}

/// A row for each target.
pub fn table(results: &Results, directory: &Path) -> Table {
    let mut table = Table::new("Targets", &["target", "measured", "met"]);
    let saturated = results.workloads.get(&Workload::KeepAlive.name());
    let server = results.workloads.get(&Workload::ServerKeepAlive.name());
    let rows = [
        (
            "throughput of a saturated nginx with --summary >= 0.97 of untraced",
            saturated.and_then(|it| throughput(it, Side::Summary)),
        ),
        (
            "kernel <= 1000 ns a request over all programs, floor subtracted",
            saturated.and_then(|it| in_kernel(it, Side::SummaryStats)),
        ),
        (
            "both with `--without accept`: as where fexit attaches, nothing at accept() slows other system calls",
            saturated.and_then(no_accept),
        ),
        (
            "with the server's end alone on this host: throughput >= 0.97 of untraced",
            server.and_then(|it| throughput(it, Side::Summary)),
        ),
        ("with the server's end alone: <= 4 runs of BPF programs per request", server.and_then(runs)),
        ("user space <= 1000 ns a request", saturated.and_then(in_process)),
        ("resident <= 30 MB", resident(results)),
        ("0 records lost, all requests recorded", nothing_lost(results)),
        ("cost of a request at 10 000 connections <= 1.2 times that at 10", growth(results)),
        ("replay >= 2 000 000 records a second on one core", replay(directory)),
        ("cheaper than tcpdump on every workload", cheaper(results, Side::Tcpdump)),
        ("cheaper than the bpftrace script on every workload", cheaper(results, Side::Bpftrace)),
    ];
    for (target, outcome) in rows {
        let met = match &outcome {
            None => "-",
            Some(Outcome { met: None, .. }) => "not exact enough",
            Some(Outcome { met: Some(true), .. }) => "yes",
            Some(Outcome { met: Some(false), .. }) => "**no**",
        };
        let measured = outcome.as_ref().map_or("not measured", |outcome| &outcome.measured);
        table.row([target, measured, met].map(str::to_owned));
    }
    table
}

fn throughput(measured: &Measured, side: Side) -> Option<Outcome> {
    let pairs = || measured.pairs(side, Side::Untraced);
    let ratio = Spread::of(pairs().map(|(it, untraced)| it.per_second() / untraced.per_second()))?;
    let is_exact = pairs().count() >= FEWEST && ratio.upper - ratio.lower <= NARROW;
    Some(Outcome { measured: format!("{ratio:.3}"), met: is_exact.then_some(ratio.median >= 0.97) })
}

fn in_kernel(measured: &Measured, side: Side) -> Option<Outcome> {
    let net = kernel::of(measured, side)?.net;
    Some(Outcome::at_most(net.median, 1000.0, format!("{net:.0} ns")))
}

fn runs(measured: &Measured) -> Option<Outcome> {
    let runs = kernel::of(measured, Side::SummaryStats)?.runs;
    Some(Outcome::at_most(runs.median, 4.0, format!("{runs:.2}")))
}

fn no_accept(measured: &Measured) -> Option<Outcome> {
    let (throughput, kernel) = (throughput(measured, Side::NoAccept)?, in_kernel(measured, Side::NoAcceptStats)?);
    let met = match (throughput.met, kernel.met) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (one, other) => one.and(other),
    };
    Some(Outcome { measured: format!("{}; {}", throughput.measured, kernel.measured), met })
}

fn in_process(measured: &Measured) -> Option<Outcome> {
    let own = Spread::of(measured.of(Side::Summary).filter_map(|it| Some(it.per_request(it.own_ns?))))?;
    Some(Outcome::at_most(own.median, 1000.0, format!("{own:.0} ns")))
}

fn resident(results: &Results) -> Option<Outcome> {
    let peaks = results.workloads.values().flat_map(|it| it.of(Side::Summary)).filter_map(|it| it.peak_kib);
    let megabytes = float(peaks.max()?) * 1024.0 / 1e6;
    Some(Outcome::at_most(megabytes, 30.0, format!("{megabytes:.1} MB at most")))
}

fn nothing_lost(results: &Results) -> Option<Outcome> {
    let (mut lost, mut missing, mut requests) = (0, 0, 0);
    for workload in Workload::value_variants() {
        let Some(measured) = results.workloads.get(&workload.name()) else { continue };
        for side in [Side::Summary, Side::Json] {
            for sample in measured.of(side) {
                lost += sample.lost?;
                if matches!(workload.kind(), Kind::Http(_)) {
                    missing += sample.all_done.abs_diff(sample.recorded?);
                    requests += sample.all_done;
                }
            }
        }
    }
    let shown = format!("{lost} lost, {missing} of {requests} requests not recorded");
    (requests > 0).then_some(Outcome { measured: shown, met: Some(lost + missing == 0) })
}

fn growth(results: &Results) -> Option<Outcome> {
    let cost = |workload: Workload| Cost::of(results.workloads.get(&workload.name())?);
    let (few, many) = (cost(Workload::Rate10)?.sum(), cost(Workload::Rate10000)?.sum());
    let shown = format!("{:.2} times: {few:.0} ns, {many:.0} ns", many / few);
    Some(Outcome::at_most(many / few, 1.2, shown))
}

fn replay(directory: &Path) -> Option<Outcome> {
    #[derive(Deserialize)]
    struct Replay {
        records_per_second: f64,
        records: u64,
    }
    let replay: Replay = serde_json::from_slice(&fs::read(directory.join("replay.json")).ok()?).ok()?;
    let measured = format!("{:.0} a second, {} records", replay.records_per_second, replay.records);
    Some(Outcome { measured, met: Some(replay.records_per_second >= 2e6) })
}

/// Compares CPU time a request of the whole host, in the same round; as fast as the host can, that is the throughput.
/// Where the quartiles lie on both sides of zero, or there are few pairs, neither is cheaper as far as can be told.
fn cheaper(results: &Results, than: Side) -> Option<Outcome> {
    let (mut all, mut dearer, mut alike) = (0, Vec::new(), Vec::new());
    for workload in Workload::value_variants() {
        let Some(measured) = results.workloads.get(&workload.name()) else { continue };
        let pairs = || measured.pairs(Side::Summary, than);
        let more = pairs().map(|(it, other)| it.per_request(it.host.busy_ns) - other.per_request(other.host.busy_ns));
        let Some(more) = Spread::of(more) else { continue };
        all += 1;
        if pairs().count() < FEWEST {
            alike.push(workload.name());
        } else if more.lower > 0.0 {
            dearer.push(format!("{} ({more:.0} {})", workload.name(), workload.unit()));
        } else if more.upper >= 0.0 {
            alike.push(workload.name());
        }
    }
    let mut shown = format!("on {} of {all}", all - dearer.len() - alike.len());
    for (what, workloads) in [("not on", &dearer), ("no difference to be seen on", &alike)] {
        if !workloads.is_empty() {
            shown += &["; ", what, " ", &workloads.join(", ")].concat();
        }
    }
    let met = if dearer.is_empty() { alike.is_empty().then_some(true) } else { Some(false) };
    (all > 0).then_some(Outcome { measured: shown, met })
}
