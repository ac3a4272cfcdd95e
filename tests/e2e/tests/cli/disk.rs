//! A full disk. If a recording is written to it, that is told at once, tracing goes on, and what was written is readable. If
//! the output goes there, the recording is completed.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use lab::client::Request;

use crate::{Served, binary, finish, of_kind, start, tracer};

#[test]
fn a_full_disk_ends_the_recording_and_nothing_else() -> Result<()> {
    let served = Served::new()?;
    // The file system is only in the mount namespace of this shell; the recording is copied out of it.
    let (disk, copy) = (served.lab.directory().join("disk"), served.lab.directory().join("copy.tracer"));
    std::fs::create_dir(&disk)?;
    let script = "mount -t tmpfs -o size=64k none \"$1\"; code=0; \
                  \"$2\" watch --json --netns \"$3\" -n 1200 -w \"$1/full.tracer\" || code=$?; \
                  cp \"$1/full.tracer\" \"$4\"; exit $code";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-ec", script, "sh"]);
    command.arg(&disk).arg(binary()?).arg(served.lab.target.path()).arg(&copy);
    let watch = start(&served.lab, command)?;
    served.connect(8080)?.requests(1200, Duration::ZERO, &Request::get("/"))?;
    let run = finish(watch)?;
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    run.assert_calm();
    let told: Vec<&str> = run.stderr.lines().filter(|line| !line.contains("tracer: watching")).collect();
    let expected = |line: &str| {
        line.starts_with("tracer: ")
            && ["full.tracer", "No space left on device", "tracing goes on"].iter().all(|text| line.contains(text))
    };
    assert!(matches!(told[..], [line] if expected(line)), "told once: {told:#?}");
    assert_eq!(of_kind(&run.stdout, "request").len(), 1200, "every request is shown");
    let report = tracer(&["report", "--json", &copy.to_string_lossy()])?;
    assert_eq!(report.code, Some(1), "{}", report.stderr);
    report.assert_told(&["cut off at byte"]);
    let requests = of_kind(&report.stdout, "request").len();
    assert!((100..600).contains(&requests), "{requests} requests in 64 KiB");
    Ok(())
}

#[test]
fn an_output_that_cannot_be_written_ends_tracing_with_a_whole_recording() -> Result<()> {
    let served = Served::new()?;
    let recording = served.lab.directory().join("whole.tracer");
    // The lab gives every process an output of its own: the shell gives it another one.
    let script = "exec \"$1\" watch --json --netns \"$2\" -w \"$3\" > /dev/full";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(binary()?).arg(served.lab.target.path()).arg(&recording);
    let watch = start(&served.lab, command)?;
    served.send(8080, 3)?;
    // Nothing listens: counted, and reported in part only.
    for _ in 0..5 {
        let _ = served.connect(8099);
    }
    let run = finish(watch)?;
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(run.stderr.contains("No space left on device"), "{}", run.stderr);
    run.assert_calm();
    let report = tracer(&["report", "--json", &recording.to_string_lossy()])?;
    report.assert_done();
    let status = &of_kind(&report.stdout, "status")[0];
    assert!(status["requests"].as_u64().is_some_and(|requests| requests <= 3), "with the kernel's totals: {status}");
    Ok(())
}
