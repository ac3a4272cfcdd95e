//! Commands that a task runs: echoed, and with an error that names the command.

use std::{
    ffi::OsStr,
    io::{self, BufRead as _, BufReader, Read as _},
    process::{Command, ExitStatus, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

/// A command from its program and arguments.
pub fn command<I>(program: &str, args: I) -> Command
where
    I: IntoIterator<Item: AsRef<OsStr>>,
{
    let mut command = Command::new(program);
    command.args(args);
    command
}

/// The same command as root: through `sudo` when this process is not root.
pub fn as_root<I>(program: &str, args: I) -> Result<Command>
where
    I: IntoIterator<Item: AsRef<OsStr>>,
{
    if is_root()? {
        return Ok(command(program, args));
    }
    let mut sudo = command("sudo", [program]);
    sudo.args(args);
    Ok(sudo)
}

/// Whether this process is root.
pub fn is_root() -> Result<bool> {
    Ok(read(&mut command("id", ["-u"]))? == "0")
}

/// Echoes the command and runs it on this terminal.
pub fn run(command: &mut Command) -> Result<()> {
    eprintln!("$ {}", display(command));
    let status = command.status().with_context(|| cannot_run(command))?;
    check(command, status)
}

/// Echoes the command, runs it, and passes on each line of its standard output, also to `on_line`.
pub fn run_and_read(command: &mut Command, mut on_line: impl FnMut(&str)) -> Result<()> {
    eprintln!("$ {}", display(command));
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| cannot_run(command))?;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line.with_context(|| format!("output of `{}`", display(command)))?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            on_line(&line);
        }
    }
    check(command, child.wait()?)
}

/// Runs the command silently to its end. Returns what it wrote, standard output and standard error as they came, and whether
/// it succeeded.
pub fn collect(mut command: Command) -> Result<(String, Result<()>)> {
    let (mut reader, writer) = io::pipe().context("cannot make a pipe")?;
    command.stdin(Stdio::null()).stdout(writer.try_clone().context("cannot duplicate a pipe")?).stderr(writer);
    let mut child = command.spawn().with_context(|| cannot_run(&command))?;
    // The command holds the pipe's other end: without this, reading would never end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut output = Vec::new();
    reader.read_to_end(&mut output).with_context(|| format!("output of `{}`", display(&command)))?;
    let outcome = check(&command, child.wait()?);
    Ok((String::from_utf8_lossy(&output).into_owned(), outcome))
}

/// Runs the command silently and returns what it wrote to standard output, without the last newline.
pub fn read(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| cannot_run(command))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed: {}\n{}", display(command), output.status, stderr.trim_end());
    }
    let text = String::from_utf8(output.stdout).with_context(|| format!("output of `{}`", display(command)))?;
    Ok(text.trim_end().to_owned())
}

/// Runs the command silently: whether it exists and succeeds.
pub fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn check(command: &Command, status: ExitStatus) -> Result<()> {
    ensure!(status.success(), "`{}` failed: {status}", display(command));
    Ok(())
}

fn cannot_run(command: &Command) -> String {
    format!("cannot run `{}`; `cargo xtask setup` installs what the tasks need", display(command))
}

/// The command as one would type it, with the variables that were set for it.
fn display(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(name, value)| {
        value.map(|value| format!("{}={}", name.to_string_lossy(), quote(&value.to_string_lossy())))
    });
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words = words.map(|word| quote(&word.to_string_lossy()));
    variables.chain(words).collect::<Vec<_>>().join(" ")
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_typed() {
        let mut echo = command("echo", ["a b", "it's", "c"]);
        echo.env("X", "1").env_remove("Y");
        assert_eq!(display(&echo), r"X=1 echo 'a b' 'it'\''s' c");
    }

    #[test]
    fn output_comes_without_the_last_newline() {
        assert_eq!(read(&mut command("echo", ["one"])).unwrap(), "one");
    }

    #[test]
    fn lines_are_read_while_they_are_shown() {
        let mut lines = Vec::new();
        let result =
            run_and_read(&mut command("sh", ["-c", "echo one; echo two; exit 1"]), |line| lines.push(line.to_owned()));
        assert_eq!(lines, ["one", "two"]);
        assert!(result.is_err());
    }

    #[test]
    fn output_is_collected_with_the_errors_in_it() {
        let (output, outcome) = collect(command("sh", ["-c", "echo one; echo two >&2; echo three; exit 1"])).unwrap();
        assert_eq!(output, "one\ntwo\nthree\n");
        assert!(outcome.is_err());
    }

    #[test]
    fn a_failure_names_the_command_and_its_words() {
        let error = read(&mut command("sh", ["-c", "echo broken >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("sh -c") && error.contains('3') && error.ends_with("broken"), "{error}");
    }

    #[test]
    fn a_missing_program_points_to_setup() {
        let error = format!("{:#}", run(&mut command("no-such-program", ["x"])).unwrap_err());
        assert!(error.contains("no-such-program x") && error.contains("cargo xtask setup"), "{error}");
    }
}
