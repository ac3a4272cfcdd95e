//! Every task of a developer, one file each. `cargo xtask --help` lists them.

mod arch;
mod bench;
mod build;
mod cargo;
mod demo;
mod elf;
mod lint;
mod paths;
mod privileged;
mod setup;
mod sh;
mod situations;
mod test;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Every task of a developer.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what all tasks need; does nothing when all is there
    Setup,
    /// Build the release binary: static, the BPF object inside
    Build(build::Args),
    /// Run mixed traffic through the lab and watch it; installs only what that needs
    Demo,
    /// Measure what tracer costs, beside nothing and beside what a user would run instead
    #[command(disable_help_flag = true)]
    Bench(bench::Args),
    /// Run every test: host, lint, end to end, virtual machines
    Test(test::Args),
    /// Make the recordings of situations anew, which are replayed as tests
    Situations,
    /// Run the release binary on other kernels, in virtual machines
    Vm(vm::Args),
    /// Check formatting, lints, dependencies' licences
    Lint,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Setup => setup::run(),
        Task::Build(args) => build::run(&args),
        Task::Demo => demo::run(),
        Task::Bench(args) => bench::run(&args),
        Task::Test(args) => test::run(&args),
        Task::Situations => situations::run(),
        Task::Vm(args) => vm::run(&args).map(drop),
        Task::Lint => lint::run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
