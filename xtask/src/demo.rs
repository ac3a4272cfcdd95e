//! `demo`: mixed traffic through the lab, watched. Needs no AWS.

use anyhow::Result;

use crate::{arch::Arch, build, paths, privileged, setup, sh};

/// Arguments of `demo`.
#[derive(clap::Args)]
pub struct Args {
    /// Passed on to the demo
    #[arg(last = true)]
    args: Vec<String>,
}

/// Builds, and runs the demo with the release binary.
pub fn run(args: &Args) -> Result<()> {
    setup::run()?;
    let binary = build::release(Arch::Amd64)?;
    let mut cargo = sh::command("cargo", ["run", "--quiet", "-p", "tracer-tests", "--bin", "demo", "--"]);
    privileged::runner(cargo.args(&args.args), &binary)?;
    sh::run(cargo.current_dir(paths::root()))
}
