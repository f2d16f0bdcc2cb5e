//! How operators use the partitions of their inputs: what a stage may consist of.
//!
//! A stage runs one task per partition, in different processes. An operator that is not listed here may need more of its
//! input than that, so that a plan with it is not cut.

use std::sync::Arc;

use datafusion::datasource::sink::DataSinkExec;
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::async_func::AsyncFuncExec;
use datafusion::physical_plan::buffer::BufferExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, PartitionMode, PiecewiseMergeJoinExec, SortMergeJoinExec,
    SymmetricHashJoinExec,
};
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::memory::LazyMemoryExec;
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::partial_sort::PartialSortExec;
use datafusion::physical_plan::sorts::partitioned_topk::PartitionedTopKExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::union::{InterleaveExec, UnionExec};
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use springald_core::equivalences::ClearEquivalencesExec;
use springald_core::sample::SampleExec;

use super::cut::CutError;

/// How an operator uses the partitions of its inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InputUse {
    /// Its partition `p` reads partition `p` of every input, or it has no input.
    Partition,
    /// Its partitions are those of its inputs, one input after the other.
    Concatenated,
    /// All its partitions read the one partition of the first input; partition `p` reads partition `p` of the second.
    SharedBuildSide,
}

/// How `node` uses its inputs; fails for an operator of which this is not known.
pub(super) fn input_use(node: &Arc<dyn ExecutionPlan>) -> Result<InputUse, CutError> {
    if let Some(join) = node.downcast_ref::<HashJoinExec>() {
        return match join.partition_mode() {
            PartitionMode::Partitioned => Ok(InputUse::Partition),
            PartitionMode::CollectLeft => Ok(InputUse::SharedBuildSide),
            PartitionMode::Auto => Err(CutError::Indivisible("HashJoinExec has no partition mode".to_owned())),
        };
    }
    if node.is::<UnionExec>() {
        return Ok(InputUse::Concatenated);
    }
    if node.is::<NestedLoopJoinExec>() || node.is::<CrossJoinExec>() || node.is::<PiecewiseMergeJoinExec>() {
        return Ok(InputUse::SharedBuildSide);
    }
    if is_leaf(node) || is_partition_wise(node) {
        return Ok(InputUse::Partition);
    }
    Err(CutError::Indivisible(format!("{} is not known to work on single partitions", node.name())))
}

fn is_leaf(node: &Arc<dyn ExecutionPlan>) -> bool {
    node.is::<DataSourceExec>()
        || node.is::<EmptyExec>()
        || node.is::<PlaceholderRowExec>()
        || node.is::<LazyMemoryExec>()
}

fn is_partition_wise(node: &Arc<dyn ExecutionPlan>) -> bool {
    let rows = node.is::<FilterExec>()
        || node.is::<ProjectionExec>()
        || node.is::<UnnestExec>()
        || node.is::<AsyncFuncExec>()
        || node.is::<CooperativeExec>()
        || node.is::<BufferExec>()
        || node.is::<SampleExec>()
        || node.is::<ClearEquivalencesExec>()
        || node.is::<LocalLimitExec>()
        || node.is::<GlobalLimitExec>();
    let groups = node.is::<AggregateExec>() || node.is::<WindowAggExec>() || node.is::<BoundedWindowAggExec>();
    let sorts = node.is::<SortExec>() || node.is::<PartialSortExec>() || node.is::<PartitionedTopKExec>();
    let several_inputs =
        node.is::<SortMergeJoinExec>() || node.is::<SymmetricHashJoinExec>() || node.is::<InterleaveExec>();
    rows || groups || sorts || several_inputs || node.is::<DataSinkExec>()
}
