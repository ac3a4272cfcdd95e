//! `bench`: what tracer costs, beside nothing and beside what a user would run instead.

use std::{
    env,
    ffi::OsString,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{arch::Arch, build, paths, privileged, setup, sh};

/// Arguments of `bench`: those of the benchmark itself.
#[derive(clap::Args)]
pub struct Args {
    /// What the benchmark is to do; `cargo xtask bench --help` lists it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Builds, and becomes the benchmark: Ctrl-C and the exit code are then its own.
pub fn run(args: &Args) -> Result<()> {
    setup::run()?;
    // Another build can be measured, too.
    let tracer = match env::var_os("TRACER_BIN") {
        Some(path) => PathBuf::from(path),
        None => build::release(Arch::Amd64)?,
    };
    Err(command(&tracer, &args.arguments)?.exec()).context("cannot run cargo")
}

/// The benchmark of that program.
pub fn command(tracer: &Path, arguments: &[OsString]) -> Result<Command> {
    let mut cargo = sh::command("cargo", ["run", "--quiet", "--release", "-p", "tracer-bench", "--"]);
    cargo.args(arguments).current_dir(paths::root());
    privileged::runner(&mut cargo, tracer)?;
    Ok(cargo)
}
