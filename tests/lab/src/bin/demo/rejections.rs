//! The acts in which something is refused or broken: one of each family.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};
use lab::client::{Client, Connection, Request};
use lab::clock;
use lab::fault::{Hook, Rules};
use lab::process::Signal;
use lab::target::{Options, Target};
use lab::topology::target_addresses;

use crate::scene::{APP, Scene};

/// Where nothing listens.
const NOTHING: u16 = 8090;
/// Where an application does not accept.
const FULL: u16 = 8091;
/// What a firewall rule drops, and what another one rejects.
const DROPPED: u16 = 8092;
const REJECTED: u16 = 8093;
/// Where idle connections are closed after a second.
const HASTY: u16 = 8094;
/// Where the worker is killed.
const MORTAL: u16 = 8095;

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// The load balancer connects to `port`, as far as it gets within `patience`.
fn try_to_connect(scene: &Scene, port: u16, patience: Duration) -> Option<Connection> {
    Client::new(&scene.lab.lb).timeout(patience).connect(target_addresses(port)[0]).ok()
}

fn start(scene: &Scene, name: &str, port: u16, change: impl FnOnce(&mut Options)) -> Result<Target> {
    let mut options = Options::listen(&[SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)]);
    change(&mut options);
    Target::start(scene.lab, name, &options)
}

/// A SYN for a port without a listener.
pub fn wrong_port(scene: &mut Scene) -> Result<()> {
    ensure!(try_to_connect(scene, NOTHING, ms(500)).is_none(), "something listens on port {NOTHING}");
    Ok(())
}

/// More connections than the accept queue takes.
pub fn full_queue(scene: &mut Scene) -> Result<()> {
    let target = start(scene, "full", FULL, |options| {
        options.backlog = 2;
        options.before_accept = Duration::from_mins(1);
    })?;
    let connections: Vec<_> = (0..6).map(|_| try_to_connect(scene, FULL, ms(200))).collect();
    ensure!(connections.iter().any(Option::is_none), "the accept queue took all connections");
    drop(connections);
    drop(target);
    Ok(())
}

/// Two rules, both in the way.
pub fn firewall(scene: &mut Scene) -> Result<()> {
    let (drop_rule, reject_rule) =
        (format!("tcp dport {DROPPED} drop"), format!("tcp dport {REJECTED} reject with tcp reset"));
    let rules = Rules::start(&scene.lab.target, Hook::Input, &[&drop_rule, &reject_rule])?;
    for port in [DROPPED, REJECTED] {
        // Only what is served is watched: without the rules these would be.
        let _target = start(scene, &format!("behind-a-rule-{port}"), port, |_| {})?;
        ensure!(try_to_connect(scene, port, ms(300)).is_none(), "the firewall let port {port} pass");
    }
    // So that tracer finds them when it asks which it was.
    clock::sleep(ms(200));
    drop(rules);
    Ok(())
}

/// A request on a connection that the application has just closed.
pub fn keepalive_race(scene: &mut Scene) -> Result<()> {
    let _target = start(scene, "hasty", HASTY, |options| options.idle_close = Some(ms(1000)))?;
    let mut connection = Client::new(&scene.lab.lb).connect(target_addresses(HASTY)[0])?;
    let request = Request::get("/basket").header("X-Forwarded-For", "198.51.100.7");
    connection.request(&request)?;
    clock::sleep(ms(1100));
    // The close is on its way, or here already: whoever sends now cannot know.
    let _ = connection.send(&request);
    clock::sleep(ms(50));
    Ok(())
}

/// SIGKILL while it works, as by the out-of-memory killer or by a master that is tired of waiting.
pub fn killed_worker(scene: &mut Scene) -> Result<()> {
    let target = start(scene, "mortal", MORTAL, |_| {})?;
    let mut connection = Client::new(&scene.lab.lb).connect(target_addresses(MORTAL)[0])?;
    connection.send(&Request::get("/report").header("X-Before-Write", 60_000))?;
    clock::sleep(ms(200));
    target.process.signal(Signal::KILL)?;
    connection.wait_closed().map(drop)
}

/// A client that leaves, and a load balancer that tells the application so.
pub fn impatient_client(scene: &mut Scene) -> Result<()> {
    let mut connection = Client::new(&scene.lab.lb).connect(target_addresses(APP)[0])?;
    connection.send(&Request::get("/search").header("X-Before-Write", 600))?;
    clock::sleep(ms(200));
    connection.reset()
}
