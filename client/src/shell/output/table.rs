//! Tables in a frame. A large result is a sequence of tables, a page each, because columns can only be aligned within
//! what is in memory.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, ContentArrangement, Table};

use super::cells::{for_each_row, shown};
use super::{NULL, ResultWriter};
use crate::shell::error::ShellError;

/// Most rows of a page.
pub(super) const PAGE_ROWS: usize = 1000;

/// A page with more text ends.
const PAGE_BYTES: usize = 4 << 20;

/// Collects a page and writes it.
pub(super) struct TableWriter<'a> {
    names: Vec<String>,
    /// For each column, whether it holds numbers.
    numeric: Vec<bool>,
    header: bool,
    out: &'a mut dyn Write,
    page: Vec<Vec<String>>,
    bytes: usize,
    pages: usize,
}

impl<'a> TableWriter<'a> {
    pub fn new(schema: &Schema, header: bool, out: &'a mut dyn Write) -> Self {
        let names = schema.fields().iter().map(|field| shown(field.name().clone())).collect();
        let numeric = schema.fields().iter().map(|field| field.data_type().is_numeric()).collect();
        Self { names, numeric, header, out, page: Vec::new(), bytes: 0, pages: 0 }
    }

    fn row(&mut self, cells: Vec<String>) -> Result<(), ShellError> {
        let cells: Vec<String> = cells.into_iter().map(shown).collect();
        self.bytes += cells.iter().map(String::len).sum::<usize>();
        self.page.push(cells);
        if self.page.len() >= PAGE_ROWS || self.bytes >= PAGE_BYTES { self.write_page() } else { Ok(()) }
    }

    fn write_page(&mut self) -> Result<(), ShellError> {
        let mut table = Table::new();
        table.load_preset(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
        if self.header {
            table.set_header(&self.names);
        }
        table.add_rows(std::mem::take(&mut self.page));
        for (column, numeric) in table.column_iter_mut().zip(&self.numeric) {
            if *numeric {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        writeln!(self.out, "{table}")?;
        self.bytes = 0;
        self.pages += 1;
        Ok(())
    }
}

impl ResultWriter for TableWriter<'_> {
    fn batch(&mut self, batch: &RecordBatch) -> Result<(), ShellError> {
        for_each_row(batch, NULL, |cells| self.row(cells))
    }

    fn end(&mut self) -> Result<(), ShellError> {
        // A result without rows still has columns to show.
        if !self.page.is_empty() || (self.pages == 0 && self.header) { self.write_page() } else { Ok(()) }
    }
}
