//! Tables for people: columns as wide as their widest cell, numbers to the right.

use std::{
    fmt::Display,
    io::{self, Write},
};

/// Rows under a heading.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(heading: &[&str]) -> Self {
        Self { rows: vec![heading.iter().map(ToString::to_string).collect()] }
    }

    pub(crate) fn row(&mut self, cells: &[&dyn Display]) {
        assert_eq!(cells.len(), self.rows[0].len(), "a row has as many cells as the heading");
        self.rows.push(cells.iter().map(ToString::to_string).collect());
    }

    pub(crate) fn print(&self, out: &mut dyn Write) -> io::Result<()> {
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
            writeln!(out, "{}", cells.join("  ").trim_end())?;
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
