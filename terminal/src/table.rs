//! Tables for people: columns as wide as their widest cell, numbers to the right.

use std::{
    fmt::{self, Display},
    io::{self, Write},
};

/// Rows under a heading.
#[derive(Debug, Clone)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    #[must_use]
    pub fn new(heading: &[&str]) -> Self {
        Self { rows: vec![heading.iter().map(ToString::to_string).collect()] }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// When it has not as many cells as the heading.
    pub fn row(&mut self, cells: &[&dyn Display]) {
        assert_eq!(cells.len(), self.rows[0].len(), "a row has as many cells as the heading");
        self.rows.push(cells.iter().map(ToString::to_string).collect());
    }

    /// Prints it, and nothing behind the last column.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        write!(out, "{self}")
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = 0..self.rows[0].len();
        let body = &self.rows[1..];
        let width =
            |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let numeric = |column: usize| {
            !body.is_empty() && body.iter().all(|row| row[column].bytes().all(|byte| byte.is_ascii_digit()))
        };
        let shape: Vec<_> = columns.map(|column| (width(column), numeric(column))).collect();
        for row in &self.rows {
            let cells: Vec<_> = row
                .iter()
                .zip(&shape)
                .map(|(cell, (width, numeric))| match numeric {
                    true => format!("{cell:>width$}"),
                    false => format!("{cell:<width$}"),
                })
                .collect();
            writeln!(f, "{}", cells.join("  ").trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(table: &Table) -> String {
        let mut out = Vec::new();
        table.print(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["TOPIC", "RECORDS", "CLEANUP"]);
        table.row(&[&"a", &12345678, &"delete"]);
        table.row(&[&"a-long-name", &7, &"compact"]);
        assert_eq!(
            printed(&table),
            "TOPIC         RECORDS  CLEANUP\na            12345678  delete\na-long-name         7  compact\n"
        );
    }

    #[test]
    fn an_empty_table_is_its_heading() {
        assert_eq!(printed(&Table::new(&["TOPIC", "RECORDS"])), "TOPIC  RECORDS\n");
    }
}
