//! A server closes an idle connection and reads on for a while.

use std::io::Write;

use anyhow::Result;
use lab::clock::sleep;

use crate::scene::{
    GET, Scene, assert_blames_no_setting, assert_causes, assert_turns, drain, exchange, expect, half_close, ms, serve,
    the_one,
};

/// As Apache closes idle connections: the FIN, and for a while it reads and discards what still comes.
fn meets_a_lingering_close(name: &'static str, is_read: bool, client_leaves: bool) -> Result<()> {
    let scene = Scene::new(name, &[])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    serve(&mut client, &mut server)?;
    sleep(ms(300));
    half_close(&server)?;
    drain(&mut client);
    client.write_all(GET)?;
    if is_read {
        expect(&mut server, GET)?;
    }
    let client = (!client_leaves).then_some(client);
    sleep(ms(100));
    drop(server);
    let trace = scene.end()?;
    drop(client);
    assert_causes(&trace, &[("keepalive_race", 1)]);
    let told = the_one(&trace, "keepalive_race");
    assert_eq!((told.evidence.as_str(), told.closed_because.as_deref()), ("observed", None), "{told:#?}");
    assert!(told.idle_ns.is_some_and(|idle| (280_000_000..900_000_000).contains(&idle)), "{told:#?}");
    assert!(told.explanation.contains("the next request met the close"), "{told:#?}");
    assert_blames_no_setting(told);
    assert_turns(&trace, 1, 0, 0);
    Ok(())
}

#[test]
fn a_request_meets_a_lingering_close() -> Result<()> {
    meets_a_lingering_close("lingering-race", true, false)
}

#[test]
fn a_request_meets_a_lingering_close_and_the_client_leaves() -> Result<()> {
    meets_a_lingering_close("lingering-race-left", true, true)
}

#[test]
fn a_request_meets_a_lingering_close_and_is_not_read() -> Result<()> {
    meets_a_lingering_close("lingering-race-unread", false, false)
}

/// The socket takes the first piece of the request, the second one comes when the socket is gone.
#[test]
fn a_request_meets_a_lingering_close_in_pieces() -> Result<()> {
    let scene = Scene::new("lingering-race-pieces", &[])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    serve(&mut client, &mut server)?;
    sleep(ms(300));
    half_close(&server)?;
    drain(&mut client);
    client.write_all(&GET[..40])?;
    expect(&mut server, &GET[..40])?;
    drop(server);
    sleep(ms(50));
    client.write_all(&GET[40..])?;
    let trace = scene.end()?;
    assert_causes(&trace, &[("keepalive_race", 1)]);
    assert_turns(&trace, 1, 0, 0);
    Ok(())
}

/// In a protocol that is not HTTP the peer may go on when the server has closed its half.
#[test]
fn a_half_close_outside_http_is_no_certain_race() -> Result<()> {
    let scene = Scene::new("half-close-text", &[])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    exchange(&mut client, &mut server, b"PING\r\n", b"+PONG\r\n")?;
    sleep(ms(300));
    half_close(&server)?;
    drain(&mut client);
    client.write_all(b"STORE 1\r\n")?;
    expect(&mut server, b"STORE 1\r\n")?;
    drop(client);
    drain(&mut server);
    drop(server);
    let trace = scene.end()?;
    assert_causes(&trace, &[("keepalive_race", 1)]);
    let told = the_one(&trace, "keepalive_race");
    assert_eq!(told.evidence, "inferred", "{told:#?}");
    assert!(told.explanation.contains("outside HTTP a peer may go on"), "{told:#?}");
    Ok(())
}

/// Nothing comes after the FIN but that of the peer.
#[test]
fn a_lingering_close_that_loses_nothing_is_not_reported() -> Result<()> {
    let scene = Scene::new("lingering", &[])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    serve(&mut client, &mut server)?;
    sleep(ms(300));
    half_close(&server)?;
    drain(&mut client);
    drop(client);
    drain(&mut server);
    drop(server);
    let trace = scene.end_soon()?;
    assert_causes(&trace, &[]);
    assert_turns(&trace, 1, 0, 0);
    Ok(())
}
