//! Reading a recording.

use super::{BLOCK_HEADER, HEADER, Kind, MAGIC, MAX_REST, VERSION, looks::looks_like};
use crate::{
    explain::Limits,
    model::{
        application::Application,
        clock::Clock,
        facts::HostFacts,
        place::Fact,
        reconciliation::Reconciliation,
        rejection::Rejection,
        selection::Selection,
        status::{Counters, Hook},
    },
};
use bytes::Buf;
use std::{
    io::{self, Read},
    time::Duration,
};
use thiserror::Error;

/// Why a recording cannot be read, or not to its end.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("not a recording of tracer: it looks like {0}. Recordings are made by tracer watch -w FILE")]
    NotARecording(String),
    /// A newer version wrote it.
    #[error("recorded in format {found} by a newer tracer; this one reads format {VERSION}: update tracer")]
    Newer {
        /// The version in the file.
        found: u32,
    },
    /// An older version wrote it.
    #[error(
        "recorded in format {found} by an older tracer; this one reads format {VERSION}: use the tracer that wrote it"
    )]
    Older {
        /// The version in the file.
        found: u32,
    },
    /// It ends within a block, or without its last one.
    #[error("cut off at byte {length}: the last whole block ends at byte {whole}, reported is what comes before")]
    Truncated {
        /// Bytes in the file.
        length: u64,
        /// Where the last whole block ends.
        whole: u64,
    },
    /// A block cannot be.
    #[error("damaged at byte {at} ({what}): reported is what comes before")]
    Damaged {
        /// Where the block begins.
        at: u64,
        /// What is wrong.
        what: &'static str,
    },
}

/// A block.
#[derive(Debug, PartialEq, Eq)]
pub enum Block<'a> {
    /// A record as the kernel made it.
    Record(&'a [u8]),
    /// What was learnt about a control group.
    Fact(Fact),
    /// The state of the hooks.
    Hooks(Vec<Hook>),
    /// What is assumed of the load balancer.
    Limits(Limits),
    /// The ports and peers that were asked for.
    Selection(Selection),
    /// Something that was rejected.
    Rejection(Box<Rejection>),
    /// What was seen held against the kernel's own counters.
    Reconciliation(Vec<Reconciliation>),
    /// What the host said about the rejection record that follows.
    Host(Box<HostFacts>),
    /// A request that waited when it was looked at, as a record.
    Look(&'a [u8]),
    /// The answer to the question of that number.
    Answer(u64, Box<Application>),
    /// A moment at which something was decided about rejections; [`u64::MAX`]: the end.
    Moment(u64),
    /// A network namespace, by inode number, and its name.
    Namespace(u32, String),
    /// A request that had not ended when tracing ended, as a record.
    Waiting(&'a [u8]),
    /// The end, with the kernel's counters if they are known.
    End(Option<Counters>),
}

/// Reads a recording block by block.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    rest: Vec<u8>,
    /// Bytes read.
    offset: u64,
    ended: bool,
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    ///
    /// If there is none of this version.
    pub fn new(mut input: R) -> Result<(Clock, Self), ReadError> {
        let mut header = Vec::with_capacity(HEADER);
        input.by_ref().take(HEADER as u64).read_to_end(&mut header)?;
        let length = header.len().min(MAGIC.len());
        if header.is_empty() || header[..length] != MAGIC[..length] {
            return Err(ReadError::NotARecording(looks_like(&header)));
        }
        if header.len() < HEADER {
            return Err(ReadError::Truncated { length: header.len() as u64, whole: 0 });
        }
        let mut fields = &header[MAGIC.len()..];
        let version = fields.get_u32_le();
        match version {
            VERSION => {}
            0 => return Err(ReadError::Damaged { at: 8, what: "there is no format 0" }),
            found if found < VERSION => return Err(ReadError::Older { found }),
            found => return Err(ReadError::Newer { found }),
        }
        let clock = Clock { offset: fields.get_i64_le() };
        Ok((clock, Self { input, rest: Vec::new(), offset: HEADER as u64, ended: false }))
    }

    /// The next block; `None` after the last.
    ///
    /// # Errors
    ///
    /// If the next block is not whole or cannot be.
    #[expect(clippy::should_implement_trait, reason = "a block borrows the reader, which no iterator can lend")]
    pub fn next(&mut self) -> Result<Option<Block<'_>>, ReadError> {
        let at = self.offset;
        let mut header = [0; BLOCK_HEADER];
        let read = self.fill(&mut header, at)?;
        if self.ended {
            return if read { Err(ReadError::Damaged { at, what: "something follows the end" }) } else { Ok(None) };
        }
        if !read {
            return Err(ReadError::Truncated { length: at, whole: at });
        }
        let mut fields = &header[..];
        let (kind, length) = (fields.get_u32_le(), fields.get_u32_le() as usize);
        let kind = Kind::ALL.into_iter().find(|&it| it as u32 == kind);
        let kind = kind.ok_or(ReadError::Damaged { at, what: "unknown kind of block" })?;
        if length > MAX_REST {
            return Err(ReadError::Damaged { at, what: "impossible length" });
        }
        // Most are as long as the one before.
        let mut rest = std::mem::take(&mut self.rest);
        rest.resize(length, 0);
        let read = self.fill(&mut rest, at)?;
        self.rest = rest;
        if !read && length != 0 {
            return Err(ReadError::Truncated { length: self.offset, whole: at });
        }
        self.ended = kind == Kind::End;
        parse(kind, &self.rest).map(Some).ok_or(ReadError::Damaged { at, what: "unreadable block" })
    }

    /// Fills `place`; false if there is not even one byte.
    fn fill(&mut self, place: &mut [u8], whole: u64) -> Result<bool, ReadError> {
        let mut filled = 0;
        while filled < place.len() {
            match self.input.read(&mut place[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.offset += filled as u64;
        if filled != 0 && filled < place.len() {
            return Err(ReadError::Truncated { length: self.offset, whole });
        }
        Ok(filled != 0)
    }
}

fn parse(kind: Kind, mut rest: &[u8]) -> Option<Block<'_>> {
    Some(match kind {
        Kind::Record => Block::Record(rest),
        Kind::Cgroup => Block::Fact(Fact {
            cgroup: rest.try_get_u64_le().ok()?,
            pid: rest.try_get_u32_le().ok()?,
            path: String::from_utf8(rest.to_owned()).ok()?,
        }),
        Kind::Hooks => Block::Hooks(serde_json::from_slice(rest).ok()?),
        Kind::Limits => Block::Limits(Limits { idle_timeout: Duration::from_nanos(rest.try_get_u64_le().ok()?) }),
        Kind::Selection => Block::Selection(serde_json::from_slice(rest).ok()?),
        Kind::Rejection => Block::Rejection(serde_json::from_slice(rest).ok()?),
        Kind::Reconciliation => Block::Reconciliation(serde_json::from_slice(rest).ok()?),
        Kind::Host => Block::Host(serde_json::from_slice(rest).ok()?),
        Kind::Look => Block::Look(rest),
        Kind::Answer => {
            let number = rest.try_get_u64_le().ok()?;
            Block::Answer(number, serde_json::from_slice(rest).ok()?)
        }
        Kind::Moment => Block::Moment(rest.try_get_u64_le().ok()?),
        Kind::Namespace => Block::Namespace(rest.try_get_u32_le().ok()?, String::from_utf8(rest.to_owned()).ok()?),
        Kind::Waiting => Block::Waiting(rest),
        Kind::End if rest.is_empty() => Block::End(None),
        Kind::End => Block::End(Some(serde_json::from_slice(rest).ok()?)),
    })
}
