//! The target and the client: each delay is where it was asked for, each way to break off is seen.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use lab::Lab;
use lab::client::{Client, Reply, Request, Sent};
use lab::clock::duration_ns;
use lab::target::{Behaviour, Options, Served, Target};
use lab::topology::{LB_V4, LB_V6, TARGET_V4, target_addresses};

use crate::{DELAY, assert_injected, ms, start_target};

/// One request over a connection of its own to the target, and what the target saw of it.
fn one(lab: &Lab, target: &Target, request: &Request) -> Result<(Reply, Served)> {
    let before = target.served()?.len();
    let reply = Client::new(&lab.lb).request(target_addresses(8080)[0], request)?;
    let served = target.wait_for(before + 1)?.pop().context("nothing served")?;
    Ok((reply, served))
}

#[test]
fn target_answers_in_both_families() -> Result<()> {
    let lab = Lab::new()?;
    let [v4, v6] = target_addresses(8081);
    let target =
        Target::start(&lab, "target", &Options::listen(&[v4, v6, "[::]:8080".parse()?, "0.0.0.0:8082".parse()?]))?;
    let client = Client::new(&lab.lb).source_port(5000);
    let addresses: [SocketAddr; 5] =
        [v4, v6, target_addresses(8080)[0], target_addresses(8080)[1], (TARGET_V4, 8082).into()];
    for address in addresses {
        let reply = client.request(address, &Request::get("/").header("X-Response-Bytes", 1000))?;
        assert_eq!((reply.status, reply.body_bytes), (200, 1000), "{address}");
    }
    for (served, address) in target.wait_for(5)?.iter().zip(addresses) {
        let peer = if address.is_ipv4() { LB_V4.into() } else { LB_V6.into() };
        assert_eq!(served.peer, Some(SocketAddr::new(peer, 5000)), "an IPv4-mapped peer is shown as IPv4");
        assert_eq!(served.local, Some(address));
        assert_eq!(served.request, "GET /");
    }
    Ok(())
}

#[test]
fn target_takes_and_sends_64_mib() -> Result<()> {
    let lab = Lab::new()?;
    let target = start_target(&lab, |_| {})?;
    let mut connection = Client::new(&lab.lb).connect(target_addresses(8080)[1])?;
    let request = Request::put("/", 64 << 20).header("X-Response-Bytes", 64 << 20);
    let reply = connection.request(&request)?;
    assert_eq!(reply.body_bytes, 64 << 20);
    let again = connection.request(&Request::new("HEAD", "/", 0))?;
    assert_eq!((again.status, again.body_bytes), (200, 0));
    let served = target.wait_for(2)?;
    assert_eq!((served[0].bytes_in, served[0].bytes_out), (reply.sent.bytes, reply.bytes));
    assert_eq!((served[1].connection, served[1].sequence), (1, 2));
    Ok(())
}

#[test]
fn each_delay_of_the_target_is_in_its_place() -> Result<()> {
    let lab = Lab::new()?;
    let target = start_target(&lab, |_| {})?;
    let none = |what: &str, measured_ns: Option<u64>| assert_injected(what, measured_ns, Duration::ZERO);

    let request = Request::put("/", 4096).header("X-Between-Reads", DELAY.as_millis());
    let (reply, served) = one(&lab, &target, &request)?;
    assert_injected("between reads", served.upload_ns(), DELAY);
    none("service", served.service_ns());
    assert_injected("first byte", Some(reply.first_byte_after_ns()), DELAY);

    let (reply, served) = one(&lab, &target, &Request::get("/").header("X-Before-Write", DELAY.as_millis()))?;
    assert_injected("before write", served.service_ns(), DELAY);
    none("upload", served.upload_ns());
    none("writing", served.writing_ns());
    assert_injected("first byte", Some(reply.first_byte_after_ns()), DELAY);

    let request = Request::get("/").header("X-Pieces", 3).header("X-Between-Pieces", DELAY.as_millis());
    let (reply, served) = one(&lab, &target, &request.header("X-Response-Bytes", 900))?;
    assert_injected("between pieces", served.writing_ns(), DELAY * 2);
    none("first byte", Some(reply.first_byte_after_ns()));
    assert_injected("last byte", Some(reply.total_ns()), DELAY * 2);
    assert_eq!(reply.body_bytes, 900);
    drop(target);

    let target = start_target(&lab, |options| options.before_read = DELAY)?;
    let mut connection = Client::new(&lab.lb).connect(target_addresses(8080)[0])?;
    connection.requests(3, ms(5), &Request::get("/"))?;
    for served in target.wait_for(3)? {
        assert_injected("before read", served.pickup_ns(), DELAY);
        none("service", served.service_ns());
    }
    drop(target);

    let target = start_target(&lab, |options| options.before_accept = DELAY)?;
    let (reply, served) = one(&lab, &target, &Request::get("/"))?;
    assert_injected("before accept", served.accept_ns(), DELAY);
    none("pickup", served.pickup_ns());
    assert_injected("first byte", Some(reply.first_byte_after_ns()), DELAY);
    Ok(())
}

#[test]
fn target_breaks_off_as_told() -> Result<()> {
    let lab = Lab::new()?;
    let target = start_target(&lab, |options| options.idle_close = Some(DELAY))?;
    let address = target_addresses(8080)[0];
    let client = Client::new(&lab.lb);

    let mut connection = client.connect(address)?;
    assert!(connection.request(&Request::get("/").header("X-Close", 1))?.closed);
    assert!(connection.wait_closed()?, "--close ends with a FIN");

    let mut connection = client.connect(address)?;
    connection.request(&Request::get("/").header("X-Close", 1).header("X-Linger0", 1))?;
    assert!(!connection.wait_closed()?, "--linger0 ends with a reset");

    let mut connection = client.connect(address)?;
    connection.request(&Request::get("/"))?;
    assert!(connection.wait_closed()?, "--idle-close ends with a FIN");

    let mut connection = client.connect(address)?;
    let upload = Request::put("/", 1 << 20).header("X-Read-Bytes-Then-Close", 2000);
    let _ = connection.request(&upload).expect_err("no answer was promised");
    assert!(matches!(target.wait_for(4)?[3], Served { bytes_in: 2000, bytes_out: 0, status: None, .. }));

    let early = Request::put("/", 2048).header("X-Early-Response", 1).before_body(DELAY);
    let mut connection = client.connect(address)?;
    assert_eq!(connection.request(&early)?.status, 200);
    let served = target.wait_for(5)?.pop().context("nothing served")?;
    assert!(served.last_write_ns < served.last_read_ns, "the response came before the body: {served:?}");
    Ok(())
}

#[test]
fn each_pace_of_the_client_is_seen_by_the_target() -> Result<()> {
    let lab = Lab::new()?;
    let target = start_target(&lab, |_| {})?;

    let mut connection = Client::new(&lab.lb).connect(target_addresses(8080)[0])?;
    connection.request(&Request::get("/").before_first_byte(DELAY))?;
    let readable_ns = target.wait_for(1)?[0].readable_ns;
    assert_injected("before the first byte", readable_ns.map(|ns| ns - connection.connected_ns), DELAY);

    let (reply, served) = one(&lab, &target, &Request::put("/", 10_000).before_body(DELAY))?;
    let after_first_byte = |instant_ns: Option<u64>, sent: Sent| instant_ns.map(|ns| ns - sent.first_byte_ns);
    assert_injected("before the body, sent", after_first_byte(Some(reply.sent.last_byte_ns), reply.sent), DELAY);
    assert_injected("before the body, head", after_first_byte(served.first_read_ns, reply.sent), Duration::ZERO);
    assert_injected("before the body, read", after_first_byte(served.last_read_ns, reply.sent), DELAY);

    let (reply, served) = one(&lab, &target, &Request::put("/", 9_000).body_pieces(3, DELAY))?;
    assert_injected("slow upload, head", after_first_byte(served.first_read_ns, reply.sent), Duration::ZERO);
    assert_injected("slow upload, read", after_first_byte(served.last_read_ns, reply.sent), DELAY * 2);
    assert_eq!(served.error, None);

    let (_, served) = one(&lab, &target, &Request::get("/").half_close())?;
    assert_eq!((served.status, served.error), (Some(200), None));
    Ok(())
}

#[test]
fn a_slow_reader_holds_the_target_up() -> Result<()> {
    let lab = Lab::new()?;
    let target = start_target(&lab, |_| {})?;
    let bytes = 16 << 20;
    let request = Request::get("/").header("X-Response-Bytes", bytes).before_read(DELAY);
    let mut connection = Client::new(&lab.lb).receive_buffer(8192).connect(target_addresses(8080)[0])?;
    let reply = connection.request(&request)?;
    assert_eq!(reply.body_bytes, bytes);
    let held = target.wait_for(1)?[0].writing_ns();
    assert!(held > Some(duration_ns(DELAY / 2)), "the response waited in the target: {held:?}");

    let slow = Request::get("/").header("X-Response-Bytes", 1000).read_slowly(100, ms(5));
    let reply = connection.request(&slow)?;
    assert!(reply.last_byte_ns - reply.first_byte_ns >= duration_ns(ms(50)), "a pause after each hundred bytes");
    Ok(())
}

#[test]
fn a_client_that_breaks_off_is_seen_by_the_target() -> Result<()> {
    let lab = Lab::new()?;
    let target =
        start_target(&lab, |options| options.behaviour = Behaviour { before_write: DELAY, ..Behaviour::default() })?;
    let client = Client::new(&lab.lb);
    let mut connection = client.connect(target_addresses(8080)[0])?;
    connection.send(&Request::get("/reset"))?;
    connection.reset()?;
    let mut connection = client.connect(target_addresses(8080)[0])?;
    connection.send_raw(b"GET /half HTTP/1.1\r\n")?;
    connection.abandon();
    let served = target.wait_for(2)?;
    assert!(served.iter().all(|served| served.error.is_some()), "{served:?}");
    assert!(Client::new(&lab.lb).connect(target_addresses(9)[0]).is_err(), "nobody listens there");
    Ok(())
}

#[test]
fn thousands_of_connections_stay_open() -> Result<()> {
    let lab = Lab::new()?;
    let _target = start_target(&lab, |options| options.backlog = 4096)?;
    let mut connections = Client::new(&lab.lb).connect_many(target_addresses(8080)[0], 2000)?;
    for connection in &mut connections {
        assert_eq!(connection.request(&Request::get("/"))?.status, 200);
    }
    Ok(())
}
