//! Structural comparison of two physical plans, field by field.
//!
//! ```text
//!   difference(left, right)
//!     └─ operator ── children, then fields (operators, joins, scans, functions), then properties
//!          └─ expressions ── by type, then children
//!               └─ dynamic filters, results of scalar subqueries: identities, numbered in pairs
//! ```
//!
//! Two plans are equal if every field that decides rows, order or behavior is equal. Displayed texts leave fields out and
//! are not used. An operator, expression or field that cannot be read is an error, never equal. Equal pointers are equal,
//! and what is below them is not visited.
//!
//! The module knows operators of DataFusion and of [`exchange`](crate::exchange); it does not know how plans are cut or
//! encoded. How each kind of field is read: `docs/decisions/0001-plan-equality.md`.

mod expressions;
mod functions;
mod identities;
mod joins;
mod layout;
mod operators;
mod properties;
mod report;
mod scans;
mod sources;
#[cfg(test)]
mod tests;
mod values;

use std::any::Any;
use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::{ExecutionPlan, WindowExpr};

pub(crate) use self::functions::{have_same_fields, have_same_window_fields};
use self::identities::Identities;
use self::report::{Check, Located, differs, same};
use crate::error::Error;

/// Returns the first difference between two plans as text (path of operators, field, both values), or `None` if they are
/// equal. Children are compared before their parents, so that the difference is reported where it begins.
///
/// # Errors
///
/// [`ErrorCode::Unsupported`](crate::error::ErrorCode::Unsupported) for an operator, expression or field that cannot be
/// read, with its name.
pub fn difference(left: &Arc<dyn ExecutionPlan>, right: &Arc<dyn ExecutionPlan>) -> Result<Option<String>, Error> {
    Comparison::new(None).run(left, right)
}

/// Returns the filter of an aggregate window function, if it has one and it is known.
pub type WindowFilter<'a> = &'a dyn Fn(&dyn WindowExpr) -> Option<Arc<dyn PhysicalExpr>>;

/// Compares like [`difference`], with the filters of window functions, which DataFusion gives away only as text. The text
/// leaves out what functions and subqueries are; without the expressions, such filters cannot be read.
///
/// # Errors
///
/// As [`difference`].
pub fn difference_with_filters(
    left: (&Arc<dyn ExecutionPlan>, WindowFilter<'_>),
    right: (&Arc<dyn ExecutionPlan>, WindowFilter<'_>),
) -> Result<Option<String>, Error> {
    Comparison::new(Some([left.1, right.1])).run(left.0, right.0)
}

/// State of the comparison of two plans.
struct Comparison<'a> {
    identities: Identities,
    filters: Option<[WindowFilter<'a>; 2]>,
    empty: Schema,
}

impl<'a> Comparison<'a> {
    fn new(filters: Option<[WindowFilter<'a>; 2]>) -> Self {
        Self { identities: Identities::default(), filters, empty: Schema::empty() }
    }

    fn run(mut self, left: &Arc<dyn ExecutionPlan>, right: &Arc<dyn ExecutionPlan>) -> Result<Option<String>, Error> {
        let result = self.plan(left, right).and_then(|()| self.shared_parts());
        result.map_or_else(|stop| stop.into_result(), |()| Ok(None))
    }

    fn plan(&mut self, left: &Arc<dyn ExecutionPlan>, right: &Arc<dyn ExecutionPlan>) -> Check {
        if Arc::ptr_eq(left, right) {
            self.identities.share_plan(left);
            return Ok(());
        }
        self.operator(left, right).map_err(|stop| stop.at(left.name()))
    }

    fn operator(&mut self, left: &Arc<dyn ExecutionPlan>, right: &Arc<dyn ExecutionPlan>) -> Check {
        let (left_type, right_type): (&dyn Any, &dyn Any) = (left.as_ref(), right.as_ref());
        if left_type.type_id() != right_type.type_id() {
            return Err(differs("operator", &left.name(), &right.name()));
        }
        let (left_children, right_children) = (left.children(), right.children());
        same("number of children", &left_children.len(), &right_children.len())?;
        let single = left_children.len() == 1;
        for (index, (left, right)) in left_children.into_iter().zip(right_children).enumerate() {
            match single {
                true => self.plan(left, right)?,
                false => self.plan(left, right).located(|| format!("[{index}]"))?,
            }
        }
        self.fields(left, right)?;
        self.node_properties(left, right)
    }

    /// Compares the properties that every operator has.
    fn node_properties(&mut self, left: &Arc<dyn ExecutionPlan>, right: &Arc<dyn ExecutionPlan>) -> Check {
        same("name", &left.name(), &right.name())?;
        same("fetch", &left.fetch(), &right.fetch())?;
        let produced = (left.dynamic_expressions_produced(), right.dynamic_expressions_produced());
        self.expressions("dynamic filters", &produced.0, &produced.1)?;
        self.properties(left.properties(), right.properties())?;
        self.schemas("schema", &left.schema(), &right.schema())?;
        same("maintains_input_order", &left.maintains_input_order(), &right.maintains_input_order())?;
        let benefits = (left.benefits_from_input_partitioning(), right.benefits_from_input_partitioning());
        same("benefits_from_input_partitioning", &benefits.0, &benefits.1)?;
        self.requirements(left, right)
    }
}
