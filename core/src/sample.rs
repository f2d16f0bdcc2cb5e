//! `TABLESAMPLE`: a part of a relation's rows that is the same whenever the plan runs again.
//!
//! ```text
//!   t TABLESAMPLE BERNOULLI (10) ──SamplePlanner──▶ SampleNode ──fix_seeds──▶ SampleNode ──SampleExec──▶ rows
//!                                      seed from the place in the text    seed of the statement    position of each row
//! ```
//!
//! Whether a row is kept depends on the seed and on the row's position, never on its content: equal rows are sampled
//! independently. Over files the position is the file's path and the row's number in it, so that neither the number of
//! partitions nor the batch size nor the executor changes the sample. Over any other input it is the partition and the
//! row's number in it; such a sample repeats only if the input repeats ([`SampleExec::is_repeatable`]).

mod exec;
mod node;
mod relation;
mod rows;

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::{Result, internal_err};
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{LogicalPlan, UserDefinedLogicalNode};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};

pub use exec::SampleExec;
pub use node::{SampleNode, SampleSeed, fix_seeds, within};
pub use relation::SamplePlanner;
pub use rows::{Percent, Sample, SampleMethod, stable_hash};

/// Adds `TABLESAMPLE` to the SQL that a session plans, and its operator to the physical plans.
pub fn register(builder: SessionStateBuilder) -> SessionStateBuilder {
    register_syntax(builder).with_query_planner(Arc::new(SampleQueryPlanner))
}

/// Adds `TABLESAMPLE` to the SQL that a session plans to logical plans.
pub fn register_syntax(builder: SessionStateBuilder) -> SessionStateBuilder {
    builder.with_relation_planners(vec![Arc::new(SamplePlanner)])
}

/// DataFusion's planner with [`SampleExec`].
#[derive(Debug)]
struct SampleQueryPlanner;

#[async_trait]
impl QueryPlanner for SampleQueryPlanner {
    async fn create_physical_plan(
        &self,
        logical: &LogicalPlan,
        session: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(SampleExtensionPlanner)]);
        planner.create_physical_plan(logical, session).await
    }
}

/// Plans a [`SampleNode`] as a [`SampleExec`].
struct SampleExtensionPlanner;

#[async_trait]
impl ExtensionPlanner for SampleExtensionPlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        _session: &dyn Session,
        _context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(node) = node.as_any().downcast_ref::<SampleNode>() else { return Ok(None) };
        let [input] = physical_inputs else { return internal_err!("a sample has exactly one input") };
        Ok(Some(Arc::new(SampleExec::of_whole_files(input, node.sample()?))))
    }
}

#[cfg(test)]
mod tests;
