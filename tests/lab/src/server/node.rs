//! node.js. On SIGTERM it does what its documentation says: `server.close()`. With the argument `manager` it is a process
//! manager that replaces its two workers on SIGUSR2, one after the other: the new one listens before the old one is told to close.

use std::path::Path;

use anyhow::Result;

use super::{Launch, Options, program, write};
use crate::process::Signal;
use crate::topology::Lab;

const PROGRAM: &str = include_str!("node/server.js");

pub(super) fn launch(lab: &Lab, directory: &Path, options: &Options) -> Result<Launch> {
    let source = directory.join("server.js");
    write(&source, PROGRAM)?;
    let mut command = lab.target.command(&program(&["node"])?)?;
    command.arg(&source).args([options.address.ip().to_string(), options.address.port().to_string()]);
    command.arg(options.keep_alive.as_millis().to_string()).args(&options.arguments);
    let launch = Launch::new(command, Signal::TERM);
    let is_managed = options.arguments.iter().any(|argument| argument == "manager");
    Ok(if is_managed { launch.workers(2).reload(Signal::USR2) } else { launch })
}
