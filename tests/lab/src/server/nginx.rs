//! nginx with two workers, or with one that may have few connections.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;

use super::{Launch, Options, program, write};
use crate::process::Signal;
use crate::topology::Lab;

pub(super) fn launch(lab: &Lab, directory: &Path, options: &Options) -> Result<Launch> {
    let listen = if options.directives.contains("ssl_certificate ") { " ssl" } else { "" };
    let server = format!("listen {}{listen}; {ANSWER}", options.address);
    let command = command(lab, directory, options, &server)?;
    Ok(Launch::new(command, Signal::QUIT).workers(workers(options)).reload(Signal::HUP))
}

/// How many workers: a limit of connections is that of one of them.
fn workers(options: &Options) -> usize {
    if options.connections.is_some() { 1 } else { 2 }
}

/// Answers everything with two bytes. `PUT` and `POST` go through a proxy, which reads the body first.
const ANSWER: &str = "location / { if ($request_method ~ ^(POST|PUT)$) { rewrite ^ /body last; } return 200 ok; }
        location /body { internal; proxy_pass http://unix:PREFIX/body.sock; }";

/// nginx with a `server` block.
pub(super) fn command(lab: &Lab, directory: &Path, options: &Options, server: &str) -> Result<std::process::Command> {
    let prefix = directory.display();
    let mut text = format!(
        "daemon off;\nuser root;\nworker_processes {};\npid {prefix}/nginx.pid;\nerror_log stderr;\n\
         events {{ worker_connections {}; }}\nhttp {{\n    access_log off;\n    keepalive_timeout {}s;\n    \
         keepalive_requests 1000000;\n",
        workers(options),
        options.connections.unwrap_or(1024),
        options.keep_alive_s(),
    );
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        writeln!(text, "    {kind}_temp_path {prefix}/{kind}_temp;")?;
    }
    writeln!(text, "    server {{ {} {} }}", server.replace("PREFIX", &prefix.to_string()), options.directives)?;
    writeln!(text, "    server {{ listen unix:{prefix}/body.sock; location / {{ return 200 ok; }} }}\n}}")?;
    let configuration = directory.join("nginx.conf");
    write(&configuration, &text)?;
    let mut command = lab.target.command(&program(&["nginx"])?)?;
    command.arg("-p").arg(directory).arg("-e").arg("stderr").arg("-c").arg(&configuration).args(&options.arguments);
    Ok(command)
}
