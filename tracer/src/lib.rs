//! tracer explains the last hop of a web request: load balancer to host to application.
//!
//! The program is [`run`]. All else is its own, so that the compiler tells of what nothing uses any more.

mod cli;
mod clock;
mod command;
mod host;
mod netlink;
mod probe;
mod terminal;

use cli::{Cli, Command};
use probe::{
    ProbeError,
    clsact::{GUARD_ARGUMENT, guard},
};
use std::{
    io::{self, Write},
    process::ExitCode,
};

/// Runs the program: takes its arguments from the command line, and returns its exit code.
pub fn run() -> ExitCode {
    // Not a command: what `clsact` starts to clean up behind itself.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == GUARD_ARGUMENT) {
        return guard().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    let command = match cli::parse() {
        Ok(Cli { command }) => command,
        Err(answer) => return answer.give(),
    };
    log_to_stderr(&command);
    let result = match command {
        Command::Watch(args) => command::watch::run(&args),
        Command::Report(args) => command::report::run(&args),
        Command::Check(args) => command::check::run(&args),
    };
    result.unwrap_or_else(|error| {
        // Nobody reads any more, for example `| head`: that is no failure.
        if is_broken_pipe(&error) {
            return ExitCode::SUCCESS;
        }
        // Not `eprintln!`, which panics if standard error is closed.
        let _ = writeln!(io::stderr(), "tracer: {error:#}");
        let code = error.downcast_ref().map_or(1, ProbeError::exit_code);
        ExitCode::from(code)
    })
}

/// What the program and its libraries log goes to standard error: warnings, or what `RUST_LOG` asks for.
fn log_to_stderr(command: &Command) {
    let kernel_log = matches!(command, Command::Watch(args) if args.kernel_log);
    let level = if kernel_log { "warn,tracer_ebpf=trace" } else { "warn" };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level)).init();
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let is_broken = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref().is_some_and(is_broken))
}
