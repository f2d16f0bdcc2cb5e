//! An optimizer rule: inputs of unions have all of the union's metadata.
//!
//! DataFusion projects an input whose schema differs from that of the union, also where only the metadata of the schema
//! does, which the projection does not set. It would project it once more whenever the union is rebuilt.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::union::{InterleaveExec, UnionExec};

/// Has projections below unions set the metadata of the schema.
#[derive(Debug)]
struct SameMetadata;

/// `rules` with [`SameMetadata`] behind them.
pub(super) fn with_same_metadata(
    rules: &[Arc<dyn PhysicalOptimizerRule + Send + Sync>],
) -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = rules.to_vec();
    rules.push(Arc::new(SameMetadata));
    rules
}

impl PhysicalOptimizerRule for SameMetadata {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let stamp = |node: Arc<dyn ExecutionPlan>| {
            let schema = node.schema();
            let differs = |child: &&Arc<dyn ExecutionPlan>| child.schema() != schema;
            if !(node.is::<UnionExec>() || node.is::<InterleaveExec>()) || !node.children().iter().any(differs) {
                return Ok(Transformed::no(node));
            }
            let stamped = |child: &Arc<dyn ExecutionPlan>| -> Result<Arc<dyn ExecutionPlan>> {
                let Some(projection) = child.downcast_ref::<ProjectionExec>() else { return Ok(Arc::clone(child)) };
                let (expressions, input) = (projection.expr().to_vec(), Arc::clone(projection.input()));
                Ok(Arc::new(ProjectionExec::try_new_with_schema_metadata(expressions, input, &schema)?))
            };
            let children = node.children().into_iter().map(stamped).collect::<Result<Vec<_>>>()?;
            replace_children_if_necessary(node, children).map(Transformed::yes)
        };
        plan.transform_up(stamp).data()
    }

    fn name(&self) -> &str {
        "same_metadata"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
