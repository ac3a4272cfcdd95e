//! What was seen, held against the kernel's own counters.

use super::terminal::Printable;
use crate::{
    model::{
        namespaces::Namespaces,
        reconciliation::{NotRead, Reconciliation, Row},
    },
    units::Count,
};
use std::{
    fmt,
    io::{self, Write},
};

/// Writes a line for each network namespace in which a counter moved: what was not explained is said.
pub fn lines(out: &mut impl Write, reconciliations: &[Reconciliation], namespaces: &Namespaces) -> io::Result<()> {
    let mut gap = "\n";
    let several = reconciliations.len() > 1;
    // The kernel's counters know no filters: with some, only the verdict goes by them.
    let whole = || reconciliations.iter().filter(|it| !it.filtered);
    for Reconciliation { netns, rows, .. } in whole() {
        let moved: Vec<_> = rows.iter().filter(|row| row.kernel != 0 || row.explained != 0).map(Held).collect();
        if moved.is_empty() {
            continue;
        }
        write!(out, "{gap}The kernel's own counters")?;
        gap = "";
        if several {
            write!(out, " in {}", Printable(&namespaces.name(*netns).to_string()))?;
        }
        for (index, row) in moved.iter().enumerate() {
            write!(out, "{}{row}", if index == 0 { ": " } else { ", " })?;
        }
        writeln!(out, ".")?;
    }
    for (not_read, when) in [
        (NotRead::AtStart, "at the start, most likely because the network namespace is newer than this run"),
        (NotRead::AtEnd, "at the end, most likely because the network namespace was gone"),
    ] {
        let of_it = whole().filter(|it| it.not_read == Some(not_read));
        let names: Vec<_> = of_it.map(|it| namespaces.name(it.netns).to_string()).collect();
        if let Some(listed) = listed(&names) {
            let listed = Printable(&listed);
            writeln!(
                out,
                "{gap}The kernel's own counters in {listed} were not read {when}: what was seen there is not compared."
            )?;
            gap = "";
        }
    }
    Ok(())
}

/// `web`, `web, api and 3 more`; `None` if there is nothing.
fn listed(names: &[String]) -> Option<String> {
    const LISTED: usize = 3;
    let (shown, rest) = names.split_at(names.len().min(LISTED));
    let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
    (!shown.is_empty()).then(|| shown.join(", ") + &more)
}

/// A counter held against what was seen.
struct Held<'a>(&'a Row);

impl fmt::Display for Held<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { name, kernel, explained, difference } = self.0;
        write!(f, "{name} {} ", Count(*kernel))?;
        match difference {
            0 => f.write_str("(all seen)"),
            1.. => write!(f, "({} not explained)", Count(difference.unsigned_abs())),
            _ => write!(f, "({} seen)", Count(*explained)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, kernel: u64, explained: u64, difference: i64) -> Row {
        Row { name: name.to_owned(), kernel, explained, difference }
    }

    fn text(reconciliations: &[Reconciliation]) -> String {
        let mut out = Vec::new();
        let mut namespaces = Namespaces::default();
        namespaces.learn(9, "web");
        lines(&mut out, reconciliations, &namespaces).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_was_not_explained_is_said() {
        let rows = vec![
            row("ListenOverflows", 200_000, 200_000, 0),
            row("ListenDrops", 200_003, 200_000, 3),
            row("TCPReqQFullDrop", 0, 0, 0),
            row("OutRsts", 5, 6, -1),
        ];
        let moved = Reconciliation { netns: 7, rows, not_read: None, filtered: false };
        let quiet = Reconciliation { netns: 8, rows: vec![row("OutRsts", 0, 0, 0)], ..moved.clone() };
        assert_eq!(
            text(std::slice::from_ref(&moved)),
            "\nThe kernel's own counters: ListenOverflows 200 000 (all seen), ListenDrops 200 003 (3 not explained), \
             OutRsts 5 (6 seen).\n"
        );
        let several = text(&[quiet.clone(), moved.clone(), moved]);
        assert_eq!(several.matches("\nThe kernel's own counters in net:[7]: ListenOverflows").count(), 2, "{several}");
        assert_eq!(several.lines().count(), 3);
        assert_eq!(text(std::slice::from_ref(&quiet)), "");
        let unread = [NotRead::AtStart, NotRead::AtEnd].map(|not_read| Reconciliation::unread(9, not_read, false));
        let [start, end] = unread.map(|it| text(&[quiet.clone(), it]));
        assert!(start.starts_with("\nThe kernel's own counters in web were not read at the start, "), "{start}");
        assert!(end.starts_with("\nThe kernel's own counters in web were not read at the end, "), "{end}");
    }
}
