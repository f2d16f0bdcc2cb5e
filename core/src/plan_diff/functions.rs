//! Comparison of aggregate and window functions.

use std::sync::Arc;

use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::window::{
    PlainAggregateWindowExpr, SlidingAggregateWindowExpr, StandardWindowExpr, StandardWindowFunctionExpr, WindowExpr,
};
use datafusion::physical_plan::windows::WindowUDFExpr;

use super::Comparison;
use super::layout::{self, AGGREGATE, PLAIN_WINDOW, SLIDING_WINDOW, WINDOW_FUNCTION};
use super::report::{Check, Located, Stop, differs, same, same_text, unreadable};
use super::values::fields;

/// Parts of debug texts that do not tell all of an expression.
const OPAQUE: [&str; 3] = ["\"<FUNC>\"", "DynamicFilterPhysicalExpr", "ScalarSubqueryExpr"];

/// True if what two aggregate functions know of the fields of their arguments is the same.
pub(crate) fn have_same_fields(left: &AggregateFunctionExpr, right: &AggregateFunctionExpr) -> bool {
    fields_of_aggregates(left, right).is_ok()
}

/// True if what two window functions know of the fields of their arguments, and how they are evaluated, is the same.
pub(crate) fn have_same_window_fields(left: &WindowUDFExpr, right: &WindowUDFExpr) -> bool {
    fields_of_windows(left, right).is_ok()
}

/// Function and arguments are compared by getters.
fn fields_of_windows(left: &WindowUDFExpr, right: &WindowUDFExpr) -> Check {
    let (left, right) = (layout::fields(left, &WINDOW_FUNCTION)?, layout::fields(right, &WINDOW_FUNCTION)?);
    for (index, name) in WINDOW_FUNCTION.1.iter().enumerate().skip(2) {
        same_text(name, &left[index], &right[index])?;
    }
    Ok(())
}

fn fields_of_aggregates(left: &AggregateFunctionExpr, right: &AggregateFunctionExpr) -> Check {
    // Without an order, the fields behind `human_display` are compared by getters, or are derived as `arg_fields` are.
    let end = if left.order_bys().is_empty() { "human_display" } else { "is_nullable" };
    let texts = [left, right].map(|aggregate| layout::text_before(aggregate, end, ""));
    if texts[0].is_some() && texts[0] == texts[1] {
        return Ok(());
    }
    // The schema is only used for the types of `order_bys`, which are those of `ordering_fields`.
    let (left, right) = (layout::fields(left, &AGGREGATE)?, layout::fields(right, &AGGREGATE)?);
    for (index, name) in AGGREGATE.1.iter().enumerate() {
        if ["arg_fields", "ordering_fields", "input_fields"].contains(name) {
            same_text(name, &left[index], &right[index])?;
        }
    }
    Ok(())
}

impl Comparison<'_> {
    pub(super) fn aggregates(&mut self, left: &AggregateFunctionExpr, right: &AggregateFunctionExpr) -> Check {
        same("name", left.name(), right.name())?;
        same("function", left.fun(), right.fun())?;
        self.expressions("arguments", &left.expressions(), &right.expressions())?;
        fields("return_field", &left.field(), &right.field())?;
        self.orderings("order_bys", left.order_bys(), right.order_bys())?;
        same("is_distinct", &left.is_distinct(), &right.is_distinct())?;
        same("ignore_nulls", &left.ignore_nulls(), &right.ignore_nulls())?;
        same("is_reversed", &left.is_reversed(), &right.is_reversed())?;
        same("is_nullable", &left.is_nullable(), &right.is_nullable())?;
        same("human_display", &left.human_display(), &right.human_display())?;
        same("human_display_alias", &left.human_display_alias(), &right.human_display_alias())?;
        fields_of_aggregates(left, right)
    }

    pub(super) fn window_expressions(&mut self, left: &[Arc<dyn WindowExpr>], right: &[Arc<dyn WindowExpr>]) -> Check {
        same("number of window expressions", &left.len(), &right.len())?;
        let mut pairs = left.iter().zip(right).enumerate();
        pairs.try_for_each(|(index, (left, right))| {
            self.window_expression(left, right).located(|| format!("window_expr[{index}] {}", left.name()))
        })
    }

    fn window_expression(&mut self, left: &Arc<dyn WindowExpr>, right: &Arc<dyn WindowExpr>) -> Check {
        if Arc::ptr_eq(left, right) {
            let shared = left.all_expressions();
            let shared = shared.args.iter().chain(&shared.partition_by_exprs).chain(&shared.order_by_exprs);
            shared.for_each(|expression| self.identities.share_expression(expression));
            return Ok(());
        }
        let (one, other) = (left.as_any(), right.as_any());
        if one.type_id() != other.type_id() {
            return Err(differs("type of window expression", left, right));
        }
        same("name", left.name(), right.name())?;
        same("window_frame", left.get_window_frame(), right.get_window_frame())?;
        self.expressions("partition_by", left.partition_by(), right.partition_by())?;
        self.orderings("order_by", left.order_by(), right.order_by())?;
        if let (Some(one), Some(other)) = (one.downcast_ref::<StandardWindowExpr>(), other.downcast_ref()) {
            return self.window_functions(one, other);
        }
        if let (Some(one), Some(other)) = (one.downcast_ref::<PlainAggregateWindowExpr>(), other.downcast_ref()) {
            let other: &PlainAggregateWindowExpr = other;
            self.aggregates(one.get_aggregate_expr(), other.get_aggregate_expr())?;
            let texts = [&layout::fields(one, &PLAIN_WINDOW)?[5], &layout::fields(other, &PLAIN_WINDOW)?[5]];
            return self.filters_of_windows((left, texts[0]), (right, texts[1]));
        }
        if let (Some(one), Some(other)) = (one.downcast_ref::<SlidingAggregateWindowExpr>(), other.downcast_ref()) {
            let other: &SlidingAggregateWindowExpr = other;
            self.aggregates(one.get_aggregate_expr(), other.get_aggregate_expr())?;
            let texts = [&layout::fields(one, &SLIDING_WINDOW)?[4], &layout::fields(other, &SLIDING_WINDOW)?[4]];
            return self.filters_of_windows((left, texts[0]), (right, texts[1]));
        }
        Err(unreadable("window expression", format!("of an unknown type: {left:?}")))
    }

    fn window_functions(&mut self, left: &StandardWindowExpr, right: &StandardWindowExpr) -> Check {
        let (left, right) = (window_function(left)?, window_function(right)?);
        same("function", left.fun(), right.fun())?;
        self.expressions("arguments", left.args(), right.args())?;
        if let (Ok(left), Ok(right)) = (left.field(), right.field()) {
            fields("field", &left, &right)?;
        }
        fields_of_windows(left, right)
    }

    /// Compares filters by their debug texts, and, if these leave out something, by the expressions.
    fn filters_of_windows(&mut self, left: (&Arc<dyn WindowExpr>, &str), right: (&Arc<dyn WindowExpr>, &str)) -> Check {
        same_text("filter", left.1, right.1)?;
        let Some(part) = OPAQUE.iter().find(|part| left.1.contains(**part)) else { return Ok(()) };
        let known = self.filters.map(|[one, other]| (one(left.0.as_ref()), other(right.0.as_ref())));
        match known {
            Some((Some(left), Some(right))) => self.expression(&left, &right).located(|| "filter".to_owned()),
            _ => Err(unreadable("filter", format!("an expression that shows only {part}"))),
        }
    }

    pub(super) fn filters_of_aggregates(
        &mut self,
        left: &[Option<Arc<dyn PhysicalExpr>>],
        right: &[Option<Arc<dyn PhysicalExpr>>],
    ) -> Check {
        same("number of filters", &left.len(), &right.len())?;
        let mut pairs = left.iter().zip(right).enumerate();
        pairs.try_for_each(|(index, (left, right))| {
            let field = || format!("filter_expr[{index}]");
            self.optional_expressions("filter", left.as_ref(), right.as_ref()).located(field)
        })
    }
}

fn window_function(window: &StandardWindowExpr) -> Result<&WindowUDFExpr, Box<Stop>> {
    let function = window.get_standard_func_expr();
    let unknown = || unreadable("window function", format!("of an unknown type: {function:?}"));
    function.as_any().downcast_ref().ok_or_else(unknown)
}
