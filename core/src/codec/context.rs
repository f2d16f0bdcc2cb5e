//! What the encodings of operators and expressions of ours share: expressions, orderings and partitionings as messages,
//! through the same converter as everything else.

use std::sync::Arc;

use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::Schema;
use datafusion::common::{Result, internal_err, plan_err};
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr, RangePartitioning, SplitPoint};
use datafusion::physical_plan::{ExecutionPlan, Partitioning};
use datafusion_proto::physical_plan::{
    PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalProtoConverterExtension,
};
use datafusion_proto::protobuf::{PhysicalExprNode, PhysicalPlanNode};
use prost::Message;
use springald_proto::plan as proto;

use super::converter::{PlanDecoder, PlanEncoder};
use super::values::{decode, decode_scalar, encode_scalar};

/// Encodes the parts of an operator.
#[derive(Clone, Copy)]
pub(super) struct EncodeContext<'a> {
    pub(super) encoder: &'a PlanEncoder<'a>,
    pub(super) codec: &'a dyn PhysicalExtensionCodec,
}

impl EncodeContext<'_> {
    pub(super) fn plan(&self, plan: &Arc<dyn ExecutionPlan>) -> Result<PhysicalPlanNode> {
        self.encoder.execution_plan_to_proto(plan, self.codec)
    }

    pub(super) fn expression(&self, expression: &Arc<dyn PhysicalExpr>) -> Result<Vec<u8>> {
        let bytes = self.encoder.physical_expr_to_proto(expression, self.codec)?.encode_to_vec();
        match PhysicalExprNode::decode(bytes.as_slice()) {
            Ok(_) => Ok(bytes),
            Err(error) => plan_err!("an expression is nested too deeply to be sent to an executor: {error}"),
        }
    }

    pub(super) fn expressions(&self, expressions: &[Arc<dyn PhysicalExpr>]) -> Result<Vec<Vec<u8>>> {
        expressions.iter().map(|expression| self.expression(expression)).collect()
    }

    pub(super) fn projected(&self, expressions: &[ProjectionExpr]) -> Result<Vec<proto::ProjectedExpression>> {
        let encode = |projected: &ProjectionExpr| {
            let expression = self.expression(&projected.expr)?;
            Ok(proto::ProjectedExpression { expression, alias: projected.alias.clone() })
        };
        expressions.iter().map(encode).collect()
    }

    pub(super) fn ordering(&self, ordering: &[PhysicalSortExpr]) -> Result<proto::Ordering> {
        let encode = |sort: &PhysicalSortExpr| {
            Ok(proto::SortExpression {
                expression: self.expression(&sort.expr)?,
                descending: sort.options.descending,
                nulls_first: sort.options.nulls_first,
            })
        };
        Ok(proto::Ordering { expressions: ordering.iter().map(encode).collect::<Result<_>>()? })
    }

    pub(super) fn optional_ordering(&self, ordering: Option<&LexOrdering>) -> Result<Option<proto::Ordering>> {
        ordering.map(|ordering| self.ordering(ordering)).transpose()
    }

    pub(super) fn orderings(&self, orderings: &[LexOrdering]) -> Result<Vec<proto::Ordering>> {
        orderings.iter().map(|ordering| self.ordering(ordering)).collect()
    }

    pub(super) fn partitioning(&self, partitioning: &Partitioning) -> Result<proto::Partitioning> {
        use proto::partitioning::Kind;
        let kind = match partitioning {
            Partitioning::RoundRobinBatch(count) => Kind::RoundRobin(*count as u64),
            Partitioning::UnknownPartitioning(count) => Kind::Unknown(*count as u64),
            Partitioning::Hash(expressions, count) => Kind::Hash(proto::HashPartitioning {
                expressions: self.expressions(expressions)?,
                count: *count as u64,
            }),
            Partitioning::Range(range) => Kind::Range(proto::RangePartitioning {
                ordering: Some(self.ordering(range.ordering())?),
                split_points: range.split_points().iter().map(encode_split_point).collect::<Result<_>>()?,
            }),
        };
        Ok(proto::Partitioning { kind: Some(kind) })
    }
}

fn encode_split_point(point: &SplitPoint) -> Result<proto::SplitPoint> {
    Ok(proto::SplitPoint { scalars: point.values().iter().map(encode_scalar).collect::<Result<_>>()? })
}

/// Decodes the parts of an operator.
#[derive(Clone, Copy)]
pub(super) struct DecodeContext<'a> {
    pub(super) decoder: &'a PlanDecoder,
    pub(super) context: &'a PhysicalPlanDecodeContext<'a>,
}

impl DecodeContext<'_> {
    pub(super) fn expression(&self, bytes: &[u8], schema: &Schema) -> Result<Arc<dyn PhysicalExpr>> {
        let node = decode::<PhysicalExprNode>(bytes, "an expression")?;
        self.decoder.proto_to_physical_expr(&node, schema, self.context)
    }

    pub(super) fn expressions(&self, expressions: &[Vec<u8>], schema: &Schema) -> Result<Vec<Arc<dyn PhysicalExpr>>> {
        expressions.iter().map(|bytes| self.expression(bytes, schema)).collect()
    }

    pub(super) fn projected(
        &self,
        expressions: &[proto::ProjectedExpression],
        schema: &Schema,
    ) -> Result<Vec<ProjectionExpr>> {
        let decode = |projected: &proto::ProjectedExpression| {
            let expression = self.expression(&projected.expression, schema)?;
            Ok(ProjectionExpr::new(expression, projected.alias.clone()))
        };
        expressions.iter().map(decode).collect()
    }

    pub(super) fn sort_expressions(
        &self,
        ordering: &Option<proto::Ordering>,
        schema: &Schema,
    ) -> Result<Vec<PhysicalSortExpr>> {
        let decode = |sort: &proto::SortExpression| {
            let options = SortOptions { descending: sort.descending, nulls_first: sort.nulls_first };
            Ok(PhysicalSortExpr::new(self.expression(&sort.expression, schema)?, options))
        };
        ordering.iter().flat_map(|ordering| &ordering.expressions).map(decode).collect()
    }

    pub(super) fn optional_ordering(
        &self,
        ordering: &Option<proto::Ordering>,
        schema: &Schema,
    ) -> Result<Option<LexOrdering>> {
        Ok(LexOrdering::new(self.sort_expressions(ordering, schema)?))
    }

    pub(super) fn ordering(&self, ordering: &Option<proto::Ordering>, schema: &Schema) -> Result<LexOrdering> {
        match self.optional_ordering(ordering, schema)? {
            Some(ordering) => Ok(ordering),
            None => internal_err!("an ordering of the stage's plan is empty"),
        }
    }

    pub(super) fn orderings(&self, orderings: &[proto::Ordering], schema: &Schema) -> Result<Vec<LexOrdering>> {
        orderings.iter().map(|ordering| self.ordering(&Some(ordering.clone()), schema)).collect()
    }

    pub(super) fn partitioning(
        &self,
        partitioning: &Option<proto::Partitioning>,
        schema: &Schema,
    ) -> Result<Partitioning> {
        use proto::partitioning::Kind;
        let kind = partitioning.as_ref().and_then(|partitioning| partitioning.kind.as_ref());
        Ok(match kind {
            Some(Kind::RoundRobin(count)) => Partitioning::RoundRobinBatch(*count as usize),
            Some(Kind::Unknown(count)) => Partitioning::UnknownPartitioning(*count as usize),
            Some(Kind::Hash(hash)) => {
                Partitioning::Hash(self.expressions(&hash.expressions, schema)?, hash.count as usize)
            }
            Some(Kind::Range(range)) => {
                let points = range.split_points.iter().map(decode_split_point).collect::<Result<_>>()?;
                Partitioning::Range(RangePartitioning::try_new(self.ordering(&range.ordering, schema)?, points)?)
            }
            None => return internal_err!("a partitioning of the stage's plan is missing"),
        })
    }
}

fn decode_split_point(point: &proto::SplitPoint) -> Result<SplitPoint> {
    let values = point.scalars.iter().map(|scalar| decode_scalar(scalar)).collect::<Result<_>>()?;
    Ok(SplitPoint::new(values))
}

pub(super) fn encode_fetch(fetch: Option<usize>) -> Option<u64> {
    fetch.map(|rows| rows as u64)
}

pub(super) fn decode_fetch(fetch: Option<u64>) -> Option<usize> {
    fetch.map(|rows| rows as usize)
}
