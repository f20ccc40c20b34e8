//! Tables for people: columns as wide as their cells, in blocks that fit the terminal.

use unicode_width::UnicodeWidthStr;

use crate::console;
use crate::error::{Result, escaped};

/// On which side of its column a cell stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Left,
    Right,
}

/// Rows of cells under a header; cells are one line each, whatever is put into them.
pub struct Table {
    sides: Vec<Side>,
    /// The header, then the rows.
    lines: Vec<Vec<String>>,
}

/// Space between two columns.
const GAP: &str = "  ";

impl Table {
    /// A table with these columns, and no row yet.
    pub fn new<'a>(columns: impl IntoIterator<Item = (&'a str, Side)>) -> Table {
        let (titles, sides): (Vec<&str>, Vec<Side>) = columns.into_iter().unzip();
        let mut table = Table { sides, lines: Vec::new() };
        table.push(titles);
        table
    }

    /// Adds a row: a cell for each column.
    pub fn push(&mut self, cells: impl IntoIterator<Item = impl AsRef<str>>) {
        let cells: Vec<String> = cells.into_iter().map(|cell| escaped(cell.as_ref()).into_owned()).collect();
        debug_assert_eq!(cells.len(), self.sides.len());
        self.lines.push(cells);
    }

    /// The header, then the rows.
    pub fn lines(&self) -> &[Vec<String>] {
        &self.lines
    }

    /// The table as text: one block, or several that are no wider than `room`. Each of several ends
    /// with the last column, which says what the rows are.
    pub fn blocks(&self, room: Option<usize>) -> Vec<Vec<String>> {
        let columns = self.sides.len();
        let widths: Vec<usize> = (0..columns).map(|column| self.width(column)).collect();
        let Some(last) = columns.checked_sub(1) else { return Vec::new() };
        let mut blocks: Vec<Vec<usize>> = vec![Vec::new()];
        let mut taken = widths[last];
        for (column, width) in widths[..last].iter().enumerate() {
            let current = blocks.len() - 1;
            if room.is_some_and(|room| taken + width + GAP.len() > room) && !blocks[current].is_empty() {
                blocks.push(Vec::new());
                taken = widths[last];
            }
            taken += width + GAP.len();
            blocks.last_mut().into_iter().for_each(|block| block.push(column));
        }
        let text = |block: Vec<usize>| {
            let shown: Vec<usize> = block.into_iter().chain([last]).collect();
            self.lines.iter().map(|cells| self.line(cells, &shown, &widths)).collect()
        };
        blocks.into_iter().map(text).collect()
    }

    fn width(&self, column: usize) -> usize {
        self.lines.iter().map(|cells| cells[column].width()).max().unwrap_or(0)
    }

    fn line(&self, cells: &[String], columns: &[usize], widths: &[usize]) -> String {
        let cell = |&column: &usize| {
            let (text, side) = (&cells[column], self.sides[column]);
            // Not by the format's own width, which counts characters: some take two places.
            let space = " ".repeat(widths[column] - text.width());
            if side == Side::Left { format!("{text}{space}") } else { format!("{space}{text}") }
        };
        let line = columns.iter().map(cell).collect::<Vec<_>>().join(GAP);
        line.trim_end().to_string()
    }

    /// Prints the table: on a terminal in blocks that fit it, elsewhere with a row on a line.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub fn print(&self) -> Result<()> {
        for (index, block) in self.blocks(console::width()).iter().enumerate() {
            if index > 0 {
                console::print("")?;
            }
            block.iter().try_for_each(console::print)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new([("one", Side::Right), ("two", Side::Left), ("name", Side::Left)]);
        table.push(["1", "a\n\u{1b}[2J", "猫"]);
        table.push(["1,000", "", "second"]);
        table
    }

    #[test]
    fn columns_hold_and_cells_are_one_line() {
        let blocks = table().blocks(None);
        assert_eq!(blocks.len(), 1);
        assert_eq!(blocks[0][0], "  one  two           name");
        assert_eq!(blocks[0][1], r"    1  a\n\u{1b}[2J  猫");
        assert_eq!(blocks[0][2], "1,000                second");
    }

    #[test]
    fn blocks_fit_and_each_names_its_rows() {
        for room in [1, 14, 20, 27, 80] {
            let blocks = table().blocks(Some(room));
            assert_eq!(blocks.len(), if room < 27 { 2 } else { 1 });
            assert!(blocks.iter().all(|block| block.len() == 3 && block[2].ends_with("second")));
            let least = 20; // the widest column with the name
            assert!(blocks.iter().flatten().all(|line| line.width() <= room.max(least)), "{blocks:?}");
        }
    }
}
