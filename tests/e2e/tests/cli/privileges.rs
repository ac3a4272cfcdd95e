//! Without root: what works works, what does not says what to do.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use tempfile::TempDir;

use crate::{Run, binary, objects, run};

/// A directory in which anybody can read and run a copy of the program: the program itself may lie where only root can go.
fn public_copy() -> Result<TempDir> {
    let directory = tempfile::tempdir()?;
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755))?;
    let copy = directory.path().join("tracer");
    fs::copy(binary()?, &copy)?;
    fs::set_permissions(&copy, Permissions::from_mode(0o755))?;
    Ok(directory)
}

/// Runs the copy in `directory` as the user `nobody`, with no capability.
fn as_nobody(directory: &Path, arguments: &[&str]) -> Result<Run> {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
    command.arg(directory.join("tracer")).args(arguments).current_dir("/");
    run(command)
}

#[test]
fn watch_needs_root_and_says_so() -> Result<()> {
    let directory = public_copy()?;
    for arguments in [&["watch"][..], &["watch", "--json", "-d", "1s"], &["watch", "--netns", "1"]] {
        as_nobody(directory.path(), arguments)?.assert_refused(1, &["needs root", "CAP_BPF", "sudo"]);
    }
    Ok(())
}

#[test]
fn a_recording_is_not_made_before_it_is_known_that_tracing_is_allowed() -> Result<()> {
    let directory = public_copy()?;
    fs::set_permissions(directory.path(), Permissions::from_mode(0o777))?;
    let file = directory.path().join("never.tracer");
    as_nobody(directory.path(), &["watch", "-w", &file.to_string_lossy()])?.assert_refused(1, &["needs root"]);
    assert!(!file.exists(), "nothing was traced, but there is a recording");
    Ok(())
}

#[test]
fn check_tells_what_it_can_and_what_root_would_add() -> Result<()> {
    let directory = public_copy()?;
    let told = as_nobody(directory.path(), &["check"])?;
    assert_eq!(told.code, Some(1), "{told:#?}");
    for text in ["kernel", "privileges  missing CAP_BPF", "types       readable", "hooks", "sudo"] {
        assert!(told.stdout.contains(text), "no {text:?} in {told:#?}");
    }
    let json = as_nobody(directory.path(), &["check", "--json"])?;
    assert_eq!(json.code, Some(1), "{json:#?}");
    let object = &objects(&json.stdout)[0];
    assert_eq!(object["kind"], "check");
    assert_eq!(object["missing_capabilities"][0], "CAP_BPF");
    assert!(object["can_be_traced"].is_null(), "not known, so not said: {object}");
    Ok(())
}

#[test]
fn recordings_are_reported_without_root() -> Result<()> {
    let directory = public_copy()?;
    let run = as_nobody(directory.path(), &["report", "/etc/passwd"])?;
    run.assert_refused(1, &["/etc/passwd", "not a recording"]);
    as_nobody(directory.path(), &["report", "/etc/shadow"])?.assert_refused(1, &["/etc/shadow", "Permission denied"]);
    as_nobody(directory.path(), &["--help"])?.assert_done();
    Ok(())
}
