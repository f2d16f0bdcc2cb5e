//! An optimizer rule for plans that will be cut: joins that emit rows of their build side do not collect it.
//!
//! The partitions of such a join share which build rows have found a match, so that they must run in one task. Split by
//! its keys, each partition has its own part of both sides. The rule runs before exchanges are planned, so that
//! everything above and below the join is made for it.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode};

use super::shape::emits_build_rows;

/// Name of DataFusion's rule that chooses the modes of joins.
const JOIN_SELECTION: &str = "join_selection";

/// Has joins that emit rows of their build side split both sides by the keys.
#[derive(Debug)]
struct SplitBuildSides;

/// `rules` with [`SplitBuildSides`] behind the rule that chooses the modes of joins.
pub(super) fn with_split_build_sides(
    rules: &[Arc<dyn PhysicalOptimizerRule + Send + Sync>],
) -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = rules.to_vec();
    let position = rules.iter().position(|rule| rule.name() == JOIN_SELECTION);
    // Without it, such joins are planned right, too, and run in one task.
    if let Some(position) = position {
        rules.insert(position + 1, Arc::new(SplitBuildSides));
    }
    rules
}

impl PhysicalOptimizerRule for SplitBuildSides {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let split = |node: Arc<dyn ExecutionPlan>| {
            let Some(join) = node.downcast_ref::<HashJoinExec>() else { return Ok(Transformed::no(node)) };
            let collects = *join.partition_mode() == PartitionMode::CollectLeft;
            if !collects || !emits_build_rows(*join.join_type()) || join.null_aware {
                return Ok(Transformed::no(node));
            }
            let partitioned = join.builder().with_partition_mode(PartitionMode::Partitioned).build_exec()?;
            Ok(Transformed::yes(partitioned))
        };
        plan.transform_up(split).data()
    }

    fn name(&self) -> &str {
        "split_build_sides"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;

    use super::*;

    #[test]
    fn rule_stands_behind_join_selection() {
        let rules = with_split_build_sides(&PhysicalOptimizer::new().rules);
        let names: Vec<&str> = rules.iter().map(|rule| rule.name()).collect();
        let position = names.iter().position(|name| *name == "split_build_sides").expect("the rule is there");
        assert_eq!(names[position - 1], JOIN_SELECTION);
    }
}
