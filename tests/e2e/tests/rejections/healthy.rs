//! Healthy traffic, of which nothing is reported.

use anyhow::Result;
use lab::Lab;
use lab::client::Request;
use lab::clock::sleep;
use lab::nginx::{self, Nginx};
use lab::wrk::{self, Options};

use crate::scene::{Scene, ms, settle, start_tracer, ways};

/// Every ordinary way to use a connection and to end it.
#[test]
fn ordinary_traffic_is_not_reported() -> Result<()> {
    let scene = Scene::new(|options| options.idle_close = Some(ms(500)))?;
    let tracer = scene.trace(&[])?;
    for way in ways() {
        let mut connection = scene.client().connect(way)?;
        connection.requests(20, ms(0), &Request::get("/"))?;
        connection.request(&Request::put("/", 1_000_000).header("X-Response-Bytes", 1_000_000))?;
        connection.request(&Request::new("HEAD", "/", 0))?;
        connection.request(&Request::get("/").header("X-Status", 503))?;
        connection.request(&Request::get("/").header("X-Pieces", 3).header("X-Between-Pieces", 100))?;
        connection.request(&Request::put("/", 9000).body_pieces(3, ms(50)))?;
        drop(connection);
        // A connection that carries nothing, as of a health check of TCP.
        drop(scene.client().connect(way)?);
        scene.client().connect(way)?.reset()?;
        // The client closes its half at once, and waits for the answer.
        scene.client().request(way, &Request::get("/").half_close().header("X-Before-Write", 50))?;
        scene.client().request(way, &Request::get("/").header("Connection", "close"))?;
        let mut connection = scene.client().connect(way)?;
        connection.request(&Request::get("/").header("X-Close", 1))?;
        connection.wait_closed()?;
        // After a whole response, a reset harms nobody.
        let mut connection = scene.client().connect(way)?;
        connection.request(&Request::get("/"))?;
        sleep(ms(20));
        connection.reset()?;
    }
    // These are closed by the target: sooner than a second, on which nobody's idle timeout rests.
    let idle = [scene.client().connect(ways()[0])?, scene.client().connect(ways()[1])?];
    sleep(ms(800));
    drop(idle);
    let trace = settle(tracer)?;
    assert!(trace.rejections.is_empty(), "{:#?}", trace.rejections);
    Ok(())
}

fn load(requests: u64, connections: usize, keep_alive: bool) -> Result<()> {
    let lab = Lab::new()?;
    let options = nginx::Options { access_log: false, workers: 2, ..nginx::Options::listen(&ways()) };
    let _nginx = Nginx::start(&lab, "nginx", &options)?;
    let tracer = start_tracer(&lab, &[])?;
    let mut shown = 0;
    for (way, name) in ways().into_iter().zip(["wrk4", "wrk6"]) {
        let load = Options { connections, keep_alive, ..Options::exactly(requests / 2, way, "/small") };
        shown += wrk::run(&lab.lb, lab.directory(), name, &load)?.requests;
    }
    let trace = settle(tracer)?;
    assert!(trace.rejections.is_empty(), "{:#?}", &trace.rejections[..trace.rejections.len().min(5)]);
    assert_eq!(trace.status.requests, Some(shown));
    Ok(())
}

#[test]
fn some_thousand_requests_by_wrk() -> Result<()> {
    load(4000, 8, true)?;
    load(4000, 8, false)
}

#[test]
#[ignore = "takes half a minute"]
fn a_hundred_thousand_requests_over_kept_connections() -> Result<()> {
    load(100_000, 32, true)
}

#[test]
#[ignore = "takes half a minute"]
fn a_hundred_thousand_connections_of_one_request() -> Result<()> {
    load(100_000, 32, false)
}
