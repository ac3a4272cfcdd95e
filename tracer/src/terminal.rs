//! What standard output can show.

use rustix::termios::tcgetwinsize;
use std::{
    env,
    io::{self, IsTerminal},
};
use tracer_core::output::terminal::Terminal;

/// Standard output. `NO_COLOR`, `TERM=dumb` and, in a pipe, `COLUMNS` are respected.
pub fn of_stdout() -> Terminal {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    let columns = || set("COLUMNS")?.to_str()?.parse().ok().filter(|&columns| columns > 0);
    if !io::stdout().is_terminal() {
        return Terminal { width: columns(), colour: false, interactive: false };
    }
    let colour = set("NO_COLOR").is_none() && set("TERM").is_some_and(|term| term != "dumb");
    let window = tcgetwinsize(io::stdout()).ok().map(|size| usize::from(size.ws_col)).filter(|&width| width > 0);
    Terminal { width: window.or_else(columns), colour, interactive: true }
}
