//! Which joins broadcast their build side is decided before the plan is distributed, so that the rest of the plan is
//! made for it: no side of such a join is split. Ballista's planner decides again, from the statistics of the sides,
//! when the plan has its exchanges already; so it is given statistics that leave it no choice.
//!
//! ```text
//!   collected left side, which gives no rows by itself ─▶ broadcast
//!   one partition on each side ─────────────────────────▶ in one task
//!   else ───────────────────────────────────────────────▶ split by the keys
//! ```
//!
//! A collected left side that gives rows by itself (LEFT, FULL, semi, anti) cannot be broadcast: Ballista splits such a
//! join. If that has one partition, the operators above it were planned for one, and would give wrong rows with more.
//! So it is told that the sides match partition by partition, of which each has one. For the same reason operators that
//! limit their rows keep their one partition: of several, each would give as many.

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
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, ExecutionPlanProperties, InputDistributionRequirements,
    PlanProperties,
};

use super::shape::answers_for_the_left;

/// Puts [`DecidedExec`] between the joins of a plan and their sides, and below limits. Null-aware joins stay as they
/// are: they are not decided here.
pub(super) fn decide(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let decide = |node: Arc<dyn ExecutionPlan>| match node.downcast_ref::<HashJoinExec>() {
        Some(join) if join.null_aware => Ok(Transformed::no(node)),
        Some(join) => decided(join).map(Transformed::yes),
        None if limits_its_only_partition(&node) => {
            let children = node.children().into_iter().map(|child| marked(Arc::clone(child), Said::Whole)).collect();
            replace_children_if_necessary(node, children).map(Transformed::yes)
        }
        None => Ok(Transformed::no(node)),
    };
    plan.transform_up(decide).data()
}

fn decided(join: &HashJoinExec) -> Result<Arc<dyn ExecutionPlan>> {
    let (left, right) = (Arc::clone(join.left()), Arc::clone(join.right()));
    let (is_collected, has_one) = (*join.partition_mode() == PartitionMode::CollectLeft, has_one_partition(&right));
    let is_broadcast = is_collected && !answers_for_the_left(*join.join_type());
    let (mode, sides) = if has_one && has_one_partition(&left) && !is_broadcast {
        (PartitionMode::Partitioned, vec![marked(left, Said::Whole), marked(right, Said::Whole)])
    } else if is_collected {
        let right = if has_one && join.fetch().is_some() { marked(right, Said::Whole) } else { right };
        (PartitionMode::CollectLeft, vec![small(left)?, right])
    } else {
        (*join.partition_mode(), vec![marked(left, Said::Unknown), marked(right, Said::Unknown)])
    };
    join.builder().with_partition_mode(mode).with_new_children(sides)?.build_exec()
}

fn has_one_partition(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.output_partitioning().partition_count() == 1
}

/// True if the limit holds because there is one partition, and not because the operator sees to it.
fn limits_its_only_partition(node: &Arc<dyn ExecutionPlan>) -> bool {
    let (children, requirements) = (node.children(), node.input_distribution_requirements());
    let sees_to_it = |needed: &Distribution| matches!(needed, Distribution::SinglePartition);
    node.fetch().is_some()
        && !children.is_empty()
        && children.into_iter().all(has_one_partition)
        && !requirements.per_child_distributions().any(sees_to_it)
}

/// What a [`DecidedExec`] marks, if this is one.
pub(super) fn unmarked(node: &Arc<dyn ExecutionPlan>) -> Option<Arc<dyn ExecutionPlan>> {
    node.downcast_ref::<DecidedExec>().map(|decided| Arc::clone(&decided.input))
}

/// Ballista wants to see that partitions are put together directly below the join.
fn small(build: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    match build.downcast_ref::<CoalescePartitionsExec>() {
        Some(coalesce) => {
            let input = marked(Arc::clone(coalesce.input()), Said::Small);
            replace_children_if_necessary(build, vec![input])
        }
        None => Ok(marked(build, Said::Small)),
    }
}

fn marked(input: Arc<dyn ExecutionPlan>, said: Said) -> Arc<dyn ExecutionPlan> {
    Arc::new(DecidedExec { input, said })
}

/// More than are broadcast, and few enough to be added up.
const MANY_BYTES: usize = usize::MAX / 1024;

/// What is said of an operator's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    /// So small that it is broadcast.
    Small,
    /// Nothing: it is not broadcast, and may be split.
    Unknown,
    /// It is too large to be broadcast, has too few rows to be split, and must be in one partition.
    Whole,
}

/// A side of a join, or the input of a limit, with what is said of it. Is taken out again when the plan has been cut.
#[derive(Debug)]
struct DecidedExec {
    input: Arc<dyn ExecutionPlan>,
    said: Said,
}

impl DisplayAs for DecidedExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DecidedExec: {:?}", self.said)
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

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![match self.said {
            Said::Whole => Distribution::SinglePartition,
            Said::Small | Said::Unknown => Distribution::UnspecifiedDistribution,
        }])
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![self.said == Said::Whole]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(marked(input, self.said)),
            _ => internal_err!("a mark has exactly one child"),
        }
    }

    fn statistics_from_inputs(
        &self,
        _input_stats: &[Arc<Statistics>],
        _args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let (num_rows, total_byte_size) = match self.said {
            Said::Small => (Precision::Exact(1), Precision::Exact(1)),
            Said::Unknown => (Precision::Absent, Precision::Absent),
            Said::Whole => (Precision::Exact(1), Precision::Exact(MANY_BYTES)),
        };
        let unknown = Statistics::new_unknown(&self.schema());
        Ok(Arc::new(Statistics { num_rows, total_byte_size, ..unknown }))
    }

    fn execute(&self, _partition: usize, _context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        internal_err!("a mark is not executed")
    }
}
