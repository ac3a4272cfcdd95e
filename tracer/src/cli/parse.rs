//! Reading the command line, and what is answered where there is nothing to run.

use super::Cli;
use clap::{Parser, error::ErrorKind};
use std::{
    io::{self, Write},
    process::ExitCode,
};

/// What is said instead of running a command: help, the version, or what is wrong with the command line.
#[derive(Debug)]
pub struct Answer(clap::Error);

/// Reads this process's command line.
///
/// # Errors
///
/// If there is nothing to run; [`Answer::give`] says why.
pub fn parse() -> Result<Cli, Answer> {
    Cli::try_parse().map_err(Answer)
}

impl Answer {
    /// Prints it and returns the exit code.
    pub fn give(self) -> ExitCode {
        let Self(error) = self;
        // Nobody may be there to read it.
        let _ = match error.kind() {
            ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => error.print(),
            _ => io::stderr().write_all(short(&error.to_string()).as_bytes()),
        };
        ExitCode::from(if error.use_stderr() { 2 } else { 0 })
    }
}

/// An error of the command line in at most three lines: what is wrong, a tip if there is one, where to read on.
fn short(error: &str) -> String {
    let mut lines: Vec<_> = error.lines().filter(|line| !line.is_empty() && !line.starts_with("Usage: ")).collect();
    let help = lines.pop().unwrap_or_default();
    lines.truncate(2);
    let what = lines.join("\n");
    format!("tracer: {}\n{help}\n", what.strip_prefix("error: ").unwrap_or(&what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_short_and_end_with_where_to_read_on() {
        let told = |line: &str| short(&Cli::try_parse_from(line.split(' ')).unwrap_err().to_string());
        assert_eq!(
            told("tracer watch --prot 80"),
            "tracer: unexpected argument '--prot' found\n  tip: a similar argument exists: '--port'\n\
             For more information, try '--help'.\n"
        );
        assert_eq!(
            told("tracer report"),
            "tracer: the following required arguments were not provided:\n  <FILE>\nFor more information, try '--help'.\n"
        );
        for line in ["tracer watch -n 0", "tracer wotch", "tracer watch --peer 10.0.1.5/24", "tracer report a b"] {
            let told = told(line);
            assert!(told.starts_with("tracer: ") && told.lines().count() <= 3, "{told}");
        }
    }
}
