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
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use springald_core::codec::sendable_properties;
use springald_core::exchange::{ExchangeKind, ExchangeReaderExec, ExchangeWriterExec};
use springald_core::ids::StageId;

use super::cut::{CutStage, inputs_of, new_stage};
use super::merge::numbered;
use super::runtime_filters::is_opportunity;
use super::{shape, subqueries};

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
            stage.spec.inputs = inputs_of(&plan);
            stage.writer = stage.writer.with_input(plan);
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
    // The values of scalar subqueries are there for the operators of this stage only.
    if subqueries::are_read_in(join.left()) {
        return Ok(Transformed::no(node));
    }
    let Ok(properties) = sendable_properties(join.left().properties()) else { return Ok(Transformed::no(node)) };
    let (build, probe) = (Arc::clone(join.left()), Arc::clone(join.right()));
    let count = build.output_partitioning().partition_count();
    let id = StageId(*next);
    *next += 1;
    let statistics = StatisticsContext::new().compute(build.as_ref(), &StatisticsArgs::new())?;
    let reader = ExchangeReaderExec::new(id, ExchangeKind::Passthrough, false, count, properties, statistics);
    apart.push(new_stage(id, ExchangeWriterExec::new(build, None), false));
    replace_children_if_necessary(node, vec![Arc::new(reader), probe]).map(Transformed::yes)
}

/// True for a filter over groups.
fn selects_groups(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let filters = shape::count(plan, &|node| node.is::<FilterExec>());
    let groups = shape::count(plan, &|node| node.is::<AggregateExec>());
    filters > 0 && groups > 0
}

fn reads(node: &Arc<dyn ExecutionPlan>, stage: StageId) -> bool {
    node.downcast_ref::<ExchangeReaderExec>().is_some_and(|reader| reader.stage() == stage)
}

/// As early as it can run.
fn position_after_inputs(stages: &[CutStage], new: &CutStage) -> usize {
    let read = |stage: &CutStage| shape::count(new.writer.input(), &|node| reads(node, stage.spec.id)) > 0;
    stages.iter().rposition(read).map_or(0, |last| last + 1)
}
