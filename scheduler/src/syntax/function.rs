//! Function calls, and the windows that they run over.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::AggregateUDF;
use datafusion::sql::sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArgumentList,
    FunctionArguments, NullTreatment, OrderByExpr, Query, Select, SelectItem, Visit, Visitor, WindowSpec, WindowType,
};
use springald_core::error::Result;

use super::{refuse_if, refused};

/// Functions that are planned apart from all others, without anything but their arguments.
const SPECIAL: [&str; 4] = ["make_map", "map", "unnest", "unnest_outer"];

/// Window functions that leave out NULLs when they are told to.
const IGNORING_NULLS: [&str; 5] = ["first_value", "lag", "last_value", "lead", "nth_value"];

/// Aggregates that are window functions of their own in OVER.
const WINDOW_FIRST: [&str; 3] = ["first_value", "last_value", "nth_value"];

/// Aggregates whose result depends on duplicates, and that ignore DISTINCT.
const IGNORING_DISTINCT: [&str; 5] = ["approx_percentile_cont", "corr", "covar_pop", "covar_samp", "nth_value"];

/// Aggregates that take their ordered argument from WITHIN GROUP, beside those that say so themselves.
const ORDERED_SET: [&str; 4] =
    ["percentile_cont", "quantile_cont", "approx_percentile_cont", "approx_percentile_cont_with_weight"];

/// Checks a function call, without the expressions in it.
pub(super) fn check(function: &Function, state: &SessionState, windows: &NamedWindows) -> Result<()> {
    let Function { name, uses_odbc_syntax: _, parameters, args, filter, null_treatment, over, within_group } = function;
    let name = match name.0.as_slice() {
        [part] => part.as_ident().map(|name| match name.quote_style {
            Some(_) => name.value.clone(),
            None => name.value.to_lowercase(),
        }),
        _ => None,
    };
    // DataFusion finds no function with any other name.
    let Some(name) = name else { return Ok(()) };
    let has_parameters = !matches!(parameters, FunctionArguments::None);
    refuse_if(has_parameters, &format!("{name} (…)(…)"), "write all arguments in one list")?;
    let arguments = match args {
        FunctionArguments::None => None,
        FunctionArguments::List(list) => Some(list),
        FunctionArguments::Subquery(_) => {
            return Err(refused(
                &format!("{name} (SELECT …)"),
                "write the query in brackets of its own, with array_agg(…) in it for an array",
            ));
        }
    };
    match over {
        None => {}
        Some(WindowType::WindowSpec(window)) => check_window(window)?,
        Some(WindowType::NamedWindow(window)) => refuse_if(
            !windows.is_allowed(function),
            &format!("OVER {window} outside of the SELECT list that the window belongs to"),
            "write the window's definition in brackets: OVER (…)",
        )?,
    }
    let call = Call { name: &name, clauses: Clauses::of(arguments), arguments, function };
    if SPECIAL.contains(&call.name) || state.higher_order_functions().contains_key(call.name) {
        call.check_arguments_have_no_names()?;
        return call.check_scalar(filter.is_some(), *null_treatment, over.is_some(), !within_group.is_empty());
    }
    if state.scalar_functions().contains_key(call.name) {
        return call.check_scalar(filter.is_some(), *null_treatment, over.is_some(), !within_group.is_empty());
    }
    let aggregate = state.aggregate_functions().get(call.name);
    match (over, aggregate) {
        (Some(_), Some(aggregate)) if !WINDOW_FIRST.contains(&aggregate.name()) => {
            call.check_aggregate(aggregate)?;
            call.check_null_treatment(aggregate, *null_treatment)
        }
        (Some(_), _) => call.check_window_function(state, filter.is_some(), *null_treatment),
        (None, Some(aggregate)) => call.check_aggregate(aggregate),
        // DataFusion finds no function with this name.
        (None, None) => Ok(()),
    }
}

/// Checks the definition of a window. DataFusion ignores the window that it refers to.
pub(super) fn check_window(window: &WindowSpec) -> Result<()> {
    let WindowSpec { window_name, partition_by: _, order_by: _, window_frame: _ } = window;
    match window_name {
        Some(name) => {
            Err(refused(&format!("a window that extends window {name}"), "write its whole definition in OVER (…)"))
        }
        None => Ok(()),
    }
}

/// Clauses among the arguments of a function.
#[derive(Default)]
struct Clauses<'a> {
    duplicates: Option<DuplicateTreatment>,
    null_treatment: Option<NullTreatment>,
    order_by: &'a [OrderByExpr],
}

impl<'a> Clauses<'a> {
    fn of(arguments: Option<&'a FunctionArgumentList>) -> Self {
        let Some(FunctionArgumentList { duplicate_treatment, args: _, clauses }) = arguments else {
            return Self::default();
        };
        let mut found = Self { duplicates: *duplicate_treatment, ..Self::default() };
        for clause in clauses {
            match clause {
                FunctionArgumentClause::IgnoreOrRespectNulls(nulls) => found.null_treatment = Some(*nulls),
                FunctionArgumentClause::OrderBy(keys) => found.order_by = keys,
                // Refused by DataFusion for every function.
                FunctionArgumentClause::Limit(_)
                | FunctionArgumentClause::OnOverflow(_)
                | FunctionArgumentClause::Having(_)
                | FunctionArgumentClause::Separator(_)
                | FunctionArgumentClause::JsonNullClause(_)
                | FunctionArgumentClause::JsonReturningClause(_) => {}
            }
        }
        found
    }
}

/// A call of a function that is known by its kind.
struct Call<'a> {
    name: &'a str,
    clauses: Clauses<'a>,
    arguments: Option<&'a FunctionArgumentList>,
    function: &'a Function,
}

impl Call<'_> {
    /// DataFusion ignores all clauses of functions of one row.
    fn check_scalar(&self, filter: bool, nulls: Option<NullTreatment>, over: bool, within_group: bool) -> Result<()> {
        let Clauses { duplicates, null_treatment, order_by } = &self.clauses;
        for (present, clause) in [
            (*duplicates == Some(DuplicateTreatment::Distinct), "DISTINCT"),
            (*duplicates == Some(DuplicateTreatment::All), "ALL"),
            (!order_by.is_empty(), "ORDER BY"),
            (null_treatment.is_some() || nulls.is_some(), "IGNORE NULLS or RESPECT NULLS"),
            (filter, "FILTER"),
            (over, "OVER"),
            (within_group, "WITHIN GROUP"),
        ] {
            let clause = format!("{clause} in a call of {}", self.name);
            refuse_if(present, &clause, "the function is no aggregate or window function; remove the clause")?;
        }
        Ok(())
    }

    fn check_arguments_have_no_names(&self) -> Result<()> {
        let is_named = |arg: &FunctionArg| !matches!(arg, FunctionArg::Unnamed(_));
        let has_names = self.arguments.is_some_and(|arguments| arguments.args.iter().any(is_named));
        refuse_if(has_names, &format!("a named argument of {}", self.name), "write the values in order")
    }

    fn check_aggregate(&self, aggregate: &AggregateUDF) -> Result<()> {
        let name = aggregate.name();
        let ignores_distinct = IGNORING_DISTINCT.contains(&name) || name.starts_with("regr_");
        refuse_if(
            ignores_distinct && self.clauses.duplicates == Some(DuplicateTreatment::Distinct),
            &format!("DISTINCT in a call of {}", self.name),
            "aggregate a subquery with SELECT DISTINCT",
        )?;
        let is_wildcard = |arg: &FunctionArg| {
            matches!(arg, FunctionArg::Unnamed(FunctionArgExpr::Wildcard | FunctionArgExpr::QualifiedWildcard(_)))
        };
        let has_wildcard = self.arguments.is_some_and(|arguments| arguments.args.iter().any(is_wildcard));
        refuse_if(
            has_wildcard && self.clauses.duplicates == Some(DuplicateTreatment::Distinct),
            &format!("DISTINCT * in a call of {}", self.name),
            "count the rows of a subquery with SELECT DISTINCT *",
        )?;
        self.check_inline_order(aggregate)
    }

    /// DataFusion takes the sort key of `quantile_cont(value, 0.5 ORDER BY key)` in place of the value.
    fn check_inline_order(&self, aggregate: &AggregateUDF) -> Result<()> {
        let is_ordered_set = aggregate.supports_within_group_clause() || ORDERED_SET.contains(&self.name);
        let (Some(key), Some(arguments)) = (self.clauses.order_by.first(), self.arguments) else { return Ok(()) };
        if !is_ordered_set || !self.function.within_group.is_empty() || arguments.args.len() < 2 {
            return Ok(());
        }
        let is_key = match &arguments.args[0] {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => is_same(value, &key.expr),
            _ => false,
        };
        refuse_if(
            !is_key,
            &format!("ORDER BY of another expression than the first argument in a call of {}", self.name),
            "write WITHIN GROUP (ORDER BY …)",
        )
    }

    fn check_null_treatment(&self, aggregate: &AggregateUDF, nulls: Option<NullTreatment>) -> Result<()> {
        let is_given = nulls.or(self.clauses.null_treatment).is_some();
        refuse_if(
            is_given && !aggregate.supports_null_handling_clause(),
            &format!("IGNORE NULLS or RESPECT NULLS in a call of {}", self.name),
            "remove it",
        )
    }

    fn check_window_function(&self, state: &SessionState, filter: bool, nulls: Option<NullTreatment>) -> Result<()> {
        // Another name of a window function is found under its own.
        let name = state.window_functions().get(self.name).map_or(self.name, |function| function.name());
        let in_call = |clause: &str| format!("{clause} in a call of {}", self.name);
        refuse_if(filter, &in_call("FILTER"), "filter in a subquery, or write CASE in the argument")?;
        refuse_if(self.clauses.duplicates.is_some(), &in_call("DISTINCT or ALL"), "remove it")?;
        let ignores = nulls.or(self.clauses.null_treatment) == Some(NullTreatment::IgnoreNulls);
        refuse_if(ignores && !IGNORING_NULLS.contains(&name), &in_call("IGNORE NULLS"), "remove it")
    }
}

/// True if two expressions are written alike, but for case.
fn is_same(left: &Expr, right: &Expr) -> bool {
    left.to_string().eq_ignore_ascii_case(&right.to_string())
}

/// The calls with `OVER name` for which DataFusion looks the name up: those in the SELECT list that the window belongs to.
/// Everywhere else it plans the function as if it had no OVER.
#[derive(Default)]
pub(super) struct NamedWindows {
    /// Addresses of the calls. Two calls of one syntax tree never have the same.
    allowed: HashSet<usize>,
}

impl NamedWindows {
    /// Allows the calls in the list of `select`. In the queries of a SELECT list DataFusion looks names up among the wrong
    /// windows.
    pub(super) fn allow(&mut self, select: &Select) -> Result<()> {
        let mut finder = Finder { allowed: &mut self.allowed, depth: 0 };
        for item in &select.projection {
            let (SelectItem::UnnamedExpr(expression) | SelectItem::ExprWithAlias { expr: expression, alias: _ }) = item
            else {
                continue;
            };
            if expression.visit(&mut finder).is_break() {
                return Err(refused(
                    "a named window in a subquery of a SELECT list",
                    "write the window's definition in brackets: OVER (…)",
                ));
            }
        }
        Ok(())
    }

    fn is_allowed(&self, function: &Function) -> bool {
        self.allowed.contains(&address(function))
    }
}

fn address(function: &Function) -> usize {
    std::ptr::from_ref(function).addr()
}

/// Finds the calls with a named window in an item of a SELECT list. Breaks at one in a subquery.
struct Finder<'a> {
    allowed: &'a mut HashSet<usize>,
    depth: usize,
}

impl Visitor for Finder<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<()> {
        let Expr::Function(function) = expression else { return ControlFlow::Continue(()) };
        if !matches!(function.over, Some(WindowType::NamedWindow(_))) {
            return ControlFlow::Continue(());
        }
        match self.depth {
            0 => {
                self.allowed.insert(address(function));
                ControlFlow::Continue(())
            }
            _ => ControlFlow::Break(()),
        }
    }
}
