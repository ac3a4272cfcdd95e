//! Running the programs that print the ruleset: bounded in time, and gone when this program is.

use std::{
    env,
    io::BufReader,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{ChildStdout, Command, Stdio},
};

use rustix::process::{Signal, set_parent_process_death_signal};

/// Where such programs are, also where `PATH` does not have it.
const FOLDERS: [&str; 5] = ["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin", "/bin"];
/// For how many seconds one may run.
const TIME: u32 = 2;

/// What `read` makes of what `program` prints when it is run in the calling thread's network namespace. `None` if there is
/// no such program, it fails, or it takes too long.
pub fn run<T>(program: &str, arguments: &[&str], read: impl FnOnce(BufReader<ChildStdout>) -> Option<T>) -> Option<T> {
    let mut command = Command::new(find(program)?);
    command.args(arguments).env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    // SAFETY: both calls are allowed between fork and exec.
    unsafe {
        command.pre_exec(|| {
            // Both outlast the exec.
            libc::alarm(TIME);
            Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
        });
    }
    let mut child = command.spawn().ok()?;
    let result = child.stdout.take().and_then(|output| read(BufReader::new(output)));
    // If it was not read to the end.
    if result.is_none() {
        let _ = child.kill();
    }
    let ended = child.wait().ok()?;
    result.filter(|_| ended.success())
}

fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = FOLDERS.map(PathBuf::from).into_iter().chain(env::split_paths(&path));
    folders.filter(|folder| folder.is_absolute()).map(|folder| folder.join(program)).find(|path| Path::is_file(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{BufRead, Read},
        time::{Duration, Instant},
    };

    fn all(mut output: BufReader<ChildStdout>) -> Option<String> {
        let mut text = String::new();
        output.read_to_string(&mut text).ok()?;
        Some(text)
    }

    #[test]
    fn what_a_program_prints_is_read() {
        assert_eq!(run("echo", &["a", "b c"], all).as_deref(), Some("a b c\n"));
        assert_eq!(run("no-such-program", &[], all), None);
        assert_eq!(run("false", &[], all), None);
    }

    #[test]
    fn a_program_may_neither_hang_nor_print_without_end() {
        let began = Instant::now();
        assert_eq!(run("sleep", &["600"], all), None);
        let line = |mut output: BufReader<ChildStdout>| output.read_line(&mut String::new()).ok().and(None::<()>);
        assert_eq!(run("yes", &[], line), None);
        assert!(began.elapsed() < Duration::from_secs(20));
    }
}
