//! Recursive queries. The operator and the scan of its work table are encoded apart; making the operator connects the
//! scans of its name to its work table.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::{Result, internal_err};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::recursive_query::RecursiveQueryExec;
use datafusion::physical_plan::work_table::WorkTableExec;
use springald_proto::plan as proto;
use springald_proto::plan::plan_node::Node;

use super::super::context::EncodeContext;
use super::super::debug_text::Cursor;
use super::super::values::{decode_indices, decode_schema, encode_indices, encode_schema};

pub(super) fn encode(plan: &Arc<dyn ExecutionPlan>, _context: &EncodeContext<'_>) -> Result<Option<Node>> {
    let node = if let Some(query) = plan.downcast_ref::<RecursiveQueryExec>() {
        Node::RecursiveQuery(proto::RecursiveQueryNode {
            name: query.name().to_owned(),
            schema: encode_schema(&plan.schema())?,
            is_distinct: query.is_distinct(),
        })
    } else if let Some(table) = plan.downcast_ref::<WorkTableExec>() {
        Node::WorkTable(proto::WorkTableNode {
            name: table.name().to_owned(),
            schema: encode_schema(&table.schema())?,
            projection: projection_of(table)?.as_deref().map(encode_indices),
        })
    } else {
        return Ok(None);
    };
    Ok(Some(node))
}

/// The projection has no getter. It is read from the text, behind fields that are known.
fn projection_of(table: &WorkTableExec) -> Result<Option<Vec<usize>>> {
    let text = format!("{table:?}");
    let mut cursor = Cursor::new(&text);
    cursor.expect(&format!("WorkTableExec {{ name: {:?}, schema: {:?}, projection: ", table.name(), table.schema()))?;
    let projection = cursor.option(|columns| columns.list(Cursor::number))?;
    cursor.expect(", work_table: ")?;
    Ok(projection)
}

pub(super) fn restore_query(
    node: &proto::RecursiveQueryNode,
    static_term: &Arc<dyn ExecutionPlan>,
    recursive_term: &Arc<dyn ExecutionPlan>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = Arc::new(decode_schema(&node.schema)?);
    let (first, next) = (Arc::clone(static_term), Arc::clone(recursive_term));
    Ok(Arc::new(RecursiveQueryExec::try_new(node.name.clone(), schema, first, next, node.is_distinct)?))
}

pub(super) fn restore_work_table(node: &proto::WorkTableNode) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = decode_schema(&node.schema)?;
    let projection = node.projection.as_ref().map(decode_indices);
    let whole = match &projection {
        None => schema,
        Some(columns) => unprojected(&schema, columns)?,
    };
    Ok(Arc::new(WorkTableExec::new(node.name.clone(), Arc::new(whole), projection)?))
}

/// Returns a schema of which `schema` is the projection to `columns`. The other columns are never read.
fn unprojected(schema: &Schema, columns: &[usize]) -> Result<Schema> {
    if columns.len() != schema.fields().len() {
        return internal_err!(
            "a work table has {} columns, and a projection to {}",
            schema.fields().len(),
            columns.len()
        );
    }
    let width = columns.iter().max().map_or(0, |last| last + 1);
    let mut fields: Vec<FieldRef> =
        std::iter::repeat_n(Arc::new(Field::new("", DataType::Null, true)), width).collect();
    for (column, field) in columns.iter().zip(schema.fields()) {
        fields[*column] = Arc::clone(field);
    }
    Ok(Schema::new_with_metadata(fields, schema.metadata().clone()))
}
