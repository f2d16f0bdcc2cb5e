//! What a query's logical plan says about the order and the choice of its rows.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::logical_expr::{Expr, LogicalPlan};

use super::rows::Order;

/// Indices of the result's columns that its top-level `ORDER BY` sorts by, as far as they are columns of the result.
pub fn order(plan: &LogicalPlan) -> Order {
    Order { keys: sort_keys(plan) }
}

fn sort_keys(plan: &LogicalPlan) -> Vec<usize> {
    match plan {
        LogicalPlan::Limit(limit) => sort_keys(&limit.input),
        LogicalPlan::SubqueryAlias(alias) => sort_keys(&alias.input),
        LogicalPlan::Sort(sort) => {
            let position = |expression: &Expr| match expression {
                Expr::Column(column) => sort.input.schema().maybe_index_of_column(column),
                _ => None,
            };
            sort.expr.iter().map_while(|key| position(&key.expr)).collect()
        }
        LogicalPlan::Projection(projection) => {
            let kept = |input: usize| {
                let is_kept = |expression: &Expr| match expression.clone().unalias() {
                    Expr::Column(column) => projection.input.schema().maybe_index_of_column(&column) == Some(input),
                    _ => false,
                };
                projection.expr.iter().position(is_kept)
            };
            sort_keys(&projection.input).into_iter().map_while(kept).collect()
        }
        _ => vec![],
    }
}

/// The plan without its top-level `LIMIT`; `None` if it has none.
///
/// # Errors
/// The plan cannot be put together again.
pub fn without_limit(plan: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    match plan {
        LogicalPlan::Limit(limit) => Ok(Some(limit.input.as_ref().clone())),
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) => {
            let Some(input) = plan.inputs().first().copied() else { return Ok(None) };
            match without_limit(input)? {
                Some(input) => Ok(Some(plan.with_new_exprs(plan.expressions(), vec![input])?)),
                None => Ok(None),
            }
        }
        LogicalPlan::Sort(sort) if sort.fetch.is_some() => {
            let sort = datafusion::logical_expr::Sort { fetch: None, input: Arc::clone(&sort.input), ..sort.clone() };
            Ok(Some(LogicalPlan::Sort(sort)))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::prelude::SessionContext;

    async fn keys(sql: &str) -> Vec<usize> {
        let context = SessionContext::new();
        let plan = context.state().create_logical_plan(sql).await.expect("a plan");
        order(&plan).keys
    }

    #[tokio::test]
    async fn sort_columns_are_found_below_limits_and_projections() {
        assert_eq!(keys("SELECT a, b FROM (VALUES (1, 2)) t (a, b) ORDER BY b, a LIMIT 3").await, [1, 0]);
        assert_eq!(keys("SELECT a AS x FROM (VALUES (1, 2)) t (a, b) ORDER BY x").await, [0]);
        assert_eq!(keys("SELECT a FROM (VALUES (1, 2)) t (a, b) ORDER BY b").await, Vec::<usize>::new());
        assert_eq!(keys("SELECT a FROM (VALUES (1, 2)) t (a, b)").await, Vec::<usize>::new());
    }

    #[tokio::test]
    async fn limit_is_removed_where_it_is_on_top() {
        let context = SessionContext::new();
        for (sql, has_limit) in [("SELECT 1 LIMIT 1", true), ("SELECT * FROM (SELECT 1 LIMIT 1) t WHERE 1 = 1", false)]
        {
            let plan = context.state().create_logical_plan(sql).await.expect("a plan");
            assert_eq!(without_limit(&plan).expect("a plan").is_some(), has_limit, "{sql}");
        }
    }
}
