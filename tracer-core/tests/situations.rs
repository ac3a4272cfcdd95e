//! Every situation that was once understood stays understood: the recordings of `tests/situations` are reported without a
//! kernel or root, and what is said of each is what was said then. `cargo xtask situations` makes them anew. After a sentence was
//! changed, `UPDATE_SITUATIONS=1 cargo test -p tracer-core --test situations` writes what is said now: read the difference.

#[path = "../../tests/lab/src/said.rs"]
mod said;

use serde_json::Value;
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};
use tracer_core::{
    model::selection::Selection,
    pipeline::{Events, Format, View},
    replay::{Show, replay},
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/situations")
}

fn recordings() -> Vec<PathBuf> {
    let files = fs::read_dir(folder()).expect("the recordings").map(|entry| entry.expect("a file").path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|it| it == "tracer")).collect();
    files.sort();
    files
}

/// What `tracer report --json` prints of a recording, with a `--port` for each of `ports`.
fn objects(recording: &Path, ports: &[u16]) -> String {
    let selection = Selection { ports: ports.to_vec(), ..Selection::default() };
    let show = Show { selection, view: View { events: Events::All, format: Format::Json }, min: 0, limits: None };
    let mut out = Vec::new();
    let reported = replay(File::open(recording).expect("the recording"), &show, &mut out);
    assert!(reported.is_ok(), "{}: {reported:?}", recording.display());
    String::from_utf8(out).expect("text")
}

#[test]
fn what_was_decided_is_decided_again() {
    let recordings = recordings();
    assert!(recordings.len() >= 30, "only {} recordings", recordings.len());
    for recording in recordings {
        let said = said::verdict(&objects(&recording, &[])).unwrap();
        let kept = recording.with_extension("json");
        if std::env::var_os("UPDATE_SITUATIONS").is_some() {
            fs::write(&kept, format!("{said:#}\n")).unwrap();
        }
        let expected: Value = serde_json::from_slice(&fs::read(&kept).unwrap()).unwrap();
        assert_eq!(said, expected, "{}: now {said:#}", recording.display());
    }
}

/// The rejections are made of the records: a report that leaves a port out has none of them.
#[test]
fn rejections_pass_the_filters_of_a_report() {
    for (port, count) in [(8080, 1), (8081, 0)] {
        let text = objects(&folder().join("stop-race.tracer"), &[port]);
        assert_eq!(text.lines().filter(|line| line.starts_with(r#"{"kind":"rejection""#)).count(), count, "{text}");
    }
}
