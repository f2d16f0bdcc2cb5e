//! The adapter around Ballista's planner: cuts a physical plan into stages and puts our exchange operators in place of
//! its shuffle operators.
//!
//! Ballista knows the hard cases of where a plan may be cut (null-aware joins, unions, broadcast, orders to be
//! established again). Its writers and readers are only markers here; none of its execution is used. It also changes
//! joins; whether what stands above them still fits is checked.

use std::sync::Arc;

use ballista_scheduler::planner::{DefaultDistributedPlanner, DistributedPlanner};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::config::ConfigOptions;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use springald_core::ballista::{BallistaJobId, UnresolvedShuffleExec, planner_options};
use springald_core::error::{Error, ErrorCode, Result};
use springald_core::exchange::{ExchangeReaderExec, ExchangeWriterExec};
use springald_core::ids::StageId;

use super::decided::{decide, unmarked};
use super::shape;
use crate::job::{InputSpec, StageSpec};

/// A stage as it was cut.
pub(super) struct CutStage {
    pub(super) spec: StageSpec,
    /// The root of the stage's plan.
    pub(super) writer: ExchangeWriterExec,
}

/// Cuts a plan. Stages come out numbered from 1, inputs before their readers, the result's stage last.
pub(super) fn cut(
    plan: Arc<dyn ExecutionPlan>,
    options: &ConfigOptions,
    broadcast_bytes: u64,
) -> Result<Vec<CutStage>> {
    // Null-aware joins only are left for it to decide.
    let options = planner_options(options, broadcast_bytes.max(2))?;
    let plan = decide(plan)?;
    let writers = DefaultDistributedPlanner::new()
        .plan_query_stages(&BallistaJobId::new("plan"), plan, &options)
        .map_err(|error| Error::new(ErrorCode::Unsupported, format!("the plan cannot be cut into stages: {error}")))?;
    let numbers: Vec<usize> = writers.iter().map(|writer| writer.stage_id()).collect();
    let mut stages = Vec::with_capacity(writers.len());
    for (position, writer) in writers.iter().enumerate() {
        let children = writer.children();
        let [input] = children.as_slice() else {
            return Err(Error::internal("a shuffle writer must have one input"));
        };
        let mut inputs = Vec::new();
        let input = replace_readers(Arc::clone(input), &numbers, &mut inputs)?;
        shape::check_partitions(&input)?;
        let partitions = input.output_partitioning().partition_count() as u32;
        let partitioning = writer.shuffle_output_partitioning().cloned();
        let spec = StageSpec {
            id: StageId(position as u32 + 1),
            inputs,
            partitions,
            output_partitions: partitioning.as_ref().map_or(partitions, |split| split.partition_count() as u32),
            key_partitions: 0,
            hashed: partitioning.is_some(),
            whole: shape::shares_state_across_partitions(&input).then_some(partitions),
            indeterminate: shape::is_indeterminate(&input),
        };
        stages.push(CutStage { spec, writer: ExchangeWriterExec::new(input, partitioning) });
    }
    Ok(stages)
}

/// Puts an [`ExchangeReaderExec`] in place of every leaf that stands for another stage's output.
fn replace_readers(
    plan: Arc<dyn ExecutionPlan>,
    numbers: &[usize],
    inputs: &mut Vec<InputSpec>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let replaced = plan.transform_up(|node| {
        if let Some(side) = unmarked(&node) {
            return Ok(Transformed::yes(side));
        }
        let Some(leaf) = node.downcast_ref::<UnresolvedShuffleExec>() else {
            return Ok(Transformed::no(node));
        };
        let position = numbers.iter().position(|number| *number == leaf.stage_id).ok_or_else(|| {
            datafusion::error::DataFusionError::Internal(format!("stage {} was never written", leaf.stage_id))
        })?;
        let input = InputSpec { stage: StageId(position as u32 + 1), broadcast: leaf.broadcast };
        let reader = ExchangeReaderExec::new(
            input.stage,
            Arc::clone(&leaf.schema),
            leaf.properties().output_partitioning().clone(),
            leaf.broadcast,
            leaf.upstream_partition_count,
        );
        if !inputs.iter().any(|known| known.stage == input.stage) {
            inputs.push(input);
        }
        Ok(Transformed::yes(Arc::new(reader) as Arc<dyn ExecutionPlan>))
    });
    Ok(replaced.data()?)
}
