//! A request that never ends is shown as waiting, with its age and its process, and is not counted.

use std::process::Command;

use anyhow::{Context, Result};
use lab::client::{Client, Request};
use lab::clock::{monotonic_ns, sleep};
use lab::process::Signal;
use lab::target::{Options, Target};
use lab::topology::target_addresses;
use lab::tracer::{Tracer, binary};

use crate::{Scene, ms};

#[test]
fn as_json() -> Result<()> {
    let scene = Scene::new(|_| {})?;
    let tracer = scene.trace()?;
    let mut connection = scene.connect()?;
    connection.request(&Request::get("/"))?;
    let sent = connection.send(&Request::put("/", 100).header("X-Before-Write", 600_000))?;
    sleep(ms(1500));
    let before = monotonic_ns();
    let trace = tracer.stop()?;
    let age = (before - sent.last_byte_ns)..(monotonic_ns() - sent.first_byte_ns);
    assert_eq!((trace.requests.len(), trace.summary.requests, trace.status.requests), (1, 1, Some(1)));
    assert_eq!(trace.status.counters["requests_begun"], 2);
    assert_eq!(trace.waiting.len(), 1);
    let waiting = &trace.waiting[0];
    assert_eq!((waiting.sequence, waiting.peer), (2, connection.local));
    assert_eq!((waiting.pid, waiting.comm.as_deref()), (Some(scene.target.pid()), Some("lab-target")));
    assert_eq!((waiting.stage.as_deref(), waiting.bytes_in, waiting.bytes_out), (Some("service"), sent.bytes, 0));
    let waited = waiting.total_ns.context("no age")?;
    assert!(age.contains(&waited), "{waited} is not in {age:?}");
    Ok(())
}

#[test]
fn as_text() -> Result<()> {
    let scene = Scene::new(|_| {})?;
    let mut command = Command::new(binary()?);
    command.args(["watch", "--netns", scene.lab.target.name()]);
    let mut tracer = Tracer::run("tracer", command, scene.lab.directory())?;
    let mut connection = scene.connect()?;
    connection.send(&Request::get("/").header("X-Before-Write", 600_000))?;
    sleep(ms(1200));
    tracer.process.signal(Signal::INT)?;
    assert!(tracer.process.wait(ms(10_000))?.success());
    let text = tracer.process.stdout()?;
    assert!(text.contains("No request ended on 1 connection."), "{text}");
    assert!(text.contains("1 request still waiting when tracing ended:"), "{text}");
    let line = text.lines().find(|line| line.starts_with("  since ")).context("it is not listed")?;
    let process = format!("lab-target[{}]", scene.target.pid());
    for part in [&connection.local.to_string(), "-> :8080", &process, "in service for 1."] {
        assert!(line.contains(part), "no {part} in {line}");
    }
    Ok(())
}

#[test]
fn a_request_that_the_application_never_reads() -> Result<()> {
    let scene = Scene::new(|options| options.before_read = ms(600_000))?;
    let tracer = scene.trace()?;
    let mut connection = scene.connect()?;
    connection.send(&Request::get("/"))?;
    sleep(ms(500));
    let trace = tracer.stop()?;
    assert!(trace.requests.is_empty(), "{:?}", trace.requests);
    assert_eq!(trace.waiting.len(), 1, "{:?}", trace.status);
    let waiting = &trace.waiting[0];
    assert_eq!((waiting.stage.as_deref(), waiting.pid), (Some("pickup"), None), "nobody has read it: {waiting:?}");
    Ok(())
}

#[test]
fn those_of_another_process_are_not_listed() -> Result<()> {
    let scene = Scene::new(|_| {})?;
    let other = Target::start(&scene.lab, "other", &Options::listen(&["[::]:8082".parse()?]))?;
    let tracer = Tracer::start(&scene.lab, "tracer", &["-p", &other.pid().to_string()])?;
    let never = Request::get("/").header("X-Before-Write", 600_000);
    let mut foreign = scene.connect()?;
    foreign.request(&Request::get("/"))?;
    foreign.send(&never)?;
    let mut wanted = Client::new(&scene.lab.lb).connect(target_addresses(8082)[0])?;
    wanted.send(&never)?;
    sleep(ms(500));
    let trace = tracer.stop()?;
    assert!(trace.requests.is_empty(), "{:?}", trace.requests);
    let waiting: Vec<_> = trace.waiting.iter().map(|it| (it.peer, it.pid)).collect();
    assert_eq!(waiting, [(wanted.local, Some(other.pid()))], "{:?}", trace.waiting);
    Ok(())
}
