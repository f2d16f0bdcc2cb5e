//! Content of a table as files.
//!
//! Parquet where that keeps schema and values exactly, else Arrow IPC. The rows are divided into several files, so that
//! scans are divided, too.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use datafusion::parquet::file::properties::WriterProperties;

/// Files of a table, unless it has fewer rows.
const FILES: usize = 3;

/// Row groups of a Parquet file, unless it has fewer rows.
const ROW_GROUPS: usize = 2;

/// Format of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Apache Parquet.
    Parquet,
    /// Arrow IPC files.
    Arrow,
}

impl Format {
    /// Name in `STORED AS`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Parquet => "PARQUET",
            Self::Arrow => "ARROW",
        }
    }
}

type Failure = Box<dyn std::error::Error>;

/// Writes the rows as files below `folder`, which is made.
///
/// # Errors
/// Neither format can hold them.
pub fn write(folder: &Path, schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Format, String> {
    let failed = |error: Failure| format!("its content cannot be written: {error}");
    let all = all_rows(schema, batches).map_err(failed)?;
    let mut first_error = None;
    for format in [Format::Parquet, Format::Arrow] {
        let _ = fs::remove_dir_all(folder);
        match write_as(format, folder, &all) {
            Ok(()) => return Ok(format),
            Err(error) => first_error = Some(first_error.unwrap_or(error)),
        }
    }
    Err(failed(first_error.unwrap_or_else(|| "no format".into())))
}

/// All rows as one batch of the table's own schema, whatever the nullability of the batches says.
fn all_rows(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<RecordBatch, Failure> {
    let same = batches.iter().map(|batch| RecordBatch::try_new(Arc::clone(schema), batch.columns().to_vec()));
    let same = same.collect::<Result<Vec<_>, _>>()?;
    Ok(concat_batches(schema, &same)?)
}

fn write_as(format: Format, folder: &Path, all: &RecordBatch) -> Result<(), Failure> {
    fs::create_dir_all(folder)?;
    let files = all.num_rows().clamp(1, FILES);
    let mut start = 0;
    for number in 0..files {
        let end = all.num_rows() * (number + 1) / files;
        let part = all.slice(start, end - start);
        start = end;
        let path = folder.join(format!("part-{number}.{}", format.name().to_ascii_lowercase()));
        match format {
            Format::Parquet => write_parquet(&path, &part)?,
            Format::Arrow => write_arrow(&path, &part)?,
        }
    }
    Ok(())
}

fn write_parquet(path: &Path, rows: &RecordBatch) -> Result<(), Failure> {
    let group = rows.num_rows().div_ceil(ROW_GROUPS).max(1);
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(group)).build();
    let mut writer = ArrowWriter::try_new(File::create(path)?, rows.schema(), Some(properties))?;
    writer.write(rows)?;
    writer.close()?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?.build()?;
    let schema = arrow::array::RecordBatchReader::schema(&reader);
    let read = reader.collect::<Result<Vec<_>, _>>()?;
    check_same(rows, &schema, &read)
}

fn write_arrow(path: &Path, rows: &RecordBatch) -> Result<(), Failure> {
    let mut writer = FileWriter::try_new(File::create(path)?, &rows.schema())?;
    writer.write(rows)?;
    writer.finish()?;
    let reader = FileReader::try_new(File::open(path)?, None)?;
    let schema = reader.schema();
    let read = reader.collect::<Result<Vec<_>, _>>()?;
    check_same(rows, &schema, &read)
}

fn check_same(rows: &RecordBatch, schema: &SchemaRef, read: &[RecordBatch]) -> Result<(), Failure> {
    if schema.fields() != rows.schema().fields() {
        return Err(format!("the schema becomes {schema:?}").into());
    }
    let read = concat_batches(&rows.schema(), read)?;
    if read.num_rows() != rows.num_rows() || read.columns() != rows.columns() {
        return Err("the values change".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int32Array, IntervalMonthDayNanoArray, StringViewArray};
    use arrow::datatypes::{DataType, Field, IntervalUnit, Schema};

    #[test]
    fn table_content_is_divided_into_parquet_files() {
        let folder = tempfile::TempDir::new().expect("a directory");
        let field = Field::new("a", DataType::Int32, false).with_metadata([("k".to_owned(), "v".to_owned())].into());
        let fields = vec![field, Field::new("b", DataType::Utf8View, true)];
        let schema = Arc::new(Schema::new(fields));
        let columns: Vec<arrow::array::ArrayRef> =
            vec![Arc::new(Int32Array::from_iter_values(0..7)), Arc::new(StringViewArray::from(vec![Some("x"); 7]))];
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns).expect("a batch");
        assert_eq!(write(&folder.path().join("t"), &schema, &[batch]), Ok(Format::Parquet));
        assert_eq!(fs::read_dir(folder.path().join("t")).expect("a directory").count(), FILES);
        assert_eq!(write(&folder.path().join("empty"), &schema, &[]), Ok(Format::Parquet));
    }

    #[test]
    fn table_content_beyond_parquet_becomes_arrow_files() {
        let folder = tempfile::TempDir::new().expect("a directory");
        let field = Field::new("a", DataType::Interval(IntervalUnit::MonthDayNano), true);
        let schema = Arc::new(Schema::new(vec![field]));
        let column = Arc::new(IntervalMonthDayNanoArray::from(vec![None; 2]));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![column]).expect("a batch");
        assert_eq!(write(&folder.path().join("t"), &schema, &[batch]), Ok(Format::Arrow));
    }
}
