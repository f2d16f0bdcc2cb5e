//! One line per column, for wide rows.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;

use super::cells::{for_each_row, shown};
use super::{NULL, ResultWriter};
use crate::shell::error::ShellError;

/// Writes rows as they come.
pub(super) struct VerticalWriter<'a> {
    /// Names of the columns, filled up to one width.
    names: Vec<String>,
    rows: usize,
    out: &'a mut dyn Write,
}

impl<'a> VerticalWriter<'a> {
    pub fn new(schema: &Schema, out: &'a mut dyn Write) -> Self {
        let names: Vec<String> = schema.fields().iter().map(|field| shown(field.name().clone())).collect();
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or_default();
        Self { names: names.iter().map(|name| format!("{name:width$}")).collect(), rows: 0, out }
    }
}

impl ResultWriter for VerticalWriter<'_> {
    fn batch(&mut self, batch: &RecordBatch) -> Result<(), ShellError> {
        for_each_row(batch, NULL, |cells| {
            self.rows += 1;
            writeln!(self.out, "─ row {} ─", self.rows)?;
            for (name, cell) in self.names.iter().zip(cells) {
                writeln!(self.out, "{name} │ {}", shown(cell))?;
            }
            Ok(())
        })
    }

    fn end(&mut self) -> Result<(), ShellError> {
        Ok(())
    }
}
