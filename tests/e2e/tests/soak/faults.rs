//! One real fault per round, on a listener of its own.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use lab::client::{Client, Request};
use lab::clock::sleep;
use lab::fault::{Hook, Rules};
use lab::target::{Options, Target};
use lab::topology::TARGET_V4;

use crate::scene::{Scene, never_accepts};

/// Less than the second after which a SYN is sent again.
const ONE_SYN: Duration = Duration::from_millis(400);
const IDLE: Duration = Duration::from_millis(600);
/// How often each fault happens.
pub const TIMES: u64 = 3;

/// A fault that was made [`TIMES`] times, and what is to be said of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub cause: &'static str,
    pub local: SocketAddr,
}

type Make = fn(&Scene, SocketAddr) -> Result<()>;

/// The faults in the order of their rounds; then they begin anew.
const FAULTS: [(&str, Make); 7] = [
    ("accept_queue_full", full_queue),
    ("no_listener", closed_port),
    ("firewall_drop", firewall_drop),
    ("keepalive_race", keep_alive),
    ("closed_before_response", closes),
    ("firewall_reject", firewall_reject),
    ("reset_before_response", resets),
];

/// Makes the fault of a round. Each round has a port of its own.
pub fn make(scene: &Scene, round: u32) -> Result<Fault> {
    let (cause, make) = FAULTS[round as usize % FAULTS.len()];
    let local = SocketAddr::new(TARGET_V4.into(), 9200 + u16::try_from(round)?);
    make(scene, local)?;
    Ok(Fault { cause, local })
}

fn refused(scene: &Scene, local: SocketAddr) -> Result<()> {
    for _ in 0..TIMES {
        ensure!(Client::new(&scene.lab.lb).timeout(ONE_SYN).connect(local).is_err(), "{local} can be reached");
    }
    Ok(())
}

fn full_queue(scene: &Scene, local: SocketAddr) -> Result<()> {
    let _target = Target::start(&scene.lab, "fault", &never_accepts(local))?;
    let _waiting = Client::new(&scene.lab.lb).connect_many(local, 2)?;
    sleep(Duration::from_millis(50));
    refused(scene, local)?;
    // The listener is asked for its process while it is there.
    sleep(Duration::from_millis(1500));
    Ok(())
}

fn closed_port(scene: &Scene, local: SocketAddr) -> Result<()> {
    refused(scene, local)
}

fn firewall_drop(scene: &Scene, local: SocketAddr) -> Result<()> {
    behind_rule(scene, local, "drop")
}

fn firewall_reject(scene: &Scene, local: SocketAddr) -> Result<()> {
    behind_rule(scene, local, "reject with tcp reset")
}

fn behind_rule(scene: &Scene, local: SocketAddr, verdict: &str) -> Result<()> {
    let _target = Target::start(&scene.lab, "fault", &Options::listen(&[local]))?;
    let rule = format!("tcp dport {} {verdict}", local.port());
    let _rules = Rules::start(&scene.lab.target, Hook::Input, &[&rule])?;
    refused(scene, local)?;
    // The rules are looked up while they are there.
    sleep(Duration::from_millis(1500));
    Ok(())
}

/// The next request comes after the application has closed the idle connection.
fn keep_alive(scene: &Scene, local: SocketAddr) -> Result<()> {
    let options = Options { idle_close: Some(IDLE), ..Options::listen(&[local]) };
    let _target = Target::start(&scene.lab, "fault", &options)?;
    for _ in 0..TIMES {
        let mut connection = Client::new(&scene.lab.lb).connect(local)?;
        connection.request(&Request::get("/"))?;
        ensure!(connection.wait_closed()?, "no FIN has come");
        connection.send(&Request::get("/"))?;
    }
    sleep(Duration::from_millis(1500));
    Ok(())
}

fn closes(scene: &Scene, local: SocketAddr) -> Result<()> {
    unanswered(scene, local, &Request::get("/").header("X-Read-Bytes-Then-Close", 100_000))
}

fn resets(scene: &Scene, local: SocketAddr) -> Result<()> {
    unanswered(scene, local, &Request::get("/").header("X-Read-Bytes-Then-Close", 100_000).header("X-Linger0", 1))
}

fn unanswered(scene: &Scene, local: SocketAddr, request: &Request) -> Result<()> {
    let _target = Target::start(&scene.lab, "fault", &Options::listen(&[local]))?;
    for _ in 0..TIMES {
        ensure!(Client::new(&scene.lab.lb).request(local, request).is_err(), "it answers");
    }
    sleep(Duration::from_millis(1500));
    Ok(())
}
