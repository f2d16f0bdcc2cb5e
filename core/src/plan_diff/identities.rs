//! Identities: what is shared between places of one plan must be shared between the same places of the other.

use std::any::TypeId;
use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::physical_planning_context::ScalarSubqueryResults;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::scalar_subquery::ScalarSubqueryExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::scalar_subquery::ScalarSubqueryExec;

use super::Comparison;
use super::report::{Check, differs};

/// Pairs of identities that stand in the same places. Each identity of one plan has one partner in the other.
#[derive(Default)]
pub(super) struct Identities {
    /// Ids of expressions that are updated while a plan runs.
    ids: Vec<(u64, u64)>,
    /// Containers that a scalar subquery fills and its expressions read.
    results: Vec<(ScalarSubqueryResults, ScalarSubqueryResults)>,
    /// Parts that are one object in both plans, and therefore were not visited.
    plans: Vec<Arc<dyn ExecutionPlan>>,
    expressions: Vec<Arc<dyn PhysicalExpr>>,
    /// Types and addresses of items that many places share and that were found equal. Both plans outlive the comparison.
    equal: Vec<(TypeId, usize, usize)>,
}

/// Number of known pairs at a time.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    ids: usize,
    results: usize,
}

impl Identities {
    /// Records a subtree that both plans share.
    pub(super) fn share_plan(&mut self, plan: &Arc<dyn ExecutionPlan>) {
        self.plans.push(Arc::clone(plan));
    }

    /// Records an expression that both plans share.
    pub(super) fn share_expression(&mut self, expression: &Arc<dyn PhysicalExpr>) {
        self.expressions.push(Arc::clone(expression));
    }

    /// Pairs the ids of two expressions; fails if one of them has another partner.
    pub(super) fn pair_ids(&mut self, left: Option<u64>, right: Option<u64>) -> Check {
        let (Some(left), Some(right)) = (left, right) else {
            return match left == right {
                true => Ok(()),
                false => Err(differs("expression_id", &left, &right)),
            };
        };
        match self.ids.iter().find(|pair| pair.0 == left || pair.1 == right) {
            None => self.ids.push((left, right)),
            Some(pair) if *pair == (left, right) => {}
            Some(pair) => return Err(differs("shared expression", pair, &(left, right))),
        }
        Ok(())
    }

    /// Pairs two containers; fails if one of them has another partner.
    pub(super) fn pair_results(&mut self, left: &ScalarSubqueryResults, right: &ScalarSubqueryResults) -> Check {
        match self.results.iter().find(|pair| pair.0 == *left || pair.1 == *right) {
            None => self.results.push((left.clone(), right.clone())),
            Some(pair) if pair.0 == *left && pair.1 == *right => {}
            Some(_) => return Err(differs("shared results of scalar subqueries", &"one container", &"two containers")),
        }
        Ok(())
    }

    /// Returns true if these items of the plans were found equal before.
    pub(super) fn knows<T: 'static>(&self, left: &T, right: &T) -> bool {
        self.equal.contains(&addresses(left, right))
    }

    /// Records that these items of the plans are equal.
    pub(super) fn add<T: 'static>(&mut self, left: &T, right: &T) {
        self.equal.push(addresses(left, right));
    }

    /// Returns the present number of pairs, to return to by [`Self::reset`].
    pub(super) fn mark(&self) -> Mark {
        Mark { ids: self.ids.len(), results: self.results.len() }
    }

    /// Forgets the pairs that were added after `mark`.
    pub(super) fn reset(&mut self, mark: Mark) {
        self.ids.truncate(mark.ids);
        self.results.truncate(mark.results);
    }

    /// Returns true if an identity has a partner other than itself.
    fn has_other_partners(&self) -> bool {
        self.ids.iter().any(|(left, right)| left != right) || self.results.iter().any(|(left, right)| left != right)
    }
}

fn addresses<T: 'static>(left: &T, right: &T) -> (TypeId, usize, usize) {
    (TypeId::of::<T>(), std::ptr::from_ref(left).addr(), std::ptr::from_ref(right).addr())
}

impl Comparison<'_> {
    /// Pairs the identities in shared parts with themselves. Only needed if an identity has another partner elsewhere.
    pub(super) fn shared_parts(&mut self) -> Check {
        if !self.identities.has_other_partners() {
            return Ok(());
        }
        for plan in std::mem::take(&mut self.identities.plans) {
            self.shared_plan(&plan).map_err(|stop| stop.at(plan.name()))?;
        }
        for expression in std::mem::take(&mut self.identities.expressions) {
            self.shared_expression(&expression)?;
        }
        Ok(())
    }

    fn shared_plan(&mut self, plan: &Arc<dyn ExecutionPlan>) -> Check {
        if let Some(subqueries) = plan.downcast_ref::<ScalarSubqueryExec>() {
            self.identities.pair_results(subqueries.results(), subqueries.results())?;
        }
        for expression in plan.dynamic_expressions_produced() {
            self.shared_expression(&expression)?;
        }
        let mut found = Ok(());
        let visited = plan.apply_expressions(&mut |expression| {
            found = self.shared_expression(expression);
            Ok(if found.is_ok() { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
        });
        found?;
        if let Err(error) = visited {
            return Err(super::report::unreadable("expressions", error.to_string()));
        }
        plan.children().into_iter().try_for_each(|child| self.shared_plan(child))
    }

    fn shared_expression(&mut self, expression: &Arc<dyn PhysicalExpr>) -> Check {
        let id = expression.expression_id();
        if id.is_some() {
            self.identities.pair_ids(id, id)?;
        }
        if let Some(subquery) = expression.downcast_ref::<ScalarSubqueryExpr>() {
            self.identities.pair_results(subquery.results(), subquery.results())?;
        }
        expression.children().into_iter().try_for_each(|child| self.shared_expression(child))
    }
}
