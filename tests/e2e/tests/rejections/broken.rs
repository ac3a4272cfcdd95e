//! Connections that end while a request is under way: who ended it, how, and how far the response had come.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use lab::Lab;
use lab::client::{Client, Connection, Request};
use lab::clock::sleep;
use lab::gunicorn::Gunicorn;
use lab::process::Signal;
use lab::target::Options;
use lab::tracer::{Rejection, Trace};

use crate::scene::{Scene, assert_on_connections, ms, settle, start_tracer, ways};

/// Sends a second request that is not answered well, each way; the first one is.
fn second_fails(change: impl FnOnce(&mut Options), request: &Request) -> Result<(Scene, Trace, [SocketAddr; 2])> {
    let scene = Scene::new(change)?;
    let tracer = scene.trace(&[])?;
    let peers = scene.each_way(|connection| {
        connection.request(&Request::get("/"))?;
        let sent = connection.send(request);
        let reply = sent.and_then(|sent| connection.receive(request, sent));
        ensure!(reply.is_err(), "{reply:?}");
        Ok(())
    })?;
    let trace = settle(tracer)?;
    Ok((scene, trace, peers))
}

/// Asserts who ended it, and how.
#[track_caller]
fn assert_ended_by(told: &Rejection, pid: u32, comm: &str, how: &str) {
    let by = told.ended_by.as_ref().map(|by| (by.pid, by.comm.as_str(), by.how.as_deref()));
    assert_eq!(by, Some((pid, comm, Some(how))), "{told:#?}");
}

#[test]
fn the_application_closes_before_it_responds() -> Result<()> {
    // It reads the whole request.
    let request = Request::get("/").header("X-Read-Bytes-Then-Close", 100_000);
    let (scene, trace, peers) = second_fails(|_| {}, &request)?;
    for told in assert_on_connections(&trace, "closed_before_response", &peers, Some(2), &[]) {
        assert_eq!((told.evidence.as_str(), told.bytes_out), ("observed", Some(0)), "{told:#?}");
        assert_ended_by(told, scene.target.pid(), "lab-target", "closed");
    }
    Ok(())
}

#[test]
fn the_application_is_killed_before_it_responds() -> Result<()> {
    let mut scene = Scene::new(|_| {})?;
    let tracer = scene.trace(&[])?;
    let mut open = Vec::new();
    let request = Request::get("/").header("X-Before-Write", 10_000);
    for way in ways() {
        let mut connection = scene.client().connect(way)?;
        connection.send(&request)?;
        open.push(connection);
    }
    sleep(ms(200));
    let pid = scene.target.pid();
    scene.target.process.stop(Signal::KILL)?;
    for connection in &mut open {
        ensure!(connection.wait_closed()?, "a reset has come");
    }
    let peers: Vec<SocketAddr> = open.iter().map(|connection| connection.local).collect();
    let trace = settle(tracer)?;
    for told in assert_on_connections(&trace, "closed_before_response", &peers, Some(1), &[]) {
        assert_eq!(told.evidence, "observed", "{told:#?}");
        let by = told.ended_by.as_ref().context("nobody ended it")?;
        assert_eq!((by.pid, by.how.as_deref()), (pid, Some("killed by signal 9")), "{told:#?}");
    }
    Ok(())
}

/// gunicorn's master takes the worker for hung, and ends it.
#[test]
fn gunicorn_kills_its_worker() -> Result<()> {
    let lab = Lab::new()?;
    let [v4, _] = ways();
    let gunicorn = Gunicorn::start(&lab, "gunicorn", v4, ms(1000))?;
    let tracer = start_tracer(&lab, &[])?;
    let mut connection = Client::new(&lab.lb).connect(v4)?;
    connection.send(&Request::get("/slow"))?;
    connection.wait_closed()?;
    let trace = settle(tracer)?;
    ensure!(gunicorn.process.stderr()?.contains("WORKER TIMEOUT"), "{}", gunicorn.process.stderr()?);
    for told in assert_on_connections(&trace, "closed_before_response", &[connection.local], Some(1), &[]) {
        assert_eq!(told.evidence, "observed", "{told:#?}");
        let by = told.ended_by.as_ref().context("nobody ended it")?;
        assert!(by.comm == "gunicorn" && by.pid != gunicorn.process.pid(), "{told:#?}");
        assert!(told.waited_ns.is_none_or(|waited| waited > 900_000_000), "{told:#?}");
    }
    Ok(())
}

#[test]
fn the_application_resets_before_it_responds() -> Result<()> {
    let request = Request::get("/").header("X-Read-Bytes-Then-Close", 100_000).header("X-Linger0", 1);
    let (scene, trace, peers) = second_fails(|_| {}, &request)?;
    for told in assert_on_connections(&trace, "reset_before_response", &peers, Some(2), &[]) {
        assert_eq!((told.evidence.as_str(), told.bytes_out), ("observed", Some(0)), "{told:#?}");
        assert_ended_by(told, scene.target.pid(), "lab-target", "closed");
    }
    Ok(())
}

/// A close with unread data becomes a reset.
#[test]
fn the_application_closes_before_it_has_read_everything() -> Result<()> {
    let request = Request::put("/", 50_000).header("X-Read-Bytes-Then-Close", 1000);
    let (scene, trace, peers) = second_fails(|_| {}, &request)?;
    for told in assert_on_connections(&trace, "reset_before_response", &peers, Some(2), &[]) {
        assert!(told.unread.is_some_and(|unread| unread > 0), "{told:#?}");
        assert_ended_by(told, scene.target.pid(), "lab-target", "closed");
    }
    Ok(())
}

/// The reset overtakes what is still in the send buffer: the client's window is small, and closed.
#[test]
fn the_application_resets_in_the_middle_of_the_response() -> Result<()> {
    let scene = Scene::new(|_| {})?;
    let tracer = scene.trace(&[])?;
    let mut open: Vec<Connection> = Vec::new();
    for way in ways() {
        let mut connection = scene.client().receive_buffer(4096).connect(way)?;
        let request = Request::get("/").header("X-Response-Bytes", 20_000);
        connection.send(&request.header("X-Close", 1).header("X-Linger0", 1))?;
        open.push(connection);
    }
    // Those without a body that would have been waited for.
    scene.target.wait_for(4)?;
    let peers: Vec<SocketAddr> = open.iter().map(|connection| connection.local).collect();
    let trace = settle(tracer)?;
    drop(open);
    for told in assert_on_connections(&trace, "reset_mid_response", &peers, Some(1), &[]) {
        assert_eq!(told.evidence, "observed", "{told:#?}");
        assert!(told.bytes_out.is_some_and(|bytes| bytes > 20_000), "{told:#?}");
        assert_ended_by(told, scene.target.pid(), "lab-target", "closed");
    }
    Ok(())
}

/// The client leaves while the application computes: with a FIN, or with a reset.
fn client_leaves(leave: impl Fn(Connection) -> Result<()>) -> Result<()> {
    let scene = Scene::new(|_| {})?;
    let tracer = scene.trace(&[])?;
    let mut peers = Vec::new();
    for way in ways() {
        let mut connection = scene.client().connect(way)?;
        connection.request(&Request::get("/"))?;
        connection.send(&Request::get("/").header("X-Before-Write", 500))?;
        sleep(ms(150));
        peers.push(connection.local);
        leave(connection)?;
    }
    sleep(ms(600));
    let trace = settle(tracer)?;
    for told in assert_on_connections(&trace, "peer_gave_up", &peers, Some(2), &[]) {
        assert_eq!(told.evidence, "observed", "{told:#?}");
        let process = told.process.as_ref().map(|process| process.pid);
        assert_eq!(process, Some(scene.target.pid()), "{told:#?}");
        // The target answers nobody after 500 ms.
        let waited = told.waited_ns.map(|waited| waited / 1_000_000);
        assert!(waited.is_some_and(|waited| (140..480).contains(&waited)), "{told:#?}");
    }
    Ok(())
}

#[test]
fn the_client_closes() -> Result<()> {
    client_leaves(|connection| {
        connection.abandon();
        Ok(())
    })
}

#[test]
fn the_client_resets() -> Result<()> {
    client_leaves(Connection::reset)
}
