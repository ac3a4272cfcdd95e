//! Responses that go on, and messages that go one way.

use anyhow::Result;
use lab::client::Request;
use lab::clock::sleep;
use lab::server::{Kind, Options, interpreter};
use lab::tracer::Trace;

use crate::scene::{ADDRESS, Scene, assert_healthy, ms, ok, settle};

/// An ordinary request, and then server-sent events, twice a second.
fn events(kind: Kind, count: u32) -> Result<Trace> {
    let scene = Scene::new(kind)?;
    let tracer = scene.trace(&["--idle-timeout", "1s"])?;
    let mut connection = scene.connect()?;
    ok(&connection.request(&Request::get("/"))?)?;
    ok(&connection.request(&Request::get(&format!("/events?{count}")).header("Connection", "close"))?)?;
    drop(connection);
    sleep(ms(1300));
    settle(tracer)
}

/// A few seconds: a request whose response takes that long.
fn short(kind: Kind) -> Result<()> {
    let trace = events(kind, 6)?;
    assert_healthy(&trace, 2);
    let download = trace.requests.iter().filter_map(|it| it.stages_ns.download).max();
    assert!(download.is_some_and(|it| (2_000_000_000..4_000_000_000).contains(&it)), "{:#?}", trace.requests);
    Ok(())
}

/// More than ten seconds: a stream, which is in no figure of requests.
fn long(kind: Kind) -> Result<()> {
    let trace = events(kind, 23)?;
    assert!(trace.rejections.is_empty(), "{:#?}", trace.rejections);
    let kinds: Vec<_> = trace.messages.iter().map(|it| it.kind.as_str()).collect();
    assert_eq!((kinds.as_slice(), trace.summary.requests), (&["stream"][..], 1), "{:#?}", trace.requests);
    assert_eq!(trace.summary.more["streams"], 1, "{:#?}", trace.summary);
    Ok(())
}

#[test]
fn uvicorn_sends_events_for_seconds() -> Result<()> {
    short(Kind::Uvicorn)
}

#[test]
fn node_sends_events_for_seconds() -> Result<()> {
    short(Kind::Node)
}

#[test]
fn uvicorn_sends_events_for_long() -> Result<()> {
    long(Kind::Uvicorn)
}

#[test]
fn node_sends_events_for_long() -> Result<()> {
    long(Kind::Node)
}

/// A WebSocket: address, port, path. Sends 15 messages, and a ping between, to `/up`; else reads 20 messages and closes, unless
/// the server does.
const WEB_SOCKET: &str = r#"
import socket, sys, time
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Ping, Request, TextMessage
address, port, path = sys.argv[1:]
connection = socket.create_connection((address, int(port)), timeout=10)
connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
client = WSConnection(ConnectionType.CLIENT)

def receive():
    client.receive_data(connection.recv(4096) or None)
    return list(client.events())

connection.sendall(client.send(Request(host="target.internal", target=path)))
events = receive()
assert isinstance(events[0], AcceptConnection), events
if path == "/up":
    for number in range(15):
        connection.sendall(client.send(TextMessage(data=f"message {number}")))
        if number == 7:
            connection.sendall(client.send(Ping()))
        time.sleep(.1)
    # Quiet for longer than the load balancer waits for a response.
    time.sleep(1.5)
    connection.sendall(client.send(CloseConnection(code=1000)))
    while not any(isinstance(event, CloseConnection) for event in receive()):
        pass
else:
    got = sum(isinstance(event, TextMessage) for event in events)
    while got < 20:
        got += sum(isinstance(event, TextMessage) for event in receive())
    if path == "/down":
        connection.sendall(client.send(CloseConnection(code=1000)))
    while True:
        closes = [event for event in receive() if isinstance(event, CloseConnection)]
        if closes:
            break
    if path == "/down/close":
        connection.sendall(client.send(closes[0].response()))
connection.close()
"#;

fn web_socket(kind: Kind, path: &str) -> Result<Trace> {
    let scene = Scene::with(kind, &Options::listen(ADDRESS))?;
    let tracer = scene.trace(&["--idle-timeout", "1s"])?;
    let (ip, port) = (ADDRESS.ip().to_string(), ADDRESS.port().to_string());
    scene.lab.lb.run(&interpreter().to_string_lossy(), &["-c", WEB_SOCKET, &ip, &port, path])?;
    sleep(ms(1300));
    let trace = settle(tracer)?;
    println!("{}", trace.summary.more["verdict"]);
    assert!(trace.rejections.is_empty() && trace.waiting.is_empty(), "{:#?} {:#?}", trace.rejections, trace.waiting);
    // The switch of protocols.
    assert_eq!(trace.summary.requests, 1, "{:#?}", trace.requests);
    Ok(trace)
}

/// Each message of the client is one.
fn upwards(kind: Kind) -> Result<()> {
    let trace = web_socket(kind, "/up")?;
    assert!(
        !trace.messages.is_empty() && trace.messages.iter().all(|it| it.kind == "message"),
        "{:#?}",
        trace.messages
    );
    // All bytes of the messages are in them, and none in the request.
    let bytes: u64 = trace.messages.iter().map(|it| it.bytes_in).sum();
    assert!((200..400).contains(&bytes), "{:#?}", trace.messages);
    Ok(())
}

/// The server's messages are the response that goes on.
fn downwards(kind: Kind, path: &str) -> Result<()> {
    let trace = web_socket(kind, path)?;
    let download = trace.requests[0].stages_ns.download;
    assert!(download.is_some_and(|it| it > 1_500_000_000), "{:#?}", trace.requests);
    Ok(())
}

#[test]
fn messages_go_to_uvicorn() -> Result<()> {
    upwards(Kind::Uvicorn)
}

#[test]
fn messages_go_to_hypercorn() -> Result<()> {
    upwards(Kind::Hypercorn)
}

#[test]
fn messages_come_from_uvicorn() -> Result<()> {
    downwards(Kind::Uvicorn, "/down")
}

#[test]
fn messages_come_from_hypercorn() -> Result<()> {
    downwards(Kind::Hypercorn, "/down")
}

/// The first frame of the client is its answer to the server's close, and comes after the server has closed the socket.
#[test]
fn messages_come_and_the_server_closes() -> Result<()> {
    for kind in [Kind::Uvicorn, Kind::Hypercorn] {
        downwards(kind, "/down/close")?;
    }
    Ok(())
}
