//! Connections that were open before tracing began: recorded from the next request on, without the stages of their birth.

use std::process::Command;

use anyhow::Result;
use lab::Lab;
use lab::client::{Client, Request};
use lab::clock::sleep;
use lab::target::{Options, Target};
use lab::topology::LB_V4;
use lab::tracer::{Tracer, binary};

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

/// A connection that this host opens is none that it serves, even from a port on which something listens elsewhere.
#[test]
fn outgoing_connections_are_not_adopted() -> Result<()> {
    const PORT: u16 = 50_052;
    let lab = Lab::new()?;
    let options = Options::listen(&[(LB_V4, PORT).into(), (LB_V4, PORT + 1).into()]);
    let server = Target::start_in(&lab.lb, lab.directory(), "server", &options)?;
    let mut command = Command::new(binary()?);
    command.args(["watch", "--json", "--peer", "10.77.0.0/24"]);
    let tracer = Tracer::run("tracer", command, lab.directory())?;
    let mut connection = Client::new(&lab.target).source_port(PORT).connect((LB_V4, PORT + 1).into())?;
    connection.requests(3, ms(10), &Request::get("/"))?;
    let (client, address) = (connection.local, connection.peer);
    drop(connection);
    let trace = settle(tracer)?;
    // Others may be at work on the host: only these two ends count.
    let of_server = trace.requests.iter().filter(|it| (it.local, it.peer) == (address, client));
    assert!(of_server.clone().all(|it| it.pid == Some(server.pid())), "{:?}", trace.requests);
    assert_eq!(of_server.count(), 3, "{:?}", trace.requests);
    let outgoing: Vec<_> = trace.requests.iter().chain(&trace.waiting).filter(|it| it.local.port() == PORT).collect();
    assert!(outgoing.is_empty(), "{outgoing:?}");
    let closed = trace.connections.iter().map(|it| it.local);
    let ends: Vec<_> = closed.filter(|local| [client, address].contains(local)).collect();
    assert_eq!(ends, [address], "{:?}", trace.connections);
    Ok(())
}
