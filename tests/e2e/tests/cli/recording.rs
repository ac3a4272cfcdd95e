//! Recordings: what `watch -w` wrote, `report` shows; what is no recording, or not a whole one, is said.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use lab::client::Request;

use crate::{Run, Served, command, interrupt, of_kind, run};

fn report(file: &Path, arguments: &[&str]) -> Result<Run> {
    let mut command = command(["report"])?;
    command.arg(file).args(arguments);
    run(command)
}

/// Records ten requests on three connections, one of which waits at the end; returns the file and what was printed.
fn record(served: &Served, arguments: &[&str]) -> Result<(PathBuf, Run)> {
    let file = served.lab.directory().join(format!("{}.tracer", arguments.len()));
    let mut all = vec!["-w", file.to_str().context("not text")?];
    all.extend(arguments);
    let watch = served.watch(&all)?;
    served.send(8080, 8)?;
    served.connect(8081)?.request(&Request::put("/", 5000).header("X-Before-Write", 30))?;
    let mut waiting = served.connect(8080)?;
    waiting.send(&Request::get("/").header("X-Before-Write", 60_000))?;
    lab::clock::sleep(std::time::Duration::from_millis(200));
    let run = interrupt(watch)?;
    run.assert_done();
    Ok((file, run))
}

#[test]
fn report_prints_what_watch_printed_every_time() -> Result<()> {
    let served = Served::new()?;
    for arguments in [&[][..], &["--json"], &["--json", "--summary"]] {
        let (file, watched) = record(&served, arguments)?;
        let first = report(&file, arguments)?;
        first.assert_done();
        assert_eq!(first.stdout, watched.stdout, "{arguments:?}");
        assert_eq!(first.stderr, "", "{arguments:?}");
        assert!(first.stdout.len() > 500, "{first:#?}");
        assert_eq!(report(&file, arguments)?.stdout, first.stdout, "{arguments:?}");
    }
    Ok(())
}

#[test]
fn report_filters_like_watch() -> Result<()> {
    let served = Served::new()?;
    let (file, _) = record(&served, &[])?;
    for (arguments, requests) in [
        (&["--port", "8080"][..], 8),
        (&["--port", "8081"], 1),
        (&["--port", "9"], 0),
        (&["--peer", "10.77.0.1"], 9),
        (&["--peer", "10.78.0.0/24"], 0),
        (&["--min", "30ms"], 1),
    ] {
        let run = report(&file, &[arguments, &["--json"]].concat())?;
        run.assert_done();
        assert_eq!(of_kind(&run.stdout, "request").len(), requests, "{arguments:?}: {run:#?}");
    }
    Ok(())
}

#[test]
fn a_cut_recording_is_reported_as_far_as_it_is_whole() -> Result<()> {
    let served = Served::new()?;
    let (file, _) = record(&served, &[])?;
    let bytes = fs::read(&file)?;
    let cut = served.lab.directory().join("cut.tracer");
    let all = of_kind(&report(&file, &["--json"])?.stdout, "request");
    let mut found = 0;
    // Every 61st length meets every kind of block at many places.
    for length in [1, 19, 20, 21, 27, 28].into_iter().chain((50..bytes.len() - 1).step_by(61)).chain([bytes.len() - 1])
    {
        fs::write(&cut, &bytes[..length])?;
        let run = report(&cut, &["--json"])?;
        assert_eq!(run.code, Some(1), "{length}: {run:#?}");
        run.assert_told(&["cut.tracer", &format!("cut off at byte {length}: "), "last whole block ends at byte"]);
        if length < 20 {
            assert_eq!(run.stdout, "", "{length}");
            continue;
        }
        let requests = of_kind(&run.stdout, "request");
        assert_eq!(requests[..], all[..requests.len()], "{length}: the first ones, unchanged");
        assert!(of_kind(&run.stdout, "status")[0]["requests"].is_null(), "{length}: the totals were cut off");
        assert!(requests.len() >= found, "{length}: more of the file holds no fewer requests");
        found = requests.len();
    }
    assert_eq!(found, all.len(), "only the end is missing in the last one");
    let text = report(&cut, &[])?;
    assert!(text.stdout.contains("The kernel's totals are missing"), "{text:#?}");
    assert!(text.stdout.contains("9 requests"), "only the end is missing: {text:#?}");
    Ok(())
}

#[test]
fn what_is_no_recording_is_named() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let pcap = [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0];
    for (name, bytes, told) in [
        ("text", &b"10.0.0.1 - - [22/Nov/2026] GET / 200\n"[..], "a text file"),
        ("gzip", &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3], "a gzip file; decompress it first"),
        ("pcap", &pcap, "a packet capture"),
        ("empty", b"", "an empty file"),
        ("json", b"{\"kind\":\"request\"}\n", "output of tracer --json"),
        ("binary", &[0, 1, 2, 3, 0xff, 0xfe], "binary data"),
        ("newer", b"\x89tracer\n\x63\0\0\0\0\0\0\0\0\0\0\0", "newer tracer"),
    ] {
        let file = directory.path().join(name);
        fs::write(&file, bytes)?;
        report(&file, &[])?.assert_refused(1, &[name, told]);
        report(&file, &["--json"])?.assert_refused(1, &[name, told]);
    }
    report(directory.path(), &[])?.assert_refused(1, &["Is a directory"]);
    report(&directory.path().join("missing"), &[])?.assert_refused(1, &["missing", "No such file"]);
    report(Path::new("/dev/null"), &[])?.assert_refused(1, &["/dev/null", "an empty file"]);
    Ok(())
}

#[test]
fn a_damaged_recording_is_reported_up_to_the_damage() -> Result<()> {
    let served = Served::new()?;
    let (file, _) = record(&served, &[])?;
    let mut bytes = fs::read(&file)?;
    let damaged = served.lab.directory().join("damaged.tracer");
    bytes.push(b'x');
    fs::write(&damaged, &bytes)?;
    let run = report(&damaged, &["--json"])?;
    assert_eq!((run.code, of_kind(&run.stdout, "request").len()), (Some(1), 9), "{run:#?}");
    run.assert_told(&["damaged.tracer", "at byte"]);
    bytes[20] = 0xee;
    fs::write(&damaged, &bytes)?;
    let run = report(&damaged, &["--json"])?;
    assert_eq!(run.code, Some(1), "{run:#?}");
    run.assert_told(&["damaged.tracer", "damaged at byte 20"]);
    Ok(())
}

#[test]
fn a_place_that_cannot_be_written_is_told_before_tracing() -> Result<()> {
    for (path, told) in
        [("/no/such/directory/x", "No such file"), ("/", "Is a directory"), ("/dev/full", "No space left")]
    {
        crate::tracer(&["watch", "-d", "1s", "-w", path])?.assert_refused(1, &[path, told]);
    }
    Ok(())
}
