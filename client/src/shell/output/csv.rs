//! Comma-separated values.

use std::io::{self, Write};

use ::csv::Writer;
use arrow::array::RecordBatch;
use arrow::datatypes::Schema;

use super::ResultWriter;
use super::cells::for_each_row;
use crate::shell::error::ShellError;

/// Writes rows as they come.
pub(super) struct CsvWriter<'a> {
    writer: Writer<&'a mut dyn Write>,
    /// Names of the columns, until they are written.
    header: Option<Vec<String>>,
}

impl<'a> CsvWriter<'a> {
    pub fn new(schema: &Schema, header: bool, out: &'a mut dyn Write) -> Self {
        let names = schema.fields().iter().map(|field| field.name().clone()).collect();
        Self { writer: Writer::from_writer(out), header: header.then_some(names) }
    }

    fn begin(&mut self) -> Result<(), ShellError> {
        match self.header.take() {
            Some(names) => self.writer.write_record(names).map_err(failed),
            None => Ok(()),
        }
    }
}

impl ResultWriter for CsvWriter<'_> {
    fn batch(&mut self, batch: &RecordBatch) -> Result<(), ShellError> {
        self.begin()?;
        for_each_row(batch, "", |cells| self.writer.write_record(cells).map_err(failed))?;
        Ok(self.writer.flush()?)
    }

    fn end(&mut self) -> Result<(), ShellError> {
        self.begin()?;
        Ok(self.writer.flush()?)
    }
}

fn failed(error: ::csv::Error) -> ShellError {
    // The kind of the error counts: a pipe that was closed is no failure.
    ShellError::Output(match error.into_kind() {
        ::csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    })
}
