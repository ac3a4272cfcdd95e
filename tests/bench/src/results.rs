//! What was measured, raw, in a file: a run replaces the workloads that it measured, and leaves the others.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
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
    /// The build of tracer.
    #[serde(default)]
    pub build: String,
    /// Seconds of each sample.
    pub seconds: f64,
    /// The samples, in the order in which they were taken.
    pub samples: Vec<Sample>,
    /// What could not be measured, and why.
    #[serde(default)]
    pub missing: Vec<String>,
}

impl Measured {
    /// Nothing yet, as of now.
    pub fn new(workload: Workload, build: &str, span: Duration) -> Self {
        Self {
            workload: workload.name(),
            date: jiff::Timestamp::now().to_string(),
            build: build.to_owned(),
            seconds: span.as_secs_f64(),
            samples: Vec::new(),
            missing: Vec::new(),
        }
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

    /// Whether rounds of this build can be added to those workloads.
    ///
    /// # Errors
    /// Where one was measured with another build.
    pub fn admit(&self, workloads: &[Workload], build: &str) -> Result<()> {
        for measured in workloads.iter().filter_map(|workload| self.workloads.get(&workload.name())) {
            ensure!(
                measured.build == build,
                "{} was measured with another build of tracer ({}, this is {}): leave out --add, and it is replaced",
                measured.workload,
                short(&measured.build),
                short(build)
            );
        }
        Ok(())
    }

    /// Replaces a workload; or adds rounds to it.
    pub fn put(&mut self, mut measured: Measured, add: bool) {
        if add && let Some(earlier) = self.workloads.remove(&measured.workload) {
            let next = earlier.samples.iter().map(|sample| sample.round + 1).max().unwrap_or(0);
            measured.samples.iter_mut().for_each(|sample| sample.round += next);
            measured.samples.splice(..0, earlier.samples);
            measured.missing.splice(..0, earlier.missing);
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

/// As much of a build as one looks at.
pub fn short(build: &str) -> &str {
    match build.get(..12) {
        Some(short) => short,
        None => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Measured, Results};
    use crate::workload::Workload;

    #[test]
    fn rounds_of_another_build_are_not_added() {
        let build = "a".repeat(64);
        let mut results = Results::default();
        results.put(Measured::new(Workload::Rate10, &build, Duration::from_secs(1)), false);
        results.admit(&[Workload::Rate10, Workload::Rate100], &build).unwrap();
        results.admit(&[Workload::Rate100], &"b".repeat(64)).unwrap();
        let error = results.admit(&[Workload::Rate100, Workload::Rate10], &"b".repeat(64)).unwrap_err().to_string();
        assert!(error.starts_with("rate-10 ") && error.contains("(aaaaaaaaaaaa, this is bbbbbbbbbbbb)"), "{error}");
    }

    #[test]
    fn results_from_before_builds_were_noted_are_of_another_one() {
        let earlier = r#"{"workload":"rate-10","date":"","seconds":1.0,"samples":[]}"#;
        let mut results = Results::default();
        results.put(serde_json::from_str(earlier).unwrap(), false);
        assert!(results.admit(&[Workload::Rate10], &"a".repeat(64)).is_err());
    }
}
