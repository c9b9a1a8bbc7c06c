//! Tables for people: columns as wide as their widest cell, two spaces between them, a line a row whatever is in it.

use std::fmt;

use unicode_width::UnicodeWidthStr;

use crate::plain::plain;

/// What stands for nothing, so that a row can be split at its spaces.
const NOTHING: &str = "-";
const BETWEEN: &str = "  ";

/// Texts that may have spaces belong in the last column.
pub(crate) struct Table<const COLUMNS: usize> {
    rows: Vec<[String; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    pub(crate) fn new(heads: [&str; COLUMNS]) -> Self {
        Self { rows: vec![heads.map(str::to_owned)] }
    }

    pub(crate) fn push(&mut self, cells: [String; COLUMNS]) {
        self.rows.push(cells.map(|cell| if cell.is_empty() { NOTHING.to_owned() } else { plain(&cell) }));
    }
}

impl<const COLUMNS: usize> fmt::Display for Table<COLUMNS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut widths = [0; COLUMNS];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.width().max(*width);
            }
        }
        for row in &self.rows {
            for (at, (cell, width)) in row.iter().zip(widths).enumerate() {
                if at + 1 == COLUMNS {
                    f.write_str(cell)?;
                } else {
                    write!(f, "{cell}{:1$}{BETWEEN}", "", width - cell.width())?;
                }
            }
            f.write_str("\n")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[[&str; 3]]) -> String {
        let mut table = Table::new(["KEY", "PREFIXES", "NOTE"]);
        for row in rows {
            table.push(row.map(str::to_owned));
        }
        table.to_string()
    }

    #[test]
    fn columns_are_aligned_by_what_they_take_on_a_screen() {
        let text = table(&[["AK1", "größer/", "one"], ["a-long-key", "日本/", ""], ["", "x", "two words"]]);
        let expected = "KEY         PREFIXES  NOTE\n\
                        AK1         größer/   one\n\
                        a-long-key  日本/     -\n\
                        -           x         two words\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_table_without_rows_is_its_head() {
        assert_eq!(table(&[]), "KEY  PREFIXES  NOTE\n");
    }

    #[test]
    fn no_cell_breaks_its_row() {
        let text = table(&[["AK1\nAK2", "a\tb", "x\r\u{1b}[1A\u{2028}\u{202e}y"], ["k", "p", "n"]]);
        assert_eq!(text.lines().count(), 3);
        assert!(text.chars().all(|char| char == '\n' || (' '..='~').contains(&char)), "{text:?}");
        let starts: Vec<_> = text.lines().map(|line| line.rfind("  ").unwrap()).collect();
        assert!(starts.windows(2).all(|pair| pair[0] == pair[1]), "{text}");
    }
}
