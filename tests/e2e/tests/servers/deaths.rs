//! Workers that are killed while they answer.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use lab::client::Request;
use lab::clock::sleep;
use lab::server::{Kind, Options};
use lab::tracer::Trace;
use rustix::process::{Pid, Signal, kill_process};

use crate::scene::{ADDRESS, Scene, ms, settle};

/// Kills all workers in the middle of three responses.
fn killed(kind: Kind, arguments: &[&str]) -> Result<(Trace, Vec<u32>)> {
    let scene = Scene::with(kind, &Options::listen(ADDRESS).arguments(arguments))?;
    let tracer = scene.trace(&[])?;
    let mut connections = Vec::new();
    for _ in 0..3 {
        let mut connection = scene.connect()?;
        connection.send(&Request::get("/slow"))?;
        connections.push(connection);
    }
    sleep(ms(600));
    let workers = scene.server.workers();
    for &worker in &workers {
        let pid = Pid::from_raw(i32::try_from(worker)?).context("no pid")?;
        kill_process(pid, Signal::KILL).context("cannot kill a worker")?;
    }
    sleep(ms(200));
    drop(connections);
    sleep(ms(1100));
    Ok((settle(tracer)?, workers))
}

/// A worker is one line, with the signal and with the connections that it took along.
fn is_told(kind: Kind, arguments: &[&str]) -> Result<()> {
    let (trace, workers) = killed(kind, arguments)?;
    let causes: Vec<_> = trace.causes().into_iter().collect();
    assert_eq!(causes, [("process_died", 3)], "{:#?}", trace.rejections);
    let mut named = BTreeSet::new();
    for told in &trace.rejections {
        let by = told.ended_by.as_ref().context("by nobody")?;
        assert!(workers.contains(&by.pid) && named.insert(by.pid), "{told:#?}");
        assert_eq!(by.how.as_deref(), Some("killed by signal 9"), "{told:#?}");
        assert_eq!(told.closed_together.map(u64::from), Some(told.count), "{told:#?}");
        assert!(told.idle_ns.is_some_and(|idle| (300_000_000..3_000_000_000).contains(&idle)), "{told:#?}");
        assert!(told.explanation.contains("may not have been whole"), "{told:#?}");
    }
    Ok(())
}

#[test]
fn php_fpm() -> Result<()> {
    is_told(Kind::PhpFpm, &["tcp"])
}

#[test]
fn puma() -> Result<()> {
    is_told(Kind::Puma, &[])
}

#[test]
fn gunicorn() -> Result<()> {
    is_told(Kind::GunicornThreads, &[])
}
