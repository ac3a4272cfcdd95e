//! `lint`: formatting, lints of all crates, and the licences of dependencies.

use anyhow::Result;

use crate::{arch, paths, sh};

/// Runs every check; stops at the first that fails.
pub fn run() -> Result<()> {
    cargo(&["fmt", "--all", "--check"])?;
    let host = ["clippy", "--workspace", "--exclude", "tracer-ebpf", "--exclude", "bench-ebpf", "--all-targets"];
    cargo(&[&host[..], &["--", "-D", "warnings"]].concat())?;
    // A recording can be read anywhere: nothing of this system is in the way.
    cargo(&["check", "-p", "tracer-core", "--target", arch::FOREIGN])?;
    if sh::succeeds(&mut sh::command("cargo", ["+nightly", "clippy", "--version"])) {
        let target = ["--target", "bpfel-unknown-none", "-Z", "build-std=core"];
        let programs = ["+nightly", "clippy", "-p", "tracer-ebpf", "-p", "bench-ebpf"];
        cargo(&[&programs[..], &target[..], &["--", "-D", "warnings"]].concat())?;
    } else {
        eprintln!("lint: no clippy for the BPF programs; `rustup component add --toolchain nightly clippy` brings it");
    }
    if sh::succeeds(&mut sh::command("cargo", ["deny", "--version"])) {
        // Not the advisories: what they say changes without a change here.
        cargo(&["deny", "--workspace", "check", "bans", "licenses", "sources"])?;
    } else {
        eprintln!("lint: licences of dependencies not checked; `cargo install cargo-deny --locked` brings the tool");
    }
    Ok(())
}

fn cargo(args: &[&str]) -> Result<()> {
    sh::run(sh::command("cargo", args).current_dir(paths::root()))
}
