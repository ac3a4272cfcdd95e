//! The BPF programs of tracer, one by one, against empty ones at the same hooks.

use super::table::Table;
use crate::{
    programs::Program,
    results::Measured,
    sample::Sample,
    side::{Side, program_name},
    statistics::{Spread, float},
    workload::Workload,
};

/// What a request costs in the kernel, over all programs, nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    /// As the kernel measured it.
    pub raw: Spread,
    /// Less what as many runs of empty programs take.
    pub net: Spread,
    /// Runs of programs.
    pub runs: Spread,
}

/// A row for each program that ran; absent where the kernel did not count.
pub fn table(workload: Workload, measured: &Measured) -> Option<Table> {
    let unit = workload.unit();
    let total = of(measured, Side::SummaryStats)?;
    if total.raw.upper < 1.0 {
        // Hardly anything ran.
        return None;
    }
    let (runs, net) = (unit.replace("ns a", "runs a"), format!("{unit} above empty"));
    let heads = ["program", "ns a run", "empty", &runs, unit, &net, "verified", "bytes"];
    let mut table = Table::new(format!("{}: BPF programs of tracer", workload.name()), &heads);
    let all = measured.of(Side::SummaryStats).flat_map(|sample| &sample.programs);
    let mut programs: Vec<_> = all.filter(|program| program.runs > 0).collect();
    programs.sort_by(|a, b| a.name.cmp(&b.name));
    programs.dedup_by(|a, b| a.name == b.name);
    let mut rows: Vec<(f64, Vec<String>)> = programs.into_iter().map(|it| row(measured, it)).collect();
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (_, cells) in rows {
        table.row(cells);
    }
    let (raw, net, runs) =
        (format!("{:.0}", total.raw), format!("{:.0}", total.net), format!("{:.2}", total.runs.median));
    table.row(["all", "", "", &runs, &raw, &net, "", ""].map(str::to_owned));
    Some(table)
}

/// What a request costs in the kernel on a side for which the kernel counts; absent where it was not measured.
pub fn of(measured: &Measured, side: Side) -> Option<Kernel> {
    let raw = |sample: &Sample| sample.programs.iter().map(|it| it.time_ns).sum::<u64>();
    let samples = || measured.of(side);
    let net = |sample: &Sample| {
        let floor: f64 = sample.programs.iter().map(|it| float(it.runs) * empty_run(measured, &it.name)).sum();
        (float(raw(sample)) - floor) / sample.done
    };
    let runs = |sample: &Sample| sample.per_request(sample.programs.iter().map(|it| it.runs).sum::<u64>());
    measured.of(Side::EmptyStats).next()?;
    Some(Kernel {
        raw: Spread::of(samples().map(|it| it.per_request(raw(it))))?,
        net: Spread::of(samples().map(net))?,
        runs: Spread::of(samples().map(runs))?,
    })
}

/// The programs of this name in all samples, each with its sample.
fn named<'a>(measured: &'a Measured, side: Side, name: &str) -> impl Iterator<Item = (&'a Program, &'a Sample)> {
    let name = name.to_owned();
    measured.of(side).filter_map(move |sample| Some((sample.programs.iter().find(|it| it.name == name)?, sample)))
}

fn row(measured: &Measured, program: &Program) -> (f64, Vec<String>) {
    let name = &program.name;
    let runs = Spread::of(named(measured, Side::SummaryStats, name).map(|(it, sample)| sample.per_request(it.runs)));
    let time = Spread::of(named(measured, Side::SummaryStats, name).map(|(it, sample)| sample.per_request(it.time_ns)));
    let (runs, time) = (runs.map_or(0.0, |it| it.median), time.map_or(0.0, |it| it.median));
    let empty = empty_run(measured, name);
    let run = run(measured, Side::SummaryStats, name);
    let cells = vec![
        program_name(name),
        run.map_or("-".to_owned(), |run| format!("{run:.0}")),
        format!("{empty:.0}"),
        format!("{runs:.2}"),
        format!("{time:.0}"),
        format!("{:.0}", time - runs * empty),
        program.verified.to_string(),
        program.jitted.to_string(),
    ];
    (time, cells)
}

/// Nanoseconds of a run: the median over the samples in which it ran.
fn run(measured: &Measured, side: Side, name: &str) -> Option<f64> {
    let runs = named(measured, side, name).filter(|(it, _)| it.runs > 0);
    Spread::of(runs.map(|(it, _)| float(it.time_ns) / float(it.runs))).map(|it| it.median)
}

/// Nanoseconds of a run of the empty program at the same hook; of all empty programs where that one did not run.
fn empty_run(measured: &Measured, name: &str) -> f64 {
    let all = || {
        let sums = measured.of(Side::EmptyStats).filter_map(|sample| {
            let (runs, time) =
                sample.programs.iter().fold((0, 0), |(runs, time), it| (runs + it.runs, time + it.time_ns));
            (runs > 0).then(|| float(time) / float(runs))
        });
        Spread::of(sums).map_or(0.0, |it| it.median)
    };
    run(measured, Side::EmptyStats, name).unwrap_or_else(all)
}
