//! Expressions that DataFusion's encoding changes: literals of Float16 or with metadata, casts to a field, checked
//! arithmetic, and scalar functions.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use datafusion::common::format::DEFAULT_CAST_OPTIONS;
use datafusion::common::metadata::FieldMetadata;
use datafusion::common::{Result, ScalarValue, internal_err, plan_err};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, Column, Literal, TryCastExpr};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_plan::joins::HashTableLookupExpr;
use datafusion::physical_plan::repartition::RangeExpr;
use springald_proto::plan as proto;
use springald_proto::plan::expression_node::Node;

use super::debug_text::last_flag;
use super::functions::{encode_scalar_function, restore_scalar_function};
use super::values::{decode_field, decode_scalar, encode_field, encode_scalar, is_kept_by_datafusion};

/// An expression of ours, and the operands that it is applied to.
pub(super) struct EncodedExpression {
    pub(super) node: Node,
    pub(super) operands: Vec<Arc<dyn PhysicalExpr>>,
}

/// Encodes an expression that DataFusion's encoding would change; `None`: it keeps it.
pub(super) fn encode(expression: &Arc<dyn PhysicalExpr>) -> Result<Option<EncodedExpression>> {
    if let Some(literal) = expression.downcast_ref::<Literal>() {
        encode_literal(literal)
    } else if let Some(function) = expression.downcast_ref::<ScalarFunctionExpr>() {
        encode_function(function).map(Some)
    } else if let Some(cast) = expression.downcast_ref::<CastExpr>() {
        encode_cast(cast)
    } else if let Some(cast) = expression.downcast_ref::<TryCastExpr>() {
        let operands = vec![Arc::clone(cast.expr())];
        let explicit = cast.target_metadata().is_some();
        let node = proto::CastNode { field: encode_field(cast.target_field())?, explicit, safe: false, is_try: true };
        Ok(explicit.then_some(EncodedExpression { node: Node::Cast(node), operands }))
    } else if let Some(binary) = expression.downcast_ref::<BinaryExpr>() {
        encode_binary(binary)
    } else if expression.is::<HashTableLookupExpr>() || expression.is::<RangeExpr>() {
        plan_err!("expression {expression} of a running join cannot be sent to executors")
    } else {
        Ok(None)
    }
}

/// Decodes an expression of ours.
pub(super) fn restore(
    node: &proto::ExpressionNode,
    operands: Vec<Arc<dyn PhysicalExpr>>,
    context: &TaskContext,
) -> Result<Arc<dyn PhysicalExpr>> {
    match (&node.node, operands.as_slice()) {
        (Some(Node::Literal(literal)), []) => restore_literal(literal),
        (Some(Node::Cast(cast)), [operand]) => restore_cast(cast, Arc::clone(operand)),
        (Some(Node::Binary(binary)), [left, right]) => {
            let Some(operator) = Operator::from_proto_name(&binary.operator) else {
                return internal_err!("operator {:?} is unknown", binary.operator);
            };
            let expression = BinaryExpr::new(Arc::clone(left), operator, Arc::clone(right));
            Ok(Arc::new(expression.with_fail_on_overflow(binary.fail_on_overflow)))
        }
        (Some(Node::ScalarFunction(function)), _) => restore_function(function, operands, context),
        _ => internal_err!("an expression of the stage's plan is unknown, or has the wrong number of operands"),
    }
}

fn encode_literal(literal: &Literal) -> Result<Option<EncodedExpression>> {
    let value = literal.value();
    let field = literal.return_field(&Schema::empty())?;
    if field.metadata().is_empty() && is_kept(value) {
        return Ok(None);
    }
    let mut metadata: Vec<_> = field.metadata().iter().collect();
    metadata.sort();
    let entry = |(key, value): (&String, &String)| proto::MetadataEntry { key: key.clone(), value: value.clone() };
    let metadata = metadata.into_iter().map(entry).collect();
    let node = Node::Literal(proto::LiteralNode { scalar: encode_scalar(value)?, metadata });
    Ok(Some(EncodedExpression { node, operands: vec![] }))
}

/// True if DataFusion's encoding keeps the value.
fn is_kept(value: &ScalarValue) -> bool {
    match value {
        ScalarValue::Boolean(_)
        | ScalarValue::Int8(_)
        | ScalarValue::Int16(_)
        | ScalarValue::Int32(_)
        | ScalarValue::Int64(_)
        | ScalarValue::Float64(_)
        | ScalarValue::Utf8(_)
        | ScalarValue::Utf8View(_)
        | ScalarValue::Date32(_)
        | ScalarValue::Decimal128(..) => true,
        other => is_kept_by_datafusion(other),
    }
}

fn restore_literal(literal: &proto::LiteralNode) -> Result<Arc<dyn PhysicalExpr>> {
    let entries = literal.metadata.iter().map(|entry| (entry.key.clone(), entry.value.clone()));
    let metadata: HashMap<String, String> = entries.collect();
    let metadata = (!metadata.is_empty()).then(|| FieldMetadata::from(metadata));
    Ok(Arc::new(Literal::new_with_metadata(decode_scalar(&literal.scalar)?, metadata)))
}

fn encode_cast(cast: &CastExpr) -> Result<Option<EncodedExpression>> {
    let options = cast.cast_options();
    if options.format_options != DEFAULT_CAST_OPTIONS.format_options {
        return plan_err!("{cast} has formats of its own, which cannot be sent to executors");
    }
    let explicit = cast.has_explicit_metadata();
    let safe = options.safe;
    if !explicit && safe == DEFAULT_CAST_OPTIONS.safe {
        return Ok(None);
    }
    let node = proto::CastNode { field: encode_field(cast.target_field())?, explicit, safe, is_try: false };
    Ok(Some(EncodedExpression { node: Node::Cast(node), operands: vec![Arc::clone(cast.expr())] }))
}

fn restore_cast(cast: &proto::CastNode, operand: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
    let field = decode_field(&cast.field)?;
    if cast.is_try {
        return Ok(Arc::new(TryCastExpr::new_with_target_field(operand, field)));
    }
    let mut options = DEFAULT_CAST_OPTIONS;
    options.safe = cast.safe;
    Ok(match cast.explicit {
        true => Arc::new(CastExpr::new_with_target_field(operand, field, Some(options))),
        false => Arc::new(CastExpr::new(operand, field.data_type().clone(), Some(options))),
    })
}

/// DataFusion's encoding makes one node of a chain of equal operators, and forgets which of them are checked.
fn encode_binary(binary: &BinaryExpr) -> Result<Option<EncodedExpression>> {
    let fail_on_overflow = fails_on_overflow(binary)?;
    let mut chain_fails = fail_on_overflow;
    let mut left = binary.left().downcast_ref::<BinaryExpr>();
    while let Some(next) = left.filter(|next| next.op() == binary.op() && !chain_fails) {
        chain_fails = fails_on_overflow(next)?;
        left = next.left().downcast_ref::<BinaryExpr>();
    }
    let node = || proto::BinaryNode { operator: format!("{:?}", binary.op()), fail_on_overflow };
    Ok(chain_fails.then(|| EncodedExpression {
        node: Node::Binary(node()),
        operands: vec![Arc::clone(binary.left()), Arc::clone(binary.right())],
    }))
}

/// The flag has no getter. It is read from the text of the same operator with short operands.
fn fails_on_overflow(binary: &BinaryExpr) -> Result<bool> {
    let operand: Arc<dyn PhysicalExpr> = Arc::new(Column::new("", 0));
    let short = Arc::new(binary.clone()).with_new_children(vec![Arc::clone(&operand), operand])?;
    last_flag(&short, "fail_on_overflow")
}

fn encode_function(function: &ScalarFunctionExpr) -> Result<EncodedExpression> {
    let node = proto::ScalarFunctionNode {
        name: function.name().to_owned(),
        return_field: encode_field(&function.return_field(&Schema::empty())?)?,
        function: Some(encode_scalar_function(function)?),
    };
    Ok(EncodedExpression { node: Node::ScalarFunction(node), operands: function.args().to_vec() })
}

fn restore_function(
    node: &proto::ScalarFunctionNode,
    operands: Vec<Arc<dyn PhysicalExpr>>,
    context: &TaskContext,
) -> Result<Arc<dyn PhysicalExpr>> {
    let function = restore_scalar_function(&node.name, node.function.as_ref(), context)?;
    let options = Arc::clone(context.session_config().options());
    let field = decode_field(&node.return_field)?;
    Ok(Arc::new(ScalarFunctionExpr::new(&node.name, function, operands, field, options)))
}
