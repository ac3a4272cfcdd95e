//! A request and the pace at which it is sent and its response read.

use std::fmt::Display;
use std::net::SocketAddr;
use std::time::Duration;

/// What to send and how. Everything is at once and in one piece unless told otherwise.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    path: String,
    headers: String,
    pub(super) body_bytes: u64,
    pub(super) before_first_byte: Duration,
    pub(super) before_body: Duration,
    pub(super) body_pieces: u64,
    pub(super) between_body_pieces: Duration,
    pub(super) before_read: Duration,
    pub(super) read_bytes: Option<usize>,
    pub(super) between_reads: Duration,
    pub(super) half_close: bool,
}

impl Request {
    /// `GET path`.
    #[must_use]
    pub fn get(path: &str) -> Self {
        Self::new("GET", path, 0)
    }

    /// `PUT path` with a body of `body_bytes`.
    #[must_use]
    pub fn put(path: &str, body_bytes: u64) -> Self {
        Self::new("PUT", path, body_bytes)
    }

    /// Any method; a `Content-Length` is sent with all but an empty GET and HEAD.
    #[must_use]
    pub fn new(method: &str, path: &str, body_bytes: u64) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            headers: String::new(),
            body_bytes,
            before_first_byte: Duration::ZERO,
            before_body: Duration::ZERO,
            body_pieces: 1,
            between_body_pieces: Duration::ZERO,
            before_read: Duration::ZERO,
            read_bytes: None,
            between_reads: Duration::ZERO,
            half_close: false,
        }
    }

    /// Adds a header, such as those that the target obeys: `.header("X-Before-Write", 50)`.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Display) -> Self {
        self.headers.extend([name, ": ", &value.to_string(), "\r\n"]);
        self
    }

    /// Waits before the first byte.
    #[must_use]
    pub fn before_first_byte(self, pause: Duration) -> Self {
        Self { before_first_byte: pause, ..self }
    }

    /// Waits between the head and the body.
    #[must_use]
    pub fn before_body(self, pause: Duration) -> Self {
        Self { before_body: pause, ..self }
    }

    /// A slow upload: the body goes in `pieces`, with a pause between each two.
    #[must_use]
    pub fn body_pieces(self, pieces: u64, pause: Duration) -> Self {
        Self { body_pieces: pieces.max(1), between_body_pieces: pause, ..self }
    }

    /// Waits between the request and the first read of the response.
    #[must_use]
    pub fn before_read(self, pause: Duration) -> Self {
        Self { before_read: pause, ..self }
    }

    /// A slow reader: reads at most `bytes` at a time, with a pause between each two reads.
    #[must_use]
    pub fn read_slowly(self, bytes: usize, pause: Duration) -> Self {
        Self { read_bytes: Some(bytes), between_reads: pause, ..self }
    }

    /// Closes the sending half (FIN) right after the request.
    #[must_use]
    pub fn half_close(self) -> Self {
        Self { half_close: true, ..self }
    }

    pub(super) fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    pub(super) fn head(&self, peer: SocketAddr) -> Vec<u8> {
        let Self { method, path, headers, body_bytes, .. } = self;
        let length = match (method.as_str(), body_bytes) {
            ("GET" | "HEAD", 0) => String::new(),
            _ => format!("Content-Length: {body_bytes}\r\n"),
        };
        format!("{method} {path} HTTP/1.1\r\nHost: {peer}\r\n{length}{headers}\r\n").into_bytes()
    }
}
