//! Several tracers at once, and interfaces that vanish under one.

use std::collections::HashMap;

use anyhow::{Context, Result};
use lab::client::{Client, Request};
use lab::clock::sleep;
use lab::netns::{End, join};
use lab::topology::target_addresses;
use lab::tracer::{Trace, Tracer};

use crate::{Scene, ms};

#[test]
fn two_tracers_record_the_same() -> Result<()> {
    let scene = Scene::new()?;
    let one = Tracer::start(&scene.lab, "one", &[])?;
    let other = Tracer::start(&scene.lab, "other", &[])?;
    scene.send(500)?;
    sleep(ms(100));
    let one = one.stop()?;
    // The other one goes on when the first has gone.
    scene.send(100)?;
    sleep(ms(100));
    let other = other.stop()?;
    assert_eq!((one.requests.len(), other.requests.len()), (500, 600));
    // Those of connections that follow each other may be told in either order.
    let by_connection: HashMap<_, _> =
        other.requests.iter().map(|request| ((request.peer, request.sequence), request)).collect();
    for one in &one.requests {
        let other = by_connection.get(&(one.peer, one.sequence)).context("a request that only one saw")?;
        assert_eq!(one.bytes_out, other.bytes_out);
        let (one, other) = (one.total_ns.unwrap_or(0), other.total_ns.unwrap_or(0));
        assert!(one.abs_diff(other) < 1_000_000, "{one} and {other} ns");
    }
    let stages = |trace: &Trace| trace.connections[0].stages_ns.named().iter().all(|(_, it)| it.is_some());
    assert!(stages(&one) && stages(&other), "both see the handshake");
    Ok(())
}

#[test]
fn an_interface_that_vanishes_takes_nothing_else_with_it() -> Result<()> {
    let scene = Scene::new()?;
    join(
        End { namespace: &scene.lab.lb, interface: "eth7", addresses: &[("10.79.0.1".parse()?, 24)] },
        End { namespace: &scene.lab.target, interface: "eth7", addresses: &[("10.79.0.2".parse()?, 24)] },
    )?;
    let tracer = Tracer::start(&scene.lab, "tracer", &[])?;
    let mut through_eth7 = Client::new(&scene.lab.lb).connect("10.79.0.2:8080".parse()?)?;
    through_eth7.request(&Request::get("/"))?;
    scene.lab.target.run("ip", &["link", "delete", "eth7"])?;
    scene.send(50)?;
    sleep(ms(100));
    let trace = tracer.stop()?;
    assert_eq!(trace.requests.len(), 51);
    assert_eq!(trace.status.records_lost, Some(0));
    let syn = trace.status.hooks.iter().find(|hook| hook.hook == "syn").and_then(|hook| hook.attached.as_deref());
    assert!(syn.is_some_and(|syn| syn.contains("eth7")), "{syn:?}");
    Ok(())
}

#[test]
fn a_namespace_that_loses_everything_does_not_end_it() -> Result<()> {
    let Scene { target, lab } = Scene::new()?;
    let tracer = Tracer::start(&lab, "tracer", &[])?;
    Client::new(&lab.lb).request(target_addresses(8080)[0], &Request::get("/"))?;
    target.stop()?;
    lab.target.run("ip", &["link", "delete", "eth0"])?;
    lab.target.run("ip", &["link", "set", "lo", "down"])?;
    sleep(ms(300));
    assert_eq!(tracer.stop()?.requests.len(), 1);
    Ok(())
}
