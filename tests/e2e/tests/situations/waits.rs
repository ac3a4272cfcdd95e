//! Who waited for whom.

use std::io::Write;
use std::net::TcpStream;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, ensure};
use lab::clock::sleep;

use crate::scene::{GET, OK, Scene, address, assert_causes, assert_turns, drain, expect, ms, serve, the_one};

/// The client leaves, and only then the server writes.
#[test]
fn the_client_leaves_before_anything_was_written() -> Result<()> {
    let scene = Scene::new("gave-up", &[])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    client.write_all(GET)?;
    expect(&mut server, GET)?;
    sleep(ms(300));
    drop(client);
    sleep(ms(300));
    server.write_all(OK)?;
    sleep(ms(50));
    drop(server);
    let trace = scene.end()?;
    assert_causes(&trace, &[("peer_gave_up", 1)]);
    let told = the_one(&trace, "peer_gave_up");
    assert!(told.ended_unanswered && told.explanation.contains("before any response"), "{told:#?}");
    assert!(told.waited_ns.is_some_and(|waited| (250_000_000..550_000_000).contains(&waited)), "{told:#?}");
    Ok(())
}

/// `TCP_DEFER_ACCEPT`: the connection is made when the request comes. The peer's wait is no round trip.
#[test]
fn a_deferred_accept_does_not_inflate_the_handshake() -> Result<()> {
    let scene = Scene::new("defer-accept", &[])?;
    let listener = scene.listen()?;
    let seconds: libc::c_int = 30;
    // SAFETY: an open socket and an int of the length given.
    let result = unsafe {
        let length = libc::socklen_t::try_from(size_of_val(&seconds))?;
        let value = (&raw const seconds).cast();
        libc::setsockopt(listener.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, value, length)
    };
    ensure!(result == 0, "the listener cannot wait for data");
    let mut client = scene.lab.lb.enter(|| TcpStream::connect(address()).context("cannot connect"))?;
    client.set_read_timeout(Some(ms(5000)))?;
    sleep(ms(2000));
    client.write_all(GET)?;
    let (mut server, _) = listener.accept()?;
    expect(&mut server, GET)?;
    server.write_all(OK)?;
    expect(&mut client, OK)?;
    drop(client);
    drop(server);
    let trace = scene.end()?;
    assert_causes(&trace, &[]);
    let stages = trace.connections.first().context("no connection")?.stages_ns;
    assert!(stages.handshake.is_some_and(|handshake| handshake < 500_000_000), "{stages:#?}");
    Ok(())
}

/// The sender stalls in its body until the server gives up. The sentence does not blame the application alone.
#[test]
fn the_sender_stalls_in_its_body() -> Result<()> {
    let scene = Scene::new("stalled-body", &[])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    serve(&mut client, &mut server)?;
    client.write_all(crate::scene::POST)?;
    expect(&mut server, crate::scene::POST)?;
    client.write_all(&[b'y'; 1000])?;
    expect(&mut server, &[b'y'; 1000])?;
    sleep(ms(1500));
    drop(server);
    let trace = scene.end()?;
    drop(client);
    assert_causes(&trace, &[("closed_before_response", 1)]);
    let told = the_one(&trace, "closed_before_response");
    assert!(told.silent_ns.is_some_and(|silent| silent > 1_400_000_000), "{told:#?}");
    assert!(told.explanation.contains("waited for the rest of the request"), "{told:#?}");
    assert!(trace.requests.iter().any(|it| it.sequence == 2 && it.may_be_incomplete), "{:#?}", trace.requests);
    Ok(())
}

/// The same, and the server answers before it closes. A request without a body is not waited for.
#[test]
fn the_server_answers_a_request_whose_body_stalls() -> Result<()> {
    const TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let scene = Scene::new("stalled-body-answered", &[])?;
    let listener = scene.listen()?;
    let answer = |head: &[u8]| -> Result<()> {
        let (mut client, mut server) = scene.pair(&listener)?;
        client.write_all(head)?;
        expect(&mut server, head)?;
        sleep(ms(1200));
        server.write_all(TIMEOUT)?;
        drop(server);
        expect(&mut client, TIMEOUT)
    };
    answer(&[crate::scene::POST, &[b'y'; 1000]].concat())?;
    answer(GET)?;
    let trace = scene.end_soon()?;
    assert_causes(&trace, &[]);
    assert_turns(&trace, 2, 0, 0);
    let sizes = trace.requests.iter().filter(|it| it.may_be_incomplete).map(|it| it.bytes_in).collect::<Vec<_>>();
    assert_eq!(sizes, [crate::scene::POST.len() as u64 + 1000], "{:#?}", trace.requests);
    let verdict = trace.summary.more["verdict"].to_string();
    assert!(verdict.contains("the sender, who may not have sent all of 1 request"), "{verdict}");
    Ok(())
}

/// Nothing is ever written.
#[test]
fn the_client_leaves_and_nothing_was_written() -> Result<()> {
    let scene = Scene::new("gave-up-unwritten", &[])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    client.write_all(GET)?;
    expect(&mut server, GET)?;
    sleep(ms(300));
    drop(client);
    drain(&mut server);
    drop(server);
    let trace = scene.end_soon()?;
    assert_causes(&trace, &[("peer_gave_up", 1)]);
    let told = the_one(&trace, "peer_gave_up");
    assert_eq!((told.ended_unanswered, told.bytes_out), (true, Some(0)), "{told:#?}");
    assert!(told.explanation.contains("with a FIN") && told.explanation.contains("before any response"), "{told:#?}");
    assert_turns(&trace, 1, 1, 0);
    Ok(())
}

/// Part of the response has been written, and not all of that has arrived.
#[test]
fn the_client_leaves_in_the_middle_of_the_response() -> Result<()> {
    let scene = Scene::new("gave-up-in-the-middle", &[])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    client.write_all(GET)?;
    expect(&mut server, GET)?;
    // More than the client's buffer has room for, as it does not read.
    server.set_nonblocking(true)?;
    while server.write(&vec![b'x'; 1 << 16]).is_ok() {}
    sleep(ms(200));
    rustix::net::sockopt::set_socket_linger(&client, Some(ms(0)))?;
    drop(client);
    sleep(ms(50));
    drop(server);
    let trace = scene.end_soon()?;
    assert_causes(&trace, &[("peer_gave_up", 1)]);
    let told = the_one(&trace, "peer_gave_up");
    assert!(!told.ended_unanswered && told.bytes_out > Some(0), "{told:#?}");
    assert!(told.explanation.contains("with a RST"), "{told:#?}");
    assert!(told.explanation.contains("before the response was complete"), "{told:#?}");
    Ok(())
}

/// The client closes its half behind the request, and waits for the response.
#[test]
fn a_half_closed_client_gets_its_response() -> Result<()> {
    let scene = Scene::new("half-closed-client", &[])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    serve(&mut client, &mut server)?;
    client.write_all(GET)?;
    crate::scene::half_close(&client)?;
    expect(&mut server, GET)?;
    sleep(ms(300));
    server.write_all(OK)?;
    drop(server);
    expect(&mut client, OK)?;
    let trace = scene.end_soon()?;
    assert_causes(&trace, &[]);
    assert_turns(&trace, 2, 0, 0);
    Ok(())
}

/// The kernel of the load balancer asks whether the connection still stands: no turn, and no sign of life.
#[test]
fn keep_alive_probes_are_no_requests() -> Result<()> {
    let scene = Scene::new("probes", &["--idle-timeout", "1s"])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    serve(&mut client, &mut server)?;
    rustix::net::sockopt::set_tcp_keepidle(&client, ms(1000))?;
    rustix::net::sockopt::set_socket_keepalive(&client, true)?;
    sleep(ms(2300));
    drop(client);
    let trace = scene.end_soon()?;
    assert_causes(&trace, &[]);
    assert_turns(&trace, 1, 0, 0);
    Ok(())
}
