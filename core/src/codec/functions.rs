//! Functions by name. DataFusion's encoding sends the name alone; here, what is decoded is equal to what was encoded,
//! or encoding fails: functions that a session has configured (time zone), and those that rely on the order of their
//! input.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result, internal_err, plan_err};
use datafusion::execution::{FunctionRegistry, SessionStateDefaults, TaskContext};
use datafusion::logical_expr::{AggregateUDF, ScalarUDF, WindowUDF};
use datafusion::physical_expr::ScalarFunctionExpr;
use springald_proto::plan::scalar_function_node::Function;

static SCALAR: LazyLock<HashMap<String, Arc<ScalarUDF>>> = LazyLock::new(|| {
    let functions = SessionStateDefaults::default_scalar_functions();
    functions.into_iter().map(|function| (function.name().to_owned(), function)).collect()
});
static AGGREGATE: LazyLock<HashMap<String, Arc<AggregateUDF>>> = LazyLock::new(|| {
    let functions = SessionStateDefaults::default_aggregate_functions();
    functions.into_iter().map(|function| (function.name().to_owned(), function)).collect()
});
static WINDOW: LazyLock<HashMap<String, Arc<WindowUDF>>> = LazyLock::new(|| {
    let functions = SessionStateDefaults::default_window_functions();
    functions.into_iter().map(|function| (function.name().to_owned(), function)).collect()
});

/// Identifies a scalar function.
pub(super) fn encode_scalar_function(expression: &ScalarFunctionExpr) -> Result<Function> {
    let (name, function) = (expression.name(), expression.fun());
    let options = expression.config_options();
    let Some(known) = SCALAR.get(name) else {
        return match function.inner().with_updated_config(options) {
            Some(_) => plan_err!("function {name} is configured by the session and cannot be sent to executors"),
            None => Ok(Function::Registered(true)),
        };
    };
    if function == known.as_ref() {
        return Ok(Function::BuiltIn(true));
    }
    // The one setting that functions keep.
    let zone = options.execution.time_zone.clone().unwrap_or_default();
    match with_time_zone(known, &zone) {
        Some(configured) if function == &configured => Ok(Function::BuiltInWithTimeZone(zone)),
        _ => plan_err!("function {name} is not the one that executors know and cannot be sent to them"),
    }
}

pub(super) fn restore_scalar_function(
    name: &str,
    function: Option<&Function>,
    context: &TaskContext,
) -> Result<Arc<ScalarUDF>> {
    match (function, SCALAR.get(name)) {
        (Some(Function::BuiltIn(_)), Some(known)) => Ok(Arc::clone(known)),
        (Some(Function::BuiltInWithTimeZone(zone)), Some(known)) => match with_time_zone(known, zone) {
            Some(configured) => Ok(Arc::new(configured)),
            None => internal_err!("function {name} has no time zone"),
        },
        (Some(Function::Registered(_)), _) => context.udf(name),
        _ => internal_err!("function {name} is unknown"),
    }
}

fn with_time_zone(function: &ScalarUDF, zone: &str) -> Option<ScalarUDF> {
    let mut options = ConfigOptions::default();
    options.execution.time_zone = (!zone.is_empty()).then(|| zone.to_owned());
    function.inner().with_updated_config(&options)
}

/// Checks that the aggregate function has its name at executors. Returns true if it relies on the order of its input.
pub(super) fn encode_aggregate_function(function: &AggregateUDF) -> Result<bool> {
    let name = function.name();
    let Some(known) = AGGREGATE.get(name) else { return Ok(false) };
    if function == known.as_ref() {
        return Ok(false);
    }
    match known.as_ref().clone().with_beneficial_ordering(true)? {
        Some(ordered) if function == &ordered => Ok(true),
        _ => plan_err!("aggregate function {name} is not the one that executors know and cannot be sent to them"),
    }
}

pub(super) fn restore_aggregate_function(
    name: &str,
    beneficial_ordering: bool,
    context: &TaskContext,
) -> Result<Arc<AggregateUDF>> {
    let function = match AGGREGATE.get(name) {
        Some(known) => Arc::clone(known),
        None => context.udaf(name)?,
    };
    if !beneficial_ordering {
        return Ok(function);
    }
    match function.as_ref().clone().with_beneficial_ordering(true)? {
        Some(ordered) => Ok(Arc::new(ordered)),
        None => internal_err!("aggregate function {name} does not rely on the order of its input"),
    }
}

/// Checks that the window function has its name at executors.
pub(super) fn encode_window_function(function: &WindowUDF) -> Result<()> {
    match WINDOW.get(function.name()) {
        Some(known) if function != known.as_ref() => {
            plan_err!(
                "window function {} is not the one that executors know and cannot be sent to them",
                function.name()
            )
        }
        _ => Ok(()),
    }
}

pub(super) fn restore_window_function(name: &str, context: &TaskContext) -> Result<Arc<WindowUDF>> {
    match WINDOW.get(name) {
        Some(known) => Ok(Arc::clone(known)),
        None => context.udwf(name),
    }
}
