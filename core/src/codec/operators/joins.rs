//! The join that DataFusion's encoding does not know.

use std::str::FromStr;
use std::sync::Arc;

use datafusion::common::{JoinType, Result, internal_datafusion_err, plan_err};
use datafusion::logical_expr::Operator;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::PiecewiseMergeJoinExec;
use springald_proto::plan as proto;
use springald_proto::plan::plan_node::Node;

use super::super::context::{DecodeContext, EncodeContext};
use super::super::debug_text::{Cursor, tail};
use super::without_inputs;

pub(super) fn encode(plan: &Arc<dyn ExecutionPlan>, context: &EncodeContext<'_>) -> Result<Option<Node>> {
    let Some(join) = plan.downcast_ref::<PiecewiseMergeJoinExec>() else { return Ok(None) };
    Ok(Some(Node::PiecewiseMergeJoin(proto::PiecewiseMergeJoinNode {
        buffered: context.expression(&join.on.0)?,
        streamed: context.expression(&join.on.1)?,
        operator: format!("{:?}", join.operator),
        join_type: join.join_type.to_string(),
        partitions: partitions_of(&without_inputs(plan)?)? as u64,
    })))
}

/// The number has no getter. It is the last field of the text.
fn partitions_of(join: &Arc<dyn ExecutionPlan>) -> Result<usize> {
    let text = tail(join, 48);
    let Some((_, number)) = text.rsplit_once(", num_partitions: ") else {
        return plan_err!("its number of partitions cannot be read");
    };
    let mut cursor = Cursor::new(number);
    let partitions = cursor.number()?;
    cursor.expect(" }")?;
    cursor.expect_end()?;
    Ok(partitions)
}

pub(super) fn restore_piecewise_merge(
    node: &proto::PiecewiseMergeJoinNode,
    buffered: &Arc<dyn ExecutionPlan>,
    streamed: &Arc<dyn ExecutionPlan>,
    context: &DecodeContext<'_>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let operator = Operator::from_proto_name(&node.operator)
        .ok_or_else(|| internal_datafusion_err!("operator {:?} is unknown", node.operator))?;
    let on = (
        context.expression(&node.buffered, &buffered.schema())?,
        context.expression(&node.streamed, &streamed.schema())?,
    );
    Ok(Arc::new(PiecewiseMergeJoinExec::try_new(
        Arc::clone(buffered),
        Arc::clone(streamed),
        on,
        operator,
        JoinType::from_str(&node.join_type)?,
        node.partitions as usize,
    )?))
}
