//! What the target is told: on its command line, and per request in headers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// What a request is answered with, and where it is delayed. Each has an option (`--before-write 50`) and a header of
/// the same name (`X-Before-Write: 50`) that holds for one request. Durations are whole milliseconds there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behaviour {
    /// `--between-reads`: reads half of the body, waits, reads the rest. A body shorter than 1 KiB may come with the
    /// head; one of which less than half is left to read is answered with 400.
    pub between_reads: Duration,
    /// `--before-write`: waits between the last byte of the request and the first byte of the response.
    pub before_write: Duration,
    /// `--pieces`: the response is written in so many pieces.
    pub pieces: u64,
    /// `--between-pieces`: waits between two pieces.
    pub between_pieces: Duration,
    /// `--response-bytes`: the length of the response's body.
    pub response_bytes: u64,
    /// `--status`: the status code.
    pub status: u16,
    /// `--early-response`: answers after the head, then reads the body.
    pub early_response: bool,
    /// `--close`: closes after the response, and says so.
    pub close: bool,
    /// `--linger0`: closes with a reset.
    pub linger0: bool,
    /// `--read-bytes-then-close`: reads so many bytes of the request, then closes without an answer.
    pub read_bytes_then_close: Option<u64>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            between_reads: Duration::ZERO,
            before_write: Duration::ZERO,
            pieces: 1,
            between_pieces: Duration::ZERO,
            response_bytes: 2,
            status: 200,
            early_response: false,
            close: false,
            linger0: false,
            read_bytes_then_close: None,
        }
    }
}

impl Behaviour {
    /// Sets what `name` stands for; says whether there is such a name.
    ///
    /// # Errors
    /// Where the value is not a number, or out of range.
    pub fn set(&mut self, name: &str, value: &str) -> Result<bool> {
        match name {
            "between-reads" => self.between_reads = milliseconds(name, value)?,
            "before-write" => self.before_write = milliseconds(name, value)?,
            "pieces" => self.pieces = number::<u64>(name, value)?.max(1),
            "between-pieces" => self.between_pieces = milliseconds(name, value)?,
            "response-bytes" => self.response_bytes = number(name, value)?,
            "status" => self.status = number(name, value)?,
            "early-response" => self.early_response = number::<u8>(name, value)? != 0,
            "close" => self.close = number::<u8>(name, value)? != 0,
            "linger0" => self.linger0 = number::<u8>(name, value)? != 0,
            "read-bytes-then-close" => self.read_bytes_then_close = Some(number(name, value)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn to_arguments(&self) -> Vec<(&'static str, String)> {
        let ms = |duration: Duration| duration.as_millis().to_string();
        let flag = |set: bool| u8::from(set).to_string();
        let mut arguments = vec![
            ("between-reads", ms(self.between_reads)),
            ("before-write", ms(self.before_write)),
            ("pieces", self.pieces.to_string()),
            ("between-pieces", ms(self.between_pieces)),
            ("response-bytes", self.response_bytes.to_string()),
            ("status", self.status.to_string()),
            ("early-response", flag(self.early_response)),
            ("close", flag(self.close)),
            ("linger0", flag(self.linger0)),
        ];
        arguments.extend(self.read_bytes_then_close.map(|bytes| ("read-bytes-then-close", bytes.to_string())));
        arguments
    }
}

/// The target's command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `--listen ADDRESS:PORT`, repeatable. `[::]:PORT` takes IPv4 too; any other IPv6 address does not.
    pub listen: Vec<SocketAddr>,
    /// `--backlog`: the length of the accept queue.
    pub backlog: i32,
    /// `--reuse-port`: shares its ports with other targets (`SO_REUSEPORT`).
    pub reuse_port: bool,
    /// `--before-accept`: waits between a connection in the accept queue and `accept()`. Connections are accepted one
    /// after the other, so each of several waits for those before it too.
    pub before_accept: Duration,
    /// `--before-read`: waits between the first bytes of a request in the socket and the first read, for each request.
    pub before_read: Duration,
    /// `--idle-close`: closes a connection that has been idle for so long. Off where absent.
    pub idle_close: Option<Duration>,
    /// What may also be told per request.
    pub behaviour: Behaviour,
    /// `--log`: the file for one JSON line a request. [`super::Target`] sets it.
    pub log: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            backlog: 1024,
            reuse_port: false,
            before_accept: Duration::ZERO,
            before_read: Duration::ZERO,
            idle_close: None,
            behaviour: Behaviour::default(),
            log: None,
        }
    }
}

impl Options {
    /// Options to listen on `addresses`, without any delay.
    #[must_use]
    pub fn listen(addresses: &[SocketAddr]) -> Self {
        Self { listen: addresses.to_vec(), ..Self::default() }
    }

    /// Reads a command line, without the program's name. Each option has a value: `--close 1`.
    ///
    /// # Errors
    /// Where an option is unknown, has no value or a wrong one.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut options = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let value = arguments.next().with_context(|| format!("{argument} has no value"))?;
            let name = argument.strip_prefix("--").unwrap_or(&argument);
            match name {
                "listen" => options.listen.push(value.parse().with_context(|| format!("{value} is not ADDRESS:PORT"))?),
                "backlog" => options.backlog = number(name, &value)?,
                "reuse-port" => options.reuse_port = number::<u8>(name, &value)? != 0,
                "before-accept" => options.before_accept = milliseconds(name, &value)?,
                "before-read" => options.before_read = milliseconds(name, &value)?,
                "idle-close" => options.idle_close = Some(milliseconds(name, &value)?),
                "log" => options.log = Some(value.into()),
                _ if options.behaviour.set(name, &value)? => {}
                _ => bail!("unknown option {argument}"),
            }
        }
        if options.listen.is_empty() {
            bail!("nowhere to listen: give --listen ADDRESS:PORT");
        }
        Ok(options)
    }

    /// The command line that says the same, without `--log`.
    #[must_use]
    pub fn to_arguments(&self) -> Vec<String> {
        let mut pairs: Vec<_> = self.listen.iter().map(|address| ("listen", address.to_string())).collect();
        pairs.push(("backlog", self.backlog.to_string()));
        pairs.push(("reuse-port", u8::from(self.reuse_port).to_string()));
        pairs.push(("before-accept", self.before_accept.as_millis().to_string()));
        pairs.push(("before-read", self.before_read.as_millis().to_string()));
        pairs.extend(self.idle_close.map(|idle| ("idle-close", idle.as_millis().to_string())));
        pairs.extend(self.behaviour.to_arguments());
        pairs.into_iter().flat_map(|(name, value)| [format!("--{name}"), value]).collect()
    }
}

fn number<T: FromStr>(name: &str, value: &str) -> Result<T> {
    let Ok(number) = value.trim().parse() else { bail!("{name} wants a number, not {value:?}") };
    Ok(number)
}

fn milliseconds(name: &str, value: &str) -> Result<Duration> {
    Ok(Duration::from_millis(number(name, value)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_round_trip() {
        let options = Options {
            listen: vec!["[::]:80".parse().unwrap(), "10.0.0.1:81".parse().unwrap()],
            backlog: 7,
            reuse_port: true,
            before_accept: Duration::from_millis(1),
            before_read: Duration::from_millis(2),
            idle_close: Some(Duration::from_millis(3)),
            behaviour: Behaviour {
                between_reads: Duration::from_millis(4),
                before_write: Duration::from_millis(5),
                pieces: 6,
                between_pieces: Duration::from_millis(7),
                response_bytes: 8,
                status: 503,
                early_response: true,
                close: true,
                linger0: true,
                read_bytes_then_close: Some(9),
            },
            log: None,
        };
        assert_eq!(Options::parse(options.to_arguments()).unwrap(), options);
    }

    #[test]
    fn wrong_command_lines_are_refused() {
        for line in ["", "--listen", "--listen here", "--listen 0.0.0.0:1 --pieces many", "--listen 0.0.0.0:1 --no 1"] {
            assert!(Options::parse(line.split_whitespace().map(str::to_owned)).is_err(), "{line}");
        }
    }
}
