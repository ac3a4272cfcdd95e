//! The sides of a workload, beside each other.

use super::table::Table;
use crate::{
    results::Measured,
    sample::Sample,
    side::Side,
    statistics::{Spread, float},
    workload::Workload,
};

const ABSENT: &str = "-";

/// A row for each side that was measured.
pub fn table(workload: Workload, measured: &Measured) -> Table {
    use clap::ValueEnum as _;
    let (count, cpu) = (format!("{} a second", workload.counts()), format!("CPU {}", workload.unit()));
    let heads =
        ["side", &count, "of untraced", &cpu, "more", "user", "system", "softirq", "own", "p50", "p99", "MiB", "lost"];
    let (rounds, seconds) = (measured.rounds(), measured.seconds);
    let title = format!("{}: {} ({rounds} rounds of {seconds} s)", workload.name(), workload.about());
    let mut table = Table::new(title, &heads);
    for &side in Side::value_variants() {
        if measured.of(side).next().is_some() {
            table.row(row(measured, side));
        }
    }
    table
}

fn row(measured: &Measured, side: Side) -> [String; 13] {
    let of = |figure: &dyn Fn(&Sample) -> f64| Spread::of(measured.of(side).map(figure));
    let paired = |figure: &dyn Fn(&Sample, &Sample) -> Option<f64>| {
        let pairs = measured.pairs(side, Side::Untraced);
        Spread::of(pairs.filter_map(|(it, untraced)| figure(it, untraced)))
    };
    let ratio = |one: Option<u64>, other: Option<u64>| Some(float(one?) / float(other?));
    let places = |spread: Option<Spread>, places: usize| spread.map_or(ABSENT.into(), |it| format!("{it:.places$}"));
    let median = |spread: Option<Spread>| spread.map_or(ABSENT.into(), |it| format!("{:.0}", it.median));
    let per_request = |time: fn(&Sample) -> u64| of(&|it| it.per_request(time(it)));
    let own = Spread::of(measured.of(side).filter_map(|it| Some(it.per_request(it.own_ns?))));
    let peak = measured.of(side).filter_map(|it| it.peak_kib).max();
    let lost = measured.of(side).map(|it| it.lost).reduce(|one, other| Some(one? + other?)).flatten();
    [
        side.name(),
        median(of(&Sample::per_second)),
        places(paired(&|it, untraced| Some(it.per_second() / untraced.per_second())), 3),
        median(per_request(|it| it.host.busy_ns)),
        places(
            paired(&|it, untraced| Some(it.per_request(it.host.busy_ns) - untraced.per_request(untraced.host.busy_ns))),
            0,
        ),
        median(per_request(|it| it.host.user_ns)),
        median(per_request(|it| it.host.system_ns)),
        median(per_request(|it| it.host.softirq_ns)),
        median(own),
        places(paired(&|it, untraced| ratio(it.p50_ns, untraced.p50_ns)), 2),
        places(paired(&|it, untraced| ratio(it.p99_ns, untraced.p99_ns)), 2),
        peak.map_or(ABSENT.into(), |kib| format!("{:.1}", float(kib) / 1024.0)),
        lost.map_or(ABSENT.into(), |lost| lost.to_string()),
    ]
}
