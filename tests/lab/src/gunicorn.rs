//! gunicorn as the target: a master that kills the worker whose request takes too long.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::Process;
use crate::topology::Lab;

/// `/slow` is answered after a minute, everything else at once.
const APPLICATION: &str = r#"
import time

def application(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        time.sleep(60)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"#;

/// gunicorn with one synchronous worker in the `target` namespace; it ends on drop.
#[derive(Debug)]
pub struct Gunicorn {
    /// The master, for signals and its output.
    pub process: Process,
}

impl Gunicorn {
    /// Starts gunicorn and waits until its worker is up. `name` is unique in the lab; `timeout`, in whole seconds, is
    /// how long a worker may take.
    ///
    /// # Errors
    /// Where it is not installed.
    pub fn start(lab: &Lab, name: &str, address: SocketAddr, timeout: Duration) -> Result<Self> {
        let directory = lab.directory().join(name);
        fs::create_dir_all(&directory)?;
        fs::write(directory.join("lab.py"), APPLICATION).context("cannot write the application")?;
        let mut command = lab.target.command("gunicorn")?;
        command.args(["--bind", &address.to_string(), "--workers", "1", "--log-level", "info"]);
        command.args(["--timeout", &timeout.as_secs().to_string()]).arg("--chdir").arg(&directory);
        command.arg("lab:application");
        let mut process = Process::start(name, command, lab.directory())?;
        let is_up = |process: &Process| process.stderr().is_ok_and(|text| text.contains("Booting worker with pid"));
        process.wait_ready(Duration::from_secs(20), is_up)?;
        Ok(Self { process })
    }
}
