//! Apache with the event MPM.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

use super::{Launch, Options, program, write};
use crate::process::Signal;
use crate::topology::Lab;

pub(super) fn launch(lab: &Lab, directory: &Path, options: &Options) -> Result<Launch> {
    let prefix = directory.display();
    let www = directory.join("www");
    fs::create_dir_all(&www)?;
    // Apache refuses to serve as root, and its user has to reach the files in the lab's directory.
    fs::set_permissions(lab.directory(), Permissions::from_mode(0o755)).context("cannot open the lab's directory")?;
    write(&www.join("index.html"), "ok")?;
    let modules = ["mpm_event", "authz_core", "dir", "reqtimeout", "setenvif"];
    let modules: String =
        modules.map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n")).concat();
    let configuration = directory.join("apache.conf");
    write(
        &configuration,
        &format!(
            "ServerRoot {prefix}\nServerName lab\nDefaultRuntimeDir {prefix}\nPidFile {prefix}/apache.pid\n\
             ErrorLog {prefix}/error.log\n{modules}Listen {}\nUser www-data\nGroup www-data\n\
             StartServers 2\nServerLimit 4\nThreadsPerChild 16\nMinSpareThreads 16\nMaxSpareThreads 64\n\
             MaxRequestWorkers 64\nKeepAlive On\nKeepAliveTimeout {}\nMaxKeepAliveRequests 0\n\
             GracefulShutdownTimeout 10\nDocumentRoot {}\nDirectoryIndex index.html\n{}\n",
            options.address,
            options.keep_alive_s(),
            www.display(),
            options.directives,
        ),
    )?;
    let mut command = lab.target.command(&program(&["apache2", "httpd"])?)?;
    command.arg("-f").arg(&configuration).args(["-D", "FOREGROUND"]).args(&options.arguments);
    Ok(Launch::new(command, Signal::WINCH).workers(2).reload(Signal::USR1))
}
