//! An optimizer rule: the partitions of a top-k sort share a threshold, so all must sort by the keys of the merge above.
//!
//! DataFusion leaves keys out that are constant in each partition. Where the constants of two partitions differ (the
//! branches of a UNION ALL), the first rows of one partition may then stop rows of another that the merge wants first.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_expr::LexOrdering;
use datafusion::physical_expr::equivalence::AcrossPartitions;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::limit::LocalLimitExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

/// Name of DataFusion's rule that hands the thresholds of sorts down to scans.
const THRESHOLDS: &str = "FilterPushdown(Post)";

/// Has top-k sorts use all keys of the merge above them.
#[derive(Debug)]
struct SharedThresholds;

/// `rules` with [`SharedThresholds`] before the rule that hands thresholds down.
pub(super) fn with_shared_thresholds(
    rules: &[Arc<dyn PhysicalOptimizerRule + Send + Sync>],
) -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = rules.to_vec();
    let position = rules.iter().position(|rule| rule.name() == THRESHOLDS).unwrap_or(rules.len());
    rules.insert(position, Arc::new(SharedThresholds));
    rules
}

impl PhysicalOptimizerRule for SharedThresholds {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let merges = |node: Arc<dyn ExecutionPlan>| {
            let Some(merge) = node.downcast_ref::<SortPreservingMergeExec>() else { return Ok(Transformed::no(node)) };
            let Some(sort) = merge.input().downcast_ref::<SortExec>().filter(|sort| lacks_keys(sort)) else {
                return Ok(Transformed::no(node));
            };
            let sorted: Arc<dyn ExecutionPlan> =
                Arc::new(resorted(sort, merge.expr().clone()).with_fetch(sort.fetch()));
            replace_children_if_necessary(node, vec![sorted]).map(Transformed::yes)
        };
        let plan = plan.transform_down(merges).data()?;
        let others = |node: Arc<dyn ExecutionPlan>| {
            if node.is::<SortPreservingMergeExec>() {
                // Its sort has all keys now.
                return Ok(Transformed::no(node));
            }
            let mut is_changed = false;
            let without_threshold = |child: &Arc<dyn ExecutionPlan>| -> Arc<dyn ExecutionPlan> {
                let sort = child.downcast_ref::<SortExec>().filter(|sort| lacks_keys(sort));
                let Some((sort, fetch)) = sort.and_then(|sort| Some((sort, sort.fetch()?))) else {
                    return Arc::clone(child);
                };
                is_changed = true;
                let whole: Arc<dyn ExecutionPlan> = Arc::new(resorted(sort, sort.expr().clone()));
                Arc::new(LocalLimitExec::new(whole, fetch))
            };
            let children = node.children().into_iter().map(without_threshold).collect();
            Ok(Transformed::new_transformed(replace_children_if_necessary(node, children)?, is_changed))
        };
        plan.transform_up(others).data()
    }

    fn name(&self) -> &str {
        "shared_thresholds"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// True for a top-k sort of several partitions, in which some columns have one value each that differs between them.
fn lacks_keys(sort: &SortExec) -> bool {
    let input = sort.input();
    sort.fetch().is_some()
        && sort.preserve_partitioning()
        && input.output_partitioning().partition_count() > 1
        && (input.equivalence_properties().constants().iter())
            .any(|constant| constant.across_partitions == AcrossPartitions::Heterogeneous)
}

/// The sort of each partition by `keys`, without a limit.
fn resorted(sort: &SortExec, keys: LexOrdering) -> SortExec {
    SortExec::new(keys, Arc::clone(sort.input())).with_preserve_partitioning(true)
}
