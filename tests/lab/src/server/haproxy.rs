//! haproxy as a reverse proxy in the target, before an nginx behind a Unix socket. Its reload starts a new worker.

use std::path::Path;

use anyhow::Result;

use super::{Launch, Options, nginx, program, write};
use crate::process::Signal;
use crate::topology::Lab;

pub(super) fn launch(lab: &Lab, directory: &Path, options: &Options) -> Result<Launch> {
    let prefix = directory.display();
    // The body is read before the answer: nginx would answer at once.
    let server = format!("listen unix:{prefix}/http.sock; location / {{ return 200 ok; }}");
    let plain = Options { arguments: Vec::new(), directives: String::new(), ..options.clone() };
    let behind = nginx::command(lab, directory, &plain, &server)?;
    let configuration = directory.join("haproxy.cfg");
    write(
        &configuration,
        &format!(
            "global\n    nbthread 2\n    hard-stop-after 10s\n\
             defaults\n    mode http\n    timeout connect 5s\n    timeout server 60s\n    timeout client 60s\n    \
             timeout http-keep-alive {}s\n    option http-buffer-request\n\
             frontend front\n    bind {}\n    default_backend back\n    {}\n\
             backend back\n    server nginx unix@{prefix}/http.sock\n",
            options.keep_alive_s(),
            options.address,
            options.directives,
        ),
    )?;
    let mut command = lab.target.command(&program(&["haproxy"])?)?;
    command.args(["-W", "-db", "-f"]).arg(&configuration).args(&options.arguments);
    let launch = Launch::new(command, Signal::USR1).workers(1).reload(Signal::USR2);
    Ok(Launch { behind: vec![("nginx".to_owned(), behind)], ..launch })
}
