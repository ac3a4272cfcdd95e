//! How the cost of a request grows with connections and with requests.

use super::{kernel, table::Table};
use crate::{
    results::{Measured, Results},
    side::Side,
    statistics::Spread,
    workload::{Kind, Workload},
};

/// What a request costs, nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// In the kernel, over all programs, less the floor.
    pub kernel: f64,
    /// In the process.
    pub process: f64,
}

impl Cost {
    /// On a workload; absent where it was not measured.
    pub fn of(measured: &Measured) -> Option<Self> {
        let own = measured.of(Side::SummaryStats).filter_map(|it| Some(it.per_request(it.own_ns?)));
        Some(Self { kernel: kernel::of(measured, Side::SummaryStats)?.net.median, process: Spread::of(own)?.median })
    }

    /// Both.
    pub fn sum(self) -> f64 {
        self.kernel + self.process
    }
}

/// A row for each fixed rate; absent where none was measured.
pub fn table(results: &Results, workloads: &[Workload]) -> Option<Table> {
    let heads = ["workload", "requests a second", "connections", "kernel ns a request", "process ns a request", "sum"];
    let mut table = Table::new("Growth of cost: tracer watch --summary at a fixed rate", &heads);
    for workload in workloads {
        let Kind::Http(http) = workload.kind() else { continue };
        let (Some(rate), Some(measured)) = (http.rate, results.workloads.get(&workload.name())) else { continue };
        let Some(cost) = Cost::of(measured) else { continue };
        let costs = [cost.kernel, cost.process, cost.sum()].map(|cost| format!("{cost:.0}"));
        let head = [workload.name(), rate.to_string(), http.connections.to_string()];
        table.row(head.into_iter().chain(costs));
    }
    (!table.rows.is_empty()).then_some(table)
}
