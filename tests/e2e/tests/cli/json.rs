//! What `--json` prints.

use anyhow::{Context, Result};
use lab::client::Request;

use crate::{Served, interrupt, objects, tracer};

#[test]
fn every_line_is_an_object_and_the_last_is_the_status() -> Result<()> {
    let served = Served::new()?;
    for arguments in [&["--json"][..], &["--json", "--summary"], &["--json", "--min", "1h"]] {
        let watch = served.watch(arguments)?;
        served.send(8080, 5)?;
        // One request is not answered when tracing ends.
        let mut waiting = served.connect(8081)?;
        waiting.send(&Request::get("/").header("X-Before-Write", 60_000))?;
        lab::clock::sleep(std::time::Duration::from_millis(300));
        let run = interrupt(watch)?;
        run.assert_done();
        let kinds: Vec<String> = run.stdout.lines().map(kind_of).collect::<Result<_>>()?;
        assert_eq!(kinds.last().map(String::as_str), Some("status"), "{kinds:?}");
        assert_eq!(kinds.iter().filter(|kind| *kind == "status").count(), 1, "{kinds:?}");
        assert_eq!(kinds.iter().filter(|kind| *kind == "waiting").count(), 1, "{kinds:?}");
        let shown = if arguments.len() == 1 { 5 } else { 0 };
        assert_eq!(kinds.iter().filter(|kind| *kind == "request").count(), shown, "{kinds:?}");
        let status = objects(&run.stdout).pop().context("no status")?;
        assert_eq!((&status["requests"], &status["records_lost"]), (&5.into(), &0.into()), "{status}");
        assert!(status["hooks"].as_array().is_some_and(|hooks| hooks.len() >= 10), "{status}");
        run.stderr.lines().for_each(|line| assert!(line.starts_with("tracer: "), "{line}"));
    }
    Ok(())
}

#[test]
fn a_hook_that_is_not_wanted_is_off_and_says_so() -> Result<()> {
    let served = Served::new()?;
    let watch = served.watch(&["--json", "--without", "accept", "--without", "sweep"])?;
    served.send(8080, 3)?;
    let run = interrupt(watch)?;
    run.assert_done();
    let status = objects(&run.stdout).pop().context("no status")?;
    for hook in status["hooks"].as_array().context("no hooks")? {
        let is_off = ["accept", "sweep"].contains(&hook["hook"].as_str().context("no name")?);
        assert_eq!(hook["unwanted"].as_bool(), is_off.then_some(true), "{hook}");
        assert_eq!(
            hook["attached"].is_null() && hook["refused"].is_null() && hook["lost"].is_string(),
            is_off,
            "{hook}"
        );
    }
    let requests = crate::of_kind(&run.stdout, "request");
    assert_eq!(requests.len(), 3, "{run:#?}");
    // The time of accept() was not taken: it is part of the stage behind it.
    let connections = crate::of_kind(&run.stdout, "connection");
    for object in requests.iter().chain(&connections) {
        assert!(!object.to_string().contains("\"accept"), "{object}");
    }
    let said = run.stderr.lines().filter(|line| line.contains("as was asked for")).count();
    assert_eq!(said, 2, "{run:#?}");
    let watch = served.watch(&["--summary", "--without", "accept"])?;
    served.send(8080, 3)?;
    let run = interrupt(watch)?;
    assert!(run.stdout.contains("\nHook accept is off, as was asked for: connection stage accept; "), "{run:#?}");
    Ok(())
}

/// The value of `kind`, which must be the first member.
fn kind_of(line: &str) -> Result<String> {
    let object: serde_json::Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
    let kind = object["kind"].as_str().with_context(|| format!("no kind: {line}"))?;
    assert!(line.starts_with(&format!("{{\"kind\":\"{kind}\"")), "kind is not first: {line}");
    Ok(kind.to_owned())
}

#[test]
fn the_stages_of_every_request_add_up() -> Result<()> {
    let served = Served::new()?;
    let watch = served.watch(&["--json"])?;
    served.send(8080, 20)?;
    let mut connection = served.connect(8081)?;
    connection.request(&Request::put("/", 100_000).header("X-Response-Bytes", 100_000))?;
    drop(connection);
    let run = interrupt(watch)?;
    let requests = crate::of_kind(&run.stdout, "request");
    assert_eq!(requests.len(), 21, "{run:#?}");
    for request in requests {
        let stages = request["stages_ns"].as_object().context("no stages")?;
        let parts = stages.values().chain([&request["accept_ns"]]);
        let sum: u64 = parts.filter_map(serde_json::Value::as_u64).sum();
        assert_eq!(request["total_ns"], sum, "{request}");
        for member in
            ["time", "connection", "sequence", "peer", "local", "pid", "comm", "bytes_in", "bytes_out", "merged"]
        {
            assert!(!request[member].is_null(), "no {member}: {request}");
        }
    }
    Ok(())
}

#[test]
fn check_prints_one_object() -> Result<()> {
    let run = tracer(&["check", "--json"])?;
    run.assert_done();
    let found = objects(&run.stdout);
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0]["kind"], &found[0]["can_be_traced"]), (&"check".into(), &true.into()));
    Ok(())
}
