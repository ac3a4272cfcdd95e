//! Which samples are taken, in which order.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lab::{Lab, interrupt};

use crate::{
    others,
    results::Measured,
    sample::{self, Sample, Turn},
    side::Side,
    statistics::float,
    workload::{Scene, Workload},
};

/// When a quick look begins no further sample.
const QUICK_LIMIT: Duration = Duration::from_secs(150);

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
    /// Seconds that each sample is measured [default: 1]
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
    /// The sides were named: they are measured on every workload.
    are_sides_named: bool,
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
            are_sides_named: !args.sides.is_empty(),
            rounds: args.rounds.unwrap_or(if args.quick { 3 } else { 10 }),
            adds: args.add,
            is_quick: args.quick,
            span: args.seconds.unwrap_or(Duration::from_secs(1)),
        };
        // Every other side is compared with the first; those for which the kernel counts are measured with the plain ones.
        plan.sides.push(Side::Untraced);
        plan.sides.extend(plan.sides.clone().into_iter().map(Side::plain));
        plan.sides.sort_unstable();
        plan.sides.dedup();
        plan
    }

    /// Takes all samples, and hands over what was measured of each workload with this build of tracer. What fails is tried
    /// once more, and is then missing.
    ///
    /// # Errors
    /// Where nothing could be measured, Ctrl-C came, or `measured` fails.
    pub fn run(&self, build: &str, mut measured: impl FnMut(Measured) -> Result<()>) -> Result<()> {
        warn_of_others()?;
        let (start, mut count) = (Instant::now(), 0);
        eprintln!("bench: this takes about {:.1} min", self.estimate().as_secs_f64() / 60.0);
        for &workload in self.workloads.iter().take_while(|_| !self.is_over(start)) {
            let mut taken = Measured::new(workload, build, self.span);
            if let Err(error) = twice(&workload.name(), || self.measure(workload, start, &mut taken)) {
                taken.missing.push(one_line(&error));
            }
            ensure!(!interrupt::came(), "interrupted");
            count += taken.samples.len();
            measured(taken)?;
        }
        ensure!(count > 0, "nothing could be measured");
        let end = if self.is_over(start) { "; it ends early, as the time for a quick look is over" } else { "" };
        eprintln!("bench: {count} samples in {:.1} min{end}", start.elapsed().as_secs_f64() / 60.0);
        Ok(())
    }

    /// Takes the samples of a workload. An error is about what all of them need, and comes before the first.
    fn measure(&self, workload: Workload, start: Instant, taken: &mut Measured) -> Result<()> {
        let lab = interrupt::hold(Lab::new)?;
        let outcome = Scene::raise(&lab, workload).map(|scene| self.take_all(&scene, start, taken));
        interrupt::hold(|| drop(lab));
        outcome
    }

    /// Whether no further sample is to begin.
    fn is_over(&self, start: Instant) -> bool {
        self.is_quick && start.elapsed() > QUICK_LIMIT
    }

    fn take_all(&self, scene: &Scene, start: Instant, taken: &mut Measured) {
        for turn in self.turns(scene.workload) {
            if self.is_over(start) {
                taken.missing.push(format!("what comes from round {} on: no time was left", turn.round + 1));
                break;
            }
            let (what, begin) = (format!("round {}, side {}", turn.round + 1, turn.side.name()), Instant::now());
            match twice(&what, || sample::take(scene, turn)) {
                Ok(samples) => {
                    for sample in &samples {
                        self.progress(scene.workload, sample, begin.elapsed());
                    }
                    taken.samples.extend(samples);
                }
                Err(_) if interrupt::came() => break,
                Err(error) => taken.missing.push(format!("{what}: {}", one_line(&error))),
            }
        }
    }

    /// What is measured of a workload, in this order.
    fn turns(&self, workload: Workload) -> Vec<Turn> {
        let sides = self.sides.iter().filter(|side| self.are_sides_named || side.suits(workload));
        let (counted, plain): (Vec<Side>, Vec<Side>) = sides.partition(|side| side.counts_runs());
        let turn = |side: Side, round| {
            let counted = side.counted().filter(|side| counted.contains(side));
            Turn { side, counted, round, span: self.span }
        };
        // Each round begins with another side: what one leaves behind does not always meet the same next one.
        let round = |round: u32| {
            let first = round as usize % plain.len();
            plain[first..].iter().chain(&plain[..first]).map(move |&side| (side, round)).collect::<Vec<_>>()
        };
        (0..self.rounds).flat_map(round).map(|(side, round)| turn(side, round)).collect()
    }

    /// About how long it takes on two CPUs.
    fn estimate(&self) -> Duration {
        let of_turn = |workload: Workload, turn: Turn| {
            let spans = 1 + u32::from(turn.counted.is_some());
            turn.side.overhead() + workload.overhead() + workload.warm_up() + turn.span * spans
        };
        let of_workload = |&workload: &Workload| {
            self.turns(workload).into_iter().map(|turn| of_turn(workload, turn)).sum::<Duration>()
        };
        self.workloads.iter().map(of_workload).sum()
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

/// Does something, and if that fails, once more; unless Ctrl-C came.
fn twice<T>(what: &str, mut action: impl FnMut() -> Result<T>) -> Result<T> {
    match action() {
        Err(error) if !interrupt::came() => {
            eprintln!("bench: {what}: {error:#}; once more");
            action()
        }
        outcome => outcome,
    }
}

/// An error for a list: what a process wrote last is lines.
fn one_line(error: &anyhow::Error) -> String {
    format!("{error:#}").lines().collect::<Vec<_>>().join(" ")
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

#[cfg(test)]
mod tests {
    use anyhow::{Result, bail};
    use clap::Parser;

    use super::{Args, Plan, twice};
    use crate::{side::Side, workload::Workload};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn plan(line: &str) -> Plan {
        Plan::new(&Line::parse_from(["bench"].into_iter().chain(line.split_whitespace())).args)
    }

    #[test]
    fn every_round_has_every_side_once_and_begins_with_another() {
        let turns = plan("--rounds 3").turns(Workload::Rate10);
        let sides = |round| turns.iter().filter(move |turn| turn.round == round).map(|turn| turn.side);
        let mut firsts: Vec<Side> = (0..3).filter_map(|round| sides(round).next()).collect();
        assert_eq!(firsts.len(), 3);
        firsts.dedup();
        assert_eq!(firsts.len(), 3, "{firsts:?}");
        let mut all: Vec<Side> = sides(1).collect();
        all.sort_unstable();
        let wanted =
            [Side::Untraced, Side::Summary, Side::Json, Side::Tcpdump, Side::Bpftrace, Side::SockOps, Side::Empty];
        assert_eq!(all, wanted);
        let counted: Vec<Side> = turns.iter().filter(|turn| turn.round == 1).filter_map(|turn| turn.counted).collect();
        assert!(counted.contains(&Side::SummaryStats) && counted.contains(&Side::EmptyStats) && counted.len() == 2);
    }

    #[test]
    fn a_side_that_counts_is_measured_with_the_plain_one() {
        let turns = plan("--side no-accept-stats --rounds 1").turns(Workload::Rate10);
        let turns: Vec<_> = turns.iter().map(|turn| (turn.side, turn.counted)).collect();
        assert_eq!(turns, [(Side::Untraced, None), (Side::NoAccept, Some(Side::NoAcceptStats))]);
    }

    #[test]
    fn runs_take_as_long_as_the_page_says() {
        assert!(plan("").estimate().as_secs() <= 50 * 60, "{:?}", plan("").estimate());
        assert!(plan("--quick").estimate().as_secs() <= 150, "{:?}", plan("--quick").estimate());
    }

    #[test]
    fn what_fails_once_is_done_again_and_what_fails_twice_is_given_up() {
        let mut failures = 1;
        let mut action = || -> Result<()> {
            if failures > 0 {
                failures -= 1;
                bail!("not yet");
            }
            Ok(())
        };
        twice("a test", &mut action).unwrap();
        let mut tries = 0;
        let outcome: Result<()> = twice("a test", || {
            tries += 1;
            bail!("never")
        });
        assert_eq!((outcome.unwrap_err().to_string(), tries), ("never".to_owned(), 2));
    }
}
