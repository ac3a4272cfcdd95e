//! The ways in which `tracer watch` ends: a count, a duration, a signal, a reader that goes away.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lab::clock::sleep;
use lab::process::Signal;

use crate::{Served, binary, finish, interrupt, is_watching, of_kind, tracer};

#[test]
fn a_count_ends_it() -> Result<()> {
    let served = Served::new()?;
    let watch = served.watch(&["--json", "-n", "3"])?;
    served.send(8080, 5)?;
    let run = finish(watch)?;
    run.assert_done();
    let sequences: Vec<_> = of_kind(&run.stdout, "request").iter().map(|it| it["sequence"].clone()).collect();
    assert_eq!(sequences, [1, 2, 3], "{run:#?}");
    Ok(())
}

#[test]
fn a_count_of_slow_requests_waits_for_slow_requests() -> Result<()> {
    let served = Served::new()?;
    let watch = served.watch(&["--json", "-n", "1", "--min", "100ms"])?;
    served.send(8080, 5)?;
    let slow = lab::client::Request::get("/").header("X-Before-Write", 150);
    served.connect(8080)?.request(&slow)?;
    let run = finish(watch)?;
    run.assert_done();
    let requests = of_kind(&run.stdout, "request");
    assert_eq!(requests.len(), 1, "{run:#?}");
    assert!(requests[0]["total_ns"].as_u64() >= Some(150_000_000), "{run:#?}");
    // The figures count all.
    assert_eq!(of_kind(&run.stdout, "summary")[0]["requests"], 6, "{run:#?}");
    Ok(())
}

#[test]
fn a_duration_ends_it_in_time() -> Result<()> {
    let served = Served::new()?;
    let watch = served.watch(&["-d", "1s"])?;
    let started = Instant::now();
    let run = finish(watch)?;
    run.assert_done();
    let took = started.elapsed();
    assert!(took > Duration::from_millis(700) && took < Duration::from_millis(2500), "{took:?}");
    assert!(run.stdout.contains("No request ended."), "{run:#?}");
    Ok(())
}

#[test]
fn ctrl_c_ends_it_with_the_summary() -> Result<()> {
    let served = Served::new()?;
    for signal in [Signal::INT, Signal::TERM] {
        let watch = served.watch(&[])?;
        let mut connection = served.connect(8080)?;
        connection.requests(4, Duration::ZERO, &lab::client::Request::get("/"))?;
        sleep(Duration::from_millis(100));
        watch.signal(signal)?;
        let run = finish(watch)?;
        run.assert_done();
        let lines: Vec<&str> = run.stdout.lines().collect();
        assert!(lines[0].starts_with("TIME(UTC)"), "{run:#?}");
        assert_eq!(
            lines.iter().filter(|line| line.contains("lab-target[")).count(),
            5,
            "four lines, one process: {run:#?}"
        );
        assert!(lines.iter().any(|line| line.starts_with("4 requests on 1 connection")), "{run:#?}");
        assert!(lines.iter().any(|line| line.starts_with("service ")), "{run:#?}");
    }
    Ok(())
}

#[test]
fn ctrl_c_under_traffic_ends_it_at_once() -> Result<()> {
    let served = Served::new()?;
    let watch = served.watch(&["--json"])?;
    let run = std::thread::scope(|scope| {
        let traffic = scope.spawn(|| served.send(8080, 3000));
        sleep(Duration::from_millis(200));
        let run = interrupt(watch);
        traffic.join().map_err(|_| anyhow::anyhow!("the client panicked"))??;
        run
    })?;
    run.assert_done();
    let shown = of_kind(&run.stdout, "request").len() as u64;
    let status = &of_kind(&run.stdout, "status")[0];
    assert!(shown > 0 && status["records_lost"] == 0, "{shown}, {status}");
    Ok(())
}

/// Runs `tracer watch ... | head -1` until it is over; returns tracer's exit code and stderr.
fn watch_into_head(served: &Served, arguments: &str) -> Result<(String, String)> {
    let netns = served.lab.target.path();
    let script = format!(
        "{{ '{}' watch --netns '{}' {arguments}; echo \"code $?\" >&2; }} | head -1",
        binary()?.display(),
        netns.display()
    );
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(script);
    let mut process = lab::Process::start(&crate::unique_name(), shell, served.lab.directory())?;
    process.wait_ready(crate::LIMIT, is_watching)?;
    let deadline = Instant::now() + crate::LIMIT;
    while process.try_wait()?.is_none() {
        anyhow::ensure!(Instant::now() < deadline, "it does not end: {}", process.stderr()?);
        served.send(8080, 50)?;
        sleep(Duration::from_millis(20));
    }
    Ok((process.stdout()?, process.stderr()?))
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() -> Result<()> {
    let served = Served::new()?;
    for arguments in ["", "--json", "--json -w /dev/null"] {
        let (stdout, stderr) = watch_into_head(&served, arguments)?;
        assert_eq!(stdout.lines().count(), 1, "{stdout}");
        let lines: Vec<&str> = stderr.lines().collect();
        assert!(
            matches!(lines[..], [watching, "code 0"] if watching.starts_with("tracer: watching")),
            "{arguments}: {stderr}"
        );
    }
    Ok(())
}

#[test]
fn closed_outputs_do_not_panic() -> Result<()> {
    let program = binary()?;
    let program = program.to_str().context("the program's path is not text")?;
    for line in ["watch -d 200ms >&-", "watch -d 200ms 2>&-", "check >&-", "check 2>&-", "report /etc/passwd 2>&-"] {
        let output = Command::new("sh").arg("-c").arg(format!("'{program}' {line}")).stdin(Stdio::null()).output()?;
        let stderr = String::from_utf8(output.stderr)?;
        assert!(!stderr.contains("panicked"), "{line}: {stderr}");
        assert!(output.status.code().is_some_and(|code| code <= 3), "{line}: {:?}", output.status);
    }
    for arguments in [&["check"][..], &["--help"], &["watch", "--help"]] {
        let script = format!("'{program}' {} | true", arguments.join(" "));
        let output = Command::new("bash").args(["-o", "pipefail", "-c", &script]).output()?;
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]), "{arguments:?}");
    }
    // Something that takes nothing is an error that is told.
    let output = Command::new("sh").arg("-c").arg(format!("'{program}' check >/dev/full")).output()?;
    let stderr = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.starts_with("tracer: ") && stderr.contains("No space left"), "{stderr}");
    tracer(&["check"])?.assert_done();
    Ok(())
}
