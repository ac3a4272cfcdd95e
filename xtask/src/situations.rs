//! `situations`: makes the recordings of situations anew, which are replayed as tests without a kernel.

use std::fs;

use anyhow::{Context as _, Result};

use crate::{arch::Arch, build, paths, privileged, setup, sh};

/// Runs the end-to-end tests of situations, and keeps what each recorded and decided.
pub fn run() -> Result<()> {
    setup::run()?;
    let binary = build::release(Arch::Amd64)?;
    let folder = paths::root().join("tracer/tests/situations");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut cargo = sh::command("cargo", ["test", "-p", "tracer-tests", "--test", "situations"]);
    cargo.args(["--", "--test-threads=1"]).env("KEEP_SITUATIONS", &folder).current_dir(paths::root());
    privileged::runner(&mut cargo, &binary)?;
    sh::run(&mut cargo)
}
