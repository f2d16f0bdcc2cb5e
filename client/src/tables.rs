//! The list of tables.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;

use crate::error::{ClientError, Result};

/// A table or view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableInfo {
    /// Catalog; `None` if the server has none.
    pub catalog: Option<String>,
    /// Schema; `None` if the server has none.
    pub schema: Option<String>,
    /// Name, without catalog and schema.
    pub name: String,
    /// What it is: `TABLE`, `VIEW`, …
    pub kind: String,
}

/// Reads a batch of the answer to Flight SQL's `CommandGetTables`.
pub(crate) fn from_batch(batch: &RecordBatch) -> Result<Vec<TableInfo>> {
    let catalogs = text(batch, "catalog_name")?;
    let schemas = text(batch, "db_schema_name")?;
    let names = text(batch, "table_name")?;
    let kinds = text(batch, "table_type")?;
    let at = |column: &StringArray, row: usize| column.is_valid(row).then(|| column.value(row).to_owned());
    let table = |row| TableInfo {
        catalog: at(&catalogs, row),
        schema: at(&schemas, row),
        name: at(&names, row).unwrap_or_default(),
        kind: at(&kinds, row).unwrap_or_default(),
    };
    Ok((0..batch.num_rows()).map(table).collect())
}

/// A column as plain text, however the server encodes it.
fn text(batch: &RecordBatch, name: &str) -> Result<StringArray> {
    let missing = || ClientError::Protocol(format!("the list of tables has no column {name}"));
    let column: ArrayRef =
        cast(batch.column_by_name(name).ok_or_else(missing)?, &DataType::Utf8).map_err(ClientError::Decode)?;
    column.as_string_opt::<i32>().cloned().ok_or_else(missing)
}
