//! Processes that end while they hold connections.

use std::io::Write;

use anyhow::Result;
use lab::clock::sleep;
use lab::memory::MemoryLimit;
use lab::process::Signal;

use crate::scene::{GET, Scene, assert_causes, assert_turns, expect, ms, the_one};

/// Answers each of three connections in part, and keeps them.
const PARTS: &str = "held = []\nfor _ in range(3):\n  c, _ = l.accept()\n  c.recv(9999)\n  \
    c.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 100000\\r\\n\\r\\n' + b'x' * 2000)\n  held.append(c)\n";
const PART: usize = 43 + 2000;

/// Opens three connections, each answered in part.
fn answered_in_part(scene: &Scene) -> Result<Vec<std::net::TcpStream>> {
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = scene.connect()?;
        client.write_all(GET)?;
        std::io::Read::read_exact(&mut client, &mut [0; PART])?;
        clients.push(client);
    }
    Ok(clients)
}

fn ended(name: &'static str, end: impl FnOnce(lab::Process) -> Result<()>, program: &str, how: &str) -> Result<()> {
    let scene = Scene::new(name, &[])?;
    let server = scene.python(&format!("{PARTS}{program}"))?;
    let pid = server.pid();
    let clients = answered_in_part(&scene)?;
    sleep(ms(300));
    end(server)?;
    let trace = scene.end()?;
    drop(clients);
    assert_causes(&trace, &[("process_died", 3)]);
    let told = the_one(&trace, "process_died");
    let by = told.ended_by.as_ref().map(|by| (by.pid, by.how.as_deref()));
    assert_eq!((told.evidence.as_str(), by), ("inferred", Some((pid, Some(how)))), "{told:#?}");
    assert_eq!(told.closed_together, Some(3), "{told:#?}");
    assert!(told.idle_ns.is_some_and(|idle| idle < 900_000_000), "{told:#?}");
    assert!(told.explanation.contains("may not have been whole"), "{told:#?}");
    Ok(())
}

#[test]
fn killed_in_mid_response() -> Result<()> {
    let kill = |mut server: lab::Process| {
        server.signal(Signal::KILL)?;
        server.stop(Signal::KILL).map(drop)
    };
    ended("killed", kill, "time.sleep(60)\n", "killed by signal 9")
}

#[test]
fn exits_in_mid_response() -> Result<()> {
    let wait = |mut server: lab::Process| server.wait(ms(5000)).map(drop);
    ended("exited", wait, "time.sleep(.3)\nos._exit(3)\n", "exited")
}

/// Told to end, long after the last byte: nothing was under way.
#[test]
fn told_to_end_while_all_is_quiet() -> Result<()> {
    let scene = Scene::new("terminated", &[])?;
    let mut server = scene.python(&format!("{PARTS}time.sleep(60)\n"))?;
    let clients = answered_in_part(&scene)?;
    sleep(ms(1500));
    server.stop(Signal::TERM)?;
    let trace = scene.end()?;
    drop(clients);
    assert_causes(&trace, &[]);
    Ok(())
}

/// A request that was read and not answered is lost, whatever became of the process.
#[test]
fn killed_before_a_response() -> Result<()> {
    let scene = Scene::new("killed-unanswered", &[])?;
    let mut server = scene.python("c, _ = l.accept()\nc.recv(9999)\ntime.sleep(60)\n")?;
    let mut client = scene.connect()?;
    client.write_all(GET)?;
    sleep(ms(300));
    server.stop(Signal::KILL)?;
    let trace = scene.end()?;
    let _ = expect(&mut client, GET);
    assert_causes(&trace, &[("closed_before_response", 1)]);
    let told = the_one(&trace, "closed_before_response");
    assert_eq!(told.ended_by.as_ref().and_then(|by| by.how.as_deref()), Some("killed by signal 9"), "{told:#?}");
    Ok(())
}

/// It does not handle the signal.
#[test]
fn told_to_end_in_mid_response() -> Result<()> {
    let stop = |mut server: lab::Process| server.stop(Signal::TERM).map(drop);
    ended("terminated-in-mid-response", stop, "time.sleep(60)\n", "killed by signal 15")
}

#[test]
fn crashes_in_mid_response() -> Result<()> {
    let crash = |mut server: lab::Process| server.stop(Signal::SEGV).map(drop);
    ended("crashed", crash, "time.sleep(60)\n", "killed by signal 11")
}

/// It takes more memory than it may have.
#[test]
fn killed_for_lack_of_memory() -> Result<()> {
    let limit = |mut server: lab::Process| {
        let _limit = MemoryLimit::new(server.pid(), 48 << 20)?;
        server.wait(ms(5000)).map(drop)
    };
    let program = "time.sleep(.7)\nheld.append(bytearray(200_000_000))\ntime.sleep(9)\n";
    ended("out-of-memory", limit, program, "killed by the kernel for lack of memory")
}

/// What is killed had no chance to finish anything: it takes longer until there is no doubt.
#[test]
#[ignore = "takes a minute"]
fn killed_while_all_is_quiet() -> Result<()> {
    let scene = Scene::new("killed-quiet", &[])?;
    let mut server = scene.python(&format!("{PARTS}time.sleep(90)\n"))?;
    let clients = answered_in_part(&scene)?;
    sleep(ms(61_000));
    server.stop(Signal::KILL)?;
    let trace = scene.end()?;
    drop(clients);
    assert_causes(&trace, &[]);
    assert_turns(&trace, 3, 0, 0);
    Ok(())
}
