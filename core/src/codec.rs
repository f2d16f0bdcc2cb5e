//! Stage plans as bytes: DataFusion's protobuf encoding, with the exchange operators added, and what it leaves out of
//! its own operators.
//!
//! ```text
//!   operator ─encoding─▶ DataFusion's node ─────────────▶ operator
//!                        our node ─────────────decoding─▶ exchange operator
//!                        our node [ DataFusion's node ] ▶ operator, with what DataFusion left out (scans, limits)
//! ```
//!
//! Both ends have the same tree of operators: nothing is added to it for the way.

mod encoding;
mod limits;
mod samples;
mod scans;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use datafusion::common::{Result, internal_datafusion_err, internal_err, plan_err};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::{ExecutionPlan, Partitioning};
use datafusion_proto::bytes::{
    physical_plan_from_bytes_with_proto_converter, physical_plan_to_bytes_with_proto_converter,
};
use datafusion_proto::physical_plan::from_proto::parse_protobuf_partitioning;
use datafusion_proto::physical_plan::{
    DeduplicatingProtoConverter, PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalProtoConverterExtension,
};
use datafusion_proto::protobuf;
use prost::Message;
use springald_proto::exchange::{ExchangeNode, ReaderNode, RuntimeFilterNode, WriterNode, exchange_node::Node};

use self::encoding::Encoder;
use crate::exchange::{ExchangeReaderExec, ExchangeWriterExec, RuntimeFilterExec};
use crate::ids::StageId;

/// Encodes a stage's plan. Fails where DataFusion cannot encode an operator or expression of it, and where executors could
/// not decode it: messages in messages are bounded there, so that none overflows a stack.
pub fn encode_plan(plan: Arc<dyn ExecutionPlan>) -> Result<bytes::Bytes> {
    let bytes = physical_plan_to_bytes_with_proto_converter(plan, &PlanCodec, &Encoder)?;
    match protobuf::PhysicalPlanNode::decode(bytes.as_ref()) {
        Ok(_) => Ok(bytes),
        Err(error) => plan_err!("the plan is nested too deeply to be sent to an executor: {error}"),
    }
}

/// Decodes a stage's plan with the functions that `context` knows. A filter that one operator fills while it runs, and
/// others use, is one filter again.
pub fn decode_plan(bytes: &[u8], context: &TaskContext) -> Result<Arc<dyn ExecutionPlan>> {
    physical_plan_from_bytes_with_proto_converter(bytes, context, &PlanCodec, &DeduplicatingProtoConverter {})
}

/// Decodes what [`Encoder`] adds to what DataFusion can encode.
#[derive(Debug)]
struct PlanCodec;

impl PhysicalExtensionCodec for PlanCodec {
    fn try_decode(
        &self,
        bytes: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        context: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let node = ExchangeNode::decode(bytes)
            .map_err(|error| internal_datafusion_err!("an operator of the stage's plan cannot be decoded: {error}"))?;
        let context = PhysicalPlanDecodeContext::new(context, self);
        match (node.node, inputs) {
            (Some(Node::Reader(reader)), []) => decode_reader(&reader, &context, converter),
            (Some(Node::Writer(writer)), [input]) => decode_writer(&writer, input, &context, converter),
            (Some(Node::Filter(filter)), [input]) => decode_filter(&filter, input),
            (Some(Node::Scan(scan)), [input]) => scans::restore(&scan, input),
            (Some(Node::Limit(limit)), [input]) => limits::restore(&limit, input),
            (Some(Node::Sample(sample)), [input]) => samples::decode(&sample, input),
            _ => internal_err!("an operator of ours is unknown, or has the wrong number of inputs"),
        }
    }

    /// Comes by here only with what nobody can encode.
    fn try_encode(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _buffer: &mut Vec<u8>,
        _converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        internal_err!("operator {} cannot be sent to executors", plan.name())
    }
}

fn decode_partitioning(
    bytes: &[u8],
    schema: &datafusion::arrow::datatypes::Schema,
    context: &PhysicalPlanDecodeContext<'_>,
    converter: &dyn PhysicalProtoConverterExtension,
) -> Result<Partitioning> {
    let encoded = protobuf::Partitioning::decode(bytes)
        .map_err(|error| internal_datafusion_err!("a partitioning cannot be decoded: {error}"))?;
    parse_protobuf_partitioning(Some(&encoded), context, schema, converter)?
        .ok_or_else(|| internal_datafusion_err!("an exchange operator has an empty partitioning"))
}

fn decode_reader(
    reader: &ReaderNode,
    context: &PhysicalPlanDecodeContext<'_>,
    converter: &dyn PhysicalProtoConverterExtension,
) -> Result<Arc<dyn ExecutionPlan>> {
    let encoded = datafusion_proto::protobuf::Schema::decode(reader.schema.as_slice())
        .map_err(|error| internal_datafusion_err!("an exchange's schema cannot be decoded: {error}"))?;
    let schema: datafusion::arrow::datatypes::Schema = (&encoded).try_into()?;
    let partitioning = decode_partitioning(&reader.partitioning, &schema, context, converter)?;
    let schema = Arc::new(schema);
    let statistics = Arc::new(datafusion::common::Statistics::new_unknown(&schema));
    let properties = datafusion::physical_plan::PlanProperties::new(
        datafusion::physical_expr::EquivalenceProperties::new(schema), partitioning,
        datafusion::physical_plan::execution_plan::EmissionType::Incremental,
        datafusion::physical_plan::execution_plan::Boundedness::Bounded);
    let kind = if reader.broadcast { crate::exchange::ExchangeKind::Gather } else { crate::exchange::ExchangeKind::Passthrough };
    Ok(Arc::new(ExchangeReaderExec::new(
        StageId(reader.stage),
        kind,
        reader.broadcast,
        reader.input_partitions as usize,
        Arc::new(properties), statistics,
    )))
}

fn decode_writer(
    writer: &WriterNode,
    input: &Arc<dyn ExecutionPlan>,
    context: &PhysicalPlanDecodeContext<'_>,
    converter: &dyn PhysicalProtoConverterExtension,
) -> Result<Arc<dyn ExecutionPlan>> {
    let partitioning = match writer.partitioning.as_slice() {
        [] => None,
        bytes => Some(decode_partitioning(bytes, &input.schema(), context, converter)?),
    };
    let keys: Result<Vec<_>> = writer.keys.iter().map(|key| decode_columns(&key.columns, input)).collect();
    Ok(Arc::new(ExchangeWriterExec::new(Arc::clone(input), partitioning).with_keys(keys?)))
}

fn decode_filter(filter: &RuntimeFilterNode, input: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let columns = decode_columns(&filter.columns, input)?;
    Ok(Arc::new(RuntimeFilterExec::new(Arc::clone(input), columns, StageId(filter.stage), filter.partition)))
}

/// Columns of a key, which must be among those of the input.
fn decode_columns(columns: &[u32], input: &Arc<dyn ExecutionPlan>) -> Result<Vec<usize>> {
    let count = input.schema().fields().len();
    match columns.iter().all(|column| (*column as usize) < count) {
        true => Ok(columns.iter().map(|column| *column as usize).collect()),
        false => internal_err!("a key has columns {columns:?} of an input with {count}"),
    }
}
