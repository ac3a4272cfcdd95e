//! Tables: aligned text for a terminal, Markdown for a page.

/// A table; the first column is text, the others are figures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// What is above it.
    pub title: String,
    /// The names of the columns.
    pub heads: Vec<String>,
    /// The cells.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty one.
    pub fn new(title: impl Into<String>, heads: &[&str]) -> Self {
        Self { title: title.into(), heads: heads.iter().map(|&head| head.to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// With columns as wide as they have to be.
    pub fn text(&self) -> String {
        let lines = || std::iter::once(&self.heads).chain(&self.rows);
        let width = |column: usize| lines().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        let widths: Vec<_> = (0..self.heads.len()).map(|column| width(column).unwrap_or(0)).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
        };
        format!("{}\n{}\n", self.title, lines().map(line).collect::<String>())
    }

    /// As Markdown.
    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule = format!("|---|{}\n", "---:|".repeat(self.heads.len().saturating_sub(1)));
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        format!("### {}\n\n{}{rule}{rows}\n", self.title, line(&self.heads))
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn a_table_has_two_forms() {
        let mut table = Table::new("Title", &["side", "n"]);
        table.row(["one".to_owned(), "1".to_owned()]);
        table.row(["three".to_owned(), "333".to_owned()]);
        assert_eq!(table.text(), "Title\nside     n\none      1\nthree  333\n\n");
        assert_eq!(table.markdown(), "### Title\n\n| side | n |\n|---|---:|\n| one | 1 |\n| three | 333 |\n\n");
    }
}
