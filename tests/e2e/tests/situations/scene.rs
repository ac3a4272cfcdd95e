//! A server and clients made of bare sockets, and the tracer around them.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use lab::clock::sleep;
use lab::process::Process;
use lab::topology::target_addresses;
use lab::tracer::{Rejection, Trace};
use lab::{Lab, Tracer, said};
use rustix::net::sockopt;

/// As a load balancer sends it.
pub const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: target.internal\r\nX-Forwarded-For: 203.0.113.7\r\n\
    X-Amzn-Trace-Id: Root=1-5759e988-bd862e3fe1be46a994272793\r\n\r\n";
/// The head of an upload of 300 000 bytes.
pub const POST: &[u8] = b"POST / HTTP/1.1\r\nHost: target.internal\r\nContent-Length: 300000\r\n\r\n";
pub const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
pub const TOO_LARGE: &[u8] = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n";

pub const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Where the server listens.
pub fn address() -> SocketAddr {
    target_addresses(8080)[0]
}

/// The lab and the tracer, which records.
pub struct Scene {
    tracer: Tracer,
    name: &'static str,
    recording: PathBuf,
    pub lab: Lab,
}

impl Scene {
    pub fn new(name: &'static str, arguments: &[&str]) -> Result<Self> {
        // The name of the server's thread is part of what is said.
        rustix::thread::set_name(c"app").context("cannot name the thread")?;
        let lab = Lab::new()?;
        let recording = lab.directory().join("recording");
        let file = recording.to_str().context("not text")?.to_owned();
        let tracer = Tracer::start(&lab, "tracer", &[&["-w", &file], arguments].concat())?;
        // The kernel begins to stamp packets a moment after the tracer has asked for it.
        sleep(ms(100));
        Ok(Self { tracer, name, recording, lab })
    }

    /// Waits until a rejection has been reported.
    pub fn wait_for_rejection(&mut self) -> Result<()> {
        self.tracer.wait_for(ms(5000), |output| !output.rejections.is_empty()).map(drop)
    }

    pub fn listen(&self) -> Result<TcpListener> {
        self.listen_on(&address().to_string())
    }

    pub fn listen_on(&self, address: &str) -> Result<TcpListener> {
        self.lab.target.enter(|| TcpListener::bind(address).context("cannot listen"))
    }

    pub fn connect(&self) -> Result<TcpStream> {
        let client = self.lab.lb.enter(|| TcpStream::connect(address()).context("cannot connect"))?;
        client.set_nodelay(true)?;
        client.set_read_timeout(Some(ms(5000)))?;
        Ok(client)
    }

    /// A connection, both ends of it.
    pub fn pair(&self, listener: &TcpListener) -> Result<(TcpStream, TcpStream)> {
        let client = self.connect()?;
        let (server, _) = listener.accept().context("cannot accept")?;
        server.set_nodelay(true)?;
        server.set_read_timeout(Some(ms(5000)))?;
        Ok((client, server))
    }

    /// A python program in the `target` namespace, which listens on [`address`] as `l`.
    pub fn python(&self, program: &str) -> Result<Process> {
        let head = "import os, socket, sys, time\nl = socket.socket()\n\
            l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\nl.bind(('0.0.0.0', 8080))\nl.listen(64)\n\
            print('listening', flush=True)\n";
        self.python_alone(&format!("{head}{program}"))
    }

    /// A python program in the `target` namespace, which prints `listening` once it does.
    pub fn python_alone(&self, program: &str) -> Result<Process> {
        let mut command = self.lab.target.command("python3")?;
        command.arg("-c").arg(program);
        let mut process = Process::start("server", command, self.lab.directory())?;
        process.wait_ready(ms(20_000), |process| process.stdout().is_ok_and(|text| text.contains("listening")))?;
        Ok(process)
    }

    /// Ends once every verdict has been given, and keeps the recording if that is asked for.
    pub fn end(self) -> Result<Trace> {
        sleep(ms(1100));
        self.end_soon()
    }

    /// The same, while verdicts wait: they are given at the end.
    pub fn end_soon(self) -> Result<Trace> {
        sleep(ms(200));
        let stdout = self.tracer.process.stdout_path().to_owned();
        let trace = self.tracer.stop()?;
        let printed = fs::read_to_string(stdout).context("cannot read what tracer printed")?;
        if let Some(folder) = env::var_os("KEEP_SITUATIONS").map(PathBuf::from) {
            fs::copy(&self.recording, folder.join(format!("{}.tracer", self.name)))?;
            let said = serde_json::to_string_pretty(&said::verdict(&printed)?)? + "\n";
            fs::write(folder.join(format!("{}.json", self.name)), said)?;
        }
        Ok(trace)
    }
}

/// Reads exactly what was sent as `expected`.
pub fn expect(stream: &mut TcpStream, expected: &[u8]) -> Result<()> {
    let mut read = vec![0; expected.len()];
    stream.read_exact(&mut read).context("cannot read what was sent")?;
    ensure!(read == expected, "something else came");
    Ok(())
}

/// A request and its response.
pub fn serve(client: &mut TcpStream, server: &mut TcpStream) -> Result<()> {
    exchange(client, server, GET, OK)
}

pub fn exchange(client: &mut TcpStream, server: &mut TcpStream, request: &[u8], response: &[u8]) -> Result<()> {
    client.write_all(request)?;
    expect(server, request)?;
    server.write_all(response)?;
    expect(client, response)
}

/// Uploads pieces of 20 000 bytes, one each 10 ms, until that fails or `pieces` are sent.
pub fn upload(client: &mut TcpStream, pieces: usize) {
    for _ in 0..pieces {
        if client.write_all(&vec![b'y'; 20_000]).is_err() {
            return;
        }
        sleep(ms(10));
    }
}

/// Ends the connection with a reset.
pub fn reset(stream: TcpStream) -> Result<()> {
    sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).context("cannot set SO_LINGER")?;
    drop(stream);
    Ok(())
}

/// Reads until the end, or an error.
pub fn drain(stream: &mut TcpStream) {
    let mut buffer = vec![0; 65_536];
    while stream.read(&mut buffer).is_ok_and(|read| read != 0) {}
}

/// Both directions at once, as a process does it that closes its descriptor.
pub fn close(stream: TcpStream) {
    drop(stream);
    // Until the FIN has arrived.
    sleep(ms(5));
}

/// The FIN, and nothing else: the stream can still be read.
pub fn half_close(stream: &TcpStream) -> Result<()> {
    stream.shutdown(Shutdown::Write).context("cannot shut down")
}

/// Something beside what the test does.
pub fn beside<T: Send + 'static>(action: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    thread::spawn(action)
}

/// Asserts that exactly these causes were reported, each as often, and that nothing was lost on the way.
#[track_caller]
pub fn assert_causes(trace: &Trace, causes: &[(&str, u64)]) {
    assert_eq!(trace.causes(), causes.iter().copied().collect::<BTreeMap<_, _>>(), "{:#?}", trace.rejections);
    assert_eq!(trace.status.records_lost, Some(0), "{:#?}", trace.status);
}

/// The one rejection of `cause`.
#[track_caller]
pub fn the_one<'a>(trace: &'a Trace, cause: &str) -> &'a Rejection {
    let told = trace.rejections_of(cause);
    assert_eq!(told.len(), 1, "{:#?}", trace.rejections);
    told[0]
}

/// Asserts that neither the sentence nor the advice blames a keep-alive setting.
#[track_caller]
pub fn assert_blames_no_setting(told: &Rejection) {
    for text in [&told.explanation, &told.advice] {
        assert!(!text.to_lowercase().contains("keep-alive") && !text.contains("keepalive"), "{told:#?}");
    }
}

/// Asserts how many requests there were, of which how many had no answer, and how many messages and streams.
#[track_caller]
pub fn assert_turns(trace: &Trace, requests: usize, unanswered: u64, messages: usize) {
    assert_eq!((trace.requests.len(), trace.messages.len()), (requests, messages), "{trace:#?}");
    let summary = &trace.summary;
    assert_eq!((summary.requests, summary.unanswered), (requests as u64, unanswered), "{summary:#?}");
}
