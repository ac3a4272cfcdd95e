//! Servers at their limits, and senders that stall.

use anyhow::{Context, Result, bail, ensure};
use lab::client::{Connection, Request};
use lab::clock::sleep;
use lab::server::{Kind, Options};
use lab::tracer::Trace;
use rustix::process::{Pid, Signal, kill_process};

use crate::scene::{ADDRESS, Scene, ms, settle};

/// As many idle connections as the server has files for, and one more with a request, which the server cannot accept.
fn open_files(kind: Kind, limit: u64) -> Result<Trace> {
    let scene = Scene::with(kind, &Options::listen(ADDRESS).open_files(limit))?;
    let tracer = scene.trace(&["--idle-timeout", "1s"])?;
    let client = scene.client();
    let held = client.connect_many(ADDRESS, usize::try_from(limit)?)?;
    sleep(ms(300));
    let mut last = scene.connect()?;
    last.send(&Request::get("/"))?;
    sleep(ms(1800));
    drop((last, held));
    let trace = settle(tracer)?;
    for told in &trace.rejections {
        println!("{} x{} {:?} {} / {}", told.cause, told.count, told.open_files, told.explanation, told.advice);
    }
    Ok(trace)
}

#[track_caller]
fn assert_files_named(trace: &Trace, limit: u64) {
    let told = trace.rejections_of("no_response");
    assert!(!told.is_empty(), "{:#?}", trace.rejections);
    for told in told {
        assert!(told.never_accepted, "{told:#?}");
        assert!(told.open_files.is_some_and(|(open, most)| most == limit && open + 2 >= limit), "{told:#?}");
        assert!(told.advice.contains("limit of open files"), "{told:#?}");
    }
}

#[test]
fn go_at_its_limit_of_open_files() -> Result<()> {
    assert_files_named(&open_files(Kind::Go, 20)?, 20);
    Ok(())
}

#[test]
fn the_jdk_at_its_limit_of_open_files() -> Result<()> {
    assert_files_named(&open_files(Kind::Jdk, 60)?, 60);
    Ok(())
}

/// Requests on connections that the server accepts and closes at once, because it has no room for them: one that waits in
/// the socket when the server accepts, and one that comes 20 ms later.
fn closed_unread(scene: &Scene, held: &[Connection]) -> Result<Trace> {
    let tracer = scene.trace(&[])?;
    let mut lost = Vec::new();
    for _ in 0..3 {
        // A request that is there before the server wakes up.
        let workers = scene.server.workers();
        signal(&workers, Signal::STOP)?;
        let mut early = scene.connect()?;
        early.send(&Request::get("/"))?;
        signal(&workers, Signal::CONT)?;
        ensure!(!early.wait_closed()?, "closed with a FIN although the request was unread");
        let mut late = scene.connect()?;
        sleep(ms(20));
        late.send(&Request::get("/"))?;
        late.wait_closed()?;
        lost.extend([early.local, late.local]);
    }
    sleep(ms(1300));
    let trace = settle(tracer)?;
    for told in &trace.rejections {
        println!("{} x{} {:?} {} / {}", told.cause, told.count, told.open_files, told.explanation, told.advice);
    }
    let causes: Vec<_> = trace.causes().into_iter().collect();
    assert_eq!(causes, [("reset_before_response", 6)], "{:#?}", trace.rejections);
    for told in &trace.rejections {
        assert!(told.peer.is_none_or(|peer| lost.contains(&peer)), "{told:#?}");
        assert!(told.closed_unread && !told.never_accepted && told.closed_because.is_none(), "{told:#?}");
        assert_eq!(told.ended_by.as_ref().map(|by| by.pid), scene.server.workers().first().copied(), "{told:#?}");
        assert!(!told.advice.to_lowercase().contains("keep-alive"), "{told:#?}");
    }
    assert!(held.iter().all(|connection| !connection.is_closed()), "a connection that was there before was closed");
    Ok(trace)
}

fn signal(processes: &[u32], signal: Signal) -> Result<()> {
    for &process in processes {
        let pid = Pid::from_raw(i32::try_from(process)?).context("no pid")?;
        kill_process(pid, signal).context("cannot send a signal")?;
    }
    Ok(())
}

/// Connections with half a request each, which no server closes to make room, until the server accepts no more.
fn fill(scene: &Scene) -> Result<Vec<Connection>> {
    let mut held = Vec::new();
    for _ in 0..200 {
        let mut connection = scene.connect()?;
        connection.send_raw(b"GET / HTTP/1.1\r\n")?;
        sleep(ms(20));
        if connection.is_closed() {
            return Ok(held);
        }
        held.push(connection);
    }
    bail!("the server has no limit")
}

#[test]
fn nginx_at_its_limit_of_connections() -> Result<()> {
    let scene = Scene::with(Kind::Nginx, &Options::listen(ADDRESS).connections(16))?;
    let held = fill(&scene)?;
    let trace = closed_unread(&scene, &held)?;
    for told in &trace.rejections {
        assert!(told.advice.contains("worker_connections"), "{told:#?}");
    }
    Ok(())
}

#[test]
fn node_at_its_limit_of_open_files() -> Result<()> {
    let scene = Scene::with(Kind::Node, &Options::listen(ADDRESS).open_files(40))?;
    let held = fill(&scene)?;
    let trace = closed_unread(&scene, &held)?;
    for told in &trace.rejections {
        assert!(told.open_files.is_some_and(|(open, most)| most == 40 && open + 2 >= most), "{told:#?}");
        assert!(told.advice.contains("limit of open files"), "{told:#?}");
    }
    Ok(())
}

/// A sender that stalls in its body until the server ends the connection.
fn stalled(kind: Kind, directives: &str) -> Result<Trace> {
    let scene = Scene::with(kind, &Options::listen(ADDRESS).directives(directives))?;
    let tracer = scene.trace(&[])?;
    let mut connection = scene.connect()?;
    connection.send_raw(b"POST / HTTP/1.1\r\nHost: target.internal\r\nContent-Length: 3000\r\n\r\nonly this")?;
    // The server gives up after a second, and a verdict waits for another one.
    sleep(ms(2600));
    drop(connection);
    let trace = settle(tracer)?;
    let requests: Vec<_> = trace.requests.iter().map(|it| it.may_be_incomplete).collect();
    assert_eq!(requests, [true], "{:#?}", trace.requests);
    Ok(trace)
}

#[test]
fn the_sender_stalls_in_its_body_and_nginx_closes() -> Result<()> {
    let trace = stalled(Kind::Nginx, "client_body_timeout 1s;")?;
    let causes: Vec<_> = trace.causes().into_iter().collect();
    assert_eq!(causes, [("closed_before_response", 1)], "{:#?}", trace.rejections);
    let told = &trace.rejections[0];
    assert!(told.explanation.contains("the sender had stalled in its body"), "{told:#?}");
    assert!(told.advice.contains("nginx client_body_timeout"), "{told:#?}");
    assert_eq!(told.setting, None, "its keep-alive time has nothing to do with it: {told:#?}");
    let verdict = trace.summary.more["verdict"].to_string();
    assert!(verdict.contains("look at why the request stalled in its body"), "{verdict}");
    Ok(())
}

/// It answers 408 and closes: nothing is lost, and the wait may have been the sender's.
#[test]
fn the_sender_stalls_in_its_body_and_haproxy_answers() -> Result<()> {
    let trace = stalled(Kind::Haproxy, "timeout http-request 1s")?;
    assert!(trace.rejections.is_empty(), "{:#?}", trace.rejections);
    let verdict = trace.summary.more["verdict"].to_string();
    assert!(verdict.contains("the sender, who may not have sent all of them"), "{verdict}");
    Ok(())
}
