//! Comparison of expressions: of each, what its type holds, then its children.

use std::any::Any;
use std::sync::Arc;

use datafusion::logical_expr::Operator;
use datafusion::physical_expr::async_scalar_function::AsyncFuncExpr;
use datafusion::physical_expr::expressions::{
    BinaryExpr, CaseExpr, CastExpr, Column, DynamicFilterPhysicalExpr, InListExpr, IsNotNullExpr, IsNullExpr,
    LambdaExpr, LambdaVariable, LikeExpr, Literal, NegativeExpr, NoOp, NotExpr, TryCastExpr, UnKnownColumn,
};
use datafusion::physical_expr::scalar_subquery::ScalarSubqueryExpr;
use datafusion::physical_expr::{HigherOrderFunctionExpr, PhysicalExpr, ScalarFunctionExpr};

use super::Comparison;
use super::layout::{self, DYNAMIC_FILTER};
use super::report::{Check, Located, Stop, differs, same, same_text, unreadable};
use super::values::{fields, scalars_equal};

type Expression = Arc<dyn PhysicalExpr>;

impl Comparison<'_> {
    pub(super) fn expressions(&mut self, field: &str, left: &[Expression], right: &[Expression]) -> Check {
        if left.len() != right.len() {
            return Err(differs(field, &Shown(left), &Shown(right)));
        }
        let mut pairs = left.iter().zip(right);
        pairs.try_for_each(|(left, right)| self.expression(left, right)).located(|| field.to_owned())
    }

    pub(super) fn optional_expressions(
        &mut self,
        field: &str,
        left: Option<&Expression>,
        right: Option<&Expression>,
    ) -> Check {
        match (left, right) {
            (Some(left), Some(right)) => self.expression(left, right).located(|| field.to_owned()),
            (None, None) => Ok(()),
            _ => Err(differs(field, &left.map(ToString::to_string), &right.map(ToString::to_string))),
        }
    }

    /// Compares two expressions with all that is below them.
    pub(super) fn expression(&mut self, left: &Expression, right: &Expression) -> Check {
        if Arc::ptr_eq(left, right) {
            self.identities.share_expression(left);
            return Ok(());
        }
        let (left_type, right_type): (&dyn Any, &dyn Any) = (left.as_ref(), right.as_ref());
        if left_type.type_id() != right_type.type_id() {
            return Err(differs("expression", left, right));
        }
        self.expression_fields(left, right)?;
        let (left_children, right_children) = (left.children(), right.children());
        if left_children.len() != right_children.len() {
            return Err(differs("expression", left, right));
        }
        let mut pairs = left_children.into_iter().zip(right_children);
        pairs.try_for_each(|(left, right)| self.expression(left, right))
    }

    /// Compares what two expressions of one type hold beside their children.
    fn expression_fields(&mut self, left: &Expression, right: &Expression) -> Check {
        macro_rules! by_type {
            ($($type:ty => $compare:expr),* $(,)?) => {
                $(if let (Some(one), Some(other)) = (left.downcast_ref::<$type>(), right.downcast_ref::<$type>()) {
                    let compare: fn(&mut Self, &$type, &$type) -> Check = $compare;
                    return compare(self, one, other);
                })*
            };
        }
        if let (Some(one), Some(other)) = (left.downcast_ref::<BinaryExpr>(), right.downcast_ref::<BinaryExpr>()) {
            same("op", one.op(), other.op())?;
            return same("fail_on_overflow", &fails_on_overflow(left)?, &fails_on_overflow(right)?);
        }
        by_type! {
            Column => |_, left, right| if left == right { Ok(()) } else { Err(differs("column", left, right)) },
            Literal => Self::literals,
            CastExpr => Self::casts,
            ScalarFunctionExpr => Self::scalar_functions,
            NotExpr => |_, _, _| Ok(()),
            IsNullExpr => |_, _, _| Ok(()),
            IsNotNullExpr => |_, _, _| Ok(()),
            NegativeExpr => |_, _, _| Ok(()),
            NoOp => |_, _, _| Ok(()),
            LikeExpr => |_, left, right| {
                same("negated", &left.negated(), &right.negated())?;
                same("case_insensitive", &left.case_insensitive(), &right.case_insensitive())
            },
            InListExpr => |_, left, right| same("negated", &left.negated(), &right.negated()),
            CaseExpr => |_, left, right| same("branches of CASE", &case_shape(left), &case_shape(right)),
            TryCastExpr => |_, left, right| {
                same("explicit target", &left.target_metadata(), &right.target_metadata())?;
                fields("target_field", left.target_field(), right.target_field())
            },
            UnKnownColumn => |_, left, right| same("unknown column", left.name(), right.name()),
            DynamicFilterPhysicalExpr => Self::dynamic_filters,
            ScalarSubqueryExpr => Self::scalar_subqueries,
            HigherOrderFunctionExpr => Self::higher_order_functions,
            LambdaExpr => |_, left, right| same("params", left.params(), right.params()),
            LambdaVariable => |_, left, right| {
                same("index", &left.index(), &right.index())?;
                fields("field", left.field(), right.field())
            },
            AsyncFuncExpr => Self::async_functions,
        }
        Err(unreadable("expression", format!("expression of an unknown type: {left:?}")))
    }

    fn literals(&mut self, left: &Literal, right: &Literal) -> Check {
        if !scalars_equal(left.value(), right.value()) {
            return Err(differs("literal", left.value(), right.value()));
        }
        self.return_fields("field of literal", left, right)
    }

    fn casts(&mut self, left: &CastExpr, right: &CastExpr) -> Check {
        same("explicit target", &left.has_explicit_metadata(), &right.has_explicit_metadata())?;
        fields("target_field", left.target_field(), right.target_field())?;
        same("cast_options", left.cast_options(), right.cast_options())
    }

    fn scalar_functions(&mut self, left: &ScalarFunctionExpr, right: &ScalarFunctionExpr) -> Check {
        let result = (|| {
            same("name", left.name(), right.name())?;
            same("function", left.fun(), right.fun())?;
            self.return_fields("return_field", left, right)?;
            self.configurations(left.config_options(), right.config_options())
        })();
        result.located(|| left.name().to_owned())
    }

    fn higher_order_functions(&mut self, left: &HigherOrderFunctionExpr, right: &HigherOrderFunctionExpr) -> Check {
        let result = (|| {
            same("name", left.name(), right.name())?;
            same("function", left.fun(), right.fun())?;
            self.return_fields("return_field", left, right)?;
            self.configurations(left.config_options(), right.config_options())
        })();
        result.located(|| left.name().to_owned())
    }

    /// Its children are those of the function that it holds.
    pub(super) fn async_functions(&mut self, left: &AsyncFuncExpr, right: &AsyncFuncExpr) -> Check {
        same("name", &left.name, &right.name)?;
        self.expression(&left.func, &right.func)?;
        self.return_fields("return_field", left, right)
    }

    /// Compares return fields that do not depend on the input.
    fn return_fields(&mut self, field: &str, left: &dyn PhysicalExpr, right: &dyn PhysicalExpr) -> Check {
        match (left.return_field(&self.empty), right.return_field(&self.empty)) {
            (Ok(left), Ok(right)) => fields(field, &left, &right),
            (Err(error), _) | (_, Err(error)) => Err(unreadable(field, error.to_string())),
        }
    }

    fn scalar_subqueries(&mut self, left: &ScalarSubqueryExpr, right: &ScalarSubqueryExpr) -> Check {
        // Deprecated because DataFusion does not need it any more; the text that shows it shows results, too.
        #[expect(deprecated)]
        same("index of scalar subquery", &left.index(), &right.index())?;
        self.return_fields("field of scalar subquery", left, right)?;
        self.identities.pair_results(left.results(), right.results())
    }

    fn dynamic_filters(&mut self, left: &DynamicFilterPhysicalExpr, right: &DynamicFilterPhysicalExpr) -> Check {
        self.identities.pair_ids(left.expression_id(), right.expression_id())?;
        same("generation of dynamic filter", &left.snapshot_generation(), &right.snapshot_generation())?;
        match (left.current(), right.current()) {
            (Ok(left), Ok(right)) => self.expression(&left, &right).located(|| "current filter".to_owned())?,
            (Err(error), _) | (_, Err(error)) => return Err(unreadable("current filter", error.to_string())),
        }
        // The children before they were mapped to those that `children` returns, and whether the filter is complete.
        let texts = [left, right].map(|filter| layout::text_before(filter, DYNAMIC_FILTER.1[3], "expression_id"));
        if texts[0].is_some() && texts[0] == texts[1] {
            return Ok(());
        }
        let [left_fields, right_fields] = [left, right].map(|filter| layout::fields(filter, &DYNAMIC_FILTER));
        let (left_fields, right_fields) = (left_fields?, right_fields?);
        let remapped = [&left_fields, &right_fields].map(|fields| fields[1] == "None");
        same_text("children of dynamic filter", &left_fields[0], &right_fields[0])?;
        same("children are remapped", &remapped[0], &remapped[1])?;
        let complete = [&left_fields, &right_fields].map(|fields| fields[2].contains("is_complete: true"));
        same("completion of dynamic filter", &complete[0], &complete[1])
    }
}

/// The flag has no getter. A copy of the expression over other children is compared with one that has the flag unset.
fn fails_on_overflow(expression: &Expression) -> Result<bool, Box<Stop>> {
    let field = || "fail_on_overflow";
    let Some(binary) = expression.downcast_ref::<BinaryExpr>() else {
        return Err(unreadable(field(), "not a binary expression"));
    };
    if !matches!(binary.op(), Operator::Plus | Operator::Minus | Operator::Multiply) {
        return Ok(false);
    }
    let leaf: Expression = Arc::new(NoOp::new());
    let copy = Arc::clone(expression).with_new_children(vec![Arc::clone(&leaf), Arc::clone(&leaf)]);
    let copy = copy.map_err(|error| unreadable(field(), error.to_string()))?;
    match copy.downcast_ref::<BinaryExpr>() {
        Some(copy) => Ok(*copy != BinaryExpr::new(Arc::clone(&leaf), *binary.op(), leaf)),
        None => Err(unreadable(field(), "the copy has another type")),
    }
}

/// Presence of a base, number of branches, presence of ELSE: the meaning of the children.
fn case_shape(case: &CaseExpr) -> (bool, usize, bool) {
    (case.expr().is_some(), case.when_then_expr().len(), case.else_expr().is_some())
}

/// Shows expressions as they are displayed, which is shorter than their debug text.
struct Shown<'a>(&'a [Expression]);

impl std::fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(ToString::to_string)).finish()
    }
}
