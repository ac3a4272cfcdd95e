//! HTTP/2: several requests on one connection, control data in between, and quiet.

use anyhow::Result;
use lab::Process;
use lab::clock::sleep;
use lab::server::{Kind, Options};
use lab::tracer::{Request, Trace};

use crate::protocols::with_tls;
use crate::scene::{ADDRESS, Scene, ms, settle};

/// Where nginx speaks HTTP/2, too.
const HTTP2: &str = "10.77.0.2:8443";

/// node's client: requests one after the other, eight at once, an upload; then for two seconds nothing but pings, window updates
/// and settings; then one more request, quiet for longer than the load balancer waits, and GOAWAY. URL.
const CLIENT: &str = r#"
const http2 = require("http2");
const session = http2.connect(process.argv[1], { rejectUnauthorized: false });
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const request = (method, body) => new Promise((done, fail) => {
  const stream = session.request({ ":path": "/", ":method": method });
  let status, text = "";
  stream.on("response", (headers) => (status = headers[":status"]));
  stream.on("data", (data) => (text += data));
  stream.on("end", () => (status === 200 && text === "ok" ? done() : fail(new Error(`${status} ${text}`))));
  stream.on("error", fail);
  stream.end(body);
});
(async () => {
  for (let i = 0; i < 5; i++) {
    await request("GET");
    await pause(20);
  }
  await Promise.all(Array.from({ length: 8 }, () => request("GET")));
  await request("POST", Buffer.alloc(200000));
  for (let i = 0; i < 10; i++) {
    await pause(200);
    if (i % 3 === 0) session.ping(() => {});
    if (i % 3 === 1) session.setLocalWindowSize(200000 + 70000 * i);
    if (i % 3 === 2) session.settings({ initialWindowSize: 100000 + i });
  }
  await request("GET");
  await pause(1500);
  session.close();
})();
"#;

/// Four connections, each with one request, and then with a ping every three milliseconds until the server ends it; then another
/// one. URL.
const PINGS: &str = r#"
const http2 = require("http2");
function open() {
  const session = http2.connect(process.argv[1], { rejectUnauthorized: false });
  session.request({ ":path": "/" }).on("error", () => {}).resume().end();
  const pings = setInterval(() => session.destroyed || session.ping(() => {}), 3);
  session.on("error", () => {});
  session.on("close", () => {
    clearInterval(pings);
    open();
  });
}
for (let i = 0; i < 4; i++) open();
"#;

fn tls() -> Result<Scene> {
    with_tls(&format!("listen {HTTP2} ssl http2;"))
}

fn clear() -> Result<Scene> {
    Scene::with(Kind::Nginx, &Options::listen(ADDRESS).directives(&format!("listen {HTTP2} http2;")))
}

/// Whatever its turns are taken for, nothing is reported of the connection, and nobody waits.
fn requests_and_control_data(scene: &Scene, scheme: &str) -> Result<Trace> {
    let tracer = scene.trace(&["--idle-timeout", "1s"])?;
    scene.lab.lb.run("node", &["-e", CLIENT, &format!("{scheme}://{HTTP2}")])?;
    sleep(ms(1300));
    let trace = settle(tracer)?;
    assert!(trace.rejections.is_empty() && trace.waiting.is_empty(), "{:#?} {:#?}", trace.rejections, trace.waiting);
    assert_eq!((trace.summary.unanswered, trace.summary.cut), (0, 0), "{:#?}", trace.requests);
    // GOAWAY comes last.
    let last = |turns: &[Request]| turns.iter().map(|turn| turn.sequence).max();
    assert!(last(&trace.messages) > last(&trace.requests), "{:#?}", trace.messages);
    println!("{}", trace.summary.more["verdict"]);
    Ok(trace)
}

/// Encrypted, its turns are taken for requests until a ping is seen.
#[test]
fn nginx_with_tls() -> Result<()> {
    let trace = requests_and_control_data(&tls()?, "https")?;
    assert!(trace.summary.requests <= 5 + 8 + 2, "{:#?}", trace.requests);
    assert!(trace.messages.len() >= 7, "{:#?}", trace.messages);
    Ok(())
}

/// In the clear, its preface says what it is.
#[test]
fn nginx_in_the_clear() -> Result<()> {
    let trace = requests_and_control_data(&clear()?, "http")?;
    is_told(&trace, 1);
    Ok(())
}

/// The first turn of each connection has the preface and, mostly, a request.
#[track_caller]
fn is_told(trace: &Trace, connections: u64) {
    assert_eq!(trace.connections.len() as u64, connections, "{:#?}", trace.connections);
    assert!(trace.summary.requests <= connections, "{:#?}", trace.requests);
    assert!(trace.summary.more["messages"].as_u64() > Some(2 * connections), "{:#?}", trace.summary);
}

/// Many streams at once, by four clients, and one of another client.
fn many_streams(scene: &Scene, scheme: &str) -> Result<Trace> {
    let tracer = scene.trace(&["--idle-timeout", "1s"])?;
    let url = format!("{scheme}://{HTTP2}/");
    scene.lab.lb.run("h2load", &["-n", "2000", "-c", "4", "-m", "10", &url])?;
    scene.lab.lb.run("curl", &["--insecure", "--http2-prior-knowledge", "--silent", "--show-error", &url])?;
    sleep(ms(1300));
    let trace = settle(tracer)?;
    println!("{}", trace.summary.more["verdict"]);
    assert!(trace.rejections.is_empty() && trace.waiting.is_empty(), "{:#?} {:#?}", trace.rejections, trace.waiting);
    Ok(trace)
}

#[test]
fn many_streams_with_tls() -> Result<()> {
    many_streams(&tls()?, "https").map(drop)
}

#[test]
fn many_streams_in_the_clear() -> Result<()> {
    is_told(&many_streams(&clear()?, "http")?, 5);
    Ok(())
}

/// Pings meet the close at a reload: nobody waits for their answer.
fn pings_meet_a_reload(scene: &Scene, scheme: &str) -> Result<()> {
    let tracer = scene.trace(&[])?;
    let mut command = scene.lab.lb.command("node")?;
    command.args(["-e", PINGS, &format!("{scheme}://{HTTP2}")]);
    let client = Process::start("pings", command, scene.lab.directory())?;
    for _ in 0..6 {
        sleep(ms(700));
        scene.server.reload()?;
    }
    sleep(ms(700));
    drop(client);
    sleep(ms(1300));
    let trace = settle(tracer)?;
    println!("{}", trace.summary.more["verdict"]);
    assert!(trace.rejections.is_empty(), "{:#?}", trace.rejections);
    // What has not been seen to be a ping yet may be a request: of each connection the first turns.
    let (connections, messages) = (trace.connections.len() as u64, trace.summary.more["messages"].as_u64());
    assert!(connections > 8 && trace.summary.requests <= 3 * connections, "{:#?}", trace.requests);
    assert!(messages > Some(20 * connections), "{:#?}", trace.summary);
    Ok(())
}

#[test]
fn pings_meet_a_reload_with_tls() -> Result<()> {
    pings_meet_a_reload(&tls()?, "https")
}

#[test]
fn pings_meet_a_reload_in_the_clear() -> Result<()> {
    pings_meet_a_reload(&clear()?, "http")
}
