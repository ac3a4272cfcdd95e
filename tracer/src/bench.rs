//! What the benchmarks in `benches/` measure. It is no interface: it changes with what it stands for.

use crate::{
    cli::{Cli, Command},
    command,
};
use anyhow::{Context, bail};
use std::{ffi::OsStr, path::Path, process::ExitCode};

pub use crate::{
    aggregate::{Summary, distribution::Distribution, figures::Change},
    clock::Clock,
    decode::{DecodeError, Record, decode, encode_connection, encode_request},
    enrich::process::{Fact, Processes},
    output::{json::Objects, terminal::Terminal, text::Lines},
    pipeline::{Options, Pipeline, View},
    recording::write::Recorder,
    request::Request,
    track::{Event, Tracker},
};

/// Does what the command line `tracer report --summary FILE` does.
///
/// # Errors
///
/// As that does.
pub fn report_summary(file: &Path) -> anyhow::Result<ExitCode> {
    let line = ["tracer", "report", "--summary"].map(OsStr::new).into_iter().chain([file.as_os_str()]);
    match <Cli as clap::Parser>::try_parse_from(line).context("the command line of a report")?.command {
        Command::Report(args) => command::report::run(&args),
        _ => bail!("another command than report"),
    }
}
