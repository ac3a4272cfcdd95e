//! Which samples are taken, in which order.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use lab::{Lab, interrupt};

use crate::{
    others,
    results::Measured,
    sample::{self, Sample},
    side::Side,
    statistics::float,
    workload::{Scene, Workload},
};

/// What to measure.
#[derive(clap::Args)]
#[group(id = "plan")]
pub struct Args {
    /// Only this workload; may be repeated
    #[arg(long = "workload", value_enum, value_name = "NAME")]
    workloads: Vec<Workload>,
    /// Only this side, beside untraced; may be repeated
    #[arg(long = "side", value_enum, value_name = "NAME")]
    sides: Vec<Side>,
    /// Samples of each side on each workload [default: 10, quick: 3]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Seconds that each sample is measured [default: 2, quick: 1]
    #[arg(long, value_parser = seconds)]
    seconds: Option<Duration>,
    /// Add the rounds to those of earlier runs instead of replacing them
    #[arg(long)]
    add: bool,
    /// A look in less than three minutes: fewer workloads, sides, rounds and seconds
    #[arg(long)]
    quick: bool,
}

/// The workloads and sides of a quick look.
const QUICK: (&[Workload], &[Side]) = (
    &[Workload::KeepAlive, Workload::PerConnection, Workload::Rate1000],
    &[Side::Untraced, Side::Summary, Side::Tcpdump, Side::SummaryStats, Side::EmptyStats],
);

/// What is measured.
pub struct Plan {
    /// The workloads, in this order.
    pub workloads: Vec<Workload>,
    sides: Vec<Side>,
    rounds: u32,
    span: Duration,
    /// Whether the samples go to those of earlier runs.
    pub adds: bool,
    /// Whether it is only a look.
    pub is_quick: bool,
}

impl Plan {
    /// What the arguments ask for.
    pub fn new(args: &Args) -> Self {
        use clap::ValueEnum as _;
        let (workloads, sides) = if args.quick { QUICK } else { (Workload::value_variants(), Side::value_variants()) };
        let mut plan = Self {
            workloads: if args.workloads.is_empty() { workloads.to_vec() } else { args.workloads.clone() },
            sides: if args.sides.is_empty() { sides.to_vec() } else { args.sides.clone() },
            rounds: args.rounds.unwrap_or(if args.quick { 3 } else { 10 }),
            adds: args.add,
            is_quick: args.quick,
            span: args.seconds.unwrap_or(Duration::from_secs(if args.quick { 1 } else { 2 })),
        };
        // Every other side is compared with it.
        plan.sides.push(Side::Untraced);
        plan.sides.sort_unstable();
        plan.sides.dedup();
        plan
    }

    /// Takes all samples, and hands over what was measured of each workload.
    ///
    /// # Errors
    /// Where a sample fails, Ctrl-C came, or `measured` fails.
    pub fn run(&self, mut measured: impl FnMut(Measured) -> Result<()>) -> Result<()> {
        warn_of_others()?;
        for &workload in &self.workloads {
            let lab = interrupt::hold(Lab::new)?;
            let samples = self.measure(&lab, workload);
            interrupt::hold(|| drop(lab));
            let samples = samples.with_context(|| format!("workload {}", workload.name()))?;
            measured(Measured::new(workload, self.span, samples))?;
        }
        Ok(())
    }

    fn measure(&self, lab: &Lab, workload: Workload) -> Result<Vec<Sample>> {
        let scene = Scene::raise(lab, workload)?;
        let mut samples = Vec::new();
        for round in 0..self.rounds {
            // Each round begins with another side: what one leaves behind does not always meet the same next one.
            let first = usize::try_from(round)? % self.sides.len();
            for &side in self.sides[first..].iter().chain(&self.sides[..first]) {
                let start = Instant::now();
                let sample = sample::take(&scene, side, round, self.span);
                let sample = sample.with_context(|| format!("round {}, side {}", round + 1, side.name()))?;
                self.progress(workload, &sample, start.elapsed());
                samples.push(sample);
            }
        }
        Ok(samples)
    }

    fn progress(&self, workload: Workload, sample: &Sample, took: Duration) {
        eprintln!(
            "{} {}/{} {:<13} {:>9.0} {}/s  busy {:.2} s, own {:.3} s, others {:.2} s  in {:.1} s",
            workload.name(),
            sample.round + 1,
            self.rounds,
            sample.side.name(),
            sample.per_second(),
            workload.counts(),
            float(sample.host.busy_ns) / 1e9,
            float(sample.own_ns.unwrap_or(0)) / 1e9,
            float(sample.host.others_ns) / 1e9,
            took.as_secs_f64(),
        );
    }
}

/// Says so where something else runs on this host: its CPU time can be subtracted, its effects cannot.
fn warn_of_others() -> Result<()> {
    let before = others::cpu_ns()?;
    lab::clock::sleep(Duration::from_millis(500));
    let cpus = float(others::cpu_ns()?.saturating_sub(before)) / 5e8;
    if cpus > 0.1 {
        eprintln!("bench: something else takes {cpus:.1} CPUs of this host; that disturbs latencies and throughput");
    }
    Ok(())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.1..=3600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "seconds are a number from 0.1 to 3600".to_owned())
}
