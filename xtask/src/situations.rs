//! `situations`: makes the recordings of situations anew, which are replayed as tests without a kernel.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use crate::{arch::Arch, build, paths, privileged, setup, sh};

/// Runs the end-to-end tests of situations, and keeps what each recorded and what was said of it. Nothing is replaced
/// before all of them have passed.
pub fn run() -> Result<()> {
    setup::run()?;
    let binary = build::release(Arch::Amd64)?;
    let made = paths::target().join("situations");
    empty(&made)?;
    let mut cargo = sh::command("cargo", ["test", "-p", "e2e", "--test", "situations"]);
    cargo.args(["--", "--test-threads=1", "--include-ignored"]).env("KEEP_SITUATIONS", &made);
    privileged::runner(&mut cargo, &binary)?;
    sh::run(cargo.current_dir(paths::root()))?;
    let kept = paths::root().join("tracer-core/tests/situations");
    empty(&kept)?;
    for entry in fs::read_dir(&made)? {
        let entry = entry?;
        let to = kept.join(entry.file_name());
        fs::copy(entry.path(), &to).with_context(|| format!("cannot write {}", to.display()))?;
    }
    Ok(())
}

/// Makes the folder, without anything in it.
fn empty(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}
