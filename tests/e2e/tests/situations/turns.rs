//! Turns that are no requests, and short ones that are.

use std::io::Write;
use std::net::{TcpListener, TcpStream};

use anyhow::Result;
use lab::clock::sleep;

use crate::scene::{
    GET, OK, Scene, assert_blames_no_setting, assert_causes, assert_turns, close, drain, exchange, expect, half_close,
    ms, serve, the_one,
};

/// A TLS record with this many bytes of encrypted data.
fn encrypted(bytes: u8) -> Vec<u8> {
    let mut record = vec![23, 3, 3, 0, bytes];
    record.resize(5 + usize::from(bytes), 7);
    record
}

/// A TLS handshake as far as its records show it, and a request and its response.
fn tls(client: &mut TcpStream, server: &mut TcpStream) -> Result<()> {
    let mut hello = vec![22, 3, 1, 0, 200];
    hello.resize(205, 1);
    exchange(client, server, &hello, &[22; 900])?;
    let mut finished = vec![20, 3, 3, 0, 1, 1];
    finished.extend(encrypted(53));
    exchange(client, server, &finished, &encrypted(200))?;
    exchange(client, server, &encrypted(220), &encrypted(250))
}

#[test]
fn a_handshake_is_no_request() -> Result<()> {
    let scene = Scene::new("tls", &[])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    tls(&mut client, &mut server)?;
    // An alert, in its own record and encrypted, then the FIN.
    client.write_all(&encrypted(19))?;
    drop(client);
    expect(&mut server, &encrypted(19))?;
    sleep(ms(20));
    drop(server);
    let trace = scene.end()?;
    assert_causes(&trace, &[]);
    assert_eq!(
        (trace.requests.len(), trace.summary.requests, trace.summary.unanswered),
        (1, 1, 0),
        "{:#?}",
        trace.requests
    );
    assert_eq!(trace.requests[0].bytes_in, 225);
    Ok(())
}

/// The server closes; the peer answers its alert with one of its own.
#[test]
fn an_alert_after_the_close_is_no_lost_request() -> Result<()> {
    let scene = Scene::new("tls-farewell", &[])?;
    let listener = scene.listen()?;
    for alert in [encrypted(19), vec![21, 3, 3, 0, 2, 1, 0]] {
        let (mut client, mut server) = scene.pair(&listener)?;
        tls(&mut client, &mut server)?;
        sleep(ms(300));
        server.write_all(&encrypted(19))?;
        close(server);
        client.write_all(&alert)?;
        drop(client);
    }
    assert_causes(&scene.end()?, &[]);
    Ok(())
}

/// The same bytes without a FIN behind them may be a request.
#[test]
fn a_request_in_tls_is_lost() -> Result<()> {
    let scene = Scene::new("tls-race", &[])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    tls(&mut client, &mut server)?;
    sleep(ms(300));
    server.write_all(&encrypted(19))?;
    close(server);
    client.write_all(&encrypted(220))?;
    let trace = scene.end()?;
    assert_causes(&trace, &[("keepalive_race", 1)]);
    assert_eq!(the_one(&trace, "keepalive_race").evidence, "observed");
    Ok(())
}

/// Requests shorter than a close alert: of HTTP, and of Redis.
#[test]
fn short_requests_are_lost() -> Result<()> {
    let scene = Scene::new("short-race", &[])?;
    let listener = scene.listen()?;
    for request in [&b"GET / HTTP/1.0\r\nHost: a\r\n\r\n"[..], b"PING\r\n"] {
        let (mut client, mut server) = scene.pair(&listener)?;
        exchange(&mut client, &mut server, request, OK)?;
        sleep(ms(300));
        close(server);
        client.write_all(request)?;
        // And the peer leaves at once.
        drop(client);
    }
    let trace = scene.end()?;
    assert_causes(&trace, &[("keepalive_race", 2)]);
    Ok(())
}

#[test]
fn short_requests_are_not_answered() -> Result<()> {
    let scene = Scene::new("short-unanswered", &["--idle-timeout", "1s"])?;
    let listener = scene.listen()?;
    let mut open = Vec::new();
    for request in [&b"GET / HTTP/1.0\r\nHost: a\r\n\r\n"[..], b"PING\r\n"] {
        let (mut client, mut server) = scene.pair(&listener)?;
        exchange(&mut client, &mut server, request, OK)?;
        client.write_all(request)?;
        expect(&mut server, request)?;
        open.push((client, server));
    }
    sleep(ms(1500));
    let trace = scene.end()?;
    drop(open);
    assert_causes(&trace, &[("no_response", 2)]);
    let evidence: Vec<_> = trace.rejections_of("no_response").iter().map(|told| told.evidence.as_str()).collect();
    // HTTP says itself that it is a request; other text may be a message.
    assert!(evidence.contains(&"observed") && evidence.contains(&"inferred"), "{:#?}", trace.rejections);
    Ok(())
}

/// Two window updates of HTTP/2 in a record.
#[test]
fn control_data_in_tls_is_not_waited_for() -> Result<()> {
    let scene = Scene::new("tls-control", &["--idle-timeout", "1s"])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    tls(&mut client, &mut server)?;
    client.write_all(&encrypted(43))?;
    expect(&mut server, &encrypted(43))?;
    sleep(ms(2000));
    drop(client);
    let trace = scene.end()?;
    assert_causes(&trace, &[]);
    assert_eq!((trace.summary.requests, trace.summary.unanswered), (1, 0));
    Ok(())
}

/// A connection that was upgraded carries messages in one direction.
#[test]
fn one_way_messages_of_a_websocket_are_no_requests() -> Result<()> {
    let scene = Scene::new("websocket", &["--idle-timeout", "1s"])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    exchange(&mut client, &mut server, GET, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n")?;
    for _ in 0..3 {
        let frame = [0x81, 0x85, 1, 2, 3, 4, 9, 9, 9, 9, 9];
        client.write_all(&frame)?;
        expect(&mut server, &frame)?;
        sleep(ms(100));
    }
    sleep(ms(1500));
    drop(client);
    sleep(ms(50));
    drop(server);
    let trace = scene.end()?;
    assert_causes(&trace, &[]);
    assert_eq!((trace.requests.len(), trace.messages.len()), (1, 1), "{:#?}", trace.messages);
    assert_eq!(trace.summary.unanswered, 0);
    Ok(())
}

/// A load balancer asks for the upgrade on a connection that it has used before.
#[test]
fn one_way_messages_of_a_websocket_on_a_used_connection_are_no_requests() -> Result<()> {
    let scene = Scene::new("websocket-reused", &["--idle-timeout", "1s"])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    let page = [b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".as_slice(), &[b'x'; 1000]].concat();
    for _ in 0..8 {
        exchange(&mut client, &mut server, GET, &page)?;
    }
    let upgrade = b"GET /feed HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    let switched = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    exchange(&mut client, &mut server, upgrade, switched)?;
    // 200 bytes, masked.
    let frame = [[0x81, 0xfe, 0, 200, 1, 2, 3, 4].as_slice(), &[9; 200]].concat();
    client.write_all(&frame)?;
    expect(&mut server, &frame)?;
    sleep(ms(1500));
    drop(client);
    sleep(ms(50));
    drop(server);
    let trace = scene.end()?;
    assert_causes(&trace, &[]);
    assert_turns(&trace, 9, 0, 1);
    Ok(())
}

/// Lines of a log: nothing comes back, ever. Whether somebody waits for an answer cannot be seen.
#[test]
fn one_way_messages_in_text_are_never_observed_as_unanswered() -> Result<()> {
    let scene = Scene::new("one-way", &["--idle-timeout", "1s"])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    for _ in 0..3 {
        client.write_all(b"<13>a line of a log\n")?;
        expect(&mut server, b"<13>a line of a log\n")?;
        sleep(ms(100));
    }
    sleep(ms(1500));
    let trace = scene.end()?;
    drop((client, server));
    assert!(trace.rejections.iter().all(|told| told.evidence == "inferred"), "{:#?}", trace.rejections);
    Ok(())
}

/// A response in pieces is one request, however long it takes.
#[test]
fn a_response_in_pieces_is_one_request() -> Result<()> {
    let scene = Scene::new("pieces", &["--idle-timeout", "1s"])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    serve(&mut client, &mut server)?;
    client.write_all(GET)?;
    expect(&mut server, GET)?;
    for _ in 0..6 {
        server.write_all(b"data: a\n\n")?;
        expect(&mut client, b"data: a\n\n")?;
        sleep(ms(400));
    }
    drop(client);
    sleep(ms(50));
    drop(server);
    let trace = scene.end()?;
    assert_causes(&trace, &[]);
    assert_eq!(trace.requests.len(), 2, "{:#?}", trace.requests);
    Ok(())
}

/// The peer takes its leave with an alert in the clear.
#[test]
fn an_alert_is_no_request() -> Result<()> {
    let scene = Scene::new("tls-alert", &[])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    tls(&mut client, &mut server)?;
    client.write_all(&[21, 3, 3, 0, 2, 1, 0])?;
    drop(client);
    drain(&mut server);
    drop(server);
    let trace = scene.end_soon()?;
    assert_causes(&trace, &[]);
    assert_turns(&trace, 1, 0, 0);
    Ok(())
}

/// Data for a connection with TLS whose server has just closed it, with no FIN behind.
fn data_meets_the_close(scene: &Scene, listener: &TcpListener, length: u8) -> Result<()> {
    let (mut client, mut server) = scene.pair(listener)?;
    tls(&mut client, &mut server)?;
    sleep(ms(300));
    server.write_all(&encrypted(19))?;
    close(server);
    client.write_all(&encrypted(length - 5))?;
    sleep(ms(50));
    Ok(())
}

/// Encrypted data that is short enough to be control data, but no FIN comes behind it: both readings are said. 28 and 36 bytes
/// are `PING` of Redis in its two forms with TLS 1.3, 43 with TLS 1.2.
#[test]
fn short_encrypted_data_meets_the_close() -> Result<()> {
    let scene = Scene::new("tls-short-race", &[])?;
    let listener = scene.listen()?;
    let lengths = [28, 36, 43, 65];
    for length in lengths {
        data_meets_the_close(&scene, &listener, length)?;
    }
    let trace = scene.end()?;
    assert_causes(&trace, &[("keepalive_race", lengths.len() as u64)]);
    for told in trace.rejections_of("keepalive_race") {
        assert_eq!(told.evidence, "inferred", "{told:#?}");
        assert!(told.explanation.contains("it may also be control data that needs no answer"), "{told:#?}");
    }
    Ok(())
}

/// The same with the lengths of SETTINGS, `WINDOW_UPDATE` and GOAWAY of HTTP/2 with TLS 1.3 and 1.2: peers send them at any time.
#[test]
fn frames_of_http_2_that_meet_the_close_are_no_requests() -> Result<()> {
    let scene = Scene::new("tls-late-frames", &[])?;
    let listener = scene.listen()?;
    for length in [31, 35, 39, 38, 42, 46] {
        data_meets_the_close(&scene, &listener, length)?;
    }
    assert_causes(&scene.end()?, &[]);
    Ok(())
}

/// After the upgrade, frames go both ways. The server closes, and the client answers its close frame.
#[test]
fn frames_of_a_websocket_that_the_server_closes() -> Result<()> {
    let scene = Scene::new("websocket-closed", &[])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    exchange(&mut client, &mut server, GET, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n")?;
    for _ in 0..2 {
        exchange(&mut client, &mut server, &[0x81, 0x82, 1, 2, 3, 4, 9, 9], &[0x81, 2, b'o', b'k'])?;
    }
    sleep(ms(200));
    server.write_all(&[0x88, 0])?;
    close(server);
    client.write_all(&[0x88, 0x80, 1, 2, 3, 4])?;
    sleep(ms(20));
    drop(client);
    let trace = scene.end_soon()?;
    assert_causes(&trace, &[]);
    assert_turns(&trace, 1, 0, 2);
    assert!(trace.messages.iter().all(|turn| turn.kind == "message"), "{:#?}", trace.messages);
    Ok(())
}

/// A server that speaks first, as for mail.
#[test]
fn a_server_that_speaks_first() -> Result<()> {
    let scene = Scene::new("banner", &[])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    server.write_all(b"220 ready\r\n")?;
    expect(&mut client, b"220 ready\r\n")?;
    exchange(&mut client, &mut server, b"EHLO a\r\n", b"250 ok\r\n")?;
    exchange(&mut client, &mut server, b"QUIT\r\n", b"221 bye\r\n")?;
    drop(server);
    drain(&mut client);
    drop(client);
    let trace = scene.end_soon()?;
    assert_causes(&trace, &[]);
    assert_turns(&trace, 2, 0, 0);
    Ok(())
}

/// A large download in pieces, and then the next request.
#[test]
fn a_large_response_in_pieces_is_one_request() -> Result<()> {
    let scene = Scene::new("large-pieces", &["--idle-timeout", "1s"])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    client.write_all(GET)?;
    expect(&mut server, GET)?;
    for _ in 0..10 {
        server.write_all(&vec![b'x'; 50_000])?;
        expect(&mut client, &vec![b'x'; 50_000])?;
        sleep(ms(200));
    }
    serve(&mut client, &mut server)?;
    let trace = scene.end_soon()?;
    assert_causes(&trace, &[]);
    assert_turns(&trace, 2, 0, 0);
    assert!(trace.requests[0].total_ns.is_some_and(|total| total > 1_800_000_000), "{:#?}", trace.requests);
    Ok(())
}

/// Events that a server sends for longer than a response lasts: first a request, in the end a stream.
#[test]
fn events_that_a_server_sends_are_a_stream() -> Result<()> {
    let scene = Scene::new("events", &[])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    client.write_all(GET)?;
    expect(&mut server, GET)?;
    for _ in 0..9 {
        server.write_all(b"data: a\n\n")?;
        expect(&mut client, b"data: a\n\n")?;
        sleep(ms(1300));
    }
    drop(client);
    drain(&mut server);
    drop(server);
    let trace = scene.end_soon()?;
    assert_causes(&trace, &[]);
    assert_turns(&trace, 0, 0, 1);
    assert_eq!(trace.messages[0].kind, "stream", "{:#?}", trace.messages);
    Ok(())
}

/// The server closes one half, and reads the alert with which the peer answers.
#[test]
fn an_alert_after_a_lingering_close_is_no_lost_request() -> Result<()> {
    let scene = Scene::new("tls-lingering", &[])?;
    let listener = scene.listen()?;
    for alert in [encrypted(19), vec![21, 3, 3, 0, 2, 1, 0]] {
        let (mut client, mut server) = scene.pair(&listener)?;
        tls(&mut client, &mut server)?;
        sleep(ms(300));
        server.write_all(&encrypted(19))?;
        half_close(&server)?;
        drain(&mut client);
        client.write_all(&alert)?;
        drop(client);
        drain(&mut server);
    }
    let trace = scene.end()?;
    assert_causes(&trace, &[]);
    assert_turns(&trace, 2, 0, 0);
    Ok(())
}

/// Two requests at once, as no load balancer sends them. The server reads the first one, answers it, and closes.
#[test]
fn the_second_of_two_pipelined_requests_is_not_read() -> Result<()> {
    let scene = Scene::new("pipelined-unread", &[])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    client.write_all(&[GET, GET].concat())?;
    expect(&mut server, GET)?;
    server.write_all(OK)?;
    sleep(ms(50));
    drop(server);
    drain(&mut client);
    let trace = scene.end()?;
    assert_causes(&trace, &[("reset_during_upload", 1)]);
    let told = the_one(&trace, "reset_during_upload");
    assert_eq!((told.evidence.as_str(), told.unread), ("inferred", Some(u32::try_from(GET.len())?)), "{told:#?}");
    assert!(told.explanation.contains("it may also have been the next request"), "{told:#?}");
    assert_blames_no_setting(told);
    Ok(())
}
