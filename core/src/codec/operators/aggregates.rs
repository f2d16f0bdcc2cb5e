//! Aggregates. DataFusion's encoding of the operator, which is the input of ours, drops grouping sets of nothing, and
//! that a function relies on the order of its input; and it decodes with functions that may be reversed once more.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::AggregateUDF;
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateOutputMode, PhysicalGroupBy};
use datafusion::physical_plan::filter_pushdown::{ChildPushdownResult, FilterPushdownPhase};
use datafusion_proto::physical_plan::PhysicalPlanNodeExt;
use datafusion_proto::protobuf::PhysicalPlanNode;
use springald_proto::plan as proto;
use springald_proto::plan::plan_node::Node;

use super::super::context::{DecodeContext, EncodeContext};
use super::super::functions::{encode_aggregate_function, restore_aggregate_function};
use super::super::nullable::{nullable_columns, with_nullable};
use super::EncodedOperator;
use crate::plan_diff::have_same_fields;

pub(super) fn encode(plan: &Arc<dyn ExecutionPlan>, context: &EncodeContext<'_>) -> Result<Option<EncodedOperator>> {
    let Some(aggregate) = plan.downcast_ref::<AggregateExec>() else { return Ok(None) };
    let schema = aggregate.input_schema();
    let functions = aggregate.aggr_expr().iter().map(|function| encode_function(function, &schema, context));
    let functions = functions.collect::<Result<_>>()?;
    let groups = aggregate.group_expr();
    let empty_grouping_sets = if groups.expr().is_empty() { groups.groups().len() as u64 } else { 0 };
    let node = Node::Aggregate(proto::AggregateNode { functions, empty_grouping_sets });
    let encoder = context.encoder;
    let kept = PhysicalPlanNode::try_from_physical_plan_with_converter(Arc::clone(plan), context.codec, encoder)?;
    Ok(Some(EncodedOperator { node, inputs: vec![kept] }))
}

pub(super) fn restore(
    node: &proto::AggregateNode,
    plan: &Arc<dyn ExecutionPlan>,
    context: &DecodeContext<'_>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let Some(decoded) = plan.downcast_ref::<AggregateExec>() else {
        return internal_err!("{} is no aggregate", plan.name());
    };
    let schema = decoded.input_schema();
    let functions = node.functions.iter().map(|function| Ok(Arc::new(restore_function(function, &schema, context)?)));
    let functions = functions.collect::<Result<Vec<_>>>()?;
    if functions.len() != decoded.aggr_expr().len() {
        return internal_err!("an aggregate has {} functions of {}", functions.len(), decoded.aggr_expr().len());
    }
    if !decoded.group_expr().expr().is_empty() || node.empty_grouping_sets == 0 {
        return Ok(Arc::new(decoded.with_new_aggr_exprs(functions)));
    }
    // Its sets have no columns, so that only their number is to be known.
    let sets = vec![vec![]; node.empty_grouping_sets as usize];
    let groups = PhysicalGroupBy::new(vec![], vec![], sets, decoded.group_expr().has_grouping_set());
    let (filters, input) = (decoded.filter_expr().to_vec(), Arc::clone(decoded.input()));
    let planned = functions.iter().map(|function| as_planned(function, decoded)).collect();
    let restored = AggregateExec::try_new(*decoded.mode(), groups, planned, filters, input, schema)?
        .with_limit_options(decoded.limit_options());
    #[expect(deprecated, reason = "what replaces it gives the filter as an expression, which cannot be put back")]
    let restored = match decoded.dynamic_filter_expr() {
        Some(filter) => restored.with_dynamic_filter_expr(Arc::clone(filter))?,
        None => without_dynamic_filter(restored)?,
    };
    match restored.schema() == decoded.schema() {
        true => Ok(Arc::new(restored.with_new_aggr_exprs(functions))),
        false => internal_err!("an aggregate over grouping sets of nothing has another schema"),
    }
}

/// The function for which the aggregate's schema was made: the optimizer may have reversed it since, which changes the
/// names of its fields.
fn as_planned(function: &Arc<AggregateFunctionExpr>, aggregate: &AggregateExec) -> Arc<AggregateFunctionExpr> {
    let schema = aggregate.schema();
    let has_its_fields = |function: &AggregateFunctionExpr| {
        let fields = match aggregate.mode().output_mode() {
            AggregateOutputMode::Final => Ok(vec![function.field()]),
            AggregateOutputMode::Partial => function.state_fields(),
        };
        fields.is_ok_and(|fields| fields.iter().all(|field| schema.fields().iter().any(|known| known == field)))
    };
    let reversed = function.reverse_expr().map(Arc::new);
    match reversed.filter(|reversed| !has_its_fields(function) && has_its_fields(reversed)) {
        Some(reversed) => reversed,
        None => Arc::clone(function),
    }
}

/// A new aggregate may have a dynamic filter of its own. It goes where no input uses it, as when a plan is optimized.
fn without_dynamic_filter(aggregate: AggregateExec) -> Result<AggregateExec> {
    let unused = ChildPushdownResult { parent_filters: vec![], self_filters: vec![] };
    let handled = aggregate.handle_child_pushdown_result(FilterPushdownPhase::Post, unused, &ConfigOptions::new())?;
    let updated = handled.updated_node.as_ref().and_then(|node| node.downcast_ref::<AggregateExec>());
    Ok(updated.cloned().unwrap_or(aggregate))
}

/// Encodes an aggregate function whose arguments are columns of `schema`.
///
/// The order of one that does not depend on it has no getter, and is left out: nothing reads it.
pub(super) fn encode_function(
    aggregate: &AggregateFunctionExpr,
    schema: &SchemaRef,
    context: &EncodeContext<'_>,
) -> Result<proto::AggregateFunction> {
    let beneficial_ordering = encode_aggregate_function(aggregate.fun())?;
    let mut node = proto::AggregateFunction {
        function: aggregate.fun().name().to_owned(),
        beneficial_ordering,
        arguments: context.expressions(&aggregate.expressions())?,
        order_by: Some(context.ordering(aggregate.order_bys())?),
        name: aggregate.name().to_owned(),
        distinct: aggregate.is_distinct(),
        ignore_nulls: aggregate.ignore_nulls(),
        is_reversed: aggregate.is_reversed(),
        human_display: aggregate.human_display().map(str::to_owned),
        human_display_alias: aggregate.human_display_alias().map(str::to_owned),
        nullable_columns: vec![],
    };
    let (function, arguments) = (Arc::new(aggregate.fun().clone()), aggregate.expressions());
    let order_by = aggregate.order_bys().to_vec();
    let is_rebuilt = |schema: &SchemaRef| {
        let built = build(&node, Arc::clone(&function), arguments.clone(), order_by.clone(), schema)?;
        let same_fields = built.field() == aggregate.field() && built.state_fields()? == aggregate.state_fields()?;
        Ok(same_fields && have_same_fields(&built, aggregate))
    };
    let keys = order_by.iter().map(|key| &key.expr);
    node.nullable_columns = nullable_columns(aggregate.name(), schema, arguments.iter().chain(keys), is_rebuilt)?;
    Ok(node)
}

pub(super) fn restore_function(
    node: &proto::AggregateFunction,
    schema: &SchemaRef,
    context: &DecodeContext<'_>,
) -> Result<AggregateFunctionExpr> {
    let schema = &with_nullable(schema, &node.nullable_columns);
    let registry = context.context.task_ctx();
    let function = restore_aggregate_function(&node.function, node.beneficial_ordering, registry)?;
    let arguments = context.expressions(&node.arguments, schema)?;
    build(node, function, arguments, context.sort_expressions(&node.order_by, schema)?, schema)
}

fn build(
    node: &proto::AggregateFunction,
    function: Arc<AggregateUDF>,
    arguments: Vec<Arc<dyn PhysicalExpr>>,
    order_by: Vec<PhysicalSortExpr>,
    schema: &SchemaRef,
) -> Result<AggregateFunctionExpr> {
    let mut builder = AggregateExprBuilder::new(function, arguments)
        .schema(Arc::clone(schema))
        .alias(&node.name)
        .order_by(order_by)
        .with_distinct(node.distinct)
        .with_ignore_nulls(node.ignore_nulls)
        .with_reversed(node.is_reversed);
    if let Some(display) = &node.human_display {
        builder = builder.human_display(display);
    }
    if let Some(alias) = &node.human_display_alias {
        builder = builder.human_display_alias(alias);
    }
    builder.build()
}
