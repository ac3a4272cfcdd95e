//! `demo`: mixed traffic through the lab, watched. Needs no AWS.

use std::os::unix::process::CommandExt as _;

use anyhow::{Context as _, Result};

use crate::{arch::Arch, build, paths, privileged, setup, sh};

/// Builds, and becomes the demo, with the release binary: Ctrl-C and the exit code are then the demo's own.
pub fn run() -> Result<()> {
    setup::demo()?;
    let binary = build::release(Arch::Amd64)?;
    // The demo starts the target's program, which `cargo run` would not build.
    sh::run(sh::command("cargo", ["build", "--quiet", "-p", "e2e", "--bins"]).current_dir(paths::root()))?;
    let mut cargo = sh::command("cargo", ["run", "--quiet", "-p", "lab", "--bin", "demo"]);
    privileged::runner(&mut cargo, &binary)?;
    Err(cargo.current_dir(paths::root()).exec()).context("cannot run cargo")
}
