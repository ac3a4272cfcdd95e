//! Connections that break off while a request is under way: who ended it is right, and the request is not complete.

use std::process::Command;

use anyhow::{Context, Result};
use lab::Process;
use lab::client::Request;
use lab::clock::sleep;
use lab::process::Signal;
use lab::tracer::{Request as Shown, Trace};

use crate::{Scene, assert_nothing_lost, ms, only_request, settle};

/// Asserts that the only connection was closed by `who`, and returns its only request, which must not be complete.
#[track_caller]
fn broken_off<'a>(trace: &'a Trace, who: &str) -> Result<&'a Shown> {
    assert_nothing_lost(trace);
    assert_eq!(trace.connections.len(), 1, "{:?}", trace.connections);
    let connection = &trace.connections[0];
    assert_eq!((connection.closed_by.as_deref(), connection.requests), (Some(who), 1), "{connection:?}");
    let request = only_request(trace)?;
    assert_eq!(request.completed, Some(false), "{request:?}");
    assert_eq!(trace.summary.unanswered + trace.summary.cut, 1, "{:?}", trace.summary);
    assert!(trace.waiting.is_empty());
    Ok(request)
}

#[test]
fn the_client_is_killed() -> Result<()> {
    let scene = Scene::new(|_| {})?;
    let tracer = scene.trace()?;
    // A process of its own, because it is killed.
    let script =
        r"exec 3<>/dev/tcp/10.77.0.2/8080; printf 'GET / HTTP/1.1\r\nX-Before-Write: 700\r\n\r\n' >&3; exec sleep 60";
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", scene.lab.lb.path().display())).args(["bash", "-c", script]);
    let mut client = Process::start("client", command, scene.lab.directory())?;
    sleep(ms(300));
    client.stop(Signal::KILL)?;
    scene.target.wait_for(1)?;
    let trace = settle(tracer)?;
    let request = broken_off(&trace, "peer")?;
    // The answer went to nobody.
    assert!(request.bytes_out > 0 && trace.summary.cut == 1, "{request:?}");
    let service = request.stages_ns.service.context("no service")?;
    assert!((700_000_000..800_000_000).contains(&service), "{service}");
    Ok(())
}

#[test]
fn the_client_abandons_a_request() -> Result<()> {
    let scene = Scene::new(|_| {})?;
    let tracer = scene.trace()?;
    let mut connection = scene.connect()?;
    connection.send(&Request::get("/").header("X-Before-Write", 300))?;
    sleep(ms(100));
    connection.abandon();
    scene.target.wait_for(1)?;
    let trace = settle(tracer)?;
    broken_off(&trace, "peer")?;
    Ok(())
}

#[test]
fn the_client_resets_before_the_response() -> Result<()> {
    let scene = Scene::new(|_| {})?;
    let tracer = scene.trace()?;
    let mut connection = scene.connect()?;
    connection.send(&Request::get("/").header("X-Before-Write", 300))?;
    sleep(ms(100));
    connection.reset()?;
    scene.target.wait_for(1)?;
    let trace = settle(tracer)?;
    let request = broken_off(&trace, "reset_by_peer")?;
    assert_eq!((request.bytes_out, trace.summary.unanswered), (0, 1), "{request:?}");
    Ok(())
}

#[test]
fn the_client_goes_away_in_the_middle_of_the_response() -> Result<()> {
    let scene = Scene::new(|_| {})?;
    let tracer = scene.trace()?;
    let mut connection = scene.connect()?;
    connection.send(&Request::get("/").header("X-Response-Bytes", 50 << 20))?;
    sleep(ms(200));
    // What it has not read makes this a reset.
    drop(connection);
    scene.target.wait_for(1)?;
    let trace = settle(tracer)?;
    let request = broken_off(&trace, "reset_by_peer")?;
    assert!((1..50 << 20).contains(&request.bytes_out), "{request:?}");
    Ok(())
}

#[test]
fn the_server_is_killed_while_it_works() -> Result<()> {
    let mut scene = Scene::new(|_| {})?;
    let tracer = scene.trace()?;
    let pid = scene.target.pid();
    let mut connection = scene.connect()?;
    connection.send(&Request::get("/").header("X-Before-Write", 60_000))?;
    sleep(ms(300));
    scene.target.process.stop(Signal::KILL)?;
    assert!(connection.wait_closed()?, "a FIN: it had read all");
    drop(connection);
    let trace = settle(tracer)?;
    let request = broken_off(&trace, "application")?;
    assert_eq!((request.bytes_out, request.pid, trace.summary.unanswered), (0, Some(pid), 1), "{request:?}");
    let service = request.stages_ns.service.context("no service")?;
    assert!((200_000_000..500_000_000).contains(&service), "{service}: until it was killed");
    Ok(())
}

#[test]
fn the_server_is_killed_before_it_has_read() -> Result<()> {
    let mut scene = Scene::new(|options| options.before_read = ms(60_000))?;
    let tracer = scene.trace()?;
    let mut connection = scene.connect()?;
    connection.send(&Request::get("/"))?;
    sleep(ms(300));
    scene.target.process.stop(Signal::KILL)?;
    assert!(!connection.wait_closed()?, "a reset: it had not read all");
    drop(connection);
    let trace = settle(tracer)?;
    let request = broken_off(&trace, "reset_by_host")?;
    assert_eq!((request.bytes_out, request.pid), (0, None), "nobody has read it: {request:?}");
    Ok(())
}

#[test]
fn the_server_closes_without_an_answer() -> Result<()> {
    for (linger0, who) in [(false, "application"), (true, "reset_by_host")] {
        let scene = Scene::new(|options| {
            options.behaviour.read_bytes_then_close = Some(100);
            options.behaviour.linger0 = linger0;
        })?;
        let tracer = scene.trace()?;
        let mut connection = scene.connect()?;
        connection.send_raw(&[b'x'; 100])?;
        assert_eq!(connection.wait_closed()?, !linger0);
        drop(connection);
        let trace = settle(tracer)?;
        assert_eq!(broken_off(&trace, who)?.bytes_in, 100);
    }
    Ok(())
}
