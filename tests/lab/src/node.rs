//! A web server of node.js as the target, which closes idle connections.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::Process;
use crate::topology::Lab;

const SCRIPT: &str = r#"
const [address, port, idle] = process.argv.slice(2);
const server = require("http").createServer((request, response) => response.end("ok"));
server.keepAliveTimeout = Number(idle);
server.listen(Number(port), address, () => console.log("listening"));
"#;

/// node.js running in the `target` namespace; it ends on drop.
#[derive(Debug)]
pub struct Node {
    /// The process, for signals and its output.
    pub process: Process,
}

impl Node {
    /// Starts the server and waits until it listens. `name` is unique in the lab; `idle` is its `keepAliveTimeout`, to
    /// which some versions of node.js add a second.
    ///
    /// # Errors
    /// Where node.js is not installed, or cannot listen.
    pub fn start(lab: &Lab, name: &str, address: SocketAddr, idle: Duration) -> Result<Self> {
        let script = lab.directory().join(format!("{name}.js"));
        fs::write(&script, SCRIPT).context("cannot write the script")?;
        let mut command = lab.target.command("node")?;
        command.arg(&script).args([address.ip().to_string(), address.port().to_string(), idle.as_millis().to_string()]);
        let mut process = Process::start(name, command, lab.directory())?;
        process.wait_ready(Duration::from_secs(20), |process| process.stdout().is_ok_and(|text| !text.is_empty()))?;
        Ok(Self { process })
    }
}
