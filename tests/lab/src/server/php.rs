//! php-fpm behind nginx, joined by a Unix socket; with the argument `tcp` by TCP, where its connections can be traced.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::{Launch, Options, nginx, program, write};
use crate::process::Signal;
use crate::topology::Lab;

const SCRIPT: &str = r#"<?php
if ($_SERVER["DOCUMENT_URI"] === "/slow") {
    header("Content-Length: 100000");
    while (ob_get_level()) ob_end_flush();
    echo str_repeat("x", 2000);
    flush();
    sleep(60);
}
header("Content-Length: 2");
file_get_contents("php://input");
echo "ok";
"#;

/// Where php-fpm listens if that is not a Unix socket.
const FASTCGI: &str = "127.0.0.1:9000";

pub(super) fn launch(lab: &Lab, directory: &Path, options: &Options) -> Result<Launch> {
    let prefix = directory.display();
    let (tcp, arguments): (Vec<_>, Vec<_>) = options.arguments.iter().cloned().partition(|word| word == "tcp");
    let options = &Options { arguments, ..options.clone() };
    let (listen, pass) = if tcp.is_empty() {
        (format!("{prefix}/php.sock"), format!("unix:{prefix}/php.sock"))
    } else {
        (FASTCGI.to_owned(), FASTCGI.to_owned())
    };
    let (script, pool) = (directory.join("index.php"), directory.join("php-fpm.conf"));
    write(&script, SCRIPT)?;
    write(
        &pool,
        &format!(
            "[global]\ndaemonize = no\nerror_log = {prefix}/php-fpm.log\npid = {prefix}/php-fpm.pid\n\
             process_control_timeout = 10s\n\
             [www]\nuser = root\ngroup = root\nlisten = {listen}\npm = static\npm.max_children = 4\n"
        ),
    )?;
    let mut fpm = lab.target.command(&fpm()?)?;
    fpm.args(["--nodaemonize", "--allow-to-run-as-root", "--fpm-config"]).arg(&pool);
    let server = format!(
        "listen {}; location / {{ fastcgi_pass {pass}; fastcgi_buffering off; fastcgi_param SCRIPT_FILENAME {}; \
         fastcgi_param DOCUMENT_URI $document_uri; \
         fastcgi_param REQUEST_METHOD $request_method; fastcgi_param CONTENT_LENGTH $content_length; \
         fastcgi_param CONTENT_TYPE $content_type; }}",
        options.address,
        script.display()
    );
    let command = nginx::command(lab, directory, options, &server)?;
    let launch = Launch::new(command, Signal::QUIT).workers(2).reload(Signal::USR2);
    Ok(Launch { behind: vec![("fpm".to_owned(), fpm)], ..launch })
}

/// `php-fpm8.2` and the like.
fn fpm() -> Result<String> {
    let names = fs::read_dir("/usr/sbin")?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let name = names.filter(|name| name.starts_with("php-fpm")).max();
    program(&[&name.context("php-fpm is not installed; `cargo xtask setup` installs it")?])
}
