//! The application closes connections that the load balancer would use again.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Range;

use anyhow::{Context, Result};
use lab::client::{Connection, Request};
use lab::clock::sleep;
use lab::fault::{Hook, Rules, matching};
use lab::netns::state;
use lab::nginx::{self, Nginx};
use lab::node::Node;
use lab::target::Options;
use lab::tracer::{Rejection, Trace};
use lab::{Lab, Namespace};

use crate::scene::{Scene, assert_on_connections, ms, settle, start_tracer, wait_for_state, ways};

/// How the next request meets the close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meeting {
    /// The request is sent before the FIN has come: they cross on their way.
    Crosses,
    /// It is sent after the FIN has come and was acknowledged.
    ComesLate,
}

/// Uses a connection each way, waits until the application closes it, and uses it again. Returns the peers.
fn reuse(lab: &Lab, meeting: Meeting) -> Result<Vec<SocketAddr>> {
    // Before the application begins to count: a slow machine takes its time to make a rule.
    let held = match meeting {
        Meeting::Crosses => Some(Rules::start(&lab.lb, Hook::Input, &[&format!("{} drop", matching::FINS)])?),
        Meeting::ComesLate => None,
    };
    let client = lab::client::Client::new(&lab.lb);
    let mut open = Vec::new();
    for way in ways() {
        let mut connection = client.connect(way)?;
        connection.request(&Request::get("/"))?;
        open.push(connection);
    }
    let peers = open.iter().map(|connection| connection.local).collect();
    for connection in &mut open {
        meet(&lab.target, connection, meeting)?;
    }
    drop(held);
    Ok(peers)
}

fn meet(target: &Namespace, connection: &mut Connection, meeting: Meeting) -> Result<()> {
    let (local, peer) = (connection.peer.port(), connection.local.port());
    match meeting {
        Meeting::Crosses => {
            wait_for_state(target, local, peer, state::FIN_WAIT1)?;
            connection.send(&Request::get("/"))?;
            anyhow::ensure!(!connection.wait_closed()?, "no reset has come");
        }
        Meeting::ComesLate => {
            anyhow::ensure!(connection.wait_closed()?, "no FIN has come");
            wait_for_state(target, local, peer, state::FIN_WAIT2)?;
            connection.send(&Request::get("/"))?;
        }
    }
    Ok(())
}

/// Asserts that each connection was reported once, closed by `comm` after so many milliseconds.
#[track_caller]
fn assert_race<'a>(trace: &'a Trace, peers: &[SocketAddr], comm: &str, idle_ms: Range<u64>) -> Vec<&'a Rejection> {
    let told = assert_on_connections(trace, "keepalive_race", peers, None, &["keepalive_too_short"]);
    for told in &told {
        assert_eq!(told.evidence, "observed", "{told:#?}");
        assert!(told.idle_ns.is_some_and(|idle| idle_ms.contains(&(idle / 1_000_000))), "{told:#?}");
        assert!(told.late_ns.is_some_and(|late| late < 2_000_000_000), "{told:#?}");
        let by = told.ended_by.as_ref();
        assert_eq!(by.map(|by| (by.comm.as_str(), by.how.as_deref())), Some((comm, Some("closed"))), "{told:#?}");
        for blamed in ["load balancer reset", "peer reset"] {
            assert!(!told.explanation.contains(blamed), "{told:#?}");
        }
    }
    // The second request never reached the application: there is none of it.
    assert_eq!(trace.requests.len(), peers.len(), "{:#?}", trace.requests);
    told
}

/// A TLS record with this many bytes of encrypted data.
fn record(bytes: u8) -> Vec<u8> {
    let mut record = vec![23, 3, 3, 0, bytes];
    record.resize(5 + usize::from(bytes), 7);
    record
}

/// A server that speaks TLS writes a close alert of 24 bytes before its FIN. Neither has come when the request is sent.
#[test]
fn a_request_crosses_a_tls_close() -> Result<()> {
    let lab = Lab::new()?;
    let tracer = start_tracer(&lab, &[])?;
    let request = record(200);
    let mut peers = Vec::new();
    for way in ways() {
        let listener = lab.target.enter(|| TcpListener::bind(way).context("cannot listen"))?;
        let mut client = lab.lb.enter(|| TcpStream::connect(way).context("cannot connect"))?;
        let (mut server, _) = listener.accept().context("cannot accept")?;
        client.write_all(&request)?;
        server.read_exact(&mut vec![0; request.len()]).context("cannot read the request")?;
        server.write_all(&record(250)).context("cannot answer")?;
        client.read_exact(&mut [0; 255]).context("cannot read the answer")?;
        sleep(ms(1200));
        let held = Rules::start(&lab.lb, Hook::Input, &[&format!("{} drop", matching::TCP)])?;
        server.write_all(&record(19)).context("cannot write the alert")?;
        drop(server);
        let peer = client.local_addr()?;
        wait_for_state(&lab.target, way.port(), peer.port(), state::FIN_WAIT1)?;
        client.write_all(&request)?;
        sleep(ms(100));
        drop(held);
        peers.push(peer);
    }
    let trace = settle(tracer)?;
    let told = assert_on_connections(&trace, "keepalive_race", &peers, None, &["keepalive_too_short"]);
    assert!(told.iter().all(|told| told.idle_ns.is_some_and(|idle| idle > 1_000_000_000)), "{told:#?}");
    Ok(())
}

fn with_target(meeting: Meeting) -> Result<()> {
    let scene = Scene::new(|options| options.idle_close = Some(ms(600)))?;
    let tracer = scene.trace(&[])?;
    let peers = reuse(&scene.lab, meeting)?;
    let trace = settle(tracer)?;
    for told in assert_race(&trace, &peers, "lab-target", 600..1200) {
        assert_eq!(told.ended_by.as_ref().map(|by| by.pid), Some(scene.target.pid()), "{told:#?}");
    }
    // Less than a second is not what is warned of.
    assert!(trace.rejections_of("keepalive_too_short").is_empty(), "{:#?}", trace.rejections);
    Ok(())
}

#[test]
fn a_request_crosses_the_close() -> Result<()> {
    with_target(Meeting::Crosses)
}

#[test]
fn a_request_comes_after_the_close() -> Result<()> {
    with_target(Meeting::ComesLate)
}

fn with_nginx(meeting: Meeting) -> Result<()> {
    let lab = Lab::new()?;
    let options = nginx::Options { keepalive_timeout: ms(2000), ..nginx::Options::listen(&ways()) };
    let nginx = Nginx::start(&lab, "nginx", &options)?;
    let tracer = start_tracer(&lab, &[])?;
    let peers = reuse(&lab, meeting)?;
    let trace = settle(tracer)?;
    // nginx counts from its own idea of the time, which is some milliseconds old.
    for told in assert_race(&trace, &peers, "nginx", 1990..3000) {
        let by = told.ended_by.as_ref().context("nobody closed it")?;
        assert!(nginx.workers().contains(&by.pid), "{told:#?}");
    }
    Ok(())
}

#[test]
fn nginx_crosses() -> Result<()> {
    with_nginx(Meeting::Crosses)
}

#[test]
fn nginx_late() -> Result<()> {
    with_nginx(Meeting::ComesLate)
}

/// node.js listens on one address here, so each way has a server.
fn with_node(meeting: Meeting) -> Result<()> {
    let lab = Lab::new()?;
    let [v4, v6] = ways();
    let nodes = [Node::start(&lab, "node4", v4, ms(1000))?, Node::start(&lab, "node6", v6, ms(1000))?];
    let tracer = start_tracer(&lab, &[])?;
    let peers = reuse(&lab, meeting)?;
    let trace = settle(tracer)?;
    for told in assert_race(&trace, &peers, "node", 1000..2800) {
        let node = &nodes[usize::from(told.local == Some(v6))];
        assert_eq!(told.ended_by.as_ref().map(|by| by.pid), Some(node.process.pid()), "{told:#?}");
    }
    Ok(())
}

#[test]
fn node_crosses() -> Result<()> {
    with_node(Meeting::Crosses)
}

#[test]
fn node_late() -> Result<()> {
    with_node(Meeting::ComesLate)
}

/// Before harm: the application closes idle connections sooner than the load balancer would. Two closes may be chance; from
/// the third one on it is a setting.
#[test]
fn idle_connections_are_closed_too_soon() -> Result<()> {
    let scene = Scene::new(|options| options.idle_close = Some(ms(1300)))?;
    let tracer = scene.trace(&[])?;
    let mut peers = Vec::new();
    for _ in 0..3 {
        peers = scene
            .each_way(|connection| {
                connection.request(&Request::get("/"))?;
                anyhow::ensure!(connection.wait_closed()?, "it was reset");
                Ok(())
            })?
            .to_vec();
    }
    let trace = settle(tracer)?;
    for told in assert_on_connections(&trace, "keepalive_too_short", &peers, None, &[]) {
        assert_eq!((told.evidence.as_str(), told.same_idle), ("inferred", Some(3)), "{told:#?}");
        assert!(told.idle_ns.is_some_and(|idle| (1_300_000_000..1_800_000_000).contains(&idle)), "{told:#?}");
        assert_eq!(told.ended_by.as_ref().map(|by| by.pid), Some(scene.target.pid()), "{told:#?}");
    }
    Ok(())
}

/// With a load balancer that is told to close first, it is no warning.
#[test]
fn an_idle_timeout_that_is_longer_than_the_load_balancers_is_right() -> Result<()> {
    let scene = Scene::new(|options: &mut Options| options.idle_close = Some(ms(1300)))?;
    let tracer = scene.trace(&["--idle-timeout", "1s"])?;
    scene.each_way(|connection| {
        connection.request(&Request::get("/"))?;
        connection.wait_closed().map(drop)
    })?;
    sleep(ms(50));
    let trace = settle(tracer)?;
    assert!(trace.rejections.is_empty(), "{:#?}", trace.rejections);
    Ok(())
}

/// The application says that it closes, and does so at once: nothing is wrong with that.
#[test]
fn a_close_that_was_announced_is_no_warning() -> Result<()> {
    let scene = Scene::new(|_| {})?;
    let tracer = scene.trace(&[])?;
    scene.each_way(|connection| {
        connection.request(&Request::get("/").header("X-Before-Write", 1200).header("X-Close", 1))?;
        connection.wait_closed().map(drop)
    })?;
    let trace = settle(tracer)?;
    assert!(trace.rejections.is_empty(), "{:#?}", trace.rejections);
    Ok(())
}
