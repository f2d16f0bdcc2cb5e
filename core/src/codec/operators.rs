//! Encodings of operators. An operator has an encoding here, or its encoding by DataFusion is known to be complete; all
//! others are refused.

mod aggregates;
mod exchange;
mod files;
mod joins;
mod leaves;
mod recursion;
mod rows;
mod samples;
mod scans;
mod sorts;
mod sources;
mod windows;

pub(crate) use self::sources::have_same_row_group_order;

use std::sync::Arc;

use datafusion::common::{DataFusionError, Result, internal_err, plan_err};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::async_func::AsyncFuncExec;
use datafusion::physical_plan::buffer::BufferExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec, SymmetricHashJoinExec,
};
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion::physical_plan::scalar_subquery::{ScalarSubqueryExec, ScalarSubqueryLink};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::union::{InterleaveExec, UnionExec};
use datafusion_proto::protobuf::PhysicalPlanNode;
use springald_proto::plan as proto;
use springald_proto::plan::plan_node::Node;

use super::context::{DecodeContext, EncodeContext};

/// An operator of ours, and its inputs.
pub(super) struct EncodedOperator {
    pub(super) node: Node,
    pub(super) inputs: Vec<PhysicalPlanNode>,
}

impl EncodedOperator {
    fn new(node: Node, plan: &dyn ExecutionPlan, context: &EncodeContext<'_>) -> Result<Self> {
        let inputs = plan.children().into_iter().map(|child| context.plan(child)).collect::<Result<_>>()?;
        Ok(Self { node, inputs })
    }
}

/// Encodes an operator; `None`: DataFusion's encoding keeps all of it. Fails where neither is so.
pub(super) fn encode(plan: &Arc<dyn ExecutionPlan>, context: &EncodeContext<'_>) -> Result<Option<EncodedOperator>> {
    if let Some(encoded) = aggregates::encode(plan, context)? {
        return Ok(Some(encoded));
    }
    let encoders = [
        rows::encode,
        sorts::encode,
        exchange::encode,
        windows::encode,
        joins::encode,
        recursion::encode,
        samples::encode,
        scans::encode,
        leaves::encode,
    ];
    for encode in encoders {
        if let Some(node) = encode(plan, context)? {
            return EncodedOperator::new(node, plan.as_ref(), context).map(Some);
        }
    }
    check_kept_by_datafusion(plan.as_ref())?;
    Ok(None)
}

/// Fails unless the operator is one whose encoding by DataFusion 55.2 was compared with its fields, one by one.
fn check_kept_by_datafusion(plan: &dyn ExecutionPlan) -> Result<()> {
    if let Some(subquery) = plan.downcast_ref::<ScalarSubqueryExec>() {
        let in_order = |(place, link): (usize, &ScalarSubqueryLink)| link.index.as_usize() == place;
        return match subquery.subqueries().iter().enumerate().all(in_order) {
            true => Ok(()),
            false => plan_err!("its subqueries are not in order"),
        };
    }
    let is_kept = plan.is::<EmptyExec>()
        || plan.is::<PlaceholderRowExec>()
        || plan.is::<CooperativeExec>()
        || plan.is::<BufferExec>()
        || plan.is::<AsyncFuncExec>()
        || plan.is::<UnionExec>()
        || plan.is::<InterleaveExec>()
        || plan.is::<HashJoinExec>()
        || plan.is::<NestedLoopJoinExec>()
        || plan.is::<SortMergeJoinExec>()
        || plan.is::<CrossJoinExec>()
        || plan.is::<SymmetricHashJoinExec>()
        || plan.is::<SortExec>();
    match is_kept {
        true => Ok(()),
        false => plan_err!("it has no encoding"),
    }
}

/// Returns the same operator above empty inputs. Their `Debug` text is short; the text of a scan has all cached
/// footers.
fn without_inputs(plan: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let empty = |input: &Arc<dyn ExecutionPlan>| Arc::new(EmptyExec::new(input.schema())) as Arc<dyn ExecutionPlan>;
    let inputs = plan.children().into_iter().map(empty).collect();
    Arc::clone(plan).replace_children(inputs, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Keep))
}

/// Names the operator that failed, the innermost one only.
pub(super) fn name_in_error(plan: &dyn ExecutionPlan, error: DataFusionError) -> DataFusionError {
    const PREFIX: &str = "cannot send operator ";
    let message = error.strip_backtrace();
    match message.contains(PREFIX) {
        true => error,
        false => DataFusionError::Plan(format!("{PREFIX}{} to executors: {message}", plan.name())),
    }
}

/// Decodes an operator of ours.
pub(super) fn restore(
    node: &proto::PlanNode,
    inputs: &[Arc<dyn ExecutionPlan>],
    context: &DecodeContext<'_>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let Some(node) = &node.node else { return internal_err!("an operator of the stage's plan is unknown") };
    match (node, inputs) {
        (Node::Reader(node), []) => exchange::restore_reader(node, context),
        (Node::Writer(node), [input]) => exchange::restore_writer(node, input, context),
        (Node::RuntimeFilter(node), [input]) => exchange::restore_filter(node, input),
        (Node::Filter(node), [input]) => rows::restore_filter(node, input, context),
        (Node::Projection(node), [input]) => rows::restore_projection(node, input, context),
        (Node::GlobalLimit(node), [input]) => rows::restore_global_limit(node, input, context),
        (Node::LocalLimit(node), [input]) => rows::restore_local_limit(node, input, context),
        (Node::CoalescePartitions(node), [input]) => rows::restore_coalesce_partitions(node, input),
        (Node::CoalesceBatches(node), [input]) => rows::restore_coalesce_batches(node, input),
        (Node::Repartition(node), [input]) => rows::restore_repartition(node, input, context),
        (Node::Unnest(node), [input]) => rows::restore_unnest(node, input),
        (Node::SortPreservingMerge(node), [input]) => sorts::restore_merge(node, input, context),
        (Node::PartialSort(node), [input]) => sorts::restore_partial_sort(node, input, context),
        (Node::PartitionedTopK(node), [input]) => sorts::restore_partitioned_top_k(node, input, context),
        (Node::Aggregate(node), [aggregate]) => aggregates::restore(node, aggregate, context),
        (Node::Window(node), [input]) => windows::restore(node, input, context),
        (Node::PiecewiseMergeJoin(node), [buffered, streamed]) => {
            joins::restore_piecewise_merge(node, buffered, streamed, context)
        }
        (Node::RecursiveQuery(node), [first, next]) => recursion::restore_query(node, first, next),
        (Node::Sample(node), [input]) => samples::restore(node, input),
        (Node::ClearEquivalences(_), [input]) => Ok(rows::restore_cleared(input)),
        (Node::WorkTable(node), []) => recursion::restore_work_table(node),
        (Node::FileScan(node), []) => scans::restore(node, context),
        (Node::MemoryScan(node), []) => leaves::restore_memory_scan(node, context),
        (Node::LazyMemory(node), []) => leaves::restore_lazy_memory(node, context),
        _ => internal_err!("an operator of the stage's plan has {} inputs", inputs.len()),
    }
}
