//! What standard output can show.

use std::{
    env,
    io::{self, IsTerminal},
};

/// What the place that the output goes to can show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terminal {
    /// Characters in a line; `None`: any number.
    pub width: Option<usize>,
    /// Bold and colours.
    pub colour: bool,
    /// Somebody looks at it as it scrolls by: the header is repeated.
    pub interactive: bool,
}

impl Terminal {
    /// Standard output. `NO_COLOR`, `TERM=dumb` and, in a pipe, `COLUMNS` are respected.
    #[must_use]
    pub fn of_stdout() -> Self {
        let set = |name| env::var_os(name).filter(|value| !value.is_empty());
        let columns = || set("COLUMNS")?.to_str()?.parse().ok().filter(|&columns| columns > 0);
        if !io::stdout().is_terminal() {
            return Self { width: columns(), colour: false, interactive: false };
        }
        let colour = set("NO_COLOR").is_none() && set("TERM").is_some_and(|term| term != "dumb");
        Self { width: window_width().or_else(columns), colour, interactive: true }
    }
}

/// The width of the terminal window, if it tells.
fn window_width() -> Option<usize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the request writes a `winsize` through the pointer, which is valid for the duration of the call.
    let result = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    (result == 0 && size.ws_col > 0).then_some(usize::from(size.ws_col))
}
