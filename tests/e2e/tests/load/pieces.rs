//! Responses that take their time: in pieces with pauses, or after a long wait.

use std::time::Duration;

use anyhow::{Context, Result};
use lab::client::Request;
use lab::clock::sleep;
use lab::tracer::Output;

use crate::{Scene, assert_nothing_lost, ms, only_request, settle};

/// Two pauses of `pause` between three pieces, on a connection that stays open.
fn in_pieces(pause: Duration) -> Result<()> {
    let scene = Scene::new(|_| {})?;
    let tracer = scene.trace()?;
    let mut connection = scene.connect()?;
    let request = Request::get("/").header("X-Pieces", 3).header("X-Between-Pieces", pause.as_millis());
    let reply = connection.request(&request.header("X-Response-Bytes", 9000))?;
    // Longer than it takes until a request counts as quiet.
    sleep(ms(2500));
    let trace = settle(tracer)?;
    assert_nothing_lost(&trace);
    let shown = only_request(&trace)?;
    assert_eq!((shown.bytes_out, shown.completed), (reply.bytes, None), "{shown:?}");
    let download = Duration::from_nanos(shown.stages_ns.download.context("no download")?);
    assert!(download >= 2 * pause && download < 2 * pause + ms(100), "{download:?} of {pause:?} twice");
    assert_eq!(Some(shown.sum_ns()), shown.total_ns);
    assert_eq!(trace.summary.bytes_out, reply.bytes, "counted once");
    drop(connection);
    Ok(())
}

#[test]
fn pieces_with_short_pauses_are_one_request() -> Result<()> {
    in_pieces(ms(300))
}

#[test]
fn pieces_with_long_pauses_are_one_request() -> Result<()> {
    in_pieces(ms(1500))
}

/// The second pause is longer than the kernel is asked for such requests after the first piece that came late.
#[test]
fn the_last_piece_is_shown_while_the_connection_is_open() -> Result<()> {
    let scene = Scene::new(|_| {})?;
    let mut tracer = scene.trace()?;
    let mut connection = scene.connect()?;
    let request = Request::get("/").header("X-Pieces", 3).header("X-Between-Pieces", 2500);
    let reply = connection.request(&request.header("X-Response-Bytes", 9000))?;
    let whole = |output: &Output| matches!(&output.requests[..], [request] if request.bytes_out == reply.bytes);
    let output = tracer.wait_for(ms(3000), whole)?;
    assert!(output.connections.is_empty(), "it is open: {:?}", output.connections);
    assert!(output.amended >= 1, "it was shown before, and replaced: {:?}", output.requests);
    drop(connection);
    let trace = settle(tracer)?;
    assert_nothing_lost(&trace);
    assert_eq!(only_request(&trace)?.bytes_out, reply.bytes);
    Ok(())
}

#[test]
#[ignore = "takes half a minute"]
fn half_a_minute_of_service() -> Result<()> {
    let scene = Scene::new(|_| {})?;
    let tracer = scene.trace()?;
    scene.connect()?.request(&Request::get("/").header("X-Before-Write", 30_000))?;
    let trace = settle(tracer)?;
    assert_nothing_lost(&trace);
    let shown = only_request(&trace)?;
    let service = Duration::from_nanos(shown.stages_ns.service.context("no service")?);
    assert!(service >= ms(30_000) && service < ms(30_100), "{service:?}");
    let rest = shown.total_ns.context("no total")? - shown.stages_ns.service.context("no service")?;
    assert!(rest < 50_000_000, "the rest took {rest} ns: {shown:?}");
    Ok(())
}
