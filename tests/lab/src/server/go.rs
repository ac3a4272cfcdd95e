//! Go's `net/http`, compiled once; its stop is `Shutdown`.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

use super::{Launch, Options, kept, program};
use crate::process::Signal;
use crate::topology::Lab;

const PROGRAM: &str = include_str!("go/main.go");

pub(super) fn launch(lab: &Lab, _: &Path, options: &Options) -> Result<Launch> {
    let mut command = lab.target.command(&compiled()?.to_string_lossy())?;
    command.args([options.address.to_string(), options.keep_alive_s()]).args(&options.arguments);
    Ok(Launch::new(command, Signal::TERM))
}

/// The program, compiled anew only where its source has changed.
fn compiled() -> Result<std::path::PathBuf> {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = kept("go");
    let (source, binary) = (directory.join("main.go"), directory.join("server"));
    if binary.is_file() && fs::read_to_string(&source).is_ok_and(|text| text == PROGRAM) {
        return Ok(binary);
    }
    // The source is written last: an interrupted run compiles again.
    let new = directory.join("new");
    fs::create_dir_all(&new)?;
    fs::write(new.join("main.go"), PROGRAM)?;
    let mut go = Command::new(program(&["go"])?);
    go.args(["build", "-o"]).arg(&binary).arg(new.join("main.go"));
    go.env("GOCACHE", directory.join("cache")).env("GOFLAGS", "-mod=mod").env("GO111MODULE", "off");
    let output = go.env("CGO_ENABLED", "0").output().context("cannot start go")?;
    ensure!(output.status.success(), "go build failed: {}", String::from_utf8_lossy(&output.stderr));
    fs::write(&source, PROGRAM)?;
    Ok(binary)
}
