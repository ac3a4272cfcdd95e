//! php-fpm behind nginx.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::{Launch, Options, nginx, program, write};
use crate::process::Signal;
use crate::topology::Lab;

const SCRIPT: &str = r#"<?php
header("Content-Length: 2");
file_get_contents("php://input");
echo "ok";
"#;

pub(super) fn launch(lab: &Lab, directory: &Path, options: &Options) -> Result<Launch> {
    let prefix = directory.display();
    let (script, pool) = (directory.join("index.php"), directory.join("php-fpm.conf"));
    write(&script, SCRIPT)?;
    write(
        &pool,
        &format!(
            "[global]\ndaemonize = no\nerror_log = {prefix}/php-fpm.log\npid = {prefix}/php-fpm.pid\n\
             process_control_timeout = 10s\n\
             [www]\nuser = root\ngroup = root\nlisten = {prefix}/php.sock\npm = static\npm.max_children = 4\n"
        ),
    )?;
    let mut fpm = lab.target.command(&fpm()?)?;
    fpm.args(["--nodaemonize", "--allow-to-run-as-root", "--fpm-config"]).arg(&pool);
    let server = format!(
        "listen {}; location / {{ fastcgi_pass unix:{prefix}/php.sock; fastcgi_param SCRIPT_FILENAME {}; \
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
