//! Requests that are answered before all of them has come.

use std::io::Write;

use anyhow::Result;
use lab::clock::sleep;

use crate::scene::{
    GET, OK, POST, Scene, TOO_LARGE, assert_causes, assert_turns, beside, drain, exchange, expect, half_close, ms,
    reset, serve, the_one, upload,
};

/// One request; the server reads the rest, and closes.
#[test]
fn the_server_reads_the_rest_and_closes() -> Result<()> {
    let scene = Scene::new("early-read", &[])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    exchange(&mut client, &mut server, POST, TOO_LARGE)?;
    let reader = beside(move || expect(&mut server, &vec![b'y'; 60_000]));
    upload(&mut client, 3);
    reader.join().expect("no panic")?;
    sleep(ms(100));
    let trace = scene.end()?;
    assert_causes(&trace, &[]);
    assert_eq!(trace.requests.len(), 1, "{:#?}", trace.requests);
    assert_eq!(trace.requests[0].bytes_in, POST.len() as u64 + 60_000);
    Ok(())
}

#[test]
fn the_client_closes_after_its_upload() -> Result<()> {
    let scene = Scene::new("early-client-closes", &[])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    exchange(&mut client, &mut server, POST, TOO_LARGE)?;
    let reader = beside(move || drain(&mut server));
    upload(&mut client, 3);
    drop(client);
    reader.join().expect("no panic");
    let trace = scene.end()?;
    assert_causes(&trace, &[]);
    assert_eq!((trace.requests.len(), trace.summary.unanswered), (1, 0), "{:#?}", trace.requests);
    Ok(())
}

/// A lingering close: the answer, a FIN, and the rest is read only after the peer has closed, too. Nothing is reset.
#[test]
fn the_server_lingers_until_the_client_has_closed() -> Result<()> {
    let scene = Scene::new("early-lingering", &[])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    exchange(&mut client, &mut server, POST, TOO_LARGE)?;
    half_close(&server)?;
    upload(&mut client, 3);
    drop(client);
    sleep(ms(200));
    drain(&mut server);
    drop(server);
    let trace = scene.end()?;
    assert_causes(&trace, &[]);
    assert_eq!((trace.requests.len(), trace.summary.unanswered), (1, 0), "{:#?}", trace.requests);
    Ok(())
}

/// As Go does: the answer, a FIN, and a close a moment later, with the upload unread.
#[test]
fn the_server_closes_with_the_upload_unread() -> Result<()> {
    let scene = Scene::new("early-half-closed", &[])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    exchange(&mut client, &mut server, POST, TOO_LARGE)?;
    half_close(&server)?;
    let closer = beside(move || {
        sleep(ms(200));
        drop(server);
    });
    upload(&mut client, 60);
    closer.join().expect("no panic");
    let trace = scene.end()?;
    assert_causes(&trace, &[("reset_during_upload", 1)]);
    let told = the_one(&trace, "reset_during_upload");
    assert_eq!((told.evidence.as_str(), told.alb.as_slice()), ("observed", &["502".to_owned()][..]), "{told:#?}");
    assert!(told.unread.is_some_and(|unread| unread >= 20_000), "{told:#?}");
    assert_eq!(trace.requests.len(), 1, "{:#?}", trace.requests);
    Ok(())
}

/// As node does when it destroys the request: the answer and the close at once, the upload goes on.
#[test]
fn the_server_closes_at_once() -> Result<()> {
    let scene = Scene::new("early-closed", &[])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    client.write_all(POST)?;
    expect(&mut server, POST)?;
    server.write_all(TOO_LARGE)?;
    drop(server);
    upload(&mut client, 60);
    let trace = scene.end()?;
    assert_causes(&trace, &[("reset_during_upload", 1)]);
    assert_eq!(trace.requests.len(), 1, "{:#?}", trace.requests);
    Ok(())
}

/// The upload lies in the socket when the server answers and closes: the kernel resets.
#[test]
fn the_upload_is_unread_at_the_close() -> Result<()> {
    let scene = Scene::new("early-unread", &[])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    client.write_all(POST)?;
    upload(&mut client, 2);
    expect(&mut server, POST)?;
    server.write_all(TOO_LARGE)?;
    sleep(ms(50));
    drop(server);
    let trace = scene.end()?;
    assert_causes(&trace, &[("reset_during_upload", 1)]);
    let told = the_one(&trace, "reset_during_upload");
    assert_eq!((told.evidence.as_str(), told.unread), ("observed", Some(40_000)), "{told:#?}");
    Ok(())
}

/// The answer says that the connection ends, and it does so later: nobody sends anything more.
#[test]
fn a_connection_that_ends_as_announced_is_not_reported() -> Result<()> {
    let scene = Scene::new("announced-close", &[])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    exchange(&mut client, &mut server, GET, b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
    sleep(ms(2000));
    drop(server);
    drain(&mut client);
    drop(client);
    assert_causes(&scene.end()?, &[]);
    Ok(())
}

/// The connection is used again behind the rest of the upload: two requests, not three.
#[test]
fn the_connection_goes_on() -> Result<()> {
    let scene = Scene::new("early-goes-on", &[])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    exchange(&mut client, &mut server, POST, TOO_LARGE)?;
    for _ in 0..3 {
        client.write_all(&vec![b'y'; 20_000])?;
        expect(&mut server, &vec![b'y'; 20_000])?;
        sleep(ms(10));
    }
    serve(&mut client, &mut server)?;
    let trace = scene.end_soon()?;
    assert_causes(&trace, &[]);
    assert_turns(&trace, 2, 0, 0);
    Ok(())
}

/// Half of the body has come when the server answers; it reads the other half, and the connection is used again.
#[test]
fn answered_in_the_middle_of_the_body() -> Result<()> {
    let scene = Scene::new("early-in-the-middle", &[])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    client.write_all(POST)?;
    client.write_all(&vec![b'y'; 20_000])?;
    expect(&mut server, &[POST, &vec![b'y'; 20_000]].concat())?;
    server.write_all(TOO_LARGE)?;
    expect(&mut client, TOO_LARGE)?;
    client.write_all(&vec![b'y'; 20_000])?;
    expect(&mut server, &vec![b'y'; 20_000])?;
    serve(&mut client, &mut server)?;
    let trace = scene.end_soon()?;
    assert_causes(&trace, &[]);
    assert_turns(&trace, 2, 0, 0);
    Ok(())
}

/// The response and the reset leave at once, so that the client may not even see the response.
#[test]
fn the_response_and_the_reset_leave_at_once() -> Result<()> {
    let scene = Scene::new("early-reset-at-once", &[])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    serve(&mut client, &mut server)?;
    client.write_all(POST)?;
    expect(&mut server, POST)?;
    client.write_all(&vec![b'y'; 20_000])?;
    sleep(ms(5));
    server.write_all(TOO_LARGE)?;
    drop(server);
    let trace = scene.end_soon()?;
    assert_causes(&trace, &[("reset_during_upload", 1)]);
    let told = the_one(&trace, "reset_during_upload");
    assert_eq!((told.evidence.as_str(), told.unread), ("observed", Some(20_000)), "{told:#?}");
    assert_turns(&trace, 2, 0, 0);
    Ok(())
}

/// A request whose response is large, and whose body was read: a reset is none of an upload.
#[test]
fn an_upload_that_was_read_is_no_early_response() -> Result<()> {
    let scene = Scene::new("upload-read", &[])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    client.write_all(&[POST, &vec![b'y'; 20_000]].concat())?;
    expect(&mut server, &[POST, &vec![b'y'; 20_000]].concat())?;
    sleep(ms(50));
    server.write_all(OK)?;
    expect(&mut client, OK)?;
    drop(server);
    drain(&mut client);
    let trace = scene.end_soon()?;
    assert_causes(&trace, &[]);
    assert_turns(&trace, 1, 0, 0);
    Ok(())
}

/// The answer and a FIN; the server reads the rest of the upload, which comes after that, and closes.
#[test]
fn the_rest_comes_after_the_fin_and_is_read() -> Result<()> {
    let scene = Scene::new("early-read-after-fin", &[])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    client.write_all(POST)?;
    expect(&mut server, POST)?;
    server.write_all(TOO_LARGE)?;
    half_close(&server)?;
    expect(&mut client, TOO_LARGE)?;
    for _ in 0..3 {
        client.write_all(&vec![b'y'; 20_000])?;
        expect(&mut server, &vec![b'y'; 20_000])?;
        sleep(ms(50));
    }
    drop(client);
    drain(&mut server);
    drop(server);
    let trace = scene.end_soon()?;
    assert_causes(&trace, &[]);
    assert_turns(&trace, 1, 0, 0);
    Ok(())
}

/// The client has its answer when it sends on; nobody reads that, and it gives up.
#[test]
fn the_rest_comes_behind_the_answer_and_is_given_up() -> Result<()> {
    let scene = Scene::new("early-given-up", &[])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    exchange(&mut client, &mut server, POST, TOO_LARGE)?;
    client.write_all(&vec![b'y'; 50_000])?;
    sleep(ms(100));
    reset(client)?;
    let trace = scene.end()?;
    drop(server);
    assert_causes(&trace, &[]);
    assert_turns(&trace, 1, 0, 0);
    assert_eq!(trace.requests[0].bytes_in, POST.len() as u64 + 50_000, "{:#?}", trace.requests);
    Ok(())
}

/// The head of an upload that asks first.
const ASKING: &[u8] =
    b"POST / HTTP/1.1\r\nHost: target.internal\r\nContent-Length: 300\r\nExpect: 100-continue\r\n\r\n";
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// `Expect: 100-continue`: the head and the body are one request, also where most turns are not looked at.
#[test]
fn the_head_asks_before_the_body_comes() -> Result<()> {
    let scene = Scene::new("continue", &[])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    for _ in 0..4 {
        exchange(&mut client, &mut server, ASKING, CONTINUE)?;
        exchange(&mut client, &mut server, &[b'y'; 300], OK)?;
        serve(&mut client, &mut server)?;
    }
    let trace = scene.end()?;
    assert_causes(&trace, &[]);
    assert_turns(&trace, 8, 0, 0);
    for pair in trace.requests.chunks(2) {
        let sizes = pair.iter().map(|request| (request.bytes_in, request.bytes_out)).collect::<Vec<_>>();
        let (body, head) = (300, ASKING.len() as u64);
        assert_eq!(sizes, [(head + body, OK.len() as u64), (GET.len() as u64, OK.len() as u64)], "{pair:#?}");
    }
    Ok(())
}

/// The body was asked for, and got no response: the interim one is none.
#[test]
fn the_body_that_was_asked_for_is_not_answered() -> Result<()> {
    let scene = Scene::new("continue-closed", &[])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    exchange(&mut client, &mut server, ASKING, CONTINUE)?;
    client.write_all(&[b'y'; 300])?;
    expect(&mut server, &[b'y'; 300])?;
    sleep(ms(50));
    drop(server);
    drain(&mut client);
    let trace = scene.end()?;
    assert_causes(&trace, &[("closed_before_response", 1)]);
    assert_turns(&trace, 1, 1, 0);
    Ok(())
}
