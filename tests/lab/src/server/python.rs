//! The servers of Python: gunicorn from Debian, the others in the environment that `cargo xtask setup` makes.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use super::{Launch, Options, kept, program, write};
use crate::process::Signal;
use crate::topology::Lab;

/// Beside the ordinary answer, one before the body is read, at once or a moment before the server reads on, one after a
/// second, and one that never ends.
const WSGI: &str = r#"
import time

def slow():
    yield b"x" * 2000
    time.sleep(60)

def early():
    yield b"who"
    time.sleep(.2)

def application(environ, start_response):
    if environ["PATH_INFO"] == "/early":
        start_response("401 Unauthorized", [("Content-Length", "3")])
        return [b"who"] if environ["QUERY_STRING"] == "" else early()
    if environ["PATH_INFO"] == "/late":
        time.sleep(1)
    if environ["PATH_INFO"] == "/slow":
        start_response("200 OK", [("Content-Length", "100000")])
        return slow()
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"#;

/// The ordinary answer, one after a second, server-sent events twice per second (`/events?COUNT`), and `WebSocket`s: to `/up` messages go
/// one way, and from `/down` the other way, ten per second. `/down/close` closes after two seconds.
const ASGI: &str = r#"
import asyncio

async def application(scope, receive, send):
    if scope["type"] == "websocket":
        return await socket(scope, receive, send)
    if scope["type"] != "http":
        raise NotImplementedError
    while (await receive()).get("more_body"):
        pass
    if scope["path"] == "/events":
        return await events(int(scope["query_string"]), send)
    if scope["path"] == "/late":
        await asyncio.sleep(1)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})

async def events(count, send):
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for number in range(count):
        await send({"type": "http.response.body", "body": b"data: %d\n\n" % number, "more_body": True})
        await asyncio.sleep(.5)
    await send({"type": "http.response.body", "body": b""})

async def socket(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    if scope["path"].startswith("/down"):
        for number in range(20 if scope["path"] == "/down/close" else 40):
            await send({"type": "websocket.send", "text": f"message {number}"})
            await asyncio.sleep(.1)
        return await send({"type": "websocket.close"})
    while (await receive())["type"] != "websocket.disconnect":
        pass
"#;

pub(super) fn gunicorn(lab: &Lab, directory: &Path, options: &Options, worker: &str) -> Result<Launch> {
    write(&directory.join("lab.py"), WSGI)?;
    let mut command = lab.target.command(&program(&["gunicorn"])?)?;
    command.args(["--bind", &options.address.to_string(), "--workers", "2", "--worker-class", worker]);
    command.args(["--threads", if worker == "gthread" { "8" } else { "1" }]);
    command.args(["--keep-alive", &options.keep_alive_s(), "--graceful-timeout", "10"]);
    command.arg("--chdir").arg(directory).args(&options.arguments).arg("lab:application");
    Ok(Launch::new(command, Signal::TERM).workers(2).reload(Signal::HUP))
}

pub(super) fn uvicorn(lab: &Lab, directory: &Path, options: &Options) -> Result<Launch> {
    write(&directory.join("lab.py"), ASGI)?;
    let mut command = installed(lab, "uvicorn")?;
    command.args(["--host", &options.address.ip().to_string(), "--port", &options.address.port().to_string()]);
    command.args(["--timeout-keep-alive", &options.keep_alive_s(), "--log-level", "warning"]);
    command.arg("--app-dir").arg(directory).args(&options.arguments).arg("lab:application");
    let workers = options.arguments.iter().position(|word| word == "--workers");
    let workers = workers.and_then(|index| options.arguments.get(index + 1)?.parse().ok()).unwrap_or(0);
    let launch = Launch::new(command, Signal::TERM).workers(workers);
    Ok(if workers == 0 { launch } else { launch.reload(Signal::HUP) })
}

pub(super) fn hypercorn(lab: &Lab, directory: &Path, options: &Options) -> Result<Launch> {
    write(&directory.join("lab.py"), ASGI)?;
    let mut command = installed(lab, "hypercorn")?;
    command.args(["--bind", &options.address.to_string(), "--keep-alive", &options.keep_alive_s()]);
    command.args(&options.arguments).arg("lab:application").current_dir(directory);
    // Its worker is a child of a parent that only waits.
    Ok(Launch::new(command, Signal::TERM).workers(1))
}

pub(super) fn waitress(lab: &Lab, directory: &Path, options: &Options) -> Result<Launch> {
    write(&directory.join("lab.py"), WSGI)?;
    let mut command = installed(lab, "waitress-serve")?;
    command.args([&format!("--listen={}", options.address), &format!("--channel-timeout={}", options.keep_alive_s())]);
    command.args(&options.arguments).arg("lab:application").current_dir(directory).env("PYTHONPATH", directory);
    // It knows no other signal: SIGTERM ends it without a word.
    Ok(Launch::new(command, Signal::INT))
}

/// The interpreter of the environment that `cargo xtask setup` makes: it has `wsproto` and `h2`, which hypercorn needs.
#[must_use]
pub fn interpreter() -> PathBuf {
    kept("python").join("bin/python")
}

fn installed(lab: &Lab, name: &str) -> Result<Command> {
    let path = kept("python").join("bin").join(name);
    ensure!(path.is_file(), "{} is missing; `cargo xtask setup` makes it", path.display());
    lab.target.command(&path.to_string_lossy())
}
