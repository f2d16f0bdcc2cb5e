//! Samples, as DataFusion has none.

use std::sync::Arc;

use datafusion::common::{Result, internal_err};
use datafusion::physical_plan::ExecutionPlan;
use springald_proto::plan::plan_node::Node;
use springald_proto::plan::{SampleMethod as EncodedMethod, SampleNode};

use super::super::context::EncodeContext;
use crate::sample::{Percent, Sample, SampleExec, SampleMethod};

pub(super) fn encode(plan: &Arc<dyn ExecutionPlan>, _context: &EncodeContext<'_>) -> Result<Option<Node>> {
    let Some(plan) = plan.downcast_ref::<SampleExec>() else { return Ok(None) };
    let Sample { method, percent, seed } = *plan.sample();
    let method = match method {
        SampleMethod::Bernoulli => EncodedMethod::Bernoulli,
        SampleMethod::System => EncodedMethod::System,
    };
    Ok(Some(Node::Sample(SampleNode { method: method.into(), percent: percent.value(), seed })))
}

/// Decodes a sample of `input`.
pub(super) fn restore(node: &SampleNode, input: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let method = match node.method() {
        EncodedMethod::Bernoulli => SampleMethod::Bernoulli,
        EncodedMethod::System => SampleMethod::System,
        EncodedMethod::Unspecified => return internal_err!("the method of a sample is unknown"),
    };
    let sample = Sample { method, percent: Percent::new(node.percent)?, seed: node.seed };
    Ok(Arc::new(SampleExec::new(Arc::clone(input), sample)))
}
