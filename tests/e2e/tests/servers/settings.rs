//! A keep-alive time that is too short: the advice names the server's setting, its value and the command.

use anyhow::Result;
use lab::clock::sleep;
use lab::server::{Kind, Options};
use lab::tracer::Trace;

use crate::scene::{ADDRESS, Scene, ms, settle};

/// Connections that the server closes after two seconds, begun at different moments: the advice names this setting, and what
/// is to be done with a new value.
fn advised(kind: Kind, options: &Options, advice: &[&str]) -> Result<Trace> {
    let scene = Scene::with(kind, &options.clone().keep_alive(ms(2000)))?;
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
        assert!(advice.iter().all(|part| told.advice.contains(part)), "{told:#?}");
    }
    Ok(trace)
}

/// The value is found, too.
fn named(kind: Kind, options: &Options, setting: &str, apply: &str) -> Result<()> {
    let trace = advised(kind, options, &[setting, apply])?;
    for told in &trace.rejections {
        let found = told.setting.as_ref().map(|it| (it.name.as_str(), it.value.trim_end_matches('s')));
        assert_eq!(found, Some((setting, "2")), "{told:#?}");
        assert!(told.advice.contains("(now 2"), "{told:#?}");
    }
    Ok(())
}

/// The setting of each server, with the argument that makes it look at its idle connections often.
macro_rules! of_each_server {
    ($($name:ident = $kind:ident $arguments:expr, $setting:literal, $apply:literal);+ $(;)?) => {
        $(
            #[test]
            fn $name() -> Result<()> {
                named(Kind::$kind, &Options::listen(ADDRESS).arguments(&$arguments), $setting, $apply)
            }
        )+
    };
}

of_each_server!(
    nginx = Nginx [], "keepalive_timeout", "`nginx -t && nginx -s reload`";
    apache = Apache [], "KeepAliveTimeout", "`apachectl configtest && apachectl graceful`";
    haproxy = Haproxy [], "timeout http-keep-alive", "`systemctl reload ";
    php_fpm = PhpFpm [], "keepalive_timeout", "`nginx -t && nginx -s reload`";
    puma = Puma [], "persistent_timeout", "`persistent_timeout 65`";
    jdk = Jdk ["-Dsun.net.httpserver.clockTick=100"], "-Dsun.net.httpserver.idleInterval", "`-Dsun.net.httpserver.idleInterval=65`";
    gunicorn = GunicornThreads [], "--keep-alive", "`--keep-alive 65`";
    uvicorn = Uvicorn [], "--timeout-keep-alive", "`--timeout-keep-alive 65`";
    hypercorn = Hypercorn [], "--keep-alive", "`--keep-alive 65`";
    waitress = Waitress ["--cleanup-interval=1"], "--channel-timeout", "`--channel-timeout 65`";
);

/// Neither shows its setting: it is in the program.
#[test]
fn node_and_go() -> Result<()> {
    for (kind, setting, longer) in [
        (
            Kind::Node,
            "node server.keepAliveTimeout",
            "`server.keepAliveTimeout = 65000; server.headersTimeout = 66000`",
        ),
        (Kind::Go, "Go http.Server.IdleTimeout", "`IdleTimeout: 65 * time.Second`"),
    ] {
        let trace = advised(kind, &Options::listen(ADDRESS), &[setting, longer])?;
        assert!(trace.rejections.iter().all(|told| told.setting.is_none()), "{:#?}", trace.rejections);
    }
    Ok(())
}
