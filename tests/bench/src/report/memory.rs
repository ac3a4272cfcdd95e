//! What the sides take of the memory while connections are open and quiet.

use super::table::Table;
use crate::{
    results::Measured,
    side::Side,
    statistics::{Spread, float},
    workload::{Kind, Workload},
};

const ABSENT: &str = "-";
const MEBIBYTE: f64 = 1_048_576.0;

/// A row for each side; absent for a workload that is not about that.
pub fn table(workload: Workload, measured: &Measured) -> Option<Table> {
    use clap::ValueEnum as _;
    let Kind::Idle(connections) = workload.kind() else { return None };
    let heads = ["side", "resident MiB", "maps MiB", "kernel bytes a connection"];
    let mut table = Table::new(format!("{}: memory", workload.name()), &heads);
    for &side in Side::value_variants().iter().filter(|side| !side.counts_runs()) {
        if measured.of(side).next().is_some() {
            table.row(row(measured, side, connections));
        }
    }
    Some(table)
}

fn row(measured: &Measured, side: Side, connections: usize) -> [String; 4] {
    let resident =
        Spread::of(measured.of(side).filter_map(|it| it.resident_kib).map(|kib| float(kib) * 1024.0 / MEBIBYTE));
    let maps = Spread::of(measured.of(side).map(|it| float(it.map_bytes) / MEBIBYTE));
    #[expect(clippy::cast_precision_loss, reason = "a figure for the eye")]
    let more =
        measured.pairs(side, Side::Untraced).map(|(it, untraced)| (it.object_bytes - untraced.object_bytes) as f64);
    let more = Spread::of(more).map(|it| it.scaled(1.0 / float(connections as u64)));
    let shown = |spread: Option<Spread>| spread.map_or(ABSENT.to_owned(), |it| format!("{:.1}", it.median));
    [side.name(), shown(resident), shown(maps), more.map_or(ABSENT.to_owned(), |it| format!("{it:.0}"))]
}
