//! Where the columns of a plan come from.

use std::sync::Arc;

use datafusion::common::{JoinSide, JoinType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::joins::utils::build_join_schema;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::scalar_subquery::ScalarSubqueryExec;
use springald_core::exchange::RuntimeFilterExec;

/// The position of a plain column.
pub(super) fn column_of(expression: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    expression.downcast_ref::<Column>().map(Column::index)
}

/// The children of an operator that its `columns` come from unchanged, with the columns there; in a way that rows of the
/// child with some values in them have a part only in rows of the operator with these values. So rows can be dropped in
/// the child instead; and every value of the operator is one of the child.
pub(super) fn sources(plan: &Arc<dyn ExecutionPlan>, columns: &[usize]) -> Vec<(usize, Vec<usize>)> {
    if plan.fetch().is_some() {
        return vec![];
    }
    let of_first = |columns: Option<Vec<usize>>| columns.map(|columns| (0, columns)).into_iter().collect();
    if plan.is::<CooperativeExec>() || plan.is::<RuntimeFilterExec>() || plan.is::<ScalarSubqueryExec>() {
        return vec![(0, columns.to_vec())];
    }
    if let Some(filter) = plan.downcast_ref::<FilterExec>() {
        return of_first(columns.iter().map(|column| projected(filter.projection().as_deref(), *column)).collect());
    }
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        let of = |column: &usize| column_of(&projection.expr().get(*column)?.expr);
        return of_first(columns.iter().map(of).collect());
    }
    if let Some(aggregate) = plan.downcast_ref::<AggregateExec>() {
        let groups = aggregate.group_expr();
        if !groups.is_single() || aggregate.limit_options().is_some() {
            return vec![];
        }
        let of = |column: &usize| groups.expr().get(*column).and_then(|(expression, _)| column_of(expression));
        return of_first(columns.iter().map(of).collect());
    }
    match plan.downcast_ref::<HashJoinExec>() {
        Some(join) => sources_in_join(join, columns),
        None => vec![],
    }
}

fn projected(projection: Option<&[usize]>, column: usize) -> Option<usize> {
    match projection {
        Some(projection) => projection.get(column).copied(),
        None => Some(column),
    }
}

fn sources_in_join(join: &HashJoinExec, columns: &[usize]) -> Vec<(usize, Vec<usize>)> {
    if join.null_aware {
        return vec![];
    }
    let left_passes = matches!(
        join.join_type(),
        JoinType::Inner | JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark
    );
    let right_passes =
        matches!(join.join_type(), JoinType::Inner | JoinType::Right | JoinType::RightSemi | JoinType::RightAnti);
    let (_, indices) = build_join_schema(&join.left().schema(), &join.right().schema(), join.join_type());
    let origin = |column: &usize| indices.get(projected(join.projection.as_deref(), *column)?);
    let Some(origins) = columns.iter().map(origin).collect::<Option<Vec<_>>>() else { return vec![] };
    let inner = *join.join_type() == JoinType::Inner;
    let mut found = vec![];
    for (child, side, passes) in [(0, JoinSide::Left, left_passes), (1, JoinSide::Right, right_passes)] {
        // In an inner join, a key of one side is equal to that of the other.
        let on_side = |origin: &&datafusion::physical_plan::joins::utils::ColumnIndex| {
            if origin.side == side {
                return Some(origin.index);
            }
            let equal = join.on().iter().find(|(left, right)| {
                column_of(if origin.side == JoinSide::Left { left } else { right }) == Some(origin.index)
            });
            let (left, right) = equal.filter(|_| inner)?;
            column_of(if side == JoinSide::Left { left } else { right })
        };
        if passes && let Some(columns) = origins.iter().map(on_side).collect() {
            found.push((child, columns));
        }
    }
    found
}
