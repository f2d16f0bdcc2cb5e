//! How large conditions and sort keys may grow when they are moved down to the tables.
//!
//! The optimizer moves a condition below the query that it stands over, and writes what that query computes in place of its
//! columns. Of twenty-six queries of which each computes `x + x` from the one below, a condition on the last `x` names the
//! first one 2^26 times, and no memory is enough for it. So its size is reckoned before anything is moved. Where a plan is
//! sorted is followed down in the same way.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, JoinType, Result as PlanResult};
use datafusion::logical_expr::{Expr, LogicalPlan};
use springald_core::error::{Error, Result};

/// Operators and columns of a condition, once everything is written in terms of the tables' columns. So many take
/// about a second.
const MAX_TERMS: u64 = 50_000;

/// Refuses a plan with a condition or a sort key that would grow too large.
///
/// # Errors
/// Says what to do instead.
pub(super) fn check(plan: &LogicalPlan) -> Result<()> {
    let mut largest = 0;
    terms(plan, &mut largest)?;
    if largest <= MAX_TERMS {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "a condition or sort key would have more than {MAX_TERMS} terms, written in terms of the tables' columns: name what the queries \
         below it compute less often in one expression, or filter before it is computed"
    )))
}

/// The size of each column of a plan, written in terms of the tables' columns. Takes down that of the largest condition.
fn terms(plan: &LogicalPlan, largest: &mut u64) -> PlanResult<Vec<u64>> {
    let mut inputs = plan.inputs().into_iter().map(|input| terms(input, largest)).collect::<PlanResult<Vec<_>>>()?;
    plan.apply_subqueries(|query| {
        terms(query, largest)?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    let mut sizes = match plan {
        LogicalPlan::Projection(projection) => {
            let below = projection.input.schema();
            projection.expr.iter().map(|column| size(column, below, &inputs[0])).collect()
        }
        // No condition on what is aggregated is moved below.
        LogicalPlan::Aggregate(aggregate) => {
            let below = aggregate.input.schema();
            aggregate.group_expr.iter().map(|column| size(column, below, &inputs[0])).collect()
        }
        LogicalPlan::Filter(filter) => {
            *largest = size(&filter.predicate, filter.input.schema(), &inputs[0]).max(*largest);
            inputs.swap_remove(0)
        }
        LogicalPlan::Sort(sort) => {
            let keys = sort.expr.iter().map(|key| size(&key.expr, sort.input.schema(), &inputs[0]));
            *largest = keys.max().unwrap_or_default().max(*largest);
            inputs.swap_remove(0)
        }
        LogicalPlan::Join(join) => {
            let (below, both) = (join.left.schema().join(join.right.schema())?, inputs.concat());
            let keys = join.on.iter().flat_map(|(left, right)| [left, right]);
            let conditions = keys.chain(&join.filter).map(|condition| size(condition, &below, &both));
            *largest = conditions.max().unwrap_or_default().max(*largest);
            match join.join_type {
                JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => inputs.swap_remove(1),
                _ => both,
            }
        }
        LogicalPlan::Union(_) => {
            let largest_of = |place| inputs.iter().filter_map(|input| input.get(place)).max().copied().unwrap_or(1);
            (0..plan.schema().fields().len()).map(largest_of).collect()
        }
        _ => inputs.concat(),
    };
    // Columns that are new here are as large as any.
    sizes.resize(plan.schema().fields().len(), 1);
    Ok(sizes)
}

/// The size of an expression over columns of these sizes. Constants do not count: lists of them are long, and do not grow.
fn size(expression: &Expr, schema: &DFSchema, sizes: &[u64]) -> u64 {
    let mut sum = 0_u64;
    let counted = expression.apply(|part| {
        if matches!(part, Expr::Literal(..)) {
            return Ok(TreeNodeRecursion::Continue);
        }
        let place = part.try_as_col().and_then(|column| schema.maybe_index_of_column(column));
        sum = sum.saturating_add(place.and_then(|place| sizes.get(place)).copied().unwrap_or(1));
        Ok(TreeNodeRecursion::Continue)
    });
    // Nothing of it fails.
    counted.map_or(u64::MAX, |_| sum)
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;

    use super::*;

    /// Queries in each other, of which each computes `expression` from the `x` of the one below.
    fn nested(count: usize, expression: &str, last: &str) -> String {
        let query = |n: usize| format!("q{} AS (SELECT {expression} AS x, y FROM q{n})", n + 1);
        let queries: Vec<String> = (0..count).map(query).collect();
        format!("WITH q0 AS (SELECT x, y FROM t), {} {}", queries.join(", "), last.replace('$', &count.to_string()))
    }

    async fn checked(sql: &str) -> Result<()> {
        let context = SessionContext::new();
        context.sql("CREATE TABLE t (x BIGINT, y BIGINT)").await.expect("made");
        let plan = context.state().create_logical_plan(sql).await.expect("plans");
        check(&plan)?;
        // What is taken can be planned.
        context.state().create_physical_plan(&plan).await.expect("planned");
        Ok(())
    }

    #[tokio::test]
    async fn given_a_condition_that_doubles_in_each_query_then_it_is_refused_before_it_fills_the_memory() {
        for last in [
            "SELECT x FROM q$ WHERE x > 1",
            "SELECT y FROM (SELECT x AS a, y FROM q$ ORDER BY y) AS b WHERE b.a > 1",
            "SELECT t.x FROM t JOIN q$ ON t.x = q$.x",
            "SELECT x FROM q$ ORDER BY x LIMIT 3",
            "SELECT x FROM t WHERE y IN (SELECT y FROM q$ WHERE x > 1)",
            "SELECT x, count(*) FROM q$ GROUP BY x HAVING x > 1",
            "SELECT x FROM (SELECT y AS x FROM t UNION ALL SELECT x FROM q$) AS u WHERE x > 1",
        ] {
            let error = checked(&nested(26, "x + x", last)).await.expect_err(last);
            assert!(error.message().contains("50000 terms"), "{error}");
        }
    }

    #[tokio::test]
    async fn given_queries_in_each_other_whose_conditions_stay_small_then_they_are_taken() {
        for sql in [
            nested(26, "x + 1", "SELECT x FROM q$ WHERE x > 1"),
            format!("SELECT x FROM t WHERE x IN ({})", vec!["7"; 60_000].join(", ")),
            nested(26, "x + y", "SELECT x FROM q$ WHERE x > 1"),
            nested(12, "x + x", "SELECT x FROM q$ WHERE x > 1"),
            nested(26, "x + x", "SELECT x FROM q$ WHERE y > 1"),
            nested(26, "x + x", "SELECT x FROM q$"),
            nested(26, "sum(x) OVER () + max(x) OVER ()", "SELECT x FROM q$ ORDER BY x"),
        ] {
            checked(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
    }
}
