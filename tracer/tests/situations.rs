//! Every situation that was once understood stays understood: the recordings of `tests/e2e/tests/situations` are reported
//! without a kernel or root, and what is said of each is what was said then. `cargo xtask situations` makes them anew.

#[path = "../../tests/lab/src/said.rs"]
mod said;

use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The recordings.
fn recordings() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/situations");
    let files = fs::read_dir(folder).expect("the recordings").map(|entry| entry.expect("a file").path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|it| it == "tracer")).collect();
    files.sort();
    files
}

/// What `tracer report --json` prints of a recording.
fn report(recording: &Path, arguments: &[&str]) -> String {
    let mut report = Command::new(env!("CARGO_BIN_EXE_tracer"));
    let output = report.args(["report", "--json"]).args(arguments).arg(recording).output().expect("the program");
    assert!(output.status.success(), "{}: {}", recording.display(), String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn what_was_decided_is_decided_again() {
    let recordings = recordings();
    assert!(recordings.len() >= 30, "only {} recordings", recordings.len());
    for recording in recordings {
        let expected = fs::read(recording.with_extension("json")).unwrap();
        let expected: Value = serde_json::from_slice(&expected).unwrap();
        let said = said::verdict(&report(&recording, &[])).unwrap();
        assert_eq!(said, expected, "{}: now {said:#}", recording.display());
    }
}

/// The rejections are made of the records: a report that leaves a port out has none of them.
#[test]
fn rejections_pass_the_filters_of_a_report() {
    let recording = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/situations/stop-race.tracer");
    for (port, count) in [("8080", 1), ("8081", 0)] {
        let text = report(&recording, &["--port", port]);
        assert_eq!(text.lines().filter(|line| line.starts_with(r#"{"kind":"rejection""#)).count(), count, "{text}");
    }
}
