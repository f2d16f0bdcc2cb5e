//! Plans to nodes. Every operator comes by here, also those below DataFusion's own: so what it leaves out of one can be
//! put around it.

use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use datafusion::common::Result;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::{ExecutionPlan, Partitioning};
use datafusion_proto::physical_plan::to_proto::{serialize_partitioning, serialize_physical_expr_with_converter};
use datafusion_proto::physical_plan::{
    PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalPlanNodeExt, PhysicalProtoConverterExtension,
};
use datafusion_proto::protobuf::physical_plan_node::PhysicalPlanType;
use datafusion_proto::protobuf::{self, PhysicalExprNode, PhysicalExtensionNode, PhysicalPlanNode};
use prost::Message;
use springald_proto::exchange::{
    ExchangeNode, KeyColumns, ReaderNode, RuntimeFilterNode, WriterNode, exchange_node::Node,
};

use super::{limits, samples, scans};
use crate::exchange::{ExchangeReaderExec, ExchangeWriterExec, RuntimeFilterExec};
use crate::sample::SampleExec;

/// Encodes as DataFusion does, and adds what that leaves out.
pub(super) struct Encoder;

impl PhysicalProtoConverterExtension for Encoder {
    fn execution_plan_to_proto(
        &self,
        plan: &Arc<dyn ExecutionPlan>,
        codec: &dyn PhysicalExtensionCodec,
    ) -> Result<PhysicalPlanNode> {
        let ours_alone = match plan.downcast_ref::<SampleExec>() {
            Some(sample) => Some(Node::Sample(samples::encode(sample))),
            None => exchange_operator(plan, codec, self)?,
        };
        if let Some(node) = ours_alone {
            let inputs = plan.children().into_iter().map(|input| self.execution_plan_to_proto(input, codec));
            return Ok(ours(node, inputs.collect::<Result<_>>()?));
        }
        if let Some((limit, rest)) = limits::left_out(plan)? {
            return Ok(ours(Node::Limit(limit), vec![self.execution_plan_to_proto(&rest, codec)?]));
        }
        let node = PhysicalPlanNode::try_from_physical_plan_with_converter(Arc::clone(plan), codec, self)?;
        Ok(match scans::left_out(plan)? {
            Some(scan) => ours(Node::Scan(scan), vec![node]),
            None => node,
        })
    }

    fn proto_to_execution_plan(
        &self,
        node: &PhysicalPlanNode,
        context: &PhysicalPlanDecodeContext<'_>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.default_proto_to_execution_plan(node, context)
    }

    fn proto_to_physical_expr(
        &self,
        node: &PhysicalExprNode,
        schema: &Schema,
        context: &PhysicalPlanDecodeContext<'_>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        self.default_proto_to_physical_expr(node, schema, context)
    }

    fn physical_expr_to_proto(
        &self,
        expression: &Arc<dyn PhysicalExpr>,
        codec: &dyn PhysicalExtensionCodec,
    ) -> Result<PhysicalExprNode> {
        serialize_physical_expr_with_converter(expression, codec, self)
    }
}

fn ours(node: Node, inputs: Vec<PhysicalPlanNode>) -> PhysicalPlanNode {
    let node = ExchangeNode { node: Some(node) }.encode_to_vec();
    PhysicalPlanNode { physical_plan_type: Some(PhysicalPlanType::Extension(PhysicalExtensionNode { node, inputs })) }
}

/// The node of an exchange operator; `None` for others.
fn exchange_operator(
    plan: &Arc<dyn ExecutionPlan>,
    codec: &dyn PhysicalExtensionCodec,
    encoder: &Encoder,
) -> Result<Option<Node>> {
    let node = if let Some(reader) = plan.downcast_ref::<ExchangeReaderExec>() {
        let schema: protobuf::Schema = plan.schema().as_ref().try_into()?;
        Node::Reader(ReaderNode {
            stage: reader.stage().0,
            schema: schema.encode_to_vec(),
            partitioning: encode_partitioning(plan.properties().output_partitioning(), codec, encoder)?,
            broadcast: reader.broadcast(),
            input_partitions: reader.input_partitions() as u32,
        })
    } else if let Some(writer) = plan.downcast_ref::<ExchangeWriterExec>() {
        let partitioning = match writer.partitioning() {
            Some(partitioning) => encode_partitioning(partitioning, codec, encoder)?,
            None => vec![],
        };
        let keys = writer.keys().iter().map(|columns| KeyColumns { columns: encode_columns(columns) });
        Node::Writer(WriterNode { partitioning, keys: keys.collect() })
    } else if let Some(filter) = plan.downcast_ref::<RuntimeFilterExec>() {
        Node::Filter(RuntimeFilterNode {
            stage: filter.stage().0,
            partition: filter.partition(),
            columns: encode_columns(filter.columns()),
        })
    } else {
        return Ok(None);
    };
    Ok(Some(node))
}

fn encode_partitioning(
    partitioning: &Partitioning,
    codec: &dyn PhysicalExtensionCodec,
    encoder: &Encoder,
) -> Result<Vec<u8>> {
    Ok(serialize_partitioning(partitioning, codec, encoder)?.encode_to_vec())
}

fn encode_columns(columns: &[usize]) -> Vec<u32> {
    columns.iter().map(|column| *column as u32).collect()
}
