//! `tracer report`: shows a recording as `watch` showed what it records, the same bytes every time.

use crate::{cli::ReportArgs, terminal};
use anyhow::Context;
use std::{
    fs::File,
    io::{self, BufReader, BufWriter},
    process::ExitCode,
};
use tracer_core::replay::replay;

/// Runs the command.
///
/// # Errors
///
/// If the file is no recording, or not whole: what is whole has then been shown.
pub fn run(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    let name = || format!("reporting {}", args.file.display());
    let file = File::open(&args.file).with_context(name)?;
    let out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let show = args.show.show(terminal::of_stdout());
    replay(BufReader::with_capacity(1 << 16, file), &show, out).with_context(name)?;
    Ok(ExitCode::SUCCESS)
}
