//! On a terminal: lines fit its width, and colour only where it is wanted.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use lab::client::{Client, Request};
use lab::topology::target_addresses;

use crate::{Run, Served, binary, finish};

/// `tracer watch` on a terminal of `columns` for five requests, one of which is slow and one of which is cut.
fn watch_on_terminal(served: &Served, columns: u32, environment: &[(&str, &str)], arguments: &str) -> Result<Run> {
    let (tracer, netns) = (binary()?, served.lab.target.path());
    let watch = format!("'{}' watch --netns '{}' -n 5 {arguments}", tracer.display(), netns.display());
    let errors = served.lab.directory().join(crate::unique_name());
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command"]);
    command.arg(format!("stty cols {columns}; exec {watch} 2>'{}'", errors.display())).arg("/dev/null");
    command.env("TERM", "xterm").env_remove("NO_COLOR").env_remove("COLUMNS").env("SHELL", "/bin/sh");
    command.envs(environment.iter().copied());
    let mut process = lab::Process::start(&crate::unique_name(), command, served.lab.directory())?;
    let watching = |_: &lab::Process| std::fs::read_to_string(&errors).is_ok_and(|text| text.contains("watching"));
    process.wait_ready(crate::LIMIT, watching)?;
    served.send(8080, 2)?;
    let client = Client::new(&served.lab.lb);
    client.request(target_addresses(8080)[1], &Request::get("/").header("X-Before-Write", 30))?;
    client.connect(target_addresses(8081)[0])?.send(&Request::get("/").header("X-Read-Bytes-Then-Close", 5))?;
    client.request(target_addresses(8081)[0], &Request::put("/", 100_000))?;
    let mut run = finish(process)?;
    run.stderr = std::fs::read_to_string(&errors)?;
    Ok(run)
}

/// The text without the sequences that make it bold, red or plain.
fn without_escapes(text: &str) -> String {
    text.replace("\x1b[1m", "").replace("\x1b[1;31m", "").replace("\x1b[0m", "")
}

#[test]
fn no_line_is_wider_than_the_terminal() -> Result<()> {
    let served = Served::new()?;
    for columns in [60, 80, 100, 132, 200] {
        for arguments in ["", "--summary"] {
            let run = watch_on_terminal(&served, columns, &[], arguments)?;
            run.assert_done();
            let text = without_escapes(&run.stdout).replace('\r', "");
            assert!(!text.contains('\x1b'), "{run:#?}");
            let width = usize::try_from(columns)?;
            for line in text.lines() {
                assert!(line.chars().count() <= width, "{} of {columns}: {line}", line.chars().count());
            }
            assert_eq!(text.contains("TIME(UTC)"), arguments.is_empty(), "{run:#?}");
            assert!(text.contains("5 requests"), "{run:#?}");
        }
    }
    Ok(())
}

#[test]
fn colour_only_where_it_is_wanted() -> Result<()> {
    let served = Served::new()?;
    let coloured = watch_on_terminal(&served, 200, &[], "")?;
    assert!(coloured.stdout.contains("\x1b[1m"), "{coloured:#?}");
    for environment in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let plain = watch_on_terminal(&served, 200, &[environment], "")?;
        assert!(!plain.stdout.contains('\x1b'), "{environment:?}: {plain:#?}");
        assert!(plain.stdout.contains('*'), "what dominates is marked all the same: {plain:#?}");
    }
    Ok(())
}

#[test]
fn in_a_pipe_there_is_no_colour_and_columns_is_respected() -> Result<()> {
    let served = Served::new()?;
    for (columns, stages) in [(None, true), (Some("80"), false)] {
        let mut command = crate::command(["watch", "-n", "2", "--netns", served.lab.target.name()])?;
        command.env("TERM", "xterm").env_remove("NO_COLOR").env_remove("COLUMNS");
        command.envs(columns.map(|columns| ("COLUMNS", columns)));
        let watch = crate::start(&served.lab, command)?;
        served.connect(8080)?.requests(2, Duration::ZERO, &Request::get("/"))?;
        let run = finish(watch)?;
        assert!(!run.stdout.contains('\x1b'), "{run:#?}");
        let header = run.stdout.lines().next().context("no header")?;
        assert_eq!(header.contains("SERVICE"), stages, "{header}");
        assert_eq!(header.contains("MOSTLY"), !stages, "{header}");
    }
    Ok(())
}
