//! A log of one JSON object a line that another process is still writing.

use std::fs;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;

use crate::process::wait_until;

/// The log: its entries are `T`. Lines that are not objects are passed over.
#[derive(Debug)]
pub(crate) struct JsonLog<T> {
    path: PathBuf,
    entry: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> JsonLog<T> {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, entry: PhantomData }
    }

    pub(crate) fn entries(&self) -> Result<Vec<T>> {
        let text = self.text()?;
        entry_lines(&text)
            .map(|line| serde_json::from_str(line).with_context(|| format!("not an entry: {line}")))
            .collect()
    }

    /// Waits until there are `count` entries, and returns all.
    pub(crate) fn wait_for(&self, count: usize) -> Result<Vec<T>> {
        let mut found = 0;
        let enough = || {
            found = self.text().map_or(0, |text| entry_lines(&text).count());
            found >= count
        };
        wait_until("enough entries in the log", Duration::from_secs(5), enough)
            .with_context(|| format!("{} has {found} entries of {count}", self.path.display()))?;
        self.entries()
    }

    fn text(&self) -> Result<String> {
        fs::read_to_string(&self.path).with_context(|| format!("cannot read the log {}", self.path.display()))
    }
}

/// The lines that are entries. A last line without its end is still being written.
fn entry_lines(text: &str) -> impl Iterator<Item = &str> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().filter(|line| line.starts_with('{'))
}
