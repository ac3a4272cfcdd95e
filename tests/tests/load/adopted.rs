//! Connections that were open before tracing began: recorded from the next request on, without the stages of their birth.

use anyhow::Result;
use lab::client::Request;
use lab::clock::sleep;

use crate::{Scene, assert_nothing_lost, ms, settle};

#[test]
fn requests_count_from_the_next_one_on() -> Result<()> {
    let scene = Scene::new(|_| {})?;
    let mut connection = scene.connect()?;
    let request = Request::get("/");
    connection.requests(3, ms(1), &request)?;
    sleep(ms(50));
    let tracer = scene.trace()?;
    connection.requests(2, ms(10), &request.clone().header("X-Before-Write", 20))?;
    let peer = connection.local;
    drop(connection);
    scene.connect()?.request(&request)?;
    let trace = settle(tracer)?;
    assert_nothing_lost(&trace);
    let adopted = trace.requests_of(peer);
    assert_eq!(adopted.len(), 2, "{:?}", trace.requests);
    assert!(adopted.iter().all(|it| it.adopted == Some(true) && it.completed.is_none() && it.accept_ns.is_none()));
    assert!(adopted.iter().all(|it| it.stages_ns.service >= Some(20_000_000)), "{adopted:?}");
    let mut closed = trace.connections.iter();
    let connection = closed.find(|it| it.peer == peer).expect("it was closed");
    assert_eq!((connection.adopted, connection.requests), (Some(true), 2), "{connection:?}");
    assert!(connection.stages_ns.named().iter().all(|(_, time)| time.is_none()), "{connection:?}");
    let fresh: Vec<_> = trace.requests.iter().filter(|it| it.peer != peer).collect();
    assert!(matches!(fresh[..], [request] if request.adopted.is_none()), "{fresh:?}");
    let counters = &trace.status.counters;
    assert_eq!((counters["connections_adopted"], counters["connections_opened"]), (1, 1));
    Ok(())
}

#[test]
fn a_request_that_is_under_way_is_not_taken_for_a_new_one() -> Result<()> {
    let scene = Scene::new(|_| {})?;
    let mut connection = scene.connect()?;
    let slow = Request::get("/").header("X-Before-Write", 1500);
    let sent = connection.send(&slow)?;
    sleep(ms(100));
    let tracer = scene.trace()?;
    connection.receive(&slow, sent)?;
    connection.request(&Request::put("/", 5000))?;
    let trace = settle(tracer)?;
    assert_nothing_lost(&trace);
    let whole: Vec<_> = trace.requests.iter().filter(|it| it.bytes_in > 5000).collect();
    assert_eq!((whole.len(), trace.requests.len()), (1, 1), "what began before is not shown: {:?}", trace.requests);
    Ok(())
}
