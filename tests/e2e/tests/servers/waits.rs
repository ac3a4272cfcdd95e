//! Who waited for whom: clients that send late, and clients that leave early.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use lab::client::Request;
use lab::clock::sleep;
use lab::server::{Kind, Options};
use lab::topology::TARGET_V4;

use crate::scene::{ADDRESS, Scene, assert_healthy, ms, ok, settle};

/// Where nginx and haproxy listen, too, and have the kernel wait for data.
const DEFERRED: SocketAddr = SocketAddr::new(IpAddr::V4(TARGET_V4), 8081);

/// A client that connects to `address` two and a half seconds before its request. Where the server has the kernel wait for data
/// (`TCP_DEFER_ACCEPT`), that wait is in no stage.
fn connects_early(kind: Kind, options: &Options, address: SocketAddr) -> Result<()> {
    let scene = Scene::with(kind, options)?;
    let tracer = scene.trace(&[])?;
    let mut connection = scene.client().connect(address)?;
    sleep(ms(2500));
    for _ in 0..2 {
        ok(&connection.request(&Request::get("/"))?)?;
    }
    drop(connection);
    sleep(ms(200));
    let trace = settle(tracer)?;
    assert_healthy(&trace, 2);
    let connection = trace.connections.first().context("no connection")?;
    for (name, stage) in connection.stages_ns.named() {
        assert!(stage.is_none_or(|time| time < 500_000_000), "{name}: {connection:#?}");
    }
    for request in &trace.requests {
        assert!(request.total_ns.is_some_and(|total| total < 500_000_000), "{request:#?}");
    }
    Ok(())
}

/// Apache defers `accept()` by itself.
#[test]
fn the_peer_of_apache_sends_late() -> Result<()> {
    connects_early(Kind::Apache, &Options::listen(ADDRESS), ADDRESS)
}

#[test]
fn the_peer_of_nginx_sends_late() -> Result<()> {
    let options = Options::listen(ADDRESS).directives(&format!("listen {DEFERRED} deferred;"));
    connects_early(Kind::Nginx, &options, DEFERRED)
}

#[test]
fn the_peer_of_haproxy_sends_late() -> Result<()> {
    let options = Options::listen(ADDRESS).directives(&format!("bind {DEFERRED} defer-accept"));
    connects_early(Kind::Haproxy, &options, DEFERRED)
}

/// The client leaves after half a second, and the server writes after a second.
fn leaves_early(kind: Kind) -> Result<()> {
    let scene = Scene::new(kind)?;
    let tracer = scene.trace(&[])?;
    let mut connection = scene.connect()?;
    connection.send(&Request::get("/late"))?;
    sleep(ms(500));
    drop(connection);
    sleep(ms(1800));
    let trace = settle(tracer)?;
    for told in &trace.rejections {
        println!("{kind:?} {} / {}", told.explanation, told.advice);
    }
    let causes: Vec<_> = trace.causes().into_iter().collect();
    assert_eq!(causes, [("peer_gave_up", 1)], "{:#?}", trace.rejections);
    let told = &trace.rejections[0];
    assert!(told.ended_unanswered && told.explanation.contains("before any response"), "{told:#?}");
    assert!(told.waited_ns.is_some_and(|waited| (450_000_000..900_000_000).contains(&waited)), "{told:#?}");
    assert_eq!((trace.requests.len(), trace.summary.requests), (1, 1), "{:#?}", trace.requests);
    Ok(())
}

/// A test for each server that answers `GET /late` after a second.
macro_rules! of_each_late_server {
    ($($name:ident = $kind:ident),+ $(,)?) => {
        mod the_client_leaves_before_the_response {
            use super::*;

            $(
                #[test]
                fn $name() -> Result<()> {
                    leaves_early(Kind::$kind)
                }
            )+
        }
    };
}

of_each_late_server!(
    puma = Puma,
    go = Go,
    jdk = Jdk,
    node = Node,
    gunicorn_sync = GunicornSync,
    gunicorn_threads = GunicornThreads,
    waitress = Waitress,
    uvicorn = Uvicorn,
);
