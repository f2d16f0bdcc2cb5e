//! Detection of expressions that use the value of a scalar subquery.

use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::scalar_subquery::ScalarSubqueryExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::scalar_subquery::ScalarSubqueryExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use springald_core::exchange::ExchangeReaderExec;

/// True if the expression uses the value of a scalar subquery.
pub(super) fn reads_scalar_subquery(expression: &Arc<dyn PhysicalExpr>) -> bool {
    expression.is::<ScalarSubqueryExpr>() || expression.children().into_iter().any(reads_scalar_subquery)
}

/// True if operators of the plan use values of scalar subqueries that it does not compute itself.
pub(super) fn are_read_in(plan: &Arc<dyn ExecutionPlan>) -> bool {
    if plan.is::<ScalarSubqueryExec>() {
        return false;
    }
    let mut found = false;
    let visited = plan.apply_expressions(&mut |expression| {
        found |= reads_scalar_subquery(expression);
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    // What cannot be visited may use them.
    let hidden = filters_windows_by_one(plan) || is_described_by_one(plan);
    found || visited.is_err() || hidden || plan.children().into_iter().any(are_read_in)
}

/// True if a window function filters its rows by the value of a scalar subquery: it shows its filter only as text.
fn filters_windows_by_one(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let functions = plan.downcast_ref::<WindowAggExec>().map(WindowAggExec::window_expr);
    let functions =
        functions.or_else(|| plan.downcast_ref::<BoundedWindowAggExec>().map(BoundedWindowAggExec::window_expr));
    functions.unwrap_or_default().iter().any(|function| format!("{function:?}").contains("ScalarSubqueryExpr {"))
}

/// True if the properties of a reader name the value of a scalar subquery, as `k = (SELECT …)` makes it equal to a
/// column: the reader is decoded where that value is known.
fn is_described_by_one(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.is::<ExchangeReaderExec>() && format!("{:?}", plan.properties()).contains("ScalarSubqueryExpr {")
}
