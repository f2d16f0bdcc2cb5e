//! One JSON object per row.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::json::WriterBuilder;
use arrow::json::writer::{LineDelimited, Writer};

use super::ResultWriter;
use crate::shell::error::ShellError;

/// Writes rows as they come. Decimals are numbers with all their digits; NULL is `null`.
pub(super) struct JsonWriter<'a> {
    writer: Writer<&'a mut dyn Write, LineDelimited>,
}

impl<'a> JsonWriter<'a> {
    pub fn new(out: &'a mut dyn Write) -> Self {
        Self { writer: WriterBuilder::new().with_explicit_nulls(true).build(out) }
    }
}

impl ResultWriter for JsonWriter<'_> {
    fn batch(&mut self, batch: &RecordBatch) -> Result<(), ShellError> {
        Ok(self.writer.write(batch)?)
    }

    fn end(&mut self) -> Result<(), ShellError> {
        Ok(self.writer.finish()?)
    }
}
