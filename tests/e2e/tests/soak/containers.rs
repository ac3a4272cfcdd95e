//! Containers that live for two seconds, each with a network namespace, a listener and requests of its own, and one that is
//! refused.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::clock::sleep;
use lab::container::Container;

use crate::plan::Run;
use crate::scene::Scene;

/// How many there are at once.
const BATCH: u32 = 20;
/// For how long: a tracer looks for namespaces once per second.
const LIFE: Duration = Duration::from_millis(1500);
/// The port of the first; each of a batch has its own.
const PORT: u16 = 10_000;

/// A port on which nothing listens.
const CLOSED: u16 = 9;

/// What there was of containers.
#[derive(Debug, Default)]
pub struct Lived {
    pub containers: u64,
    /// The inode numbers of their namespaces. The kernel may have used some of them twice.
    pub inums: BTreeSet<u32>,
    pub requests: u64,
    /// Connections that were refused.
    pub refused: u64,
}

/// All namespaces of the plan.
pub fn live(scene: &Scene, run: &Run) -> Result<Lived> {
    let batches = run.plan.namespaces * run.plan.rounds / BATCH;
    let mut lived = Lived::default();
    run.paced(batches, |batch| {
        let mut containers = Vec::new();
        for index in 0..BATCH {
            let port = PORT + u16::try_from(batch * BATCH % 8000 + index)?;
            let container = Container::start(scene.lab.directory(), &format!("container-{index}"), port)?;
            lived.containers += 1;
            lived.inums.insert(u32::try_from(container.inum()?)?);
            containers.push(container);
        }
        lived.requests += ask(&containers)?;
        sleep(LIFE);
        // By now a tracer has found the namespace.
        lived.requests += ask(&containers)?;
        for container in &containers {
            let closed = SocketAddr::new(container.address().ip(), CLOSED);
            container.enter(|| refused(closed))?;
            lived.refused += 1;
        }
        Ok(())
    })?;
    Ok(lived)
}

/// A request to each of them.
fn ask(containers: &[Container]) -> Result<u64> {
    for container in containers {
        let address = container.address();
        container.enter(|| get(address)).with_context(|| format!("container {address}"))?;
    }
    Ok(containers.len() as u64)
}

fn refused(address: SocketAddr) -> Result<()> {
    ensure!(TcpStream::connect(address).is_err(), "something listens on {address}");
    Ok(())
}

fn get(address: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: container\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    Ok(())
}
