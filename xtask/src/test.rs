//! `test`: everything that has to hold before a change is merged.

use anyhow::Result;

use crate::{arch::Arch, build, lint, paths, privileged, setup, sh, vm};

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
    part("lint");
    lint::run()?;
    part("end to end");
    passed += end_to_end(args.fast)?;
    if !args.fast {
        part("virtual machines");
        passed += vm::run(&vm::Args::ends())?;
    }
    println!("\n{passed} passed, 0 failed");
    Ok(())
}

/// The tests on real traffic, one after the other: they share the machine's clocks and load.
fn end_to_end(fast: bool) -> Result<usize> {
    let binary = build::release(Arch::Amd64)?;
    let mut cargo = sh::command("cargo", ["test", "-p", "tracer-tests", "--", "--test-threads=1"]);
    if !fast {
        // The long load tests are marked `#[ignore]`.
        cargo.arg("--include-ignored");
    }
    privileged::runner(&mut cargo, &binary)?;
    cargo_test(cargo)
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
    use super::passed_in;

    #[test]
    fn passed_tests_are_counted_from_the_result_lines() {
        assert_eq!(passed_in("test result: ok. 24 passed; 0 failed; 1 ignored; 0 measured"), 24);
        assert_eq!(passed_in("test result: FAILED. 3 passed; 1 failed; 0 ignored"), 3);
        assert_eq!(passed_in("test result: FAILED. "), 0);
        assert_eq!(passed_in("test sums ... ok"), 0);
    }
}
