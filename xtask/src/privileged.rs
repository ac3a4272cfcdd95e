//! Programs of the lab run as root; cargo itself need not.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::sh;

/// Lets `cargo run` or `cargo test` start its programs as root, with the tracer that they are to use.
pub fn runner(cargo: &mut Command, tracer: &Path) -> Result<()> {
    cargo.env("TRACER_BIN", tracer);
    if !sh::is_root()? {
        let about = sh::read(&mut sh::command("rustc", ["-vV"]))?;
        let host = about.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc -vV names no host")?;
        let variable = format!("CARGO_TARGET_{}_RUNNER", host.to_uppercase().replace('-', "_"));
        cargo.env(variable, "sudo --preserve-env");
    }
    Ok(())
}
