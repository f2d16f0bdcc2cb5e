//! Merges and sorts: the tie breaker of a merge, which DataFusion's encoding leaves out, and the sorts that it does not
//! know.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::sorts::partial_sort::PartialSortExec;
use datafusion::physical_plan::sorts::partitioned_topk::{PartitionedTopKExec, WindowFnKind};
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use springald_proto::plan as proto;
use springald_proto::plan::plan_node::Node;

use super::super::context::{DecodeContext, EncodeContext, decode_fetch, encode_fetch};
use super::super::debug_text::last_flag;
use super::without_inputs;

pub(super) fn encode(plan: &Arc<dyn ExecutionPlan>, context: &EncodeContext<'_>) -> Result<Option<Node>> {
    let node = if let Some(merge) = plan.downcast_ref::<SortPreservingMergeExec>() {
        Node::SortPreservingMerge(proto::SortPreservingMergeNode {
            ordering: Some(context.ordering(merge.expr())?),
            fetch: encode_fetch(merge.fetch()),
            // The flag has no getter.
            round_robin: last_flag(&without_inputs(plan)?, "enable_round_robin_repartition")?,
        })
    } else if let Some(sort) = plan.downcast_ref::<PartialSortExec>() {
        Node::PartialSort(proto::PartialSortNode {
            ordering: Some(context.ordering(sort.expr())?),
            common_prefix_length: sort.common_prefix_length() as u64,
            preserve_partitioning: sort.preserve_partitioning(),
            fetch: encode_fetch(sort.fetch()),
        })
    } else if let Some(sort) = plan.downcast_ref::<PartitionedTopKExec>() {
        Node::PartitionedTopK(proto::PartitionedTopKNode {
            ordering: Some(context.ordering(sort.expr())?),
            partition_prefix_length: sort.partition_prefix_len() as u64,
            fetch: sort.fetch() as u64,
            rank: sort.fn_kind() == WindowFnKind::Rank,
        })
    } else {
        return Ok(None);
    };
    Ok(Some(node))
}

pub(super) fn restore_merge(
    node: &proto::SortPreservingMergeNode,
    input: &Arc<dyn ExecutionPlan>,
    context: &DecodeContext<'_>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let ordering = context.ordering(&node.ordering, &input.schema())?;
    let merge = SortPreservingMergeExec::new(ordering, Arc::clone(input))
        .with_fetch(decode_fetch(node.fetch))
        .with_round_robin_repartition(node.round_robin);
    Ok(Arc::new(merge))
}

pub(super) fn restore_partial_sort(
    node: &proto::PartialSortNode,
    input: &Arc<dyn ExecutionPlan>,
    context: &DecodeContext<'_>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let ordering = context.ordering(&node.ordering, &input.schema())?;
    let sort = PartialSortExec::new(ordering, Arc::clone(input), node.common_prefix_length as usize)
        .with_preserve_partitioning(node.preserve_partitioning)
        .with_fetch(decode_fetch(node.fetch));
    Ok(Arc::new(sort))
}

pub(super) fn restore_partitioned_top_k(
    node: &proto::PartitionedTopKNode,
    input: &Arc<dyn ExecutionPlan>,
    context: &DecodeContext<'_>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let ordering = context.ordering(&node.ordering, &input.schema())?;
    let kind = if node.rank { WindowFnKind::Rank } else { WindowFnKind::RowNumber };
    let (prefix, fetch) = (node.partition_prefix_length as usize, node.fetch as usize);
    Ok(Arc::new(PartitionedTopKExec::try_new(Arc::clone(input), ordering, prefix, fetch, kind)?))
}
