//! `test`: everything that has to hold before a change is merged.

mod suites;
mod times;

use std::process::Command;

use anyhow::Result;

use self::{suites::Ignored, times::Times};
use crate::{arch::Arch, bench, build, cargo::passed_in, lint, paths, setup, sh, vm};

/// Arguments of `test`.
#[derive(clap::Args)]
pub struct Args {
    /// Leave out the virtual machines and the long load tests
    #[arg(long)]
    fast: bool,
    /// Also run the soak of ten minutes
    #[arg(long, conflicts_with = "fast")]
    all: bool,
    /// Run only this suite of end-to-end tests; may be repeated
    #[arg(long, value_name = "NAME")]
    suite: Vec<String>,
}

/// Runs every test; stops at the first part that fails. Says how long each part took.
pub fn run(args: &Args) -> Result<()> {
    let mut times = Times::default();
    let outcome = parts(args, &mut times);
    print!("\n{times}");
    outcome?;
    println!("\n{} passed, 0 failed", times.passed());
    Ok(())
}

fn parts(args: &Args, times: &mut Times) -> Result<()> {
    let ignored = match (args.all, args.fast) {
        (true, _) => Ignored::All,
        (_, true) => Ignored::None,
        _ => Ignored::Some,
    };
    if !args.suite.is_empty() {
        return times.part("end to end", |times| suites::run(args.suite.clone(), ignored, times));
    }
    times.part("setup", |_| setup::run())?;
    times.part("host", |times| {
        times.passed_here(cargo_test(sh::command("cargo", ["test"]))?);
        times.passed_here(cargo_test(sh::command("cargo", ["test", "-p", "tracer-bench", "-p", "lab"]))?);
        Ok(())
    })?;
    times.part("lint", |_| lint::run())?;
    times.part("end to end", |times| suites::run(suites::names()?, ignored, times))?;
    if !args.fast {
        times.part("virtual machines", |times| {
            times.passed_here(vm::run(&vm::Args::ends())?);
            Ok(())
        })?;
        times.part("benchmark, a report", |_| report())?;
    }
    Ok(())
}

/// What tracer costs, in short. Nothing is judged by it: times depend on the machine, and on what else it does.
fn report() -> Result<()> {
    let binary = build::release(Arch::Amd64)?;
    let bench = bench::command(&binary, &["--quick".into()])?;
    // As Ctrl-C does it: what was made is removed.
    let mut limited = sh::command("timeout", ["--signal=INT", "--kill-after=60", "600"]);
    limited.arg(bench.get_program()).args(bench.get_args()).current_dir(paths::root());
    limited.envs(bench.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Err(error) = sh::run(&mut limited) {
        println!("no report: {error:#}");
    }
    Ok(())
}

/// Runs `cargo test` and returns how many tests passed.
fn cargo_test(mut cargo: Command) -> Result<usize> {
    let mut passed = 0;
    sh::run_and_read(cargo.current_dir(paths::root()), |line| passed += passed_in(line))?;
    Ok(passed)
}
