//! Responses that come before the request was whole, and none at all, from servers that do so by themselves.

use anyhow::Result;
use lab::client::{Request, Sent};
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

/// Uploads half of a body, reads the response, and uploads the other half, unless the server has closed by then.
fn upload_in_halves(kind: Kind, path: &str) -> Result<Trace> {
    let scene = Scene::new(kind)?;
    let tracer = scene.trace(&[])?;
    let mut connection = scene.connect()?;
    let head = format!("POST {path} HTTP/1.1\r\nHost: target.internal\r\nContent-Length: 100000\r\n\r\n");
    let half = vec![b'x'; 50_000];
    connection.send_raw(&[head.as_bytes(), &half].concat())?;
    let response = connection.receive(&Request::get(path), Sent::default());
    if response.is_ok() && connection.send_raw(&half).is_ok() {
        sleep(ms(400));
    }
    drop(connection);
    sleep(ms(1300));
    settle(tracer)
}

/// The server then reads the rest, and part of that came before its response. What came behind is no request.
#[test]
fn gunicorn_answers_early_and_reads_on() -> Result<()> {
    for path in ["/early", "/early?pause"] {
        let trace = upload_in_halves(Kind::GunicornThreads, path)?;
        assert_eq!(causes(&trace), [], "{path} {:#?}", trace.rejections);
        assert!(trace.requests[0].bytes_in > 100_000, "{:#?}", trace.requests);
    }
    Ok(())
}

/// A sync worker closes with all of that unread, at once or after a moment.
#[test]
fn gunicorn_answers_early_and_closes() -> Result<()> {
    for path in ["/early", "/early?pause"] {
        let trace = upload_in_halves(Kind::GunicornSync, path)?;
        assert_eq!(causes(&trace), [("reset_during_upload", 1)], "{path} {:#?}", trace.rejections);
    }
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
