//! Healthy controls of every server: nothing is reported, and every request is counted once.

use anyhow::Result;
use lab::client::Request;
use lab::clock::sleep;
use lab::server::{Kind, Options};

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

/// Reloads twice while a client goes on asking, a moment after it has seen what the server closed.
fn reload(kind: Kind, options: &Options) -> Result<()> {
    let scene = Scene::with(kind, options)?;
    let tracer = scene.trace(&[])?;
    let mut browser = Browser::new(&scene);
    for turn in 0..40 {
        if turn % 15 == 5 {
            scene.server.reload()?;
        }
        browser.request_if_open(&Request::get("/"))?;
        sleep(ms(50));
    }
    let sent = browser.sent;
    drop(browser);
    let trace = settle(tracer)?;
    assert_healthy(&trace, sent);
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

/// A test for each server.
macro_rules! of_each_server {
    ($test:ident: $($name:ident = $kind:ident),+ $(,)?) => {
        $(
            #[test]
            fn $name() -> Result<()> {
                $test(Kind::$kind)
            }
        )+
    };
}

of_each_server!(ordinary:
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
