//! Temporary.
use std::sync::Arc;
use datafusion::physical_plan::ExecutionPlan;
/// Temporary.
pub fn difference(_left: &Arc<dyn ExecutionPlan>, _right: &Arc<dyn ExecutionPlan>) -> datafusion::common::Result<Option<String>> { Ok(None) }
