//! Every situation that was once understood stays understood: the recordings of `tests/tests/situations` are reported
//! without a kernel or root, and what is decided of each is what was decided then. `cargo xtask situations` makes them anew.

use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
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

/// The objects that `tracer report --json` prints of a recording.
fn objects(recording: &Path) -> Vec<Value> {
    let mut report = Command::new(env!("CARGO_BIN_EXE_tracer"));
    let output = report.args(["report", "--json"]).arg(recording).output().expect("the program");
    assert!(output.status.success(), "{}: {}", recording.display(), String::from_utf8_lossy(&output.stderr));
    output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).expect("an object"))
        .collect()
}

/// What was decided: the same as `tests/tests/situations/scene.rs` keeps.
fn decided(objects: &[Value]) -> Value {
    let of = |kinds: &'static [&str]| objects.iter().filter(move |it| kinds.iter().any(|kind| it["kind"] == *kind));
    let turns =
        |kinds| of(kinds).map(|it| (it["connection"].to_string(), it["sequence"].as_u64())).collect::<BTreeSet<_>>();
    let one = |told: &Value| {
        json!({
            "cause": told["cause"],
            "evidence": told["evidence"],
            "count": told["count"],
            "sequence": told["sequence"],
            "closed_because": told["closed_because"],
            "closed_together": told["closed_together"],
            "same_idle": told["same_idle"],
            "how": told["ended_by"]["how"],
        })
    };
    json!({
        "rejections": of(&["rejection"]).map(one).collect::<Vec<_>>(),
        "requests": turns(&["request"]).len(),
        "unanswered": of(&["summary"]).next().expect("a summary")["unanswered"],
        "messages": turns(&["message", "stream"]).len(),
        "waiting": of(&["waiting"]).map(|it| it["stage"].clone()).collect::<Vec<_>>(),
    })
}

#[test]
fn what_was_decided_is_decided_again() {
    let recordings = recordings();
    assert!(recordings.len() >= 30, "only {} recordings", recordings.len());
    for recording in recordings {
        let expected = fs::read(recording.with_extension("json")).unwrap();
        let expected: Value = serde_json::from_slice(&expected).unwrap();
        assert_eq!(decided(&objects(&recording)), expected, "{}", recording.display());
    }
}

/// The rejections are made of the records: a report that leaves a port out has none of them.
#[test]
fn rejections_pass_the_filters_of_a_report() {
    let recording = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/situations/stop-race.tracer");
    for (port, count) in [("8080", 1), ("8081", 0)] {
        let output = Command::new(env!("CARGO_BIN_EXE_tracer"))
            .args(["report", "--json", "--port", port])
            .arg(&recording)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text.lines().filter(|line| line.starts_with(r#"{"kind":"rejection""#)).count(), count, "{text}");
    }
}
