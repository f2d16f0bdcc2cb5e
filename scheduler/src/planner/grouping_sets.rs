//! An optimizer rule: nothing that holds below an aggregate over grouping sets is taken to hold above it.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateInputMode};
use springald_core::equivalences::ClearEquivalencesExec;

/// Name of the rule.
pub(super) const NAME: &str = "clear_grouping_sets";

/// Name of DataFusion's rule that plans exchanges and sorts.
const ENSURE_REQUIREMENTS: &str = "EnsureRequirements";

/// Puts [`ClearEquivalencesExec`] above aggregates over grouping sets.
#[derive(Debug)]
struct ClearGroupingSets;

/// `rules` with [`ClearGroupingSets`] before the rule that plans exchanges and sorts.
pub(super) fn with_cleared_grouping_sets(
    rules: &[Arc<dyn PhysicalOptimizerRule + Send + Sync>],
) -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = rules.to_vec();
    let position = rules.iter().position(|rule| rule.name() == ENSURE_REQUIREMENTS).unwrap_or(rules.len());
    rules.insert(position, Arc::new(ClearGroupingSets));
    rules
}

impl PhysicalOptimizerRule for ClearGroupingSets {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let clear = |node: Arc<dyn ExecutionPlan>| match expands_grouping_sets(&node) {
            true => Ok(Transformed::yes(Arc::new(ClearEquivalencesExec::new(node)) as Arc<dyn ExecutionPlan>)),
            false => Ok(Transformed::no(node)),
        };
        plan.transform_up(clear).data()
    }

    fn name(&self) -> &str {
        NAME
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// True for an aggregate that gives rows in which columns are NULL because their set leaves them out.
fn expands_grouping_sets(node: &Arc<dyn ExecutionPlan>) -> bool {
    node.downcast_ref::<AggregateExec>().is_some_and(|aggregate| {
        let groups = aggregate.group_expr();
        groups.has_grouping_set()
            && !groups.expr().is_empty()
            && aggregate.mode().input_mode() == AggregateInputMode::Raw
    })
}
