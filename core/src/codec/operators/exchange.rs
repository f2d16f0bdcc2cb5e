//! The exchange operators.

use std::sync::Arc;

use datafusion::common::{Result, internal_err};
use datafusion::physical_plan::ExecutionPlan;
use springald_proto::plan as proto;
use springald_proto::plan::plan_node::Node;

use super::super::context::{DecodeContext, EncodeContext};
use super::super::properties::{encode_properties, restore_properties};
use super::super::values::{decode_indices, decode_statistics, encode_indices, encode_statistics};
use crate::exchange::{ExchangeKind, ExchangeReaderExec, ExchangeWriterExec, RuntimeFilterExec};
use crate::ids::StageId;

pub(super) fn encode(plan: &Arc<dyn ExecutionPlan>, context: &EncodeContext<'_>) -> Result<Option<Node>> {
    if let Some(reader) = plan.downcast_ref::<ExchangeReaderExec>() {
        return Ok(Some(Node::Reader(proto::ReaderNode {
            stage: reader.stage().0,
            kind: encode_kind(reader.kind()).into(),
            broadcast: reader.broadcast(),
            input_partitions: reader.input_partitions() as u32,
            properties: Some(encode_properties(plan.properties(), context)?),
            statistics: Some(encode_statistics(reader.statistics())?),
        })));
    }
    if let Some(writer) = plan.downcast_ref::<ExchangeWriterExec>() {
        return Ok(Some(Node::Writer(proto::WriterNode {
            partitioning: writer.partitioning().map(|split| context.partitioning(split)).transpose()?,
            keys: writer.keys().iter().map(|columns| encode_indices(columns)).collect(),
        })));
    }
    let filter = plan.downcast_ref::<RuntimeFilterExec>().map(|filter| {
        Node::RuntimeFilter(proto::RuntimeFilterNode {
            stage: filter.stage().0,
            partition: filter.partition(),
            columns: Some(encode_indices(filter.columns())),
        })
    });
    Ok(filter)
}

fn encode_kind(kind: ExchangeKind) -> proto::ExchangeKind {
    match kind {
        ExchangeKind::Passthrough => proto::ExchangeKind::Passthrough,
        ExchangeKind::Repartition { preserve_order: false } => proto::ExchangeKind::Repartition,
        ExchangeKind::Repartition { preserve_order: true } => proto::ExchangeKind::RepartitionPreserveOrder,
        ExchangeKind::Gather => proto::ExchangeKind::Gather,
    }
}

pub(super) fn restore_reader(node: &proto::ReaderNode, context: &DecodeContext<'_>) -> Result<Arc<dyn ExecutionPlan>> {
    let kind = match node.kind() {
        proto::ExchangeKind::Passthrough => ExchangeKind::Passthrough,
        proto::ExchangeKind::Repartition => ExchangeKind::Repartition { preserve_order: false },
        proto::ExchangeKind::RepartitionPreserveOrder => ExchangeKind::Repartition { preserve_order: true },
        proto::ExchangeKind::Gather => ExchangeKind::Gather,
        proto::ExchangeKind::Unspecified => return internal_err!("the kind of an exchange reader is missing"),
    };
    let Some(statistics) = &node.statistics else { return internal_err!("an exchange reader has no statistics") };
    Ok(Arc::new(ExchangeReaderExec::new(
        StageId(node.stage),
        kind,
        node.broadcast,
        node.input_partitions as usize,
        Arc::new(restore_properties(&node.properties, context)?),
        Arc::new(decode_statistics(statistics)?),
    )))
}

pub(super) fn restore_writer(
    node: &proto::WriterNode,
    input: &Arc<dyn ExecutionPlan>,
    context: &DecodeContext<'_>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let partitioning = match &node.partitioning {
        None => None,
        split => Some(context.partitioning(split, &input.schema())?),
    };
    let keys = node.keys.iter().map(|key| checked_columns(key, input)).collect::<Result<_>>()?;
    Ok(Arc::new(ExchangeWriterExec::new(Arc::clone(input), partitioning).with_keys(keys)))
}

pub(super) fn restore_filter(
    node: &proto::RuntimeFilterNode,
    input: &Arc<dyn ExecutionPlan>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let columns = node.columns.as_ref().map_or(Ok(vec![]), |columns| checked_columns(columns, input))?;
    Ok(Arc::new(RuntimeFilterExec::new(Arc::clone(input), columns, StageId(node.stage), node.partition)))
}

/// Columns of a key, which must be among those of the input.
fn checked_columns(columns: &proto::Indices, input: &Arc<dyn ExecutionPlan>) -> Result<Vec<usize>> {
    let (columns, count) = (decode_indices(columns), input.schema().fields().len());
    match columns.iter().all(|column| *column < count) {
        true => Ok(columns),
        false => internal_err!("a key has columns {columns:?} of an input with {count}"),
    }
}
