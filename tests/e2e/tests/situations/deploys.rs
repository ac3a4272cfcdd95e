//! A server stops, reloads, or replaces a worker.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Result, bail};
use lab::clock::sleep;

use crate::scene::{
    GET, Scene, address, assert_blames_no_setting, assert_causes, assert_turns, close, drain, expect, ms, serve,
    the_one,
};

/// Uses a connection once, lets the server close it, and uses it again.
fn lose_one(mut client: TcpStream, server: TcpStream) -> Result<TcpStream> {
    close(server);
    client.write_all(GET)?;
    Ok(client)
}

#[test]
fn a_stop_that_loses_nothing_is_not_reported() -> Result<()> {
    let scene = Scene::new("stop", &[])?;
    let listener = scene.listen()?;
    let mut open = Vec::new();
    for _ in 0..3 {
        let (mut client, mut server) = scene.pair(&listener)?;
        serve(&mut client, &mut server)?;
        open.push((client, server));
        sleep(ms(600));
    }
    drop(listener);
    drop(open);
    let trace = scene.end()?;
    assert_causes(&trace, &[]);
    assert_eq!(trace.requests.len(), 3);
    Ok(())
}

#[test]
fn the_listener_closes_with_the_connection() -> Result<()> {
    let scene = Scene::new("stop-race", &[])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    serve(&mut client, &mut server)?;
    sleep(ms(2000));
    drop(listener);
    let _client = lose_one(client, server)?;
    let trace = scene.end()?;
    assert_causes(&trace, &[("keepalive_race", 1)]);
    let told = the_one(&trace, "keepalive_race");
    assert_eq!((told.evidence.as_str(), told.closed_because.as_deref()), ("observed", Some("stopped")), "{told:#?}");
    assert!(told.idle_ns.is_some_and(|idle| idle >= 1_900_000_000), "{told:#?}");
    assert!(told.explanation.contains("its listener closed"), "{told:#?}");
    assert!(told.advice.contains("deregister the target"), "{told:#?}");
    assert_blames_no_setting(told);
    Ok(())
}

/// The server stops half a second after it had closed the connection: that is no reason for the close.
#[test]
fn the_listener_closes_later() -> Result<()> {
    let scene = Scene::new("later-stop", &[])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    serve(&mut client, &mut server)?;
    sleep(ms(1000));
    let _client = lose_one(client, server)?;
    sleep(ms(500));
    drop(listener);
    let trace = scene.end()?;
    assert_causes(&trace, &[("keepalive_race", 1)]);
    let told = the_one(&trace, "keepalive_race");
    assert_eq!(told.closed_because, None, "{told:#?}");
    // One connection cannot tell whether its keep-alive time was over: both readings are said.
    assert!(told.explanation.contains("a stop, a reload or a keep-alive time that is too short"), "{told:#?}");
    Ok(())
}

/// A new server takes over the port.
#[test]
fn another_listener_takes_over() -> Result<()> {
    let scene = Scene::new("restart-race", &[])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    serve(&mut client, &mut server)?;
    sleep(ms(300));
    drop(listener);
    let _client = lose_one(client, server)?;
    let _next = scene.listen()?;
    let trace = scene.end()?;
    assert_causes(&trace, &[("keepalive_race", 1)]);
    let told = the_one(&trace, "keepalive_race");
    assert_eq!(told.closed_because.as_deref(), Some("replaced"), "{told:#?}");
    assert_blames_no_setting(told);
    Ok(())
}

/// The listener stays, as that of a master does: what was closed in the same instant says that it was a stop.
#[test]
fn connections_with_different_idle_times_close_in_one_instant() -> Result<()> {
    let scene = Scene::new("reload-race", &[])?;
    let listener = scene.listen()?;
    let mut open = Vec::new();
    for _ in 0..4 {
        let (mut client, mut server) = scene.pair(&listener)?;
        serve(&mut client, &mut server)?;
        open.push((client, server));
        sleep(ms(700));
    }
    let (clients, servers): (Vec<_>, Vec<_>) = open.into_iter().unzip();
    drop(servers);
    sleep(ms(5));
    let mut clients = clients.into_iter();
    let mut first = clients.next().expect("four");
    first.write_all(GET)?;
    let trace = scene.end()?;
    drop(clients);
    assert_causes(&trace, &[("keepalive_race", 1)]);
    let told = the_one(&trace, "keepalive_race");
    assert_eq!((told.closed_because.as_deref(), told.closed_together), (Some("together"), Some(4)), "{told:#?}");
    assert!(told.explanation.contains("4 connections with different idle times"), "{told:#?}");
    assert_blames_no_setting(told);
    Ok(())
}

/// A worker closes its connections and ends; the master keeps the listener.
#[test]
fn a_worker_ends_soon_after() -> Result<()> {
    let scene = Scene::new("worker-race", &[])?;
    let worker = "if os.fork() == 0:\n  c, _ = l.accept()\n  c.recv(9999)\n  \
        c.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\nhello')\n  time.sleep(.5)\n  c.close()\n  \
        time.sleep(.2)\n  os._exit(0)\nos.wait()\ntime.sleep(60)\n";
    let _server = scene.python(worker)?;
    let mut client = scene.connect()?;
    client.write_all(GET)?;
    expect(&mut client, crate::scene::OK)?;
    drain(&mut client);
    client.write_all(GET)?;
    let trace = scene.end()?;
    assert_causes(&trace, &[("keepalive_race", 1)]);
    let told = the_one(&trace, "keepalive_race");
    assert_eq!(told.closed_because.as_deref(), Some("worker_ended"), "{told:#?}");
    assert!(told.explanation.contains("its worker ended"), "{told:#?}");
    assert_blames_no_setting(told);
    Ok(())
}

/// Nothing says why it was closed: both readings are named, and no setting is blamed.
#[test]
fn a_busy_connection_is_closed() -> Result<()> {
    let scene = Scene::new("busy-race", &[])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    serve(&mut client, &mut server)?;
    sleep(ms(50));
    let _client = lose_one(client, server)?;
    let trace = scene.end()?;
    assert_causes(&trace, &[("keepalive_race", 1)]);
    let told = the_one(&trace, "keepalive_race");
    assert_eq!((told.evidence.as_str(), told.closed_because.as_deref()), ("observed", None), "{told:#?}");
    assert!(told.idle_ns.is_some_and(|idle| (40_000_000..500_000_000).contains(&idle)), "{told:#?}");
    assert_blames_no_setting(told);
    Ok(())
}

/// The request comes, and the server closes without having looked.
#[test]
fn a_request_is_unread_when_the_server_closes() -> Result<()> {
    let scene = Scene::new("unread-race", &[])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    serve(&mut client, &mut server)?;
    sleep(ms(300));
    client.write_all(GET)?;
    sleep(ms(5));
    drop(server);
    drop(listener);
    let trace = scene.end()?;
    assert_causes(&trace, &[("keepalive_race", 1)]);
    let told = the_one(&trace, "keepalive_race");
    assert_eq!((told.closed_because.as_deref(), told.never_read), (Some("stopped"), true), "{told:#?}");
    assert_blames_no_setting(told);
    Ok(())
}

/// Three connections, each closed after the same idle time, at different moments; then the next one loses a request.
#[test]
fn a_keep_alive_time_that_is_too_short_is_told_from_several() -> Result<()> {
    let scene = Scene::new("keep-alive", &[])?;
    let listener = scene.listen()?;
    for index in 0..4 {
        let (mut client, mut server) = scene.pair(&listener)?;
        serve(&mut client, &mut server)?;
        sleep(ms(1200));
        close(server);
        if index == 3 {
            client.write_all(GET)?;
        }
        sleep(ms(100));
    }
    let trace = scene.end()?;
    assert_causes(&trace, &[("keepalive_race", 1), ("keepalive_too_short", 2)]);
    let told = the_one(&trace, "keepalive_race");
    assert_eq!((told.closed_because.as_deref(), told.same_idle), (Some("keep_alive"), Some(4)), "{told:#?}");
    assert!(told.explanation.contains("4 connections closed after the same idle time"), "{told:#?}");
    Ok(())
}

/// The same, but another connection was idle for longer and lived on: it is no setting.
#[test]
fn a_keep_alive_time_that_another_connection_outlived_is_not_blamed() -> Result<()> {
    let scene = Scene::new("outlived", &[])?;
    let listener = scene.listen()?;
    let (mut patient, mut patient_server) = scene.pair(&listener)?;
    serve(&mut patient, &mut patient_server)?;
    sleep(ms(2600));
    serve(&mut patient, &mut patient_server)?;
    for index in 0..4 {
        let (mut client, mut server) = scene.pair(&listener)?;
        serve(&mut client, &mut server)?;
        sleep(ms(1100));
        close(server);
        if index == 3 {
            client.write_all(GET)?;
        }
    }
    let trace = scene.end()?;
    drop((patient, patient_server));
    assert_causes(&trace, &[("keepalive_race", 1)]);
    let told = the_one(&trace, "keepalive_race");
    assert_eq!(told.closed_because, None, "{told:#?}");
    assert!(told.outlived_ns.is_some_and(|longest| longest > 2_500_000_000), "{told:#?}");
    assert!(told.explanation.contains("another connection was idle for"), "{told:#?}");
    Ok(())
}

/// As Go's `Shutdown` does: first the listener, then the connections.
#[test]
fn the_listener_closes_before_the_connection() -> Result<()> {
    let scene = Scene::new("shutdown-race", &[])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    serve(&mut client, &mut server)?;
    drop(listener);
    sleep(ms(500));
    let _client = lose_one(client, server)?;
    let trace = scene.end_soon()?;
    assert_causes(&trace, &[("keepalive_race", 1)]);
    let told = the_one(&trace, "keepalive_race");
    assert_eq!(told.closed_because.as_deref(), Some("stopped"), "{told:#?}");
    assert_blames_no_setting(told);
    assert_turns(&trace, 1, 0, 0);
    Ok(())
}

/// The last response was a moment ago, and the listener closes, too.
#[test]
fn a_busy_connection_is_closed_at_a_stop() -> Result<()> {
    let scene = Scene::new("busy-stop-race", &[])?;
    let listener = scene.listen()?;
    let (mut client, mut server) = scene.pair(&listener)?;
    serve(&mut client, &mut server)?;
    sleep(ms(5));
    drop(listener);
    let _client = lose_one(client, server)?;
    let trace = scene.end_soon()?;
    assert_causes(&trace, &[("keepalive_race", 1)]);
    let told = the_one(&trace, "keepalive_race");
    assert_eq!(told.closed_because.as_deref(), Some("stopped"), "{told:#?}");
    assert_blames_no_setting(told);
    Ok(())
}

/// The listener is that of all addresses of both families, as many servers have it.
#[test]
fn the_listener_of_all_addresses_closes() -> Result<()> {
    let scene = Scene::new("wildcard-stop-race", &[])?;
    let listener = scene.listen_on("[::]:8080")?;
    let (mut client, mut server) = scene.pair(&listener)?;
    serve(&mut client, &mut server)?;
    sleep(ms(300));
    drop(listener);
    let _client = lose_one(client, server)?;
    let trace = scene.end_soon()?;
    assert_causes(&trace, &[("keepalive_race", 1)]);
    assert_eq!(the_one(&trace, "keepalive_race").closed_because.as_deref(), Some("stopped"));
    Ok(())
}

#[test]
fn a_reload_that_loses_nothing_is_not_reported() -> Result<()> {
    let scene = Scene::new("reload", &[])?;
    let listener = scene.listen()?;
    let mut open = Vec::new();
    for _ in 0..4 {
        let (mut client, mut server) = scene.pair(&listener)?;
        serve(&mut client, &mut server)?;
        open.push((client, server));
        sleep(ms(500));
    }
    let (clients, servers): (Vec<_>, Vec<_>) = open.into_iter().unzip();
    drop(servers);
    sleep(ms(5));
    drop(clients);
    let trace = scene.end()?;
    assert_causes(&trace, &[]);
    assert_turns(&trace, 4, 0, 0);
    Ok(())
}

/// Reloads one after the other. Each closes what is idle in one instant, and the process lives on.
#[test]
fn reloads_of_a_process_that_lives_on_are_no_keep_alive_time() -> Result<()> {
    let scene = Scene::new("reloads", &[])?;
    let listener = scene.listen()?;
    for _ in 0..3 {
        let mut open = Vec::new();
        for pause in [1500, 950, 250] {
            let (mut client, mut server) = scene.pair(&listener)?;
            serve(&mut client, &mut server)?;
            open.push((client, server));
            sleep(ms(pause));
        }
        let (clients, servers): (Vec<_>, Vec<_>) = open.into_iter().unzip();
        servers.into_iter().for_each(close);
        drop(clients);
    }
    let trace = scene.end()?;
    assert_causes(&trace, &[]);
    assert_turns(&trace, 9, 0, 0);
    Ok(())
}

/// Connections close in one instant, after the same idle time: a stop, or a keep-alive time. Neither is blamed.
#[test]
fn connections_with_the_same_idle_time_close_in_one_instant() -> Result<()> {
    let scene = Scene::new("one-instant", &[])?;
    let listener = scene.listen()?;
    let mut open = Vec::new();
    for _ in 0..4 {
        let (mut client, mut server) = scene.pair(&listener)?;
        serve(&mut client, &mut server)?;
        open.push((client, server));
    }
    sleep(ms(1300));
    let (mut clients, servers): (Vec<_>, Vec<_>) = open.into_iter().unzip();
    drop(servers);
    sleep(ms(5));
    clients[1].write_all(GET)?;
    let trace = scene.end()?;
    drop(clients);
    assert_causes(&trace, &[("keepalive_race", 1)]);
    let told = the_one(&trace, "keepalive_race");
    assert_eq!((told.closed_because.as_deref(), told.same_idle), (None, None), "{told:#?}");
    assert!(told.advice.contains("If the server stopped") && told.advice.contains("by itself"), "{told:#?}");
    Ok(())
}

#[test]
fn a_worker_that_loses_nothing_is_not_reported() -> Result<()> {
    let scene = Scene::new("worker", &[])?;
    let worker = "if os.fork() == 0:\n  c, _ = l.accept()\n  c.recv(9999)\n  \
        c.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\nhello')\n  time.sleep(1.2)\n  c.close()\n  \
        time.sleep(.2)\n  os._exit(0)\nos.wait()\ntime.sleep(60)\n";
    let _server = scene.python(worker)?;
    let mut client = scene.connect()?;
    client.write_all(GET)?;
    expect(&mut client, crate::scene::OK)?;
    drain(&mut client);
    drop(client);
    let trace = scene.end()?;
    assert_causes(&trace, &[]);
    assert_turns(&trace, 1, 0, 0);
    Ok(())
}

/// The process ends, and its connections with it.
#[test]
fn the_process_ends_and_a_request_meets_that() -> Result<()> {
    let scene = Scene::new("exit-race", &[])?;
    let program = "c, _ = l.accept()\nc.recv(9999)\n\
        c.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\nhello')\ntime.sleep(1.2)\nos._exit(0)\n";
    let _server = scene.python(program)?;
    let mut client = scene.connect()?;
    client.write_all(GET)?;
    expect(&mut client, crate::scene::OK)?;
    drain(&mut client);
    client.write_all(GET)?;
    let trace = scene.end_soon()?;
    assert_causes(&trace, &[("keepalive_race", 1)]);
    let told = the_one(&trace, "keepalive_race");
    assert_eq!(told.closed_because.as_deref(), Some("process_ended"), "{told:#?}");
    assert!(told.explanation.contains("the process ended"), "{told:#?}");
    assert_blames_no_setting(told);
    Ok(())
}

/// The listener closes with requests under way: they are lost because of the stop, and not because of a fault.
#[test]
fn a_stop_does_not_wait_for_requests_under_way() -> Result<()> {
    let scene = Scene::new("stop-under-way", &[])?;
    let listener = scene.listen()?;
    let mut open = Vec::new();
    for _ in 0..2 {
        let (mut client, mut server) = scene.pair(&listener)?;
        serve(&mut client, &mut server)?;
        client.write_all(GET)?;
        expect(&mut server, GET)?;
        open.push((client, server));
    }
    sleep(ms(100));
    drop(listener);
    let (clients, servers): (Vec<_>, Vec<_>) = open.into_iter().unzip();
    drop(servers);
    let trace = scene.end()?;
    drop(clients);
    assert_causes(&trace, &[("closed_before_response", 2)]);
    for told in trace.rejections_of("closed_before_response") {
        assert_eq!(told.closed_because.as_deref(), Some("stopped"), "{told:#?}");
        assert!(told.explanation.contains("its listener closed at the same moment"), "{told:#?}");
        assert!(told.advice.contains("finish its requests") && !told.advice.contains("crash"), "{told:#?}");
    }
    assert_turns(&trace, 4, 2, 0);
    Ok(())
}

/// The first request of a connection meets a stop: no limit of the application is at fault.
#[test]
fn the_first_request_meets_a_stop() -> Result<()> {
    let scene = Scene::new("stop-first-request", &[])?;
    let listener = scene.listen()?;
    let (client, server) = scene.pair(&listener)?;
    sleep(ms(50));
    drop(listener);
    let _client = lose_one(client, server)?;
    let trace = scene.end()?;
    assert_causes(&trace, &[("reset_before_response", 1)]);
    let told = the_one(&trace, "reset_before_response");
    assert_eq!((told.closed_unread, told.closed_because.as_deref()), (true, Some("stopped")), "{told:#?}");
    assert!(told.explanation.contains("its listener closed at the same moment"), "{told:#?}");
    assert!(told.advice.contains("deregister the target") && !told.advice.contains("limit"), "{told:#?}");
    Ok(())
}

/// Two workers, each with a listener of its own on the same port (`SO_REUSEPORT`), as their responses tell. `/stop` closes the
/// worker's listener, `/last` the connection a moment later.
const WORKERS: &str = "
import os, select, socket, time
def work(letter, parent):
  l = socket.socket()
  l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
  l.bind(('0.0.0.0', 8080))
  l.listen(64)
  print('listening', flush=True)
  sockets, last = [l], []
  while os.getppid() == parent:
    for s in select.select(sockets, [], [], .02)[0]:
      if s is l:
        sockets.append(l.accept()[0])
        continue
      request = s.recv(9999)
      if not request:
        sockets.remove(s)
        s.close()
        continue
      if b'/stop' in request:
        sockets.remove(l)
        l.close()
      if b'/last' in request:
        last.append((time.time() + .3, s))
      s.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 1\\r\\n\\r\\n' + letter)
    for at, s in last[:]:
      if time.time() >= at:
        last.remove((at, s))
        sockets.remove(s)
        s.close()
  os._exit(0)
for letter in (b'a', b'b'):
  parent = os.getpid()
  if os.fork() == 0:
    work(letter, parent)
time.sleep(60)
";

/// A request for `path` and the letter of the worker that answers.
fn ask(client: &mut TcpStream, path: &str) -> Result<u8> {
    client.write_all(format!("GET {path} HTTP/1.1\r\nHost: target.internal\r\n\r\n").as_bytes())?;
    let mut response = [0; 39];
    client.read_exact(&mut response)?;
    Ok(response[38])
}

/// A connection to the worker `letter`.
fn connect_to(scene: &Scene, letter: u8) -> Result<TcpStream> {
    for _ in 0..100 {
        let mut client = scene.connect()?;
        if ask(&mut client, "/")? == letter {
            return Ok(client);
        }
    }
    bail!("{} connections to {}, and none to that worker", 100, address())
}

/// One worker ends, and a moment later another one closes a connection: that is not because of the first one's listener.
#[test]
fn the_listener_of_another_worker_closes() -> Result<()> {
    let scene = Scene::new("other-worker", &[])?;
    let _server = scene.python_alone(WORKERS)?;
    sleep(ms(3000));
    let mut client = connect_to(&scene, b'a')?;
    let mut other = connect_to(&scene, b'b')?;
    ask(&mut client, "/last")?;
    ask(&mut other, "/stop")?;
    drain(&mut client);
    client.write_all(GET)?;
    let trace = scene.end()?;
    assert_causes(&trace, &[("keepalive_race", 1)]);
    let told = the_one(&trace, "keepalive_race");
    assert_eq!(told.closed_because, None, "{told:#?}");
    assert_blames_no_setting(told);
    Ok(())
}

/// A worker closes its own listener and its connection; the other one serves on.
#[test]
fn a_worker_closes_its_own_listener() -> Result<()> {
    let scene = Scene::new("own-worker", &[])?;
    let _server = scene.python_alone(WORKERS)?;
    sleep(ms(3000));
    let mut client = connect_to(&scene, b'a')?;
    let mut other = connect_to(&scene, b'a')?;
    ask(&mut client, "/last")?;
    ask(&mut other, "/stop")?;
    drain(&mut client);
    client.write_all(GET)?;
    let trace = scene.end()?;
    assert_causes(&trace, &[("keepalive_race", 1)]);
    let told = the_one(&trace, "keepalive_race");
    assert_eq!(told.closed_because.as_deref(), Some("worker_ended"), "{told:#?}");
    assert!(told.explanation.contains("while the port was still served"), "{told:#?}");
    assert_blames_no_setting(told);
    Ok(())
}

/// The last of two listeners closes: that is a stop, whichever worker had the connection.
#[test]
fn the_last_listener_of_two_closes() -> Result<()> {
    let scene = Scene::new("last-worker", &[])?;
    let _server = scene.python_alone(WORKERS)?;
    sleep(ms(3000));
    let mut client = connect_to(&scene, b'a')?;
    let mut other = connect_to(&scene, b'b')?;
    let mut own = connect_to(&scene, b'a')?;
    ask(&mut own, "/stop")?;
    sleep(ms(1500));
    ask(&mut client, "/last")?;
    ask(&mut other, "/stop")?;
    drain(&mut client);
    client.write_all(GET)?;
    let trace = scene.end()?;
    assert_causes(&trace, &[("keepalive_race", 1)]);
    assert_eq!(the_one(&trace, "keepalive_race").closed_because.as_deref(), Some("stopped"));
    Ok(())
}
