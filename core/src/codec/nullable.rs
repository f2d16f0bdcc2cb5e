//! Columns that a function takes for nullable, though they are not.
//!
//! Window functions are planned for the schema of the logical plan, which knows less of what cannot be NULL than that of
//! the operator below. The fields of their arguments, which have no getter, follow from it.

use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::{Result, plan_err};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::collect_columns;

/// Finds the columns used by `arguments` that are to be taken for nullable for the function to be rebuilt as it is.
///
/// # Errors
/// It cannot be rebuilt, or `is_rebuilt` fails.
pub(super) fn nullable_columns<'a>(
    name: &str,
    schema: &SchemaRef,
    arguments: impl IntoIterator<Item = &'a Arc<dyn PhysicalExpr>>,
    is_rebuilt: impl Fn(&SchemaRef) -> Result<bool>,
) -> Result<Vec<u32>> {
    if is_rebuilt(schema)? {
        return Ok(vec![]);
    }
    let mut columns: Vec<u32> =
        arguments.into_iter().flat_map(collect_columns).map(|column| column.index() as u32).collect();
    columns.retain(|column| schema.fields().get(*column as usize).is_some_and(|field| !field.is_nullable()));
    columns.sort_unstable();
    columns.dedup();
    let single = columns.iter().map(|column| vec![*column]);
    for candidate in std::iter::once(columns.clone()).chain(single) {
        if is_rebuilt(&with_nullable(schema, &candidate))? {
            return Ok(candidate);
        }
    }
    plan_err!("the fields of its function {name} do not follow from its arguments")
}

/// The schema with these columns nullable.
pub(super) fn with_nullable(schema: &SchemaRef, columns: &[u32]) -> SchemaRef {
    if columns.is_empty() {
        return Arc::clone(schema);
    }
    let field = |(index, field): (usize, &Arc<Field>)| match columns.contains(&(index as u32)) {
        true => Arc::new(field.as_ref().clone().with_nullable(true)),
        false => Arc::clone(field),
    };
    let fields: Vec<_> = schema.fields().iter().enumerate().map(field).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}
