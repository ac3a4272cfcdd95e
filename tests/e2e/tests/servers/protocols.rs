//! TLS, WebSocket and Redis: what is a request is counted once, what is none is not, and nothing is reported.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lab::Lab;
use lab::clock::sleep;
use lab::fault::{Hook, Rules, matching};
use lab::server::{Kind, Options};
use lab::tracer::Trace;

use crate::scene::{ADDRESS, Scene, assert_healthy, assert_healthy_in_tls, ms, settle};

/// Three connections with five requests each: version of TLS, address, port. The first one ends as RFC 8446 wants it, with a
/// close alert; the second one without; the third one with an alert and a FIN much later.
const TLS_CLIENT: &str = r#"
import http.client, socket, ssl, sys, time
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
context.minimum_version = context.maximum_version = getattr(ssl.TLSVersion, sys.argv[1])
for end in ("alert", None, "early alert"):
    connection = http.client.HTTPSConnection(sys.argv[2], int(sys.argv[3]), context=context, timeout=20)
    for body in (None, None, b"x" * 5000, b"x" * 200000, None):
        connection.request("POST" if body else "GET", "/", body)
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b"ok")
        time.sleep(.02)
    if end:
        # As most clients do it: the alert, and the FIN without waiting for the answer; here in one packet, as nginx
        # answers the alert with its own close within microseconds.
        if end == "alert":
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        connection.sock.setblocking(False)
        try:
            connection.sock.unwrap()
        except (ssl.SSLWantReadError, ssl.SSLEOFError):
            pass
        if end == "early alert":
            time.sleep(.3)
    connection.close()
"#;

/// nginx with TLS, and with more of its configuration.
pub fn with_tls(directives: &str) -> Result<Scene> {
    let lab = Lab::new()?;
    let file = |name: &str| lab.directory().join(name).display().to_string();
    let (key, certificate) = (file("key.pem"), file("certificate.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=target.internal"]);
    let made = openssl.args(["-keyout", &key, "-out", &certificate]).output().context("cannot start openssl")?;
    ensure!(made.status.success(), "openssl failed: {}", String::from_utf8_lossy(&made.stderr));
    let directives = format!(
        "ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3; {directives}"
    );
    Scene::within(lab, Kind::Nginx, &Options::listen(ADDRESS).directives(&directives))
}

fn tls(version: &str) -> Result<()> {
    let scene = with_tls("")?;
    let tracer = scene.trace(&[])?;
    let (ip, port) = (ADDRESS.ip().to_string(), ADDRESS.port().to_string());
    scene.lab.lb.run("python3", &["-c", TLS_CLIENT, version, &ip, &port])?;
    // Verdicts on what comes after a close wait for a second.
    sleep(ms(1300));
    let trace = settle(tracer)?;
    assert_healthy_in_tls(&trace, 15);
    Ok(())
}

#[test]
fn tls_1_2() -> Result<()> {
    tls("TLSv1_2")
}

#[test]
fn tls_1_3() -> Result<()> {
    tls("TLSv1_3")
}

/// A request on an idle connection, which the server has closed; the end of it was lost on the way. Version of TLS, address,
/// port.
const LATE_TLS_CLIENT: &str = r#"
import socket, ssl, sys, time
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
context.minimum_version = context.maximum_version = getattr(ssl.TLSVersion, sys.argv[1])
connection = context.wrap_socket(socket.create_connection((sys.argv[2], int(sys.argv[3])), timeout=20))
request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
connection.sendall(request)
assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
time.sleep(1.5)
connection.sendall(request)
time.sleep(.2)
"#;

/// The second request has 28 bytes, and is encrypted.
fn lost_in_tls(version: &str) -> Result<()> {
    let scene = with_tls("keepalive_timeout 1s;")?;
    let tracer = scene.trace(&[])?;
    let _lossy = Rules::start(&scene.lab.lb, Hook::Input, &[&format!("iifname eth0 {} drop", matching::FINS)])?;
    let (ip, port) = (ADDRESS.ip().to_string(), ADDRESS.port().to_string());
    scene.lab.lb.run("python3", &["-c", LATE_TLS_CLIENT, version, &ip, &port])?;
    sleep(ms(1300));
    let trace = settle(tracer)?;
    is_lost(&trace, "nginx");
    assert_eq!(trace.summary.requests, 1, "{:#?}", trace.requests);
    Ok(())
}

#[test]
fn a_request_is_lost_in_tls_1_2() -> Result<()> {
    lost_in_tls("TLSv1_2")
}

#[test]
fn a_request_is_lost_in_tls_1_3() -> Result<()> {
    lost_in_tls("TLSv1_3")
}

/// One request met the close of its connection by that server.
#[track_caller]
fn is_lost(trace: &Trace, server: &str) {
    let causes: Vec<_> = trace.causes().into_iter().collect();
    assert_eq!(causes, [("keepalive_race", 1)], "{:#?}", trace.rejections);
    let told = &trace.rejections[0];
    assert_eq!(told.ended_by.as_ref().map(|by| by.comm.as_str()), Some(server), "{told:#?}");
    assert!(told.idle_ns.is_some_and(|idle| idle > 900_000_000), "{told:#?}");
}

fn connect(scene: &Scene) -> Result<TcpStream> {
    let stream = scene.lab.lb.enter(|| TcpStream::connect(ADDRESS).context("cannot connect"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ms(10_000)))?;
    Ok(stream)
}

/// Requests of six bytes.
#[test]
fn redis() -> Result<()> {
    let scene = Scene::with(Kind::Redis, &Options::listen(ADDRESS))?;
    let tracer = scene.trace(&[])?;
    for _ in 0..3 {
        let mut client = connect(&scene)?;
        for _ in 0..5 {
            client.write_all(b"PING\r\n")?;
            let mut reply = [0; 7];
            client.read_exact(&mut reply)?;
            ensure!(&reply == b"+PONG\r\n", "{reply:?}");
        }
    }
    sleep(ms(1300));
    let trace = settle(tracer)?;
    assert_healthy(&trace, 15);
    Ok(())
}

/// Redis closes idle connections after a second and more; the end of one is lost on the way, and six bytes meet the close.
#[test]
fn a_short_command_of_redis_is_lost() -> Result<()> {
    let scene = Scene::with(Kind::Redis, &Options::listen(ADDRESS).keep_alive(ms(1000)))?;
    let tracer = scene.trace(&[])?;
    let _lossy = Rules::start(&scene.lab.lb, Hook::Input, &[&format!("iifname eth0 {} drop", matching::FINS)])?;
    let mut client = connect(&scene)?;
    client.write_all(b"PING\r\n")?;
    client.read_exact(&mut [0; 7])?;
    sleep(ms(3200));
    client.write_all(b"PING\r\n")?;
    sleep(ms(200));
    drop(client);
    sleep(ms(1100));
    let trace = settle(tracer)?;
    is_lost(&trace, "redis-server");
    assert_eq!(trace.rejections[0].evidence, "observed", "{:#?}", trace.rejections);
    assert_eq!(trace.summary.requests, 1, "{:#?}", trace.requests);
    Ok(())
}

/// A client that sends frames which need no answer, for longer than the load balancer would wait for a response.
#[test]
fn web_socket() -> Result<()> {
    let scene = Scene::new(Kind::Node)?;
    let tracer = scene.trace(&["--idle-timeout", "1s"])?;
    let mut client = connect(&scene)?;
    client.write_all(
        b"GET / HTTP/1.1\r\nHost: target.internal\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    )?;
    let mut reply = vec![0; 1000];
    let read = client.read(&mut reply)?;
    ensure!(reply[..read].starts_with(b"HTTP/1.1 101 "), "no upgrade");
    for _ in 0..10 {
        // Text, ten bytes, masked with zeros.
        client.write_all(b"\x81\x8a\0\0\0\0one way ..")?;
        sleep(ms(200));
    }
    drop(client);
    sleep(ms(1300));
    let trace = settle(tracer)?;
    assert!(trace.rejections.is_empty(), "{:#?}", trace.rejections);
    assert_eq!(trace.summary.requests, 1, "{:#?}", trace.requests);
    assert!(!trace.messages.is_empty(), "{:#?}", trace.summary);
    Ok(())
}
