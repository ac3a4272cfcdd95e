//! A client of one thread for many connections. It knows how long the answers are and looks at no more of them than the
//! status, so that most of what the host does is the server's work and the kernel's.

mod engine;
mod outside;

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc::channel,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use lab::{Lab, Namespace};

use super::{Finished, Http, Load};
use engine::Engine;
use outside::Outside;

/// How an answer has to begin.
const GOOD: &[u8] = b"HTTP/1.1 200 ";

/// The client; its thread ends with it.
pub struct Client {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<Finished>>>,
}

/// What the thread and its owner tell each other.
#[derive(Default)]
struct Shared {
    answered: AtomicU64,
    keep: AtomicBool,
    stop: AtomicBool,
}

/// What to send, and how long the answer is.
struct Exchange {
    address: SocketAddr,
    request: Vec<u8>,
    length: usize,
}

impl Client {
    /// Opens the connections that stay, with a first request on each, and begins.
    pub fn start(lab: &Lab, address: SocketAddr, http: Http) -> Result<Self> {
        let exchange = lab.lb.enter(|| Exchange::try_out(address, http))?;
        if http.is_outside {
            Self::spawn(&lab.target, move |shared, opened| {
                let mut outside = Outside::new(&exchange, http, shared)?;
                outside.greet()?;
                opened();
                outside.run()
            })
        } else {
            Self::spawn(&lab.lb, move |shared, opened| {
                let mut engine = Engine::open(&exchange, http, shared)?;
                engine.greet()?;
                opened();
                engine.run()
            })
        }
    }

    /// Runs the client on a thread in the namespace, and waits until it has opened its connections.
    fn spawn(
        namespace: &Namespace,
        client: impl FnOnce(&Shared, &dyn Fn()) -> Result<Finished> + Send + 'static,
    ) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let (opened, wait) = channel();
        let of_thread = Arc::clone(&shared);
        // The owner may have gone.
        let run = move || client(&of_thread, &|| opened.send(()).unwrap_or_default());
        // A thread inherits the namespace of the one that starts it.
        let thread =
            namespace.enter(|| thread::Builder::new().name("client".to_owned()).spawn(run).map_err(Into::into))?;
        let mut client = Self { shared, thread: Some(thread) };
        if wait.recv().is_err() {
            client.finish()?;
        }
        Ok(client)
    }
}

impl Load for Client {
    fn done(&self) -> u64 {
        self.shared.answered.load(Relaxed)
    }

    fn keep_latencies(&self, keep: bool) {
        self.shared.keep.store(keep, Relaxed);
    }

    fn finish(&mut self) -> Result<Finished> {
        self.shared.stop.store(true, Relaxed);
        let thread = self.thread.take().context("the client has ended before")?;
        let mut finished = thread.join().map_err(|_| anyhow!("the client panicked"))??;
        finished.latencies_ns.sort_unstable();
        // The one that was tried out.
        finished.done += 1;
        Ok(finished)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // Who did not ask how it went does not want to know.
            let _ = thread.join();
        }
    }
}

impl Exchange {
    /// Sends one request and learns how long the answer is, head and body: each further one is the same.
    fn try_out(address: SocketAddr, http: Http) -> Result<Self> {
        let connection = if http.keep_alive { "" } else { "Connection: close\r\n" };
        let request = format!("GET {} HTTP/1.1\r\nHost: {address}\r\n{connection}\r\n", http.path).into_bytes();
        let mut stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(&request)?;
        let mut answer = Vec::new();
        loop {
            let mut part = [0; 4096];
            let count = stream.read(&mut part).context("no answer")?;
            ensure!(count > 0, "the connection was closed before the answer's head was whole");
            answer.extend_from_slice(&part[..count]);
            if let Some(length) = length(&answer)? {
                return Ok(Self { address, request, length });
            }
        }
    }
}

/// The length of the answer that begins like this, once its head is whole.
fn length(answer: &[u8]) -> Result<Option<usize>> {
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(&answer[..end]);
    ensure!(answer.starts_with(GOOD), "not the answer that was expected:\n{head}");
    let body =
        head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).context("an answer without length")?;
    Ok(Some(end + 4 + body.parse::<usize>().context("the length of an answer is no number")?))
}

#[cfg(test)]
mod tests {
    use super::length;

    #[test]
    fn the_length_of_an_answer_is_that_of_head_and_body() {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nX: y\r\n\r\n";
        assert_eq!(length(head).unwrap(), Some(head.len() + 100));
        assert_eq!(length(&head[..20]).unwrap(), None);
        assert!(length(b"HTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\n").is_err());
        assert!(length(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
