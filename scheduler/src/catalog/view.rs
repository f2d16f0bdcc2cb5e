//! What a view's text may refer to.

use datafusion::common::TableReference;
use datafusion::execution::SessionState;
use datafusion::sql::resolve::resolve_table_references;
use springald_core::error::{Error, Result};

use super::name::{CATALOG, DEFAULT_SCHEMA, TableName};

/// Refuses a view that would not mean later what it means now: views are planned with the default catalog and schema.
pub(super) fn check(name: &TableName, sql: &str, state: &SessionState) -> Result<()> {
    let options = state.config_options();
    let statement = state.sql_to_statement(sql, &options.sql_parser.dialect)?;
    let (references, _) = resolve_table_references(&statement, options.sql_parser.enable_ident_normalization)?;
    for reference in references {
        let later = reference.clone().resolve(CATALOG, DEFAULT_SCHEMA);
        let now = reference.resolve(&options.catalog.default_catalog, &options.catalog.default_schema);
        if now != later {
            return Err(Error::unsupported(format!(
                "write {now} with its schema: a view does not keep the session's default schema"
            )));
        }
        if TableReference::from(later) == name.reference() {
            return Err(Error::invalid("it refers to itself"));
        }
    }
    Ok(())
}
