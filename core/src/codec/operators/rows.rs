//! Operators that pass on rows: filters, projections, limits, coalescing, repartitioning, unnesting. DataFusion's
//! encoding cuts their numbers off at 32 bits, and drops projections of all columns and the metadata of projected
//! schemas.

use std::sync::Arc;

use datafusion::common::{
    Column, NullHandling, RecursionUnnestOption, Result, UnnestOptions, internal_datafusion_err, internal_err,
};
use datafusion::physical_plan::ExecutionPlan;
#[expect(deprecated, reason = "DataFusion still encodes it")]
use datafusion::physical_plan::coalesce_batches::CoalesceBatchesExec;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::unnest::{ListUnnest, UnnestExec};
use springald_proto::plan as proto;
use springald_proto::plan::plan_node::Node;

use super::super::context::{DecodeContext, EncodeContext, decode_fetch, encode_fetch};
use super::super::values::{decode_indices, decode_schema, decode_table, encode_indices, encode_schema, encode_table};
use crate::equivalences::ClearEquivalencesExec;

const NULL_HANDLING: [NullHandling; 3] =
    [NullHandling::Preserve, NullHandling::Drop, NullHandling::PreserveAndExpandEmpty];

#[expect(deprecated, reason = "DataFusion still encodes CoalesceBatchesExec")]
pub(super) fn encode(plan: &Arc<dyn ExecutionPlan>, context: &EncodeContext<'_>) -> Result<Option<Node>> {
    let node = if let Some(filter) = plan.downcast_ref::<FilterExec>() {
        Node::Filter(proto::FilterNode {
            expression: context.expression(filter.predicate())?,
            projection: filter.projection().as_ref().map(|columns| encode_indices(columns)),
            batch_size: filter.batch_size() as u64,
            default_selectivity: filter.default_selectivity().into(),
            fetch: encode_fetch(filter.fetch()),
        })
    } else if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        encode_projection(projection, context)?
    } else if plan.is::<ClearEquivalencesExec>() {
        Node::ClearEquivalences(proto::ClearEquivalencesNode {})
    } else if let Some(limit) = plan.downcast_ref::<GlobalLimitExec>() {
        Node::GlobalLimit(proto::GlobalLimitNode {
            skip: limit.skip() as u64,
            fetch: encode_fetch(limit.fetch()),
            required_ordering: context.optional_ordering(limit.required_ordering().as_ref())?,
        })
    } else if let Some(limit) = plan.downcast_ref::<LocalLimitExec>() {
        Node::LocalLimit(proto::LocalLimitNode {
            fetch: limit.fetch() as u64,
            required_ordering: context.optional_ordering(limit.required_ordering().as_ref())?,
        })
    } else if let Some(coalesce) = plan.downcast_ref::<CoalescePartitionsExec>() {
        Node::CoalescePartitions(proto::CoalescePartitionsNode { fetch: encode_fetch(coalesce.fetch()) })
    } else if let Some(coalesce) = plan.downcast_ref::<CoalesceBatchesExec>() {
        Node::CoalesceBatches(proto::CoalesceBatchesNode {
            target_batch_size: coalesce.target_batch_size() as u64,
            fetch: encode_fetch(coalesce.fetch()),
        })
    } else if let Some(repartition) = plan.downcast_ref::<RepartitionExec>() {
        Node::Repartition(proto::RepartitionNode {
            partitioning: Some(context.partitioning(repartition.partitioning())?),
            preserve_order: repartition.preserve_order(),
        })
    } else if let Some(unnest) = plan.downcast_ref::<UnnestExec>() {
        encode_unnest(unnest)?
    } else {
        return Ok(None);
    };
    Ok(Some(node))
}

/// Decodes an operator that clears the equivalences of `input`.
pub(super) fn restore_cleared(input: &Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    Arc::new(ClearEquivalencesExec::new(Arc::clone(input)))
}

pub(super) fn restore_filter(
    node: &proto::FilterNode,
    input: &Arc<dyn ExecutionPlan>,
    context: &DecodeContext<'_>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let predicate = context.expression(&node.expression, &input.schema())?;
    let selectivity = u8::try_from(node.default_selectivity)
        .map_err(|_| internal_datafusion_err!("a filter's selectivity is {} %", node.default_selectivity))?;
    let filter = FilterExecBuilder::new(predicate, Arc::clone(input))
        .apply_projection(node.projection.as_ref().map(decode_indices))?
        .with_default_selectivity(selectivity)
        .with_batch_size(node.batch_size as usize)
        .with_fetch(decode_fetch(node.fetch))
        .build()?;
    Ok(Arc::new(filter))
}

fn encode_projection(projection: &ProjectionExec, context: &EncodeContext<'_>) -> Result<Node> {
    let derived = projection.projection_expr().project_schema(&projection.input().schema())?;
    let schema = projection.schema();
    let schema = match &derived == schema.as_ref() {
        true => None,
        false => Some(encode_schema(&schema)?),
    };
    Ok(Node::Projection(proto::ProjectionNode { expressions: context.projected(projection.expr())?, schema }))
}

pub(super) fn restore_projection(
    node: &proto::ProjectionNode,
    input: &Arc<dyn ExecutionPlan>,
    context: &DecodeContext<'_>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let expressions = context.projected(&node.expressions, &input.schema())?;
    let Some(schema) = &node.schema else {
        return Ok(Arc::new(ProjectionExec::try_new(expressions, Arc::clone(input))?));
    };
    let schema = decode_schema(schema)?;
    let projection = ProjectionExec::try_new_with_schema_metadata(expressions, Arc::clone(input), &schema)?;
    match projection.schema().as_ref() == &schema {
        true => Ok(Arc::new(projection)),
        false => internal_err!("a projection's schema is not the one that was sent"),
    }
}

pub(super) fn restore_global_limit(
    node: &proto::GlobalLimitNode,
    input: &Arc<dyn ExecutionPlan>,
    context: &DecodeContext<'_>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let mut limit = GlobalLimitExec::new(Arc::clone(input), node.skip as usize, decode_fetch(node.fetch));
    limit.set_required_ordering(context.optional_ordering(&node.required_ordering, &input.schema())?);
    Ok(Arc::new(limit))
}

pub(super) fn restore_local_limit(
    node: &proto::LocalLimitNode,
    input: &Arc<dyn ExecutionPlan>,
    context: &DecodeContext<'_>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let mut limit = LocalLimitExec::new(Arc::clone(input), node.fetch as usize);
    limit.set_required_ordering(context.optional_ordering(&node.required_ordering, &input.schema())?);
    Ok(Arc::new(limit))
}

pub(super) fn restore_coalesce_partitions(
    node: &proto::CoalescePartitionsNode,
    input: &Arc<dyn ExecutionPlan>,
) -> Result<Arc<dyn ExecutionPlan>> {
    Ok(Arc::new(CoalescePartitionsExec::new(Arc::clone(input)).with_fetch(decode_fetch(node.fetch))))
}

#[expect(deprecated, reason = "DataFusion still encodes CoalesceBatchesExec")]
pub(super) fn restore_coalesce_batches(
    node: &proto::CoalesceBatchesNode,
    input: &Arc<dyn ExecutionPlan>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let coalesce = CoalesceBatchesExec::new(Arc::clone(input), node.target_batch_size as usize);
    Ok(Arc::new(coalesce.with_fetch(decode_fetch(node.fetch))))
}

pub(super) fn restore_repartition(
    node: &proto::RepartitionNode,
    input: &Arc<dyn ExecutionPlan>,
    context: &DecodeContext<'_>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let partitioning = context.partitioning(&node.partitioning, &input.schema())?;
    let repartition = RepartitionExec::try_new(Arc::clone(input), partitioning)?;
    Ok(Arc::new(if node.preserve_order { repartition.with_preserve_order() } else { repartition }))
}

fn encode_unnest(unnest: &UnnestExec) -> Result<Node> {
    let options = unnest.options();
    let list =
        |list: &ListUnnest| proto::UnnestedList { column: list.index_in_input_schema as u64, depth: list.depth as u64 };
    let recursion = |recursion: &RecursionUnnestOption| proto::UnnestRecursion {
        input: Some(encode_column(&recursion.input_column)),
        output: Some(encode_column(&recursion.output_column)),
        depth: recursion.depth as u64,
    };
    let null_handling = NULL_HANDLING.iter().position(|kind| *kind == options.null_handling);
    Ok(Node::Unnest(proto::UnnestNode {
        schema: encode_schema(&unnest.schema())?,
        lists: unnest.list_column_indices().iter().map(list).collect(),
        structs: Some(encode_indices(unnest.struct_column_indices())),
        null_handling: null_handling.map_or(u32::MAX, |place| place as u32),
        recursions: options.recursions.iter().map(recursion).collect(),
    }))
}

fn encode_column(column: &Column) -> proto::QualifiedColumn {
    let relation = column.relation.as_ref().map(encode_table).unwrap_or_default();
    proto::QualifiedColumn { relation, name: column.name.clone() }
}

fn decode_column(column: &Option<proto::QualifiedColumn>) -> Result<Column> {
    let Some(column) = column else { return internal_err!("a column of an unnest is missing") };
    Ok(Column::new(decode_table(&column.relation)?, column.name.clone()))
}

pub(super) fn restore_unnest(
    node: &proto::UnnestNode,
    input: &Arc<dyn ExecutionPlan>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let list = |list: &proto::UnnestedList| ListUnnest {
        index_in_input_schema: list.column as usize,
        depth: list.depth as usize,
    };
    let recursion = |recursion: &proto::UnnestRecursion| {
        Ok(RecursionUnnestOption {
            input_column: decode_column(&recursion.input)?,
            output_column: decode_column(&recursion.output)?,
            depth: recursion.depth as usize,
        })
    };
    let Some(null_handling) = NULL_HANDLING.get(node.null_handling as usize) else {
        return internal_err!("an unnest's handling of NULL is unknown");
    };
    let options = UnnestOptions {
        null_handling: *null_handling,
        recursions: node.recursions.iter().map(recursion).collect::<Result<_>>()?,
    };
    let schema = Arc::new(decode_schema(&node.schema)?);
    let lists = node.lists.iter().map(list).collect();
    let structs = node.structs.as_ref().map(decode_indices).unwrap_or_default();
    Ok(Arc::new(UnnestExec::new(Arc::clone(input), lists, structs, schema, options)?))
}
