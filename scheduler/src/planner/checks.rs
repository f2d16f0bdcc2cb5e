//! The checks that every cut plan passes before it runs.
//!
//! ```text
//!   plan ──cut, build sides, runtime filters, merge──▶ stages ──encode──▶ bytes
//!    ▲                                                  │  ▲                │
//!    └───────────── 2. put together again: equal ───────┘  └── 3. decoded: equal
//!                   1. each stage satisfies the requirements of its operators
//! ```
//!
//! What fails here is a defect of ours or of DataFusion. The query then runs in one task (1, 2) or is refused (3); it
//! never runs as something else.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, internal_datafusion_err, internal_err};
use datafusion::config::ConfigOptions;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::sanity_checker::SanityCheckPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::scalar_subquery::ScalarSubqueryExec;
use springald_core::exchange::{ExchangeKind, ExchangeReaderExec, RuntimeFilterExec};
use springald_core::ids::StageId;
use springald_core::plan_diff::difference;

use super::cut::CutStage;

/// Fails if an operator of a stage does not get the distribution or order of its input that it requires.
pub(super) fn check_requirements(stages: &[CutStage], options: &ConfigOptions) -> Result<()> {
    for stage in stages {
        let checked = SanityCheckPlan::new().optimize(Arc::clone(stage.writer.input()), options);
        checked.map_err(|error| error.context(format!("stage {}", stage.spec.id)))?;
    }
    Ok(())
}

/// Fails unless the stages, put together again, are the plan that was cut.
pub(super) fn check_assembled(stages: &[CutStage], plan: &Arc<dyn ExecutionPlan>) -> Result<()> {
    let assembled = assemble(stages)?;
    match difference(plan, &assembled)? {
        None => Ok(()),
        Some(difference) => internal_err!("the stages are not the plan that was cut: {difference}"),
    }
}

/// The plan that the stages came from: readers are replaced by what they stand for, and what was added is taken out.
fn assemble(stages: &[CutStage]) -> Result<Arc<dyn ExecutionPlan>> {
    let mut assembled: BTreeMap<StageId, Arc<dyn ExecutionPlan>> = BTreeMap::new();
    for stage in stages {
        let plan = without_additions(stage)?;
        let plan = plan.transform_up(|node| put_back(node, stages, &assembled)).data()?;
        assembled.insert(stage.spec.id, plan);
    }
    let last = stages.last().and_then(|stage| assembled.remove(&stage.spec.id));
    last.ok_or_else(|| internal_datafusion_err!("a plan has no stages"))
}

/// The stage's plan without the operator that gives it the values of scalar subqueries.
fn without_additions(stage: &CutStage) -> Result<Arc<dyn ExecutionPlan>> {
    let plan = stage.writer.input();
    if !stage.adds_subqueries {
        return Ok(Arc::clone(plan));
    }
    // Runtime filters may stand above it.
    let mut root = plan;
    while let Some(filter) = root.downcast_ref::<RuntimeFilterExec>() {
        root = filter.input();
    }
    match root.downcast_ref::<ScalarSubqueryExec>() {
        Some(added) => Ok(Arc::clone(added.input())),
        None => internal_err!("stage {} has lost its scalar subqueries", stage.spec.id),
    }
}

fn put_back(
    node: Arc<dyn ExecutionPlan>,
    stages: &[CutStage],
    assembled: &BTreeMap<StageId, Arc<dyn ExecutionPlan>>,
) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    if let Some(filter) = node.downcast_ref::<RuntimeFilterExec>() {
        return Ok(Transformed::yes(Arc::clone(filter.input())));
    }
    let Some(reader) = node.downcast_ref::<ExchangeReaderExec>() else { return Ok(Transformed::no(node)) };
    let unknown = || internal_datafusion_err!("stage {} is read before it was written", reader.stage());
    let input = Arc::clone(assembled.get(&reader.stage()).ok_or_else(unknown)?);
    let stage = stages.iter().find(|stage| stage.spec.id == reader.stage()).ok_or_else(unknown)?;
    if reader.input_partitions() != stage.writer.output_partitions() {
        return internal_err!("stage {} is read with another number of partitions", reader.stage());
    }
    let original: Arc<dyn ExecutionPlan> = match (reader.kind(), stage.writer.partitioning()) {
        (ExchangeKind::Passthrough, None) => input,
        (ExchangeKind::Gather, None) => Arc::new(CoalescePartitionsExec::new(input)),
        (ExchangeKind::Repartition { preserve_order }, Some(partitioning)) => {
            let repartition = RepartitionExec::try_new(input, partitioning.clone())?;
            Arc::new(if preserve_order { repartition.with_preserve_order() } else { repartition })
        }
        _ => return internal_err!("stage {} is not written in the way in which it is read", reader.stage()),
    };
    Ok(Transformed::yes(original))
}
