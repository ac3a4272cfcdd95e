//! What was measured, raw, in a file: a run replaces the workloads that it measured, and leaves the others.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::{machine::Machine, sample::Sample, side::Side, workload::Workload};

/// Everything.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Results {
    /// Where it was measured.
    pub machine: Machine,
    /// By the workload's name.
    pub workloads: BTreeMap<String, Measured>,
}

/// What was measured of a workload.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Measured {
    /// Its name.
    pub workload: String,
    /// When, RFC 3339.
    pub date: String,
    /// Seconds of each sample.
    pub seconds: f64,
    /// The samples, in the order in which they were taken.
    pub samples: Vec<Sample>,
}

impl Measured {
    /// The samples, as of now.
    pub fn new(workload: Workload, span: Duration, samples: Vec<Sample>) -> Self {
        let date = jiff::Timestamp::now().to_string();
        Self { workload: workload.name(), date, seconds: span.as_secs_f64(), samples }
    }

    /// How many rounds there were.
    pub fn rounds(&self) -> u32 {
        self.samples.iter().map(|sample| sample.round + 1).max().unwrap_or(0)
    }

    /// The samples of a side, in the order of rounds.
    pub fn of(&self, side: Side) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |sample| sample.side == side)
    }

    /// The samples of a side, each with that of another side in the same round.
    pub fn pairs(&self, side: Side, with: Side) -> impl Iterator<Item = (&Sample, &Sample)> {
        self.of(side).filter_map(move |sample| Some((sample, self.of(with).find(|it| it.round == sample.round)?)))
    }
}

impl Results {
    /// Reads what earlier runs have left; nothing if there is none.
    ///
    /// # Errors
    /// Where the file is not one of these.
    pub fn load(path: &Path) -> Result<Self> {
        match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .with_context(|| format!("{} holds something else; remove it", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Replaces a workload; or adds rounds to it.
    pub fn put(&mut self, mut measured: Measured, add: bool) {
        if add && let Some(earlier) = self.workloads.remove(&measured.workload) {
            let next = earlier.samples.iter().map(|sample| sample.round + 1).max().unwrap_or(0);
            measured.samples.iter_mut().for_each(|sample| sample.round += next);
            measured.samples.splice(..0, earlier.samples);
        }
        self.workloads.insert(measured.workload.clone(), measured);
    }

    /// Writes the file.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        }
        // Whole or not at all: an interrupted run leaves what was there.
        let part = path.with_extension("part");
        fs::write(&part, serde_json::to_vec(self)?).with_context(|| format!("cannot write {}", part.display()))?;
        fs::rename(&part, path).with_context(|| format!("cannot write {}", path.display()))
    }
}
