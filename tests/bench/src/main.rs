//! What tracer costs, beside nothing and beside what a user would run instead: samples of every side on every workload,
//! interleaved, in the lab's network namespaces. Needs root. `cargo xtask bench` builds everything and starts it.

mod cpu;
mod machine;
mod memory;
mod others;
mod plan;
mod programs;
mod report;
mod results;
mod sample;
mod side;
mod statistics;
mod workload;

use std::{env, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand};
use lab::interrupt;

use plan::Plan;
use results::Results;

/// Measure what tracer costs, beside nothing and beside what a user would run instead.
#[derive(Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    args: Args,
}

#[derive(Subcommand)]
enum Command {
    /// Hold connections until ended: the benchmark starts it itself
    #[command(hide = true)]
    Hold(workload::hold::Args),
}

#[derive(clap::Args)]
struct Args {
    #[command(flatten)]
    plan: plan::Args,
    /// Measure nothing: report what the last runs have left
    #[arg(long)]
    report: bool,
    /// Rewrite the tables in docs/benchmarks.md
    #[arg(long)]
    update: bool,
    /// Keep everything raw in this directory, as results.json or quick.json [default: bench in the target directory]
    #[arg(long, value_name = "DIRECTORY")]
    output: Option<PathBuf>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match &cli.command {
        Some(Command::Hold(args)) => workload::hold::run(args),
        None => run(&cli.args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let output = args.output.clone().unwrap_or_else(|| target().join("bench"));
    let plan = Plan::new(&args.plan);
    // A quick look does not replace what takes an hour.
    let file = output.join(if plan.is_quick { "quick.json" } else { "results.json" });
    let mut results = Results::load(&file)?;
    if !args.report {
        ensure!(rustix::process::geteuid().is_root(), "the lab needs root: run `sudo -E cargo xtask bench`");
        interrupt::listen()?;
        // Ten thousand connections are as many files.
        lab::process::raise_file_limit();
        let build = machine::build()?;
        if plan.adds {
            results.admit(&plan.workloads, &build).with_context(|| file.display().to_string())?;
        }
        results.machine = machine::Machine::of_this_host()?;
        plan.run(&build, |measured| {
            results.put(measured, plan.adds);
            results.save(&file)
        })?;
    }
    let wanted = if args.report { &[][..] } else { &plan.workloads[..] };
    let report = report::Report::of(&results, wanted, &output);
    print!("{}", report.text());
    if args.update {
        report::update(&report)?;
    }
    Ok(())
}

/// Where cargo builds.
fn target() -> PathBuf {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    PathBuf::from(root).join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
