//! The suites of end-to-end tests, on real traffic.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::times::Times;
use crate::{
    arch::Arch,
    build,
    cargo::{failed_in, passed_in},
    paths, privileged, sh,
};

/// Suites whose tests wait for most of their time, one test after the other: [`SIDE_BY_SIDE`] of these suites run at once, in
/// this order, the longest first. Every other suite runs alone: it measures times, losses or costs, or loads the machine.
const WAITING: [&str; 5] = ["situations", "rejections", "robustness", "namespaces", "lab"];

/// How many suites run at once. With three, tests on a machine with two processors miss their moments.
const SIDE_BY_SIDE: usize = 2;

/// Suites that run this many of their own tests at once.
const THREADS: [(&str, usize); 2] = [("servers", 4), ("hosts", 4)];

/// The suite of soaks. Its ignored tests are those that take minutes, and run only when they are asked for.
const SOAK: &str = "soak";

/// Which of the tests that are marked `#[ignore]` run as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// None.
    None,
    /// All but the soaks.
    Some,
    /// All.
    All,
}

/// Runs the suites. A failed test is run once more, alone, and named: what a busy machine spoiled passes the second time, a
/// fault fails again.
pub fn run(names: Vec<String>, ignored: Ignored, times: &mut Times) -> Result<()> {
    let suites = Suites { tracer: build::release(Arch::Amd64)?, ignored };
    sh::run(&mut suites.cargo(&["--no-run"])?)?;
    let (waiting, measuring): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| place(name).is_some());
    let mut runs = Vec::new();
    for name in measuring {
        runs.push(suites.run_alone(name)?);
    }
    runs.extend(suites.run_side_by_side(waiting)?);
    for run in &runs {
        times.suite(&run.name, run.elapsed, run.passed);
    }
    let mut unsteady = Vec::new();
    for run in runs {
        // A program that did not come to its end has tests that did not run.
        if run.failed.is_empty() || !run.ended {
            run.outcome?;
        }
        for test in run.failed {
            println!("once more: {} {test}", run.name);
            let again = suites.cargo(&["--test", &run.name, "--", "--exact", &test, "--include-ignored"])?;
            times.passed_here(super::cargo_test(again)?);
            unsteady.push(format!("{} {test}", run.name));
        }
    }
    for test in unsteady {
        println!("unsteady: {test} failed at first");
    }
    Ok(())
}

/// The names of all suites.
pub fn names() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(paths::root().join("tests/e2e/tests"))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// The place of a suite in [`WAITING`].
fn place(name: &str) -> Option<usize> {
    WAITING.iter().position(|waiting| *waiting == name)
}

/// How the suites are run.
struct Suites {
    tracer: PathBuf,
    ignored: Ignored,
}

/// How a suite went.
struct Run {
    name: String,
    elapsed: Duration,
    passed: usize,
    failed: Vec<String>,
    /// The program came to its end.
    ended: bool,
    outcome: Result<()>,
}

impl Suites {
    /// Runs one suite and shows its output as it comes.
    fn run_alone(&self, name: String) -> Result<Run> {
        let (started, mut tests) = (Instant::now(), Tests::default());
        let outcome = sh::run_and_read(&mut self.command(&name)?, |line| tests.read(line));
        Ok(tests.of(name, started, outcome))
    }

    /// Runs suites side by side. Shows the output of each when it has ended.
    fn run_side_by_side(&self, mut names: Vec<String>) -> Result<Vec<Run>> {
        names.sort_by_key(|name| place(name));
        println!("-- {SIDE_BY_SIDE} at once: {}", names.join(", "));
        let (waiting, runs) = (Mutex::new(names.into_iter()), Mutex::new(Vec::new()));
        let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || -> Result<()> {
            while let Some(name) = next() {
                let (started, mut tests) = (Instant::now(), Tests::default());
                let (output, outcome) = sh::collect(self.command(&name)?)?;
                output.lines().for_each(|line| tests.read(line));
                // Held while it prints: what two suites wrote does not interleave.
                let mut runs = runs.lock().unwrap_or_else(PoisonError::into_inner);
                println!("-- {name}\n{}", output.trim_end());
                runs.push(tests.of(name, started, outcome));
            }
            Ok(())
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..SIDE_BY_SIDE).map(|_| scope.spawn(work)).collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().ok().context("a thread that runs suites panicked")?)
        })?;
        Ok(runs.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// The command that runs all tests of a suite.
    fn command(&self, name: &str) -> Result<Command> {
        let threads = THREADS.iter().find(|(suite, _)| *suite == name).map_or(1, |(_, threads)| *threads);
        let mut cargo = self.cargo(&["--test", name, "--", &format!("--test-threads={threads}")])?;
        if self.ignored == Ignored::All || self.ignored == Ignored::Some && name != SOAK {
            cargo.arg("--include-ignored");
        }
        Ok(cargo)
    }

    fn cargo(&self, arguments: &[&str]) -> Result<Command> {
        let mut cargo = sh::command("cargo", ["test", "-p", "e2e"]);
        cargo.args(arguments).current_dir(paths::root());
        privileged::runner(&mut cargo, &self.tracer)?;
        Ok(cargo)
    }
}

/// What the output of a suite has said of its tests so far.
#[derive(Default)]
struct Tests {
    passed: usize,
    failed: Vec<String>,
    ended: bool,
}

impl Tests {
    fn read(&mut self, line: &str) {
        self.passed += passed_in(line);
        self.ended |= line.starts_with("test result: ");
        self.failed.extend(failed_in(line).map(str::to_owned));
    }

    fn of(self, name: String, started: Instant, outcome: Result<()>) -> Run {
        let Self { passed, failed, ended } = self;
        Run { name, elapsed: started.elapsed(), passed, failed, ended, outcome }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suite_is_found() {
        let names = names().unwrap();
        assert!(names.contains(&"stages".to_owned()));
        let special = WAITING.into_iter().chain(THREADS.map(|(name, _)| name)).chain([SOAK]);
        assert_eq!(special.filter(|name| !names.contains(&(*name).to_owned())).collect::<Vec<_>>(), [""; 0]);
    }

    #[test]
    fn a_program_that_was_cut_short_has_not_ended() {
        let mut tests = Tests::default();
        for line in ["running 2 tests", "test a ... ok", "test b ... FAILED"] {
            tests.read(line);
        }
        assert!(!tests.ended && tests.failed == ["b"]);
        tests.read("test result: FAILED. 1 passed; 1 failed; 0 ignored");
        assert!(tests.ended && tests.passed == 1);
    }
}
