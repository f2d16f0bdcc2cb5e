//! FILTER of window functions. A window function has no getter for its filter, only `Debug` text. The filters are
//! planned again from the logical plan; a filter belongs to a function if its text ends the function's text.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, plan_err};
use datafusion::execution::SessionState;
use datafusion::logical_expr::logical_plan::Subquery;
use datafusion::logical_expr::physical_planning_context::{
    PhysicalPlanningContext, ScalarSubqueryResults, SubqueryIndex,
};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_expr::window::WindowExpr;
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};

use super::debug_text::tail;

/// Filters of the window functions of a query.
///
/// DataFusion never rewrites the filter of a window function once it is planned, so that those of the logical plan that
/// was planned are those of the physical plan.
#[derive(Debug, Default)]
pub struct WindowFilters {
    by_text: HashMap<String, Arc<dyn PhysicalExpr>>,
    longest: usize,
}

impl WindowFilters {
    /// Collects the filters of the optimised logical plan from which the physical plan is made.
    pub fn from_logical_plan(plan: &LogicalPlan, session: &SessionState) -> Result<Self> {
        let mut filters = Self::default();
        filters.collect(plan, session)?;
        Ok(filters)
    }

    /// Collects from one level of the plan, and from its scalar subqueries, each of which is planned by itself.
    fn collect(&mut self, plan: &LogicalPlan, session: &SessionState) -> Result<()> {
        let subqueries = scalar_subqueries(plan)?;
        // Numbered as DataFusion numbers them; where their values go does not matter here.
        let indexes = subqueries.iter().cloned().zip((0..).map(SubqueryIndex::new)).collect();
        let context = PhysicalPlanningContext::new(indexes, ScalarSubqueryResults::new(subqueries.len()));
        plan.apply(|node| {
            let LogicalPlan::Window(window) = node else { return Ok(TreeNodeRecursion::Continue) };
            for expression in &window.window_expr {
                let Expr::WindowFunction(function) = expression.clone().unalias_nested().data else { continue };
                let Some(filter) = &function.params.filter else { continue };
                // What cannot be planned here is missing when it is looked for.
                if let Ok(filter) =
                    create_physical_expr(filter, window.input.schema(), session.execution_props(), &context)
                {
                    self.insert(filter);
                }
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        subqueries.iter().try_for_each(|subquery| self.collect(&subquery.subquery, session))
    }

    /// The filter of an aggregate window function of the query, if it has one and it is known.
    pub fn filter_of(&self, function: &dyn WindowExpr) -> Option<Arc<dyn PhysicalExpr>> {
        self.of(&function).ok().flatten()
    }

    fn insert(&mut self, filter: Arc<dyn PhysicalExpr>) {
        let text = format!("{filter:?}");
        self.longest = self.longest.max(text.len());
        self.by_text.insert(text, filter);
    }

    /// Returns the filter of an aggregate window function. Its text is that function's last field.
    pub(super) fn of(&self, function: &dyn Debug) -> Result<Option<Arc<dyn PhysicalExpr>>> {
        const FIELD: &str = ", filter: ";
        let text = tail(function, self.longest + FIELD.len() + 16);
        if text.ends_with(", filter: None }") {
            return Ok(None);
        }
        let matches = |(filter, _): &(&String, _)| text.ends_with(&format!("{FIELD}Some({filter}) }}"));
        match self.by_text.iter().find(matches) {
            Some((_, filter)) => Ok(Some(Arc::clone(filter))),
            None => plan_err!("the FILTER of its function cannot be read"),
        }
    }
}

/// The uncorrelated scalar subqueries of a plan in the order in which DataFusion numbers them, without those inside them.
fn scalar_subqueries(plan: &LogicalPlan) -> Result<Vec<Subquery>> {
    let mut found: Vec<Subquery> = vec![];
    plan.apply(|node| {
        for expression in node.expressions() {
            expression.apply(|part| {
                if let Expr::ScalarSubquery(subquery) = part
                    && subquery.outer_ref_columns.is_empty()
                    && !found.contains(subquery)
                {
                    found.push(subquery.clone());
                }
                Ok(TreeNodeRecursion::Continue)
            })?;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}
