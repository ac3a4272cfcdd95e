//! Redis, which speaks text of its own.

use anyhow::Result;

use super::{Launch, Options, program};
use crate::process::Signal;
use crate::topology::Lab;

pub(super) fn launch(lab: &Lab, options: &Options) -> Result<Launch> {
    let mut command = lab.target.command(&program(&["redis-server"])?)?;
    command.args(["--bind", &options.address.ip().to_string(), "--port", &options.address.port().to_string()]);
    command.args(["--save", "", "--appendonly", "no", "--protected-mode", "no"]);
    command.args(["--timeout", &options.keep_alive_s()]).args(&options.arguments);
    Ok(Launch::new(command, Signal::TERM))
}
