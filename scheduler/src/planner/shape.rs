//! Requirements of a plan's operators on the way it is run.

use std::sync::Arc;

use datafusion::common::JoinType;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, PartitionMode, PiecewiseMergeJoinExec};
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use springald_core::sample::SampleExec;

/// True if any operator of the plan satisfies the predicate.
fn any(plan: &Arc<dyn ExecutionPlan>, predicate: &dyn Fn(&Arc<dyn ExecutionPlan>) -> bool) -> bool {
    predicate(plan) || plan.children().into_iter().any(|child| any(child, predicate))
}

/// Number of operators of the plan that satisfy the predicate.
pub(super) fn count(plan: &Arc<dyn ExecutionPlan>, predicate: &dyn Fn(&Arc<dyn ExecutionPlan>) -> bool) -> usize {
    let below: usize = plan.children().into_iter().map(|child| count(child, predicate)).sum();
    below + usize::from(predicate(plan))
}

/// True if the partitions of a stage must all run over one instance of its plan, because an operator keeps state
/// across them: which rows of a shared build side found a match, or rows dealt out between them.
pub(super) fn shares_state_across_partitions(plan: &Arc<dyn ExecutionPlan>) -> bool {
    if plan.output_partitioning().partition_count() <= 1 {
        return false;
    }
    any(plan, &|node| {
        let several = node.output_partitioning().partition_count() > 1;
        if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() {
            return several && emits_build_rows(*join.join_type());
        }
        if let Some(join) = node.downcast_ref::<HashJoinExec>() {
            let shares = *join.partition_mode() == PartitionMode::CollectLeft;
            return several && shares && (emits_build_rows(*join.join_type()) || join.null_aware);
        }
        // It counts the partitions that have ended, whatever the join type.
        let counts = several && node.is::<PiecewiseMergeJoinExec>();
        counts || node.is::<RepartitionExec>()
    })
}

/// True for joins that emit rows of their build side after all of the probe side has been seen.
pub(super) fn emits_build_rows(join: JoinType) -> bool {
    matches!(join, JoinType::Left | JoinType::Full | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark)
}

/// True if running the plan again may give other rows, or the same rows in another order where that matters.
pub(super) fn is_indeterminate(plan: &Arc<dyn ExecutionPlan>) -> bool {
    any(plan, &|node| {
        let takes_what_comes_first =
            node.is::<GlobalLimitExec>() || node.is::<LocalLimitExec>() || node.fetch().is_some();
        let samples_anew = node.downcast_ref::<SampleExec>().is_some_and(|sample| !sample.is_repeatable());
        takes_what_comes_first || samples_anew || depends_on_order(node) || has_volatile_expression(node)
    })
}

fn depends_on_order(node: &Arc<dyn ExecutionPlan>) -> bool {
    const BY_ORDER: [&str; 6] = ["array_agg", "first_value", "last_value", "nth_value", "string_agg", "row_number"];
    let aggregate = node.downcast_ref::<AggregateExec>().is_some_and(|aggregate| {
        aggregate.aggr_expr().iter().any(|function| BY_ORDER.contains(&function.fun().name()))
    });
    aggregate || node.name().contains("Window")
}

fn has_volatile_expression(node: &Arc<dyn ExecutionPlan>) -> bool {
    let mut found = false;
    let visited = node.apply_expressions(&mut |expression| {
        found |= is_volatile(expression);
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found || visited.is_err()
}
