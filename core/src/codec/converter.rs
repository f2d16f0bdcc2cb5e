//! The two directions between plans and messages. Every operator and every expression passes here, those below
//! DataFusion's own, too: so an encoding of ours can stand anywhere in a plan.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use datafusion::common::{Result, internal_err};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::to_proto::serialize_physical_expr_with_converter;
use datafusion_proto::physical_plan::{
    PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalPlanNodeExt, PhysicalProtoConverterExtension,
};
use datafusion_proto::protobuf::physical_expr_node::ExprType;
use datafusion_proto::protobuf::physical_plan_node::PhysicalPlanType;
use datafusion_proto::protobuf::{
    PhysicalDynamicFilterNode, PhysicalExprNode, PhysicalExtensionExprNode, PhysicalExtensionNode, PhysicalPlanNode,
};
use prost::Message;
use springald_proto::plan::{ExpressionNode, PlanNode};

use super::context::{DecodeContext, EncodeContext};
use super::values::{check_schema, decode};
use super::window_filters::WindowFilters;
use super::{expressions, operators};

/// Encodes plans and expressions.
pub(super) struct PlanEncoder<'a> {
    /// Filters of the plan's window functions.
    pub(super) filters: &'a WindowFilters,
}

impl PhysicalProtoConverterExtension for PlanEncoder<'_> {
    fn execution_plan_to_proto(
        &self,
        plan: &Arc<dyn ExecutionPlan>,
        codec: &dyn PhysicalExtensionCodec,
    ) -> Result<PhysicalPlanNode> {
        let context = EncodeContext { encoder: self, codec };
        let encode = || {
            check_schema(&plan.schema())?;
            match operators::encode(plan, &context)? {
                Some(encoded) => Ok(extension(encoded)),
                None => PhysicalPlanNode::try_from_physical_plan_with_converter(Arc::clone(plan), codec, self),
            }
        };
        encode().map_err(|error| operators::name_in_error(plan.as_ref(), error))
    }

    fn physical_expr_to_proto(
        &self,
        expression: &Arc<dyn PhysicalExpr>,
        codec: &dyn PhysicalExtensionCodec,
    ) -> Result<PhysicalExprNode> {
        match expressions::encode(expression)? {
            Some(encoded) => {
                let inputs = encoded.operands.iter().map(|operand| self.physical_expr_to_proto(operand, codec));
                let inputs = inputs.collect::<Result<_>>()?;
                let expr = ExpressionNode { node: Some(encoded.node) }.encode_to_vec();
                let expr_type = Some(ExprType::Extension(PhysicalExtensionExprNode { expr, inputs }));
                Ok(PhysicalExprNode { expr_id: None, expr_type })
            }
            None => serialize_physical_expr_with_converter(expression, codec, self),
        }
    }

    fn proto_to_execution_plan(
        &self,
        _node: &PhysicalPlanNode,
        _context: &PhysicalPlanDecodeContext<'_>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        internal_err!("an encoder does not decode plans")
    }

    fn proto_to_physical_expr(
        &self,
        _node: &PhysicalExprNode,
        _schema: &Schema,
        _context: &PhysicalPlanDecodeContext<'_>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        internal_err!("an encoder does not decode expressions")
    }
}

fn extension(encoded: operators::EncodedOperator) -> PhysicalPlanNode {
    let node = PlanNode { node: Some(encoded.node) }.encode_to_vec();
    let extension = PhysicalExtensionNode { node, inputs: encoded.inputs };
    PhysicalPlanNode { physical_plan_type: Some(PhysicalPlanType::Extension(extension)) }
}

/// Decodes one plan. An expression with an identity (a filter that one operator fills while it runs, and that others
/// use) is one expression again, wherever it stands.
#[derive(Default)]
pub(super) struct PlanDecoder {
    expressions: RefCell<HashMap<u64, Arc<dyn PhysicalExpr>>>,
}

impl PlanDecoder {
    /// Decodes a filter as it was made, without the columns of an operator that it was pushed to. Those that have such
    /// columns are derived from it, and share its state.
    fn first_occurrence(
        &self,
        id: u64,
        filter: &PhysicalDynamicFilterNode,
        schema: &Schema,
        context: &PhysicalPlanDecodeContext<'_>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let filter = PhysicalDynamicFilterNode { remapped_children: vec![], ..filter.clone() };
        let expr_type = Some(ExprType::DynamicFilter(Box::new(filter)));
        let node = PhysicalExprNode { expr_id: Some(id), expr_type };
        let base = self.parse_expression(&node, schema, context)?;
        self.expressions.borrow_mut().insert(id, Arc::clone(&base));
        Ok(base)
    }

    fn parse_expression(
        &self,
        node: &PhysicalExprNode,
        schema: &Schema,
        context: &PhysicalPlanDecodeContext<'_>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let Some(ExprType::Extension(extension)) = &node.expr_type else {
            return self.default_proto_to_physical_expr(node, schema, context);
        };
        let operands = extension.inputs.iter().map(|input| self.proto_to_physical_expr(input, schema, context));
        let operands = operands.collect::<Result<Vec<_>>>()?;
        let node = decode::<ExpressionNode>(&extension.expr, "an expression")?;
        expressions::restore(&node, operands, context.task_ctx())
    }
}

impl PhysicalProtoConverterExtension for PlanDecoder {
    fn proto_to_execution_plan(
        &self,
        node: &PhysicalPlanNode,
        context: &PhysicalPlanDecodeContext<'_>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(PhysicalPlanType::Extension(extension)) = &node.physical_plan_type else {
            return self.default_proto_to_execution_plan(node, context);
        };
        let inputs = extension.inputs.iter().map(|input| self.proto_to_execution_plan(input, context));
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        let node = decode::<PlanNode>(&extension.node, "an operator")?;
        operators::restore(&node, &inputs, &DecodeContext { decoder: self, context })
    }

    fn proto_to_physical_expr(
        &self,
        node: &PhysicalExprNode,
        schema: &Schema,
        context: &PhysicalPlanDecodeContext<'_>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        match (node.expr_id, &node.expr_type) {
            (Some(id), Some(ExprType::DynamicFilter(filter))) => {
                let known = self.expressions.borrow().get(&id).cloned();
                let base = match known {
                    Some(base) => base,
                    None => self.first_occurrence(id, filter, schema, context)?,
                };
                if filter.remapped_children.is_empty() {
                    return Ok(base);
                }
                let columns = filter.remapped_children.iter();
                let columns = columns.map(|column| self.proto_to_physical_expr(column, schema, context));
                base.with_new_children(columns.collect::<Result<_>>()?)
            }
            (Some(_), _) => internal_err!("an expression of an unknown kind has an identity"),
            (None, _) => self.parse_expression(node, schema, context),
        }
    }

    fn execution_plan_to_proto(
        &self,
        _plan: &Arc<dyn ExecutionPlan>,
        _codec: &dyn PhysicalExtensionCodec,
    ) -> Result<PhysicalPlanNode> {
        internal_err!("a decoder does not encode plans")
    }

    fn physical_expr_to_proto(
        &self,
        _expression: &Arc<dyn PhysicalExpr>,
        _codec: &dyn PhysicalExtensionCodec,
    ) -> Result<PhysicalExprNode> {
        internal_err!("a decoder does not encode expressions")
    }
}

/// Refuses the operators and expressions for which neither DataFusion nor the converter has an encoding.
#[derive(Debug)]
pub(super) struct RefusingCodec;

impl PhysicalExtensionCodec for RefusingCodec {
    fn try_decode(
        &self,
        _bytes: &[u8],
        _inputs: &[Arc<dyn ExecutionPlan>],
        _context: &TaskContext,
        _converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        internal_err!("an operator of the stage's plan is unknown")
    }

    fn try_encode(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _bytes: &mut Vec<u8>,
        _converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        internal_err!("operator {} has no encoding", plan.name())
    }
}
