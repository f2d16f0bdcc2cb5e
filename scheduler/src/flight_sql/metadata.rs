//! What clients ask about the catalog: catalogs, schemas, tables, keys.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::error::FlightError;
use arrow_flight::sql::{CommandGetCatalogs, CommandGetDbSchemas, CommandGetTableTypes, CommandGetTables};
use datafusion::logical_expr::TableType;
use springald_core::error::{Error, Result};
use springald_core::telemetry::events::names;

use super::wire::wire_schema;
use crate::catalog::{CATALOG, Catalog, INFORMATION_SCHEMA, Listed};

const TABLE: &str = "TABLE";
const VIEW: &str = "VIEW";

/// All catalogs.
pub(super) fn catalogs() -> Result<RecordBatch> {
    let mut builder = CommandGetCatalogs {}.into_builder();
    builder.append(CATALOG);
    builder.build().map_err(failed)
}

/// The schemas that the command asks for.
pub(super) fn schemas(command: CommandGetDbSchemas, catalog: &Catalog) -> Result<RecordBatch> {
    let mut builder = command.into_builder();
    for schema in catalog.schemas() {
        builder.append(CATALOG, schema);
    }
    builder.append(CATALOG, INFORMATION_SCHEMA);
    builder.build().map_err(failed)
}

/// The tables and views that the command asks for.
pub(super) async fn tables(command: CommandGetTables, catalog: &Catalog) -> Result<RecordBatch> {
    let include_schema = command.include_schema;
    let mut builder = command.into_builder();
    for schema in catalog.schemas() {
        for table in catalog.tables(&schema) {
            let columns = if include_schema { columns_of(&table, catalog).await } else { Arc::new(Schema::empty()) };
            builder
                .append(CATALOG, &schema, &table.name.name, type_name(table.table_type), &columns)
                .map_err(failed)?;
        }
    }
    builder.build().map_err(failed)
}

/// The columns, as results have them. One view that is broken must not hide all other tables: it shows none.
async fn columns_of(table: &Listed, catalog: &Catalog) -> SchemaRef {
    match catalog.schema_of(&table.name).await {
        Ok(Some(schema)) => wire_schema(&schema),
        Ok(None) => Arc::new(Schema::empty()),
        Err(error) => {
            tracing::debug!(event = names::CATALOG_COLUMNS_UNKNOWN, table = %table.name, %error, "a table is listed without its columns");
            Arc::new(Schema::empty())
        }
    }
}

fn type_name(table_type: TableType) -> &'static str {
    match table_type {
        TableType::View => VIEW,
        TableType::Base | TableType::Temporary => TABLE,
    }
}

/// The types of tables there are.
pub(super) fn table_types() -> Result<RecordBatch> {
    let mut builder = CommandGetTableTypes {}.into_builder();
    builder.append(TABLE);
    builder.append(VIEW);
    builder.build().map_err(failed)
}

/// Primary keys: none, tables over files have no constraints.
pub(super) fn primary_keys() -> RecordBatch {
    RecordBatch::new_empty(Arc::new(Schema::new(vec![
        Field::new("catalog_name", DataType::Utf8, true),
        Field::new("db_schema_name", DataType::Utf8, true),
        Field::new("table_name", DataType::Utf8, false),
        Field::new("column_name", DataType::Utf8, false),
        Field::new("key_name", DataType::Utf8, true),
        Field::new("key_sequence", DataType::Int32, false),
    ])))
}

/// Foreign keys, whichever way they are asked for: none.
pub(super) fn foreign_keys() -> RecordBatch {
    RecordBatch::new_empty(Arc::new(Schema::new(vec![
        Field::new("pk_catalog_name", DataType::Utf8, true),
        Field::new("pk_db_schema_name", DataType::Utf8, true),
        Field::new("pk_table_name", DataType::Utf8, false),
        Field::new("pk_column_name", DataType::Utf8, false),
        Field::new("fk_catalog_name", DataType::Utf8, true),
        Field::new("fk_db_schema_name", DataType::Utf8, true),
        Field::new("fk_table_name", DataType::Utf8, false),
        Field::new("fk_column_name", DataType::Utf8, false),
        Field::new("key_sequence", DataType::Int32, false),
        Field::new("fk_key_name", DataType::Utf8, true),
        Field::new("pk_key_name", DataType::Utf8, true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ])))
}

pub(super) fn failed(error: FlightError) -> Error {
    match error {
        // A pattern that cannot be matched is the client's.
        FlightError::Arrow(error) => Error::invalid(format!("the catalog cannot be searched: {error}")),
        other => Error::internal("an answer about the catalog cannot be built").with_source(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::embedded::EmbeddedStore;
    use arrow::array::AsArray;

    async fn catalog_with_a_schema() -> Arc<Catalog> {
        let catalog = Catalog::open(Arc::new(EmbeddedStore::in_memory().expect("store"))).await.expect("catalog");
        let context = datafusion::prelude::SessionContext::new();
        let sql = "CREATE SCHEMA sales";
        let plan = context.state().create_logical_plan(sql).await.expect("plan");
        let datafusion::logical_expr::LogicalPlan::Ddl(ddl) = plan else { panic!("not DDL") };
        catalog.apply(&ddl, &context.state(), "me", sql).await.expect("created");
        catalog
    }

    fn column(batch: &RecordBatch, index: usize) -> Vec<String> {
        batch.column(index).as_string::<i32>().iter().flatten().map(str::to_owned).collect()
    }

    #[tokio::test]
    async fn given_schemas_they_are_listed_and_filtered_by_pattern() {
        let catalog = catalog_with_a_schema().await;
        let all = schemas(CommandGetDbSchemas::default(), &catalog).expect("all");
        assert_eq!(column(&all, 1), ["information_schema", "public", "sales"]);
        let some = CommandGetDbSchemas { db_schema_filter_pattern: Some("s%".to_owned()), ..Default::default() };
        assert_eq!(column(&schemas(some, &catalog).expect("some"), 1), ["sales"]);
        assert_eq!(column(&catalogs().expect("catalogs"), 0), [CATALOG]);
        assert_eq!(column(&table_types().expect("types"), 0), [TABLE, VIEW]);
    }

    #[tokio::test]
    async fn given_no_tables_the_listing_is_empty_with_or_without_columns() {
        let catalog = catalog_with_a_schema().await;
        for include_schema in [false, true] {
            let command = CommandGetTables { include_schema, ..Default::default() };
            let listed = tables(command, &catalog).await.expect("tables");
            assert_eq!((listed.num_rows(), listed.num_columns()), (0, 4 + usize::from(include_schema)));
        }
    }
}
