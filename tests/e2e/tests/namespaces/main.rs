//! Several network namespaces at once: each listener is told apart, whatever its address. Needs root; `TRACER_BIN` names
//! the program. These tracers watch the whole host, so each test has ports of its own.

mod apart;
mod follow;

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use lab::Lab;
use lab::tracer::{Tracer, binary};

/// Watches these ports in all namespaces of the host, and records to `file`.
fn watch(lab: &Lab, ports: &[u16], file: &Path) -> Result<Tracer> {
    let mut command = Command::new(binary()?);
    command.args(["watch", "--json", "-w"]).arg(file);
    for port in ports {
        command.args(["--port", &port.to_string()]);
    }
    Tracer::run("tracer", command, lab.directory())
}

/// What `tracer report` shows of a recording.
fn report(file: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new(binary()?).arg("report").arg(file).args(arguments).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
