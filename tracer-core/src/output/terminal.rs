//! What standard output can show.

use crate::direct::{Direct, Line};
use std::fmt;

/// Makes what follows bold.
pub const BOLD: &str = "\x1b[1m";
/// Makes what follows bold and red.
pub const RED: &str = "\x1b[1;31m";
/// Makes what follows bold and yellow.
pub const YELLOW: &str = "\x1b[1;33m";
/// Ends what [`BOLD`] and the colours began.
pub const PLAIN: &str = "\x1b[0m";

/// Text that comes from elsewhere, such as the name of a process: it must not steer the terminal.
#[derive(Clone, Copy, Debug)]
pub struct Printable<'a>(pub &'a str);

impl Direct for Printable<'_> {
    fn write_to(&self, out: &mut impl fmt::Write) -> fmt::Result {
        if self.0.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return out.write_str(self.0);
        }
        self.0.chars().try_for_each(|it| out.write_char(if it.is_control() { '?' } else { it }))
    }
}

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_to(f)
    }
}

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
    /// Cuts off what does not fit into a line. [`BOLD`] and the like have no width.
    pub fn cut(self, line: &mut Line) {
        let Some(end) = self.width.and_then(|width| beyond(line.as_str(), width)) else { return };
        line.truncate(line.as_str()[..end].trim_end().len());
        line.push_str(if self.colour { PLAIN } else { "" });
    }

    /// Breaks the lines of `text` that are too wide at their spaces, and indents what follows by four, or as far as the
    /// line itself is. [`BOLD`] and the like have no width.
    pub fn fold(self, text: &str) -> String {
        const INDENT: usize = 4;
        let Some(width) = self.width else { return text.to_owned() };
        let mut folded = String::with_capacity(text.len());
        for mut line in text.lines() {
            let own = line.len() - line.trim_start_matches(' ').len();
            let hanging = " ".repeat(if own <= width / 2 { own.max(INDENT) } else { INDENT });
            let mut indent = "";
            while let Some(space) = break_of(line, width.saturating_sub(indent.len())) {
                folded.extend([indent, line[..space].trim_end(), "\n"]);
                line = line[space..].trim_start();
                indent = &hanging;
            }
            folded.extend([indent, line, "\n"]);
        }
        folded
    }
}

/// The space at which to break a line that does not fit into `width`, if it does not and has one.
fn break_of(line: &str, width: usize) -> Option<usize> {
    let beyond = beyond(line, width)?;
    let (fits, rest) = line.split_at(beyond);
    // A space right behind the last character that fits is as good as one before it; a word that is too wide by itself
    // is left whole.
    let behind = rest.starts_with(' ').then_some(beyond);
    let before = fits.rmatch_indices(' ').map(|(at, _)| at);
    let after = rest.match_indices(' ').map(|(at, _)| beyond + at);
    let parts_words = |at: &usize| !line[..*at].trim().is_empty() && !line[*at..].trim().is_empty();
    behind.into_iter().chain(before).chain(after).find(parts_words)
}

/// Where the first character is that does not fit into `width`, if there is one.
fn beyond(line: &str, width: usize) -> Option<usize> {
    // No character is shorter than a byte.
    if line.len() <= width {
        return None;
    }
    if line.is_ascii() && !line.contains('\x1b') {
        return Some(width);
    }
    let (mut shown, mut in_escape) = (0, false);
    let beyond = line.char_indices().find(|&(_, character)| {
        in_escape |= character == '\x1b';
        shown += usize::from(!in_escape);
        in_escape &= character != 'm';
        shown > width
    });
    beyond.map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::{BOLD, Line, PLAIN, Terminal};

    fn of_width(width: usize) -> Terminal {
        Terminal { width: Some(width), colour: true, interactive: true }
    }

    #[test]
    fn what_does_not_fit_is_cut_off() {
        for (line, cut) in [
            ("12345".to_owned(), "12345".to_owned()),
            ("123456".to_owned(), format!("12345{PLAIN}")),
            (format!("1{BOLD}2345{PLAIN}"), format!("1{BOLD}2345{PLAIN}")),
            (format!("1{BOLD}ä€456{PLAIN}7"), format!("1{BOLD}ä€45{PLAIN}")),
        ] {
            let mut shown = Line::new();
            shown.push_str(&line);
            of_width(5).cut(&mut shown);
            assert_eq!(shown.as_str(), cut);
        }
    }

    #[test]
    fn wide_lines_are_broken_at_spaces() {
        let folded = |text: &str| of_width(10).fold(text);
        assert_eq!(folded("1234567890\n\n  1\n"), "1234567890\n\n  1\n");
        assert_eq!(folded("1234567890 2 3\n"), "1234567890\n    2 3\n");
        assert_eq!(folded("123 456 789 12345 7\n"), "123 456\n    789\n    12345\n    7\n");
        assert_eq!(folded("12345678901 ä€ 1\n"), "12345678901\n    ä€ 1\n", "too wide by itself");
        assert_eq!(folded("123456789 ä€\n"), "123456789\n    ä€\n");
        assert_eq!(folded("12345678901\n"), "12345678901\n", "no place to break it");
        assert_eq!(folded("    12345678\n"), "    12345678\n", "an indent is no such place");
        assert_eq!(folded("\x1b[1m123\x1b[0m 567 90 23\n"), "\x1b[1m123\x1b[0m 567 90\n    23\n");
        assert_eq!(folded("     12 45 78\n"), "     12 45\n     78\n", "as far as the line itself");
        assert_eq!(folded("      1 34 6\n"), "      1 34\n    6\n", "unless that leaves no room");
        assert_eq!(Terminal::default().fold("a b"), "a b");
    }
}
