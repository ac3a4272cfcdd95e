//! The demo: a load balancer and a web host in network namespaces, mixed traffic through them, and the real
//! `tracer watch` on it. Needs root, and nothing of AWS. `cargo xtask demo` builds and starts it.

mod acts;
mod rejections;
mod scene;
mod watch;

use std::env;
use std::fmt::Display;
use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use lab::{Lab, interrupt};

use scene::Scene;
use watch::Watch;

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        say(format_args!("demo: {error:#}"));
        ExitCode::FAILURE
    })
}

fn run() -> Result<ExitCode> {
    ensure!(rustix::process::geteuid().is_root(), "the lab needs root: run `sudo -E cargo xtask demo`");
    let tracer = env::var_os("TRACER_BIN").context("TRACER_BIN names no tracer: run `cargo xtask demo`")?;
    interrupt::listen()?;
    let lab = interrupt::hold(Lab::with_client)?;
    let outcome = show(&lab, Watch::command(&tracer, &lab.target));
    interrupt::hold(|| drop(lab));
    match outcome {
        // Ctrl-C reaches what the demo starts too: what fails then is no failure.
        Err(_) if interrupt::came() => Ok(ExitCode::SUCCESS),
        outcome => outcome,
    }
}

/// Raises the servers, plays all acts and lets tracer have the last word but one. Returns tracer's exit code.
fn show(lab: &Lab, command: std::process::Command) -> Result<ExitCode> {
    let mut scene = Scene::raise(lab)?;
    let mut watch = Watch::start(command)?;
    let played = acts::play(&mut scene, &mut watch);
    let ended_early = watch.has_ended()?;
    let code = watch.finish()?;
    if !ended_early && !interrupt::came() {
        played?;
        say(CLOSING);
    }
    Ok(code)
}

const CLOSING: &str = "
-- Shown: real connections, traced in the kernel: each request cut into its stages, each refusal with its cause.
-- On a host behind your load balancer: sudo tracer watch --port 8080";

/// Writes a line to standard error, whoever still reads it.
fn say(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}
