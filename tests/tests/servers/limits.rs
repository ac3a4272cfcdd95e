//! Servers at their limits, and senders that stall.

use anyhow::Result;
use lab::client::Request;
use lab::clock::sleep;
use lab::server::{Kind, Options};
use lab::tracer::Trace;

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

#[test]
fn the_sender_stalls_in_its_body() -> Result<()> {
    let scene = Scene::with(Kind::Nginx, &Options::listen(ADDRESS).directives("client_body_timeout 1s;"))?;
    let tracer = scene.trace(&[])?;
    let mut connection = scene.connect()?;
    connection.send_raw(b"POST / HTTP/1.1\r\nHost: target.internal\r\nContent-Length: 3000\r\n\r\nonly this")?;
    connection.wait_closed()?;
    drop(connection);
    sleep(ms(1300));
    let trace = settle(tracer)?;
    let causes: Vec<_> = trace.causes().into_iter().collect();
    assert_eq!(causes, [("closed_before_response", 1)], "{:#?}", trace.rejections);
    let told = &trace.rejections[0];
    assert!(told.explanation.contains("the sender had stalled in its body"), "{told:#?}");
    assert!(told.advice.contains("nginx client_body_timeout"), "{told:#?}");
    assert_eq!(told.setting, None, "its keep-alive time has nothing to do with it: {told:#?}");
    Ok(())
}
