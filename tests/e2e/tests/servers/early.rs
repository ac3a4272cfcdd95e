//! Responses that come before the request was whole, and none at all, from servers that do so by themselves.

use anyhow::Result;
use lab::clock::sleep;
use lab::server::{Kind, Options};
use lab::tracer::Trace;

use crate::scene::{ADDRESS, Scene, ms, settle};

/// The body of an upload, in bytes.
const BODY: usize = 300_000;

/// Sends `head`, and an upload until the server refuses more of it.
fn upload(scene: &Scene, head: &str) -> Result<Trace> {
    let tracer = scene.trace(&[])?;
    let mut connection = scene.connect()?;
    connection.send_raw(format!("{head}Host: target.internal\r\nContent-Length: {BODY}\r\n\r\n").as_bytes())?;
    for _ in 0..BODY / 10_000 {
        // A server that closed may have reset the connection by now.
        if connection.send_raw(&[b'x'; 10_000]).is_err() {
            break;
        }
        sleep(ms(2));
    }
    sleep(ms(300));
    drop(connection);
    sleep(ms(1300));
    settle(tracer)
}

#[track_caller]
fn causes(trace: &Trace) -> Vec<(&str, u64)> {
    assert_eq!((trace.requests.len(), trace.status.records_lost), (1, Some(0)), "{:#?}", trace.requests);
    trace.causes().into_iter().collect()
}

/// It answers 413 and reads on until the client has closed: nothing is lost.
#[test]
fn nginx_refuses_a_large_body_and_lingers() -> Result<()> {
    let scene = Scene::with(Kind::Nginx, &Options::listen(ADDRESS).directives("client_max_body_size 1k;"))?;
    let trace = upload(&scene, "POST / HTTP/1.1\r\n")?;
    assert_eq!(causes(&trace), [], "{:#?}", trace.rejections);
    Ok(())
}

/// It answers 401 and destroys the socket: the rest of the upload meets a reset.
#[test]
fn node_answers_early_and_destroys_the_socket() -> Result<()> {
    let scene = Scene::new(Kind::Node)?;
    let trace = upload(&scene, "POST /early HTTP/1.1\r\n")?;
    assert_eq!(causes(&trace), [("reset_during_upload", 1)], "{:#?}", trace.rejections);
    let told = &trace.rejections[0];
    assert_eq!(told.alb, ["502"], "{told:#?}");
    assert!(told.advice.contains("read the rest of the body"), "{told:#?}");
    Ok(())
}

/// It reads on for a while by itself.
#[test]
fn apache_refuses_a_large_body() -> Result<()> {
    let scene = Scene::with(Kind::Apache, &Options::listen(ADDRESS).directives("LimitRequestBody 1000"))?;
    let trace = upload(&scene, "POST / HTTP/1.1\r\n")?;
    assert_eq!(causes(&trace), [], "{:#?}", trace.rejections);
    Ok(())
}

/// It answers 401 and reads at most 256 KiB of what is left.
#[test]
fn go_answers_early() -> Result<()> {
    let scene = Scene::new(Kind::Go)?;
    let trace = upload(&scene, "POST /early HTTP/1.1\r\n")?;
    assert_eq!(causes(&trace), [("reset_during_upload", 1)], "{:#?}", trace.rejections);
    let told = &trace.rejections[0];
    assert_eq!((told.server.as_deref(), told.never_read, told.closed_unread), (Some("go"), false, false), "{told:#?}");
    Ok(())
}

/// It reads the rest before the next request, and a sync worker closes at once.
#[test]
fn gunicorn_answers_early() -> Result<()> {
    for (kind, expected) in [(Kind::GunicornThreads, &[][..]), (Kind::GunicornSync, &[("reset_during_upload", 1)])] {
        let scene = Scene::new(kind)?;
        let trace = upload(&scene, "POST /early HTTP/1.1\r\n")?;
        assert_eq!(causes(&trace), expected, "{kind:?} {:#?}", trace.rejections);
    }
    Ok(())
}

/// It answers with part of the body unread. What the client sends behind the response is no request, although the server first
/// reads what had come before.
#[test]
fn gunicorn_answers_early_and_reads_on_later() -> Result<()> {
    let scene = Scene::new(Kind::GunicornThreads)?;
    let tracer = scene.trace(&[])?;
    let mut connection = scene.connect()?;
    let head = "POST /early?pause HTTP/1.1\r\nHost: target.internal\r\nContent-Length: 100000\r\n\r\n";
    connection.send_raw(&[head.as_bytes(), &[b'x'; 50_000]].concat())?;
    sleep(ms(100));
    connection.send_raw(&[b'x'; 50_000])?;
    sleep(ms(400));
    drop(connection);
    sleep(ms(1300));
    let trace = settle(tracer)?;
    assert_eq!(causes(&trace), [], "{:#?}", trace.rejections);
    assert_eq!(trace.requests[0].bytes_in, head.len() as u64 + 100_000, "{:#?}", trace.requests);
    Ok(())
}

#[test]
fn node_destroys_the_socket_without_a_response() -> Result<()> {
    let scene = Scene::new(Kind::Node)?;
    let tracer = scene.trace(&[])?;
    let mut connection = scene.connect()?;
    connection.send_raw(b"GET /destroy HTTP/1.1\r\nHost: target.internal\r\n\r\n")?;
    connection.wait_closed()?;
    sleep(ms(1300));
    let trace = settle(tracer)?;
    assert_eq!(causes(&trace), [("closed_before_response", 1)], "{:#?}", trace.rejections);
    let by = trace.rejections[0].ended_by.as_ref().map(|by| (by.comm.as_str(), by.how.as_deref()));
    assert_eq!(by, Some(("node", Some("closed"))), "{:#?}", trace.rejections);
    Ok(())
}
