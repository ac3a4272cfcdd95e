//! A keep-alive time that is too short: the advice names the server's setting and its value.

use anyhow::Result;
use lab::clock::sleep;
use lab::server::{Kind, Options};

use crate::scene::{ADDRESS, Scene, ms, settle};

/// Connections that the server closes after two seconds, begun at different moments.
fn named(kind: Kind, setting: &str) -> Result<()> {
    let scene = Scene::with(kind, &Options::listen(ADDRESS).keep_alive(ms(2000)))?;
    let tracer = scene.trace(&[])?;
    let mut idle = Vec::new();
    for _ in 0..4 {
        idle.push(scene.idle()?);
        sleep(ms(700));
    }
    for connection in &mut idle {
        connection.wait_closed()?;
    }
    drop(idle);
    sleep(ms(1300));
    let trace = settle(tracer)?;
    let causes: Vec<_> = trace.causes().into_keys().collect();
    assert_eq!(causes, ["keepalive_too_short"], "{:#?}", trace.rejections);
    for told in &trace.rejections {
        let found = told.setting.as_ref().map(|it| (it.name.as_str(), it.value.trim_end_matches('s')));
        assert_eq!(found, Some((setting, "2")), "{told:#?}");
        assert!(told.advice.contains(setting), "{told:#?}");
    }
    Ok(())
}

#[test]
fn nginx() -> Result<()> {
    named(Kind::Nginx, "keepalive_timeout")
}

#[test]
fn apache() -> Result<()> {
    named(Kind::Apache, "KeepAliveTimeout")
}

#[test]
fn gunicorn() -> Result<()> {
    named(Kind::GunicornThreads, "--keep-alive")
}

#[test]
fn uvicorn() -> Result<()> {
    named(Kind::Uvicorn, "--timeout-keep-alive")
}
