//! The report: tables from what was measured, for a terminal and for the page in `docs/`.

mod growth;
mod kernel;
mod memory;
mod sides;
mod table;
mod targets;

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};
use clap::ValueEnum as _;

use crate::{
    machine::Machine,
    results::{Measured, Results, short},
    side::Side,
    statistics::{Spread, float},
    workload::Workload,
};
use table::Table;

/// The page.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/benchmarks.md");
/// Between these lines of the page are the tables.
const MARKS: [&str; 2] = ["<!-- begin: cargo xtask bench --update -->\n", "<!-- end -->\n"];

/// All tables.
pub struct Report {
    machine: Machine,
    dates: String,
    /// CPUs that others took meanwhile.
    others: f64,
    /// What else one should know.
    notes: Vec<String>,
    tables: Vec<Table>,
}

impl Report {
    /// Of the workloads `wanted`, or of all that were measured if none is named. `directory` holds the results of the
    /// replay as well, if it has been run.
    pub fn of(results: &Results, wanted: &[Workload], directory: &Path) -> Self {
        let all = Workload::value_variants().iter();
        let measured = all.filter(|workload| results.workloads.contains_key(&workload.name()));
        let shown: Vec<Workload> =
            measured.copied().filter(|workload| wanted.is_empty() || wanted.contains(workload)).collect();
        let mut tables = vec![targets::table(results, directory)];
        for &workload in &shown {
            let measured = &results.workloads[&workload.name()];
            tables.push(sides::table(workload, measured));
            tables.extend(kernel::table(workload, measured));
            tables.extend(memory::table(workload, measured));
        }
        tables.extend(growth::table(results, &shown));
        let mut dates: Vec<&str> = results.workloads.values().filter_map(|it| it.date.get(..10)).collect();
        dates.sort_unstable();
        dates.dedup();
        let samples = results.workloads.values().flat_map(|it| &it.samples);
        let others = Spread::of(samples.map(|it| float(it.host.others_ns) / float(it.elapsed_ns)));
        let others = others.map_or(0.0, |it| it.median);
        let notes = notes(shown.iter().map(|workload| &results.workloads[&workload.name()]));
        Self { machine: results.machine.clone(), dates: dates.join(", "), others, notes, tables }
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let tables = self.tables.iter().map(Table::text).collect::<Vec<_>>().join("\n");
        let notes = self.notes.join("\n");
        format!("{tables}\nOther processes took {:.1} CPUs meanwhile.\n{notes}\n", self.others)
    }

    fn markdown(&self) -> String {
        let Machine { cpu, cpus, memory_mib, kernel, is_virtual, versions } = &self.machine;
        let kind = if *is_virtual { "a virtual machine" } else { "a machine" };
        let mut text = format!(
            "Measured on {} on {kind} with {cpus} CPUs ({cpu}), {memory_mib} MiB, Linux {kernel}. {}.\n\
             Processes that have nothing to do with it took {:.1} CPUs meanwhile.\n\n",
            self.dates,
            versions.join(", "),
            self.others
        );
        for note in &self.notes {
            let _ = writeln!(text, "{note}\n");
        }
        text += "The sides:\n\n";
        for side in Side::value_variants() {
            let _ = writeln!(text, "- `{}`: {}", side.name(), side.about());
        }
        text.push('\n');
        text + &self.tables.iter().map(Table::markdown).collect::<String>()
    }
}

/// Of which build the figures are, and what is missing among them.
fn notes<'a>(measured: impl Iterator<Item = &'a Measured> + Clone) -> Vec<String> {
    let mut builds: Vec<&str> = measured.clone().map(|it| short(&it.build)).collect();
    builds.sort_unstable();
    builds.dedup();
    let builds = match &builds[..] {
        [] => None,
        [build] => Some(format!("The build of tracer (SHA-256): {build}.")),
        builds => Some(format!("Not all workloads are of the same build of tracer (SHA-256): {}.", builds.join(", "))),
    };
    let missing = measured.flat_map(|it| it.missing.iter().map(|what| format!("Missing: {}, {what}.", it.workload)));
    builds.into_iter().chain(missing).collect()
}

/// Rewrites the tables in the page.
///
/// # Errors
/// Where there is no such page, or it has no place for them.
pub fn update(report: &Report) -> Result<()> {
    let page = fs::read_to_string(PAGE).with_context(|| format!("cannot read {PAGE}"))?;
    let page = replaced(&page, &report.markdown()).with_context(|| format!("{PAGE} has no place for the tables"))?;
    fs::write(PAGE, page).with_context(|| format!("cannot write {PAGE}"))
}

/// The page with `text` between the marks; absent if it has none.
fn replaced(page: &str, text: &str) -> Option<String> {
    let (before, rest) = page.split_once(MARKS[0])?;
    let (_, after) = rest.split_once(MARKS[1])?;
    Some(format!("{before}{}\n{}\n\n{}{after}", MARKS[0], text.trim_end(), MARKS[1]))
}

#[cfg(test)]
mod tests {
    use super::{MARKS, replaced};

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let page = format!("before\n{}old\n{}after\n", MARKS[0], MARKS[1]);
        let new = replaced(&page, "new\n\n").unwrap();
        assert_eq!(new, format!("before\n{}\nnew\n\n{}after\n", MARKS[0], MARKS[1]));
        assert_eq!(replaced(&new, "new").unwrap(), new);
        assert_eq!(replaced("no marks\n", "new"), None);
    }

    #[test]
    fn the_page_has_a_place_for_the_tables() {
        assert!(replaced(&std::fs::read_to_string(super::PAGE).unwrap(), "").is_some());
    }
}
