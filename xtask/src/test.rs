//! `test`: everything that has to hold before a change is merged.

use std::fs;

use anyhow::Result;

use crate::{arch::Arch, bench, build, lint, paths, privileged, setup, sh, vm};

/// Arguments of `test`.
#[derive(clap::Args)]
pub struct Args {
    /// Leave out the virtual machines and the long load tests
    #[arg(long)]
    fast: bool,
}

/// Runs every test; stops at the first part that fails.
pub fn run(args: &Args) -> Result<()> {
    setup::run()?;
    let mut passed = 0;
    part("host");
    passed += cargo_test(sh::command("cargo", ["test"]))?;
    passed += cargo_test(sh::command("cargo", ["test", "-p", "tracer-bench"]))?;
    part("lint");
    lint::run()?;
    part("end to end");
    passed += end_to_end(args.fast)?;
    if !args.fast {
        part("virtual machines");
        passed += vm::run(&vm::Args::ends())?;
        part("benchmark, a report");
        report()?;
    }
    println!("\n{passed} passed, 0 failed");
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

/// The tests on real traffic, one after the other: they share the machine's clocks and load. Those of real servers and of
/// set-ups of hosts mostly wait and measure no times: they run side by side. What fails is run once more,
/// alone, and named: what a busy machine spoiled is right the second time, a fault is not.
fn end_to_end(fast: bool) -> Result<usize> {
    let binary = build::release(Arch::Amd64)?;
    let cargo_test = |of: &[&str], tests: &[&str]| {
        let mut cargo = sh::command("cargo", ["test", "-p", "e2e"]);
        let waits = of.contains(&"servers") || of.contains(&"hosts");
        let threads = if waits { "--test-threads=4" } else { "--test-threads=1" };
        cargo.args(of).args(["--", threads]).args(tests);
        privileged::runner(&mut cargo, &binary)?;
        Ok::<_, anyhow::Error>(cargo)
    };
    let mut passed = self::cargo_test(sh::command("cargo", ["test", "-p", "lab", "--lib", "--bins"]))?;
    // The long load tests are marked `#[ignore]`.
    let which: &[&str] = if fast { &[] } else { &["--include-ignored"] };
    let mut unsteady = Vec::new();
    for target in targets()? {
        let (mut failed, mut ended) = (Vec::new(), false);
        let outcome = sh::run_and_read(cargo_test(&["--test", &target], which)?.current_dir(paths::root()), |line| {
            passed += passed_in(line);
            ended |= line.starts_with("test result: ");
            failed.extend(failed_in(line).map(str::to_owned));
        });
        // A program that did not come to its end has tests that did not run.
        if failed.is_empty() || !ended {
            outcome?;
        }
        for test in failed {
            println!("once more: {target} {test}");
            let again = cargo_test(&["--test", &target], &["--exact", &test, "--include-ignored"])?;
            passed += self::cargo_test(again)?;
            unsteady.push(format!("{target} {test}"));
        }
    }
    for test in unsteady {
        println!("unsteady: {test} failed at first");
    }
    Ok(passed)
}

/// The programs of end-to-end tests, in the order of their names.
fn targets() -> Result<Vec<String>> {
    let mut targets = Vec::new();
    for entry in fs::read_dir(paths::root().join("tests/e2e/tests"))? {
        targets.push(entry?.file_name().to_string_lossy().into_owned());
    }
    targets.sort();
    Ok(targets)
}

/// The name of the test that failed, in a line such as `test of::a_thing ... FAILED`.
fn failed_in(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED")
}

/// Runs `cargo test` and returns how many tests passed.
fn cargo_test(mut cargo: std::process::Command) -> Result<usize> {
    let mut passed = 0;
    sh::run_and_read(cargo.current_dir(paths::root()), |line| passed += passed_in(line))?;
    Ok(passed)
}

/// The number of passed tests in a line such as `test result: ok. 3 passed; 0 failed; …`; of any other line 0.
pub fn passed_in(line: &str) -> usize {
    let (_, counts) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")).unwrap_or_default();
    counts.split(" passed").next().and_then(|count| count.parse().ok()).unwrap_or(0)
}

fn part(name: &str) {
    println!("== {name}");
}

#[cfg(test)]
mod tests {
    use super::{failed_in, passed_in, targets};

    #[test]
    fn passed_tests_are_counted_from_the_result_lines() {
        assert_eq!(passed_in("test result: ok. 24 passed; 0 failed; 1 ignored; 0 measured"), 24);
        assert_eq!(passed_in("test result: FAILED. 3 passed; 1 failed; 0 ignored"), 3);
        assert_eq!(passed_in("test result: FAILED. "), 0);
        assert_eq!(passed_in("test sums ... ok"), 0);
    }

    #[test]
    fn failed_tests_are_named_to_be_run_again() {
        assert_eq!(failed_in("test of::a_thing ... FAILED"), Some("of::a_thing"));
        assert_eq!(failed_in("test of::a_thing ... ok"), None);
        assert_eq!(failed_in("test result: FAILED. 3 passed; 1 failed"), None);
    }

    #[test]
    fn every_program_of_tests_is_found() {
        assert!(targets().unwrap().contains(&"stages".to_owned()));
    }
}
