//! Healthy controls of every server: nothing is reported, and every request is counted once.

use anyhow::Result;
use lab::client::Request;
use lab::clock::sleep;
use lab::server::{Kind, Options};
use lab::tracer::Tracer;
use lab::wait_until;

use crate::crowd::{self, Seen};
use crate::scene::{ADDRESS, Browser, Scene, assert_healthy, ms, settle};

/// Requests on kept connections, with `Connection: close`, and with bodies; then the server is stopped while connections
/// are idle that were used at different times.
fn ordinary(kind: Kind) -> Result<()> {
    let mut scene = Scene::new(kind)?;
    let tracer = scene.trace(&[])?;
    let mut browser = Browser::new(&scene);
    for _ in 0..5 {
        browser.request(&Request::get("/"))?;
    }
    browser.request(&Request::new("POST", "/", 3_000))?;
    browser.request(&Request::new("POST", "/", 300_000))?;
    browser.request(&Request::new("POST", "/", 9_000).body_pieces(3, ms(30)))?;
    browser.last_request()?;
    browser.request(&Request::get("/"))?;
    let sent = browser.sent;
    drop(browser);
    let mut idle = Vec::new();
    for _ in 0..4 {
        idle.push(scene.idle()?);
        sleep(ms(120));
    }
    scene.server.stop_gracefully()?;
    for connection in &mut idle {
        connection.wait_closed()?;
    }
    drop(idle);
    let trace = settle(tracer)?;
    assert_healthy(&trace, sent + 4);
    Ok(())
}

/// Reloads each second while several clients go on asking.
fn reload(kind: Kind, options: &Options) -> Result<()> {
    let scene = Scene::with(kind, options)?;
    let tracer = scene.trace(&[])?;
    let seen = crowd::ask(&scene, || {
        for _ in 0..4 {
            sleep(ms(1000));
            scene.server.reload()?;
        }
        sleep(ms(1000));
        Ok(())
    })?;
    // gunicorn sends SIGTERM each second until a worker has ended, and its interpreter may be past the handler by then.
    compare(tracer, &seen, &["worker_ended", "together", "early", "process_ended"])
}

/// Stops while several clients go on asking, until they are refused.
fn stop(kind: Kind) -> Result<()> {
    let options = Options::listen(ADDRESS);
    // Otherwise a thread of puma's serves a client that goes on asking for ever, and puma does not end.
    let options = if kind == Kind::Puma { options.directives("max_fast_inline 10") } else { options };
    let scene = Scene::with(kind, &options)?;
    let tracer = scene.trace(&[])?;
    let seen = crowd::ask(&scene, || {
        sleep(ms(1000));
        scene.server.ask_to_stop()?;
        let stopped = || scene.lab.target.is_listening(ADDRESS.port()).is_ok_and(|listens| !listens);
        wait_until("the end of the listener", ms(20_000), stopped)?;
        sleep(ms(300));
        Ok(())
    })?;
    // A worker of hypercorn's ends before the master closes the listener.
    compare(tracer, &seen, &["stopped", "process_ended", "worker_ended"])
}

/// What was reported with what the clients lost.
fn compare(tracer: Tracer, seen: &Seen, because: &[&str]) -> Result<()> {
    // Verdicts on lost requests wait for a second.
    sleep(ms(1300));
    let trace = settle(tracer)?;
    println!("{} answered, {} lost: {:?}", seen.answered, seen.lost.len(), trace.causes());
    crowd::assert_told(&trace, seen, because);
    Ok(())
}

/// A test for each server that can be reloaded.
macro_rules! of_each_reload {
    ($($name:ident = $kind:ident $arguments:expr),+ $(,)?) => {
        mod reloaded {
            use super::*;

            $(
                #[test]
                fn $name() -> Result<()> {
                    reload(Kind::$kind, &Options::listen(ADDRESS).arguments(&$arguments))
                }
            )+
        }
    };
}

of_each_reload!(
    nginx = Nginx [],
    apache = Apache [],
    php_fpm = PhpFpm [],
    puma = Puma [],
    node = Node ["manager"],
    gunicorn_sync = GunicornSync [],
    gunicorn_threads = GunicornThreads [],
    uvicorn = Uvicorn ["--workers", "2"],
    haproxy = Haproxy [],
);

/// A test for each server, of each kind.
macro_rules! of_each_server {
    ($($name:ident = $kind:ident),+ $(,)?) => {
        $(
            #[test]
            fn $name() -> Result<()> {
                ordinary(Kind::$kind)
            }
        )+

        mod stopped {
            use super::*;

            $(
                #[test]
                fn $name() -> Result<()> {
                    stop(Kind::$kind)
                }
            )+
        }
    };
}

of_each_server!(
    nginx = Nginx,
    apache = Apache,
    php_fpm = PhpFpm,
    puma = Puma,
    go = Go,
    jdk = Jdk,
    node = Node,
    gunicorn_sync = GunicornSync,
    gunicorn_threads = GunicornThreads,
    uvicorn = Uvicorn,
    hypercorn = Hypercorn,
    waitress = Waitress,
    haproxy = Haproxy,
);
