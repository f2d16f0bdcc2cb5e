//! Window functions. DataFusion's encoding drops that a function is evaluated in reverse, IGNORE NULLS and FILTER.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{Result, ScalarValue, internal_err, plan_err};
use datafusion::logical_expr::{ReversedUDWF, WindowFrame, WindowFrameBound, WindowFrameUnits};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::window::{SlidingAggregateWindowExpr, StandardWindowExpr, StandardWindowFunctionExpr};
use datafusion::physical_plan::windows::{
    BoundedWindowAggExec, PlainAggregateWindowExpr, WindowAggExec, WindowExpr, WindowUDFExpr, create_udwf_window_expr,
};
use datafusion::physical_plan::{ExecutionPlan, InputOrderMode};
use springald_proto::plan as proto;
use springald_proto::plan::plan_node::Node;
use springald_proto::plan::window_expression::Function;

use super::super::context::{DecodeContext, EncodeContext};
use super::super::debug_text::{last_flag, last_flags, tail};
use super::super::functions::{encode_window_function, restore_window_function};
use super::super::nullable::{nullable_columns, with_nullable};
use super::super::values::{
    decode_indices, decode_scalar, decode_schema, encode_indices, encode_scalar, encode_schema,
};
use super::aggregates::{encode_function, restore_function};
use super::without_inputs;
use crate::plan_diff::have_same_window_fields;

const UNITS: [WindowFrameUnits; 3] = [WindowFrameUnits::Rows, WindowFrameUnits::Range, WindowFrameUnits::Groups];

pub(super) fn encode(plan: &Arc<dyn ExecutionPlan>, context: &EncodeContext<'_>) -> Result<Option<Node>> {
    let (window_exprs, mode, can_repartition) = if let Some(window) = plan.downcast_ref::<WindowAggExec>() {
        (window.window_expr(), None, last_flag(&without_inputs(plan)?, "can_repartition")?)
    } else if let Some(window) = plan.downcast_ref::<BoundedWindowAggExec>() {
        let mode = encode_mode(&window.input_order_mode);
        (window.window_expr(), Some(mode), can_repartition_bounded(&without_inputs(plan)?)?)
    } else {
        return Ok(None);
    };
    // Functions are planned for the schema of the operator, which starts with that of its input.
    let schema = plan.schema();
    let encode = |window: &Arc<dyn WindowExpr>| encode_window(window, &schema, context);
    let expressions = window_exprs.iter().map(encode).collect::<Result<_>>()?;
    Ok(Some(Node::Window(proto::WindowNode {
        expressions,
        can_repartition,
        input_order_mode: mode,
        schema: encode_schema(&schema)?,
    })))
}

/// The flag has no getter, and stands before the last field of the text, which must be empty: it is an observer of the
/// windows' states.
fn can_repartition_bounded(window: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    let text = tail(window, 64);
    for flag in [false, true] {
        if text.ends_with(&format!(", can_repartition: {flag}, state_observer: None }}")) {
            return Ok(flag);
        }
    }
    plan_err!("its text ends with {text}")
}

fn encode_mode(mode: &InputOrderMode) -> proto::InputOrderMode {
    use proto::input_order_mode::Mode;
    let mode = match mode {
        InputOrderMode::Linear => Mode::Linear(true),
        InputOrderMode::PartiallySorted(columns) => Mode::PartiallySorted(encode_indices(columns)),
        InputOrderMode::Sorted => Mode::Sorted(true),
    };
    proto::InputOrderMode { mode: Some(mode) }
}

pub(super) fn restore(
    node: &proto::WindowNode,
    input: &Arc<dyn ExecutionPlan>,
    context: &DecodeContext<'_>,
) -> Result<Arc<dyn ExecutionPlan>> {
    use proto::input_order_mode::Mode;
    let schema = Arc::new(decode_schema(&node.schema)?);
    let restore = |expression: &proto::WindowExpression| restore_window(expression, &schema, context);
    let expressions = node.expressions.iter().map(restore).collect::<Result<Vec<_>>>()?;
    let Some(mode) = &node.input_order_mode else {
        return Ok(Arc::new(WindowAggExec::try_new(expressions, Arc::clone(input), node.can_repartition)?));
    };
    let mode = match &mode.mode {
        Some(Mode::Linear(_)) => InputOrderMode::Linear,
        Some(Mode::PartiallySorted(columns)) => InputOrderMode::PartiallySorted(decode_indices(columns)),
        Some(Mode::Sorted(_)) => InputOrderMode::Sorted,
        None => return internal_err!("the order of a window's input is unknown"),
    };
    Ok(Arc::new(BoundedWindowAggExec::try_new(expressions, Arc::clone(input), mode, node.can_repartition)?))
}

fn encode_window(
    window: &Arc<dyn WindowExpr>,
    schema: &SchemaRef,
    context: &EncodeContext<'_>,
) -> Result<proto::WindowExpression> {
    let any = window.as_any();
    let (function, filter) = if let Some(plain) = any.downcast_ref::<PlainAggregateWindowExpr>() {
        let function = encode_function(plain.get_aggregate_expr(), schema, context)?;
        (Function::Plain(function), context.encoder.filters.of(plain)?)
    } else if let Some(sliding) = any.downcast_ref::<SlidingAggregateWindowExpr>() {
        let function = encode_function(sliding.get_aggregate_expr(), schema, context)?;
        (Function::Sliding(function), context.encoder.filters.of(sliding)?)
    } else if let Some(standard) = any.downcast_ref::<StandardWindowExpr>() {
        (Function::Standard(encode_standard(standard, schema, context)?), None)
    } else {
        return plan_err!("its function {} is of an unknown kind", window.name());
    };
    let frame = window.get_window_frame();
    Ok(proto::WindowExpression {
        function: Some(function),
        partition_by: context.expressions(window.partition_by())?,
        order_by: Some(context.ordering(window.order_by())?),
        frame: Some(encode_frame(frame)?),
        filter: filter.map(|filter| context.expression(&filter)).transpose()?,
    })
}

fn restore_window(
    node: &proto::WindowExpression,
    schema: &SchemaRef,
    context: &DecodeContext<'_>,
) -> Result<Arc<dyn WindowExpr>> {
    let partition_by = context.expressions(&node.partition_by, schema)?;
    let order_by = context.sort_expressions(&node.order_by, schema)?;
    let frame = Arc::new(restore_frame(&node.frame)?);
    let filter = node.filter.as_ref().map(|filter| context.expression(filter, schema)).transpose()?;
    Ok(match &node.function {
        Some(Function::Plain(function)) => {
            let aggregate = Arc::new(restore_function(function, schema, context)?);
            Arc::new(PlainAggregateWindowExpr::new(aggregate, &partition_by, &order_by, frame, filter))
        }
        Some(Function::Sliding(function)) => {
            let aggregate = Arc::new(restore_function(function, schema, context)?);
            Arc::new(SlidingAggregateWindowExpr::new(aggregate, &partition_by, &order_by, frame, filter))
        }
        Some(Function::Standard(function)) => {
            let function = restore_standard(function, schema, context)?;
            Arc::new(StandardWindowExpr::new(function, &partition_by, &order_by, frame))
        }
        None => return internal_err!("a window function is missing"),
    })
}

fn encode_standard(
    standard: &StandardWindowExpr,
    schema: &SchemaRef,
    context: &EncodeContext<'_>,
) -> Result<proto::WindowFunction> {
    let Some(function) = standard.get_standard_func_expr().as_any().downcast_ref::<WindowUDFExpr>() else {
        return plan_err!("its function {} is of an unknown kind", standard.name());
    };
    encode_window_function(function.fun())?;
    let [is_reversed, ignore_nulls] = last_flags(function, ["is_reversed", "ignore_nulls"])?;
    let is_rebuilt = |schema: &SchemaRef| {
        let built =
            build_standard(function.fun(), function.args(), schema, function.name(), is_reversed, ignore_nulls)?;
        let built_function = built.as_any().downcast_ref::<WindowUDFExpr>();
        let same_fields = built_function.is_some_and(|built| have_same_window_fields(built, function));
        Ok(same_fields && built.field()? == function.field()?)
    };
    let nullable_columns = nullable_columns(function.name(), schema, function.args(), is_rebuilt)?;
    Ok(proto::WindowFunction {
        nullable_columns,
        function: function.fun().name().to_owned(),
        arguments: context.expressions(function.args())?,
        name: function.name().to_owned(),
        is_reversed,
        ignore_nulls,
    })
}

fn restore_standard(
    node: &proto::WindowFunction,
    schema: &SchemaRef,
    context: &DecodeContext<'_>,
) -> Result<Arc<dyn StandardWindowFunctionExpr>> {
    let function = restore_window_function(&node.function, context.context.task_ctx())?;
    let schema = &with_nullable(schema, &node.nullable_columns);
    let arguments = context.expressions(&node.arguments, schema)?;
    build_standard(&function, &arguments, schema, &node.name, node.is_reversed, node.ignore_nulls)
}

/// Makes a window function. A reversed one is made from the function that it is the reverse of, and then reversed.
fn build_standard(
    function: &Arc<datafusion::logical_expr::WindowUDF>,
    arguments: &[Arc<dyn PhysicalExpr>],
    schema: &SchemaRef,
    name: &str,
    is_reversed: bool,
    ignore_nulls: bool,
) -> Result<Arc<dyn StandardWindowFunctionExpr>> {
    if !is_reversed {
        return create_udwf_window_expr(function, arguments, schema, name.to_owned(), ignore_nulls);
    }
    let ReversedUDWF::Reversed(forward) = function.reverse_expr() else {
        return internal_err!("window function {name} has no reverse");
    };
    let forward = create_udwf_window_expr(&forward, arguments, schema, name.to_owned(), ignore_nulls)?;
    let Some(reversed) = forward.reverse_expr() else {
        return internal_err!("window function {name} has no reverse");
    };
    let built = reversed.as_any().downcast_ref::<WindowUDFExpr>().map(|built| {
        let flags = last_flags(built, ["is_reversed", "ignore_nulls"]);
        built.fun() == function && flags.is_ok_and(|flags| flags == [true, ignore_nulls])
    });
    match built {
        Some(true) => Ok(reversed),
        _ => internal_err!("the reverse of window function {name} is not its reverse's reverse"),
    }
}

fn encode_frame(frame: &WindowFrame) -> Result<proto::WindowFrame> {
    let units = UNITS.iter().position(|units| *units == frame.units).map_or(u32::MAX, |place| place as u32);
    let (start, end) = (Some(encode_bound(&frame.start_bound)?), Some(encode_bound(&frame.end_bound)?));
    Ok(proto::WindowFrame { units, start, end, is_causal: frame.is_causal() })
}

fn encode_bound(bound: &WindowFrameBound) -> Result<proto::FrameBound> {
    use proto::frame_bound::Bound;
    let bound = match bound {
        WindowFrameBound::Preceding(value) => Bound::Preceding(encode_scalar(value)?),
        WindowFrameBound::CurrentRow => Bound::CurrentRow(true),
        WindowFrameBound::Following(value) => Bound::Following(encode_scalar(value)?),
    };
    Ok(proto::FrameBound { bound: Some(bound) })
}

fn restore_frame(frame: &Option<proto::WindowFrame>) -> Result<WindowFrame> {
    let Some(frame) = frame else { return internal_err!("a window has no frame") };
    let Some(units) = UNITS.get(frame.units as usize) else {
        return internal_err!("the units of a window's frame are unknown");
    };
    // Whether it is causal was decided before the types of the bounds were known, and does not follow from them any more.
    let end = match frame.is_causal {
        true => WindowFrameBound::CurrentRow,
        false => WindowFrameBound::Following(ScalarValue::UInt64(None)),
    };
    let mut restored = WindowFrame::new_bounds(WindowFrameUnits::Rows, WindowFrameBound::CurrentRow, end);
    restored.units = *units;
    restored.start_bound = restore_bound(&frame.start)?;
    restored.end_bound = restore_bound(&frame.end)?;
    match restored.is_causal() == frame.is_causal {
        true => Ok(restored),
        false => internal_err!("the frame of a window cannot be rebuilt"),
    }
}

fn restore_bound(bound: &Option<proto::FrameBound>) -> Result<WindowFrameBound> {
    use proto::frame_bound::Bound;
    match bound.as_ref().and_then(|bound| bound.bound.as_ref()) {
        Some(Bound::Preceding(scalar)) => Ok(WindowFrameBound::Preceding(decode_scalar(scalar)?)),
        Some(Bound::CurrentRow(_)) => Ok(WindowFrameBound::CurrentRow),
        Some(Bound::Following(scalar)) => Ok(WindowFrameBound::Following(decode_scalar(scalar)?)),
        None => internal_err!("a bound of a window's frame is missing"),
    }
}
