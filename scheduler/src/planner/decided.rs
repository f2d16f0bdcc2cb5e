//! Which joins broadcast their build side is decided before the plan is distributed, so that the rest of the plan is made
//! for it: no side of such a join is split. Ballista's planner decides again, from the statistics of the sides, when the
//! plan has its exchanges already; so it is given statistics that leave it no choice.

use std::fmt;
use std::sync::Arc;

use datafusion::common::stats::Precision;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, Statistics, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

/// Puts [`DecidedExec`] between the joins of a plan and their sides. Null-aware joins stay as they are: they are not
/// decided here.
pub(super) fn fix_joins(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let fix = |node: Arc<dyn ExecutionPlan>| {
        let Some(join) = node.downcast_ref::<HashJoinExec>().filter(|join| !join.null_aware) else {
            return Ok(Transformed::no(node));
        };
        let (left, right) = (Arc::clone(join.left()), Arc::clone(join.right()));
        let children = match join.partition_mode() {
            PartitionMode::CollectLeft => vec![small(left)?, right],
            _ => vec![marked(left, false), marked(right, false)],
        };
        replace_children_if_necessary(node, children).map(Transformed::yes)
    };
    plan.transform_up(fix).data()
}

/// What a [`DecidedExec`] marks, if this is one.
pub(super) fn unmarked(node: &Arc<dyn ExecutionPlan>) -> Option<Arc<dyn ExecutionPlan>> {
    node.downcast_ref::<DecidedExec>().map(|decided| Arc::clone(&decided.input))
}

/// Ballista wants to see that partitions are put together directly below the join.
fn small(build: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    match build.downcast_ref::<CoalescePartitionsExec>() {
        Some(coalesce) => {
            let input = marked(Arc::clone(coalesce.input()), true);
            replace_children_if_necessary(build, vec![input])
        }
        None => Ok(marked(build, true)),
    }
}

fn marked(input: Arc<dyn ExecutionPlan>, small: bool) -> Arc<dyn ExecutionPlan> {
    Arc::new(DecidedExec { input, small })
}

/// A side of a join that is said to be small, or of unknown size. Is taken out again when the plan has been cut.
#[derive(Debug)]
struct DecidedExec {
    input: Arc<dyn ExecutionPlan>,
    small: bool,
}

impl DisplayAs for DecidedExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DecidedExec: small={}", self.small)
    }
}

impl ExecutionPlan for DecidedExec {
    fn name(&self) -> &str {
        "DecidedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(marked(input, self.small)),
            _ => internal_err!("a side of a join has exactly one child"),
        }
    }

    fn statistics_from_inputs(
        &self,
        _input_stats: &[Arc<Statistics>],
        _args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let unknown = Statistics::new_unknown(&self.schema());
        let one = |known: bool| if known { Precision::Exact(1) } else { Precision::Absent };
        Ok(Arc::new(Statistics { num_rows: one(self.small), total_byte_size: one(self.small), ..unknown }))
    }

    fn execute(&self, _partition: usize, _context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        internal_err!("a mark is not executed")
    }
}
