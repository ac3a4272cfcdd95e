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
