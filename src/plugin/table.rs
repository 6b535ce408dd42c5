//! Tables in the style of kubectl: headers in upper case, and three spaces between columns.

/// The space between columns.
const GAP: usize = 3;

/// A table.
#[derive(Clone, Debug)]
pub struct Table {
    headers: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

/// The text of an empty cell.
pub const NONE: &str = "<none>";

impl Table {
    /// Returns a table without rows.
    pub fn new(headers: impl IntoIterator<Item = &'static str>) -> Self {
        Self { headers: headers.into_iter().collect(), rows: Vec::new() }
    }

    /// Adds a row, with one cell for each header.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Returns whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The width of each column.
    pub fn widths(&self) -> Vec<usize> {
        let column = |index: usize, header: &str| {
            let cells = self.rows.iter().filter_map(|row| row.get(index)).map(|cell| width(cell));
            cells.max().unwrap_or(0).max(width(header))
        };
        self.headers.iter().enumerate().map(|(index, header)| column(index, header)).collect()
    }

    /// Formats the table, each line after `indent`.
    pub fn text(&self, indent: &str) -> String {
        let widths = self.widths();
        let headers = self.headers.iter().map(|header| (*header).to_owned()).collect();
        let lines = [headers].into_iter().chain(self.rows.iter().cloned());
        lines.map(|cells| format!("{indent}{}\n", line(&cells, &widths))).collect()
    }
}

/// Formats one row for columns of these widths.
pub fn line(cells: &[String], widths: &[usize]) -> String {
    let mut line = String::new();
    for (cell, column) in cells.iter().zip(widths) {
        line.push_str(cell);
        line.extend(std::iter::repeat_n(' ', column.saturating_sub(width(cell)) + GAP));
    }
    line.truncate(line.trim_end().len());
    line
}

fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_trailing_space() {
        let mut table = Table::new(["NAME", "LEADER", "SINCE"]);
        assert!(table.is_empty());
        table.row(["web", "web-0", "5m"].map(str::to_owned).to_vec());
        table.row(["database", NONE, ""].map(str::to_owned).to_vec());
        let expected = "\
NAME       LEADER   SINCE
web        web-0    5m
database   <none>
";
        assert_eq!(table.text(""), expected);
        assert!(table.text("  ").starts_with("  NAME  "));
    }
}
