//! Samples, as DataFusion has none.

use std::sync::Arc;

use datafusion::common::{Result, internal_err};
use datafusion::physical_plan::ExecutionPlan;
use springald_proto::exchange::{SampleMethod as EncodedMethod, SampleNode};

use crate::sample::{Percent, Sample, SampleExec, SampleMethod};

/// Encodes a sample without its input.
pub(super) fn encode(plan: &SampleExec) -> SampleNode {
    let Sample { method, percent, seed } = *plan.sample();
    let method = match method {
        SampleMethod::Bernoulli => EncodedMethod::Bernoulli,
        SampleMethod::System => EncodedMethod::System,
    };
    SampleNode { method: method.into(), percent: percent.value(), seed }
}

/// Decodes a sample of `input`.
pub(super) fn decode(node: &SampleNode, input: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let method = match node.method() {
        EncodedMethod::Bernoulli => SampleMethod::Bernoulli,
        EncodedMethod::System => SampleMethod::System,
        EncodedMethod::Unspecified => return internal_err!("the method of a sample is unknown"),
    };
    let sample = Sample { method, percent: Percent::new(node.percent)?, seed: node.seed };
    Ok(Arc::new(SampleExec::new(Arc::clone(input), sample)))
}
