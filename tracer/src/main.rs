//! tracer explains the last hop of a web request: load balancer to host to application.

mod aggregate;
mod cli;
mod clock;
mod command;
mod decode;
mod enrich;
mod output;
mod pipeline;
mod recording;
mod request;
mod status;
mod track;

use clap::Parser;
use cli::{Cli, Command};
use std::{
    io::{self, Write},
    process::ExitCode,
};

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Report(args) => command::report::run(&args),
        Command::Watch(_) | Command::Check(_) => Err(anyhow::anyhow!("not wired up yet")),
    };
    result.unwrap_or_else(|error| {
        // Nobody reads any more, for example `| head`: that is no failure.
        if is_broken_pipe(&error) {
            return ExitCode::SUCCESS;
        }
        // Not `eprintln!`, which panics if standard error is closed.
        let _ = writeln!(io::stderr(), "tracer: {error:#}");
        ExitCode::FAILURE
    })
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let is_broken = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref().is_some_and(is_broken))
}
