//! Writes the files of a table.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::arrow::{csv, ipc, json};
use datafusion::error::{DataFusionError, Result};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::file::metadata::SortingColumn;
use datafusion::parquet::file::properties::WriterProperties;
use datafusion::prelude::SessionContext;

use super::family::Format;
use super::table::{DataFile, Table};

/// Writes all files of a table below `directory`. `context` evaluates the literals.
///
/// # Errors
/// Those of literals that do not fit their column, and of files that cannot be written.
pub(crate) async fn write(table: &Table, directory: &Path, context: &SessionContext) -> Result<()> {
    for (number, file) in table.files.iter().enumerate() {
        let folder = match (&table.layout.partitioned_by, &file.partition) {
            (Some(column), Some(value)) => directory.join(format!("{column}={value}")),
            _ => directory.to_owned(),
        };
        fs::create_dir_all(&folder)?;
        let batch = rows_of(table, file, context).await?;
        let path = folder.join(format!("{number}.{}", table.format.sql().to_lowercase()));
        write_file(table, &batch, &path)?;
    }
    Ok(())
}

async fn rows_of(table: &Table, file: &DataFile, context: &SessionContext) -> Result<RecordBatch> {
    let frame = context.sql(&table.rows_query(file)).await?;
    let schema = Arc::new(frame.schema().as_arrow().clone());
    let rows = concat_batches(&schema, &frame.collect().await?)?;
    let fields = table.columns.iter().zip(rows.columns());
    let fields = fields.map(|(column, rows)| Field::new(&column.name, rows.data_type().clone(), column.is_nullable));
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), rows.columns().to_vec())?)
}

fn write_file(table: &Table, rows: &RecordBatch, path: &Path) -> Result<()> {
    let file = File::create(path)?;
    match table.format {
        Format::Parquet => {
            let mut writer = ArrowWriter::try_new(file, rows.schema(), Some(parquet_properties(table)))?;
            writer.write(rows)?;
            writer.close()?;
        }
        Format::Csv => csv::WriterBuilder::new().with_header(true).build(file).write(rows)?,
        Format::Json => {
            let mut writer = json::LineDelimitedWriter::new(file);
            writer.write(rows)?;
            writer.finish()?;
        }
        Format::Arrow => {
            let mut writer = ipc::writer::FileWriter::try_new(file, &rows.schema())?;
            writer.write(rows)?;
            writer.finish()?;
        }
    }
    Ok(())
}

fn parquet_properties(table: &Table) -> WriterProperties {
    let sorting = table.layout.sorted_by.iter().filter_map(|key| {
        let index = table.columns.iter().position(|column| column.name == key.column)?;
        Some(SortingColumn {
            column_idx: leaf_index(table, index),
            descending: key.is_descending,
            nulls_first: key.nulls_first,
        })
    });
    let sorting: Vec<SortingColumn> = sorting.collect();
    let mut properties = WriterProperties::builder();
    if table.layout.row_group_rows > 0 {
        properties = properties.set_max_row_group_row_count(Some(table.layout.row_group_rows));
    }
    properties.set_sorting_columns(Some(sorting).filter(|columns| !columns.is_empty())).build()
}

/// Parquet counts the leaves of nested columns.
fn leaf_index(table: &Table, column: usize) -> i32 {
    let leaves = |arrow: &str| if matches!(arrow, "Struct" | "Map") { 2 } else { 1 };
    table.columns[..column].iter().map(|column| leaves(&column.arrow)).sum()
}

/// Error of a table that could not be made.
pub(crate) fn failed(table: &Table, error: &DataFusionError) -> String {
    format!("table {}: {error}\n{}", table.name, table.to_text())
}
