//! Writing a recording.

use super::{BLOCK_HEADER, HEADER, Kind, MAGIC, MAX_REST, VERSION};
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
use bytes::BufMut;
use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};
use thiserror::Error;

/// Network namespaces in a block: each takes a few hundred bytes.
const NAMESPACES_A_BLOCK: usize = 256;

/// Why there is no recording, or not a whole one.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The file could not be created.
    #[error("cannot write a recording to {}: {error}", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// Writing failed while tracing went on.
    #[error("the recording {} ends early: {error}; tracing goes on without it, what is whole in it can be read", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
}

/// Writes a recording. After the first error nothing more is written, and the error is told once.
#[derive(Debug)]
pub struct Recorder {
    path: PathBuf,
    /// `None` after an error.
    file: Option<BufWriter<File>>,
}

impl Recorder {
    /// Creates the file, or empties it.
    ///
    /// # Errors
    ///
    /// If it cannot be created, or its header not be written.
    pub fn create(path: &Path, clock: Clock) -> Result<Self, WriteError> {
        let mut header = [0; HEADER];
        let mut fields = &mut header[..];
        fields.put_slice(&MAGIC);
        fields.put_u32_le(VERSION);
        fields.put_i64_le(clock.offset);
        let create = || {
            let mut file = File::create(path)?;
            file.write_all(&header)?;
            Ok(file)
        };
        let file = create().map_err(|error| WriteError::Create { path: path.to_owned(), error })?;
        Ok(Self { path: path.to_owned(), file: Some(BufWriter::with_capacity(1 << 16, file)) })
    }

    /// Adds a record as the kernel made it.
    ///
    /// # Errors
    ///
    /// The first time that writing fails.
    pub fn record(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.block(Kind::Record, &[bytes])
    }

    /// Adds what was learnt about a control group.
    ///
    /// # Errors
    ///
    /// The first time that writing fails.
    pub fn fact(&mut self, fact: &Fact) -> Result<(), WriteError> {
        let parts = [&fact.cgroup.to_le_bytes()[..], &fact.pid.to_le_bytes(), fact.path.as_bytes()];
        self.block(Kind::Cgroup, &parts)
    }

    /// Adds the state of the hooks.
    ///
    /// # Errors
    ///
    /// The first time that writing fails.
    pub fn hooks(&mut self, hooks: &[Hook]) -> Result<(), WriteError> {
        let json = serde_json::to_vec(hooks).map_err(|error| self.fail(error.into()))?;
        self.block(Kind::Hooks, &[&json])
    }

    /// Adds what is assumed of the load balancer.
    ///
    /// # Errors
    ///
    /// The first time that writing fails.
    pub fn limits(&mut self, limits: Limits) -> Result<(), WriteError> {
        let idle_timeout = u64::try_from(limits.idle_timeout.as_nanos()).unwrap_or(u64::MAX);
        self.block(Kind::Limits, &[&idle_timeout.to_le_bytes()])
    }

    /// Adds the ports and peers that were asked for.
    ///
    /// # Errors
    ///
    /// The first time that writing fails.
    pub fn selection(&mut self, selection: &Selection) -> Result<(), WriteError> {
        let json = serde_json::to_vec(selection).map_err(|error| self.fail(error.into()))?;
        self.block(Kind::Selection, &[&json])
    }

    /// Adds a rejection.
    ///
    /// # Errors
    ///
    /// The first time that writing fails.
    pub fn rejection(&mut self, rejection: &Rejection) -> Result<(), WriteError> {
        let json = serde_json::to_vec(rejection).map_err(|error| self.fail(error.into()))?;
        self.block(Kind::Rejection, &[&json])
    }

    /// Adds what was seen held against the kernel's own counters.
    ///
    /// # Errors
    ///
    /// The first time that writing fails.
    pub fn reconciliation(&mut self, namespaces: &[Reconciliation]) -> Result<(), WriteError> {
        // A host may have thousands.
        namespaces.chunks(NAMESPACES_A_BLOCK).try_for_each(|some| {
            let json = serde_json::to_vec(some).map_err(|error| self.fail(error.into()))?;
            self.block(Kind::Reconciliation, &[&json])
        })
    }

    /// Adds what the host said about the rejection record that follows.
    ///
    /// # Errors
    ///
    /// The first time that writing fails.
    pub fn host(&mut self, facts: &HostFacts) -> Result<(), WriteError> {
        let json = serde_json::to_vec(facts).map_err(|error| self.fail(error.into()))?;
        self.block(Kind::Host, &[&json])
    }

    /// Adds a request that waited when it was looked at.
    ///
    /// # Errors
    ///
    /// The first time that writing fails.
    pub fn look(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.block(Kind::Look, &[bytes])
    }

    /// Adds the answer to the question of that number.
    ///
    /// # Errors
    ///
    /// The first time that writing fails.
    pub fn answer(&mut self, number: u64, answer: &Application) -> Result<(), WriteError> {
        let json = serde_json::to_vec(answer).map_err(|error| self.fail(error.into()))?;
        self.block(Kind::Answer, &[&number.to_le_bytes(), &json])
    }

    /// Adds a moment at which something is decided about rejections.
    ///
    /// # Errors
    ///
    /// The first time that writing fails.
    pub fn moment(&mut self, now: u64) -> Result<(), WriteError> {
        self.block(Kind::Moment, &[&now.to_le_bytes()])
    }

    /// Adds the name of a network namespace.
    ///
    /// # Errors
    ///
    /// The first time that writing fails.
    pub fn namespace(&mut self, netns: u32, name: &str) -> Result<(), WriteError> {
        self.block(Kind::Namespace, &[&netns.to_le_bytes(), name.as_bytes()])
    }

    /// Adds a request that has not ended.
    ///
    /// # Errors
    ///
    /// The first time that writing fails.
    pub fn waiting(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.block(Kind::Waiting, &[bytes])
    }

    /// Hands to the system what is buffered.
    ///
    /// # Errors
    ///
    /// The first time that writing fails.
    pub fn flush(&mut self) -> Result<(), WriteError> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.flush().map_err(|error| self.fail(error))
    }

    /// Ends the recording.
    ///
    /// # Errors
    ///
    /// The first time that writing fails.
    pub fn end(&mut self, counters: Option<&Counters>) -> Result<(), WriteError> {
        let json = counters.map(serde_json::to_vec).transpose().map_err(|error| self.fail(error.into()))?;
        self.block(Kind::End, &[json.as_deref().unwrap_or_default()])?;
        self.flush()
    }

    /// Whether all went well so far.
    pub const fn is_whole(&self) -> bool {
        self.file.is_some()
    }

    fn block(&mut self, kind: Kind, parts: &[&[u8]]) -> Result<(), WriteError> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        if length > MAX_REST {
            file.flush().map_err(|error| self.fail(error))?;
            return Err(self.fail(io::Error::other(format!("a block of {length} bytes could not be read again"))));
        }
        let mut header = [0; BLOCK_HEADER];
        let mut fields = &mut header[..];
        fields.put_u32_le(kind as u32);
        fields.put_u32_le(u32::try_from(length).unwrap_or(u32::MAX));
        let written = file.write_all(&header).and_then(|()| parts.iter().try_for_each(|part| file.write_all(part)));
        written.map_err(|error| self.fail(error))
    }

    fn fail(&mut self, error: io::Error) -> WriteError {
        // What is buffered must not be tried again when the writer is dropped.
        if let Some(file) = self.file.take() {
            let _ = file.into_parts();
        }
        WriteError::Write { path: self.path.clone(), error }
    }
}
