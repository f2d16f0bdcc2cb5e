//! Build sides that select, in stages of their own: a join over groups of which few remain (HAVING) should not wait for
//! all rows of its probe side. Apart, the build side is finished before the probe side is read, and filters it.
//!
//! ```text
//!   stage 5: join [ filter ← aggregate ← stage 1 ]   ──▶   stage 2: filter ← aggregate ← stage 1, kept as it is
//!                 [ stages 3, 4 ]                          stage 6: join [ stage 2 ] [ stages 4, 5 ]
//! ```

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use springald_core::exchange::{ExchangeReaderExec, ExchangeWriterExec};
use springald_core::ids::StageId;

use super::ballista::CutStage;
use super::merge::numbered;
use super::runtime_filters::is_opportunity;
use super::shape;
use crate::job::{InputSpec, StageSpec};

/// Gives build sides that select groups stages of their own.
pub(super) fn split(stages: Vec<CutStage>) -> Result<Vec<CutStage>> {
    let mut next = stages.len() as u32 + 1;
    // New stages have numbers above all others until the end.
    let mut all = vec![];
    for mut stage in stages {
        let mut apart = vec![];
        if stage.spec.whole.is_none() {
            let plan = Arc::clone(stage.writer.input());
            let plan = plan.transform_up(|node| take_out(node, &mut next, &mut apart)).data()?;
            let mut known = stage.spec.inputs;
            known.extend(apart.iter().map(|new: &CutStage| InputSpec { stage: new.spec.id, broadcast: false }));
            stage.spec.inputs = inputs_of(&plan, &known);
            stage.writer = stage.writer.with_input(plan);
            for new in &mut apart {
                new.spec.inputs = inputs_of(new.writer.input(), &known);
            }
        }
        for new in apart {
            all.insert(position_after_inputs(&all, &new), new);
        }
        all.push(stage);
    }
    numbered(all)
}

/// Puts the build side of a join into a stage of its own, if that is worth it.
fn take_out(
    node: Arc<dyn ExecutionPlan>,
    next: &mut u32,
    apart: &mut Vec<CutStage>,
) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let Some(join) = node.downcast_ref::<HashJoinExec>() else { return Ok(Transformed::no(node)) };
    if *join.partition_mode() != PartitionMode::Partitioned || !selects_groups(join.left()) || !is_opportunity(join) {
        return Ok(Transformed::no(node));
    }
    let (build, probe) = (Arc::clone(join.left()), Arc::clone(join.right()));
    let partitioning = build.output_partitioning().clone();
    let count = partitioning.partition_count();
    let id = StageId(*next);
    *next += 1;
    let reader = ExchangeReaderExec::new(id, build.schema(), partitioning, false, count);
    let spec = StageSpec {
        id,
        inputs: vec![],
        partitions: count as u32,
        output_partitions: count as u32,
        key_partitions: 0,
        hashed: false,
        whole: shape::shares_state_across_partitions(&build).then_some(count as u32),
        indeterminate: shape::is_indeterminate(&build),
    };
    apart.push(CutStage { spec, writer: ExchangeWriterExec::new(build, None) });
    replace_children_if_necessary(node, vec![Arc::new(reader), probe]).map(Transformed::yes)
}

/// True for a filter over groups.
fn selects_groups(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let filters = shape::count(plan, &|node| node.is::<FilterExec>());
    let groups = shape::count(plan, &|node| node.is::<AggregateExec>());
    filters > 0 && groups > 0
}

/// The stages that a plan reads, of those that are known.
fn inputs_of(plan: &Arc<dyn ExecutionPlan>, known: &[InputSpec]) -> Vec<InputSpec> {
    let read = |input: &&InputSpec| shape::count(plan, &|node| reads(node, input.stage)) > 0;
    known.iter().filter(read).copied().collect()
}

fn reads(node: &Arc<dyn ExecutionPlan>, stage: StageId) -> bool {
    node.downcast_ref::<ExchangeReaderExec>().is_some_and(|reader| reader.stage() == stage)
}

/// As early as it can run.
fn position_after_inputs(stages: &[CutStage], new: &CutStage) -> usize {
    let read = |stage: &CutStage| shape::count(new.writer.input(), &|node| reads(node, stage.spec.id)) > 0;
    stages.iter().rposition(read).map_or(0, |last| last + 1)
}
