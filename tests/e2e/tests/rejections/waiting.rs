//! Requests that are not answered, not read, or whose answer does not arrive.

use anyhow::{Context, Result};
use lab::client::Request;
use lab::clock::sleep;
use lab::fault::{Hook, Rules, matching};

use crate::scene::{Scene, assert_on_connections, at_once, ms, settle, ways};

/// Reported live, once the load balancer's idle timeout has passed; and when the load balancer then leaves, it is not
/// reported again.
#[test]
fn a_request_is_never_answered() -> Result<()> {
    let scene = Scene::new(|_| {})?;
    let mut tracer = scene.trace(&["--idle-timeout", "2s"])?;
    let mut open = Vec::new();
    for way in ways() {
        let mut connection = scene.client().connect(way)?;
        connection.request(&Request::get("/"))?;
        connection.send(&Request::get("/").header("X-Before-Write", 60_000))?;
        open.push(connection);
    }
    tracer.wait_for(ms(6000), |output| output.rejections.len() >= 2).context("it is not reported live")?;
    let peers: Vec<_> = open.iter().map(|connection| connection.local).collect();
    drop(open);
    sleep(ms(100));
    let trace = settle(tracer)?;
    for told in assert_on_connections(&trace, "no_response", &peers, Some(2), &[]) {
        assert_eq!((told.evidence.as_str(), told.never_read), ("observed", false), "{told:#?}");
        assert_eq!(told.process.as_ref().map(|process| process.pid), Some(scene.target.pid()), "{told:#?}");
        let waited = told.waited_ns.map(|waited| waited / 1_000_000);
        assert!(waited.is_some_and(|waited| (2000..4500).contains(&waited)), "{told:#?}");
    }
    Ok(())
}

#[test]
fn a_request_is_never_read() -> Result<()> {
    let scene = Scene::new(|_| {})?;
    // A target that accepts and does nothing more.
    let busy = lab::target::Options {
        before_read: ms(60_000),
        ..lab::target::Options::listen(&lab::topology::target_addresses(8081))
    };
    let _busy = lab::target::Target::start(&scene.lab, "busy", &busy)?;
    let mut tracer = scene.trace(&["--idle-timeout", "2s"])?;
    let mut open = Vec::new();
    for way in lab::topology::target_addresses(8081) {
        let mut connection = scene.client().connect(way)?;
        connection.send(&Request::get("/"))?;
        open.push(connection);
    }
    tracer.wait_for(ms(6000), |output| output.rejections.len() >= 2).context("it is not reported live")?;
    let trace = settle(tracer)?;
    let told = crate::scene::assert_only(&trace, "no_response", 2, &[]);
    for connection in &open {
        let of_it = told.iter().find(|told| told.peer == Some(connection.local));
        let told = of_it.with_context(|| format!("{} is not told: {told:#?}", connection.local))?;
        assert!(told.never_read && !told.never_accepted, "{told:#?}");
        assert_eq!(told.local, Some(connection.peer));
    }
    Ok(())
}

/// A large upload that the application lets wait: its window closes.
#[test]
fn the_application_does_not_read() -> Result<()> {
    let scene = Scene::new(|options| options.before_read = ms(2200))?;
    let tracer = scene.trace(&[])?;
    let upload = |way| {
        let mut connection = scene.client().connect(way)?;
        connection.request(&Request::put("/", 4 << 20))?;
        Ok(connection.local)
    };
    let peers = at_once(upload).into_iter().collect::<Result<Vec<_>>>()?;
    let trace = settle(tracer)?;
    for told in assert_on_connections(&trace, "application_not_reading", &peers, Some(1), &[]) {
        assert_eq!(told.evidence, "observed", "{told:#?}");
        let closed = told.zero_window_ns.map(|closed| closed / 1_000_000);
        assert!(closed.is_some_and(|closed| (1000..2400).contains(&closed)), "{told:#?}");
        assert_eq!(told.process.as_ref().map(|process| process.pid), Some(scene.target.pid()), "{told:#?}");
    }
    Ok(())
}

/// The response goes out, again and again, and nothing comes back.
#[test]
fn the_response_is_not_acknowledged() -> Result<()> {
    let scene = Scene::new(|_| {})?;
    scene.lab.target.sysctl("net.ipv4.tcp_retries2", "2")?;
    let mut tracer = scene.trace(&[])?;
    let mut open = Vec::new();
    for way in ways() {
        let mut connection = scene.client().connect(way)?;
        connection.request(&Request::get("/"))?;
        connection.send(&Request::get("/").header("X-Before-Write", 300))?;
        open.push(connection);
    }
    sleep(ms(50));
    let lost = Rules::start(&scene.lab.lb, Hook::Input, &[&format!("{} drop", matching::TCP)])?;
    tracer.wait_for(ms(15_000), |output| output.rejections.len() >= 2).context("it is not reported")?;
    drop(lost);
    let peers: Vec<_> = open.iter().map(|connection| connection.local).collect();
    let trace = settle(tracer)?;
    for told in assert_on_connections(&trace, "response_not_acknowledged", &peers, Some(2), &[]) {
        assert!(told.retransmits.is_none_or(|retransmits| retransmits >= 2), "{told:#?}");
        assert!(told.bytes_out.is_some_and(|bytes| bytes > 0), "{told:#?}");
    }
    Ok(())
}
