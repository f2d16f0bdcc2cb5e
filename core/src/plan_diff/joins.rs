//! Comparison of joins.

use std::sync::Arc;

use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{
    HashJoinExec, NestedLoopJoinExec, PiecewiseMergeJoinExec, SortMergeJoinExec, SymmetricHashJoinExec,
};

use super::Comparison;
use super::layout::{self, PIECEWISE_JOIN};
use super::report::{Check, Located, differs, same, same_text};

type Key = (Arc<dyn PhysicalExpr>, Arc<dyn PhysicalExpr>);

impl Comparison<'_> {
    /// The seeds of hash tables are constants. Positions of columns are derived from the schemas and the type of join.
    pub(super) fn hash_joins(&mut self, left: &HashJoinExec, right: &HashJoinExec) -> Check {
        self.join_keys(&left.on, &right.on)?;
        self.join_filters(left.filter.as_ref(), right.filter.as_ref())?;
        same("join_type", &left.join_type, &right.join_type)?;
        same("mode", &left.mode, &right.mode)?;
        same("projection", &left.projection, &right.projection)?;
        same("null_equality", &left.null_equality, &right.null_equality)?;
        same("null_aware", &left.null_aware, &right.null_aware)?;
        self.schemas("join_schema", left.join_schema(), right.join_schema())
    }

    pub(super) fn nested_loop_joins(&mut self, left: &NestedLoopJoinExec, right: &NestedLoopJoinExec) -> Check {
        self.join_filters(left.filter(), right.filter())?;
        same("join_type", left.join_type(), right.join_type())?;
        same("projection", left.projection(), right.projection())
    }

    pub(super) fn sort_merge_joins(&mut self, left: &SortMergeJoinExec, right: &SortMergeJoinExec) -> Check {
        self.join_keys(&left.on, &right.on)?;
        self.join_filters(left.filter.as_ref(), right.filter.as_ref())?;
        same("join_type", &left.join_type, &right.join_type)?;
        same("sort_options", &left.sort_options, &right.sort_options)?;
        same("null_equality", &left.null_equality, &right.null_equality)
    }

    pub(super) fn symmetric_joins(&mut self, left: &SymmetricHashJoinExec, right: &SymmetricHashJoinExec) -> Check {
        self.join_keys(left.on(), right.on())?;
        self.join_filters(left.filter(), right.filter())?;
        same("join_type", left.join_type(), right.join_type())?;
        same("null_equality", &left.null_equality(), &right.null_equality())?;
        same("mode", &left.partition_mode(), &right.partition_mode())?;
        self.optional_orderings("left_sort_exprs", left.left_sort_exprs(), right.left_sort_exprs())?;
        self.optional_orderings("right_sort_exprs", left.right_sort_exprs(), right.right_sort_exprs())
    }

    /// The number of partitions has no getter. Required orders are derived from the keys and the operator.
    pub(super) fn piecewise_joins(&mut self, left: &Arc<dyn ExecutionPlan>, right: &Arc<dyn ExecutionPlan>) -> Check {
        let (Some(one), Some(other)) = (left.downcast_ref(), right.downcast_ref()) else {
            return Err(differs("operator", &left.name(), &right.name()));
        };
        let (one, other): (&PiecewiseMergeJoinExec, &PiecewiseMergeJoinExec) = (one, other);
        self.join_keys(std::slice::from_ref(&one.on), std::slice::from_ref(&other.on))?;
        same("operator", &one.operator, &other.operator)?;
        same("join_type", &one.join_type, &other.join_type)?;
        same("sort_options", one.sort_options(), other.sort_options())?;
        let (left, right) = (layout::without_children(left)?, layout::without_children(right)?);
        let (left, right) = (layout::fields(&left, &PIECEWISE_JOIN)?, layout::fields(&right, &PIECEWISE_JOIN)?);
        same_text("num_partitions", &left[12], &right[12])
    }

    fn join_keys(&mut self, left: &[Key], right: &[Key]) -> Check {
        same("number of keys", &left.len(), &right.len())?;
        for (left, right) in left.iter().zip(right) {
            self.expression(&left.0, &right.0).located(|| "on".to_owned())?;
            self.expression(&left.1, &right.1).located(|| "on".to_owned())?;
        }
        Ok(())
    }

    fn join_filters(&mut self, left: Option<&JoinFilter>, right: Option<&JoinFilter>) -> Check {
        match (left, right) {
            (Some(left), Some(right)) => {
                self.expression(left.expression(), right.expression()).located(|| "filter".to_owned())?;
                same("column_indices of filter", left.column_indices(), right.column_indices())?;
                self.schemas("schema of filter", left.schema(), right.schema())
            }
            (None, None) => Ok(()),
            _ => Err(differs("filter", &left.map(JoinFilter::expression), &right.map(JoinFilter::expression))),
        }
    }
}
