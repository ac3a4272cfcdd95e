//! The console of a virtual machine, cut into the sections that its scripts marked.

/// A part of the console: what one command wrote, and its exit status.
#[derive(Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name in the script.
    pub name: String,
    /// Its lines.
    pub lines: Vec<String>,
    /// Exit status of its command; absent when the machine ended before.
    pub status: Option<i32>,
}

/// The sections of a console, in their order. Lines outside of a section are left out.
pub fn parse(console: &[String]) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut open = false;
    for line in console {
        let mut words = line.strip_prefix("@@ ").into_iter().flat_map(str::split_whitespace);
        match (words.next(), words.next(), words.next(), sections.last_mut()) {
            (Some("begin"), Some(name), None, _) => {
                sections.push(Section { name: name.to_owned(), lines: Vec::new(), status: None });
                open = true;
            }
            (Some("end"), Some(name), Some(status), Some(section)) if open && section.name == name => {
                section.status = status.parse().ok();
                // The marker is written on a line of its own, also after output that did not end with a newline.
                section.lines.pop_if(|last| last.is_empty());
                open = false;
            }
            (_, _, _, Some(section)) if open => section.lines.push(line.clone()),
            _ => {}
        }
    }
    sections
}

/// The section of that name.
pub fn find<'a>(sections: &'a [Section], name: &str) -> Option<&'a Section> {
    sections.iter().find(|section| section.name == name)
}

/// Picks the lines of one section while the console is still being written.
pub struct Output {
    name: &'static str,
    open: bool,
    /// Empty lines not passed on yet: the last one belongs to the marker.
    empty: usize,
}

impl Output {
    /// The output of the section of that name.
    pub fn of(name: &'static str) -> Self {
        Self { name, open: false, empty: 0 }
    }

    /// The lines to show once `line` was written.
    pub fn lines<'a>(&mut self, line: &'a str) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut empty = 0;
        let mut shown = None;
        match line.strip_prefix("@@ ").and_then(|marker| marker.split_once(' ')) {
            Some(("begin", name)) if name == self.name => self.open = true,
            Some(("end", rest)) if rest.split(' ').next() == Some(self.name) => self.open = false,
            _ if self.open && line.is_empty() => self.empty += 1,
            _ if self.open => {
                empty = std::mem::take(&mut self.empty);
                shown = Some(line);
            }
            _ => {}
        }
        std::iter::repeat_n("", empty).chain(shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn sections_have_lines_and_status() {
        let sections = parse(&console(
            "SeaBIOS\n@@ booted\n@@ begin a\none\n\ntwo\n\n@@ end a 3\nnoise\n@@ begin b\n\n@@ end b 0",
        ));
        assert_eq!(sections.len(), 2);
        assert_eq!(sections[0].lines, ["one", "", "two"]);
        assert_eq!(sections[0].status, Some(3));
        assert_eq!(find(&sections, "b").unwrap().lines, [""; 0]);
        assert_eq!(find(&sections, "c"), None);
    }

    #[test]
    fn a_section_that_a_panic_cuts_has_no_status() {
        let sections = parse(&console("@@ begin a\nKernel panic - not syncing"));
        assert_eq!(sections[0].status, None);
        assert_eq!(sections[0].lines, ["Kernel panic - not syncing"]);
    }

    #[test]
    fn a_marker_of_another_section_is_output() {
        let sections = parse(&console("@@ begin a\n@@ end b 0\n@@ end a 0"));
        assert_eq!(sections[0].lines, ["@@ end b 0"]);
        assert_eq!(sections[0].status, Some(0));
    }

    #[test]
    fn output_is_shown_as_it_comes() {
        let mut output = Output::of("command");
        let text = console("@@ booted\nx\n@@ begin command\none\n\ntwo\n\n@@ end command 0\nlater");
        let shown: Vec<&str> = text.iter().flat_map(|line| output.lines(line)).collect();
        assert_eq!(shown, ["one", "", "two"]);
    }
}
