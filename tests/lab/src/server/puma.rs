//! puma in cluster mode; its reload is the phased restart.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::{Launch, Options, program, write};
use crate::process::Signal;
use crate::topology::Lab;

/// Beside the ordinary answer, one after a second, and one that never ends.
const APPLICATION: &str = r#"
class Slow
  def each
    yield "x" * 2000
    sleep 60
  end
end

run lambda { |environment|
  next [200, { "Content-Length" => "100000" }, Slow.new] if environment["PATH_INFO"] == "/slow"
  environment["rack.input"].read
  sleep 1 if environment["PATH_INFO"] == "/late"
  [200, { "Content-Length" => "2" }, ["ok"]]
}
"#;

pub(super) fn launch(lab: &Lab, directory: &Path, options: &Options) -> Result<Launch> {
    write(&directory.join("config.ru"), APPLICATION)?;
    // Where it looks by itself: the title of its processes hides their arguments.
    fs::create_dir_all(directory.join("config"))?;
    let configuration = directory.join("config/puma.rb");
    write(
        &configuration,
        &format!(
            "directory '{}'\nbind 'tcp://{}'\nworkers 2\nthreads 4, 4\npersistent_timeout {}\n\
             max_fast_inline 1_000_000\n{}\n",
            directory.display(),
            options.address,
            options.keep_alive_s(),
            options.directives
        ),
    )?;
    let mut command = lab.target.command(&program(&["puma"])?)?;
    command.args(&options.arguments).current_dir(directory);
    Ok(Launch::new(command, Signal::TERM).workers(2).reload(Signal::USR1))
}
