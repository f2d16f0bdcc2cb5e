//! The stage planner: cuts a physical plan into stages where rows move between partitions.
//!
//! ```text
//!   AggregateExec: Final                      stage 2: AggregateExec: Final
//!     RepartitionExec: Hash([k], 8)    ──▶               ExchangeReaderExec: stage=1, Hash([k], 8)
//!       AggregateExec: Partial                stage 1: ExchangeWriterExec: Hash([k], 8)
//!         DataSourceExec                                 AggregateExec: Partial
//!                                                          DataSourceExec
//! ```
//!
//! | operator of the plan | becomes |
//! |---|---|
//! | `RepartitionExec` by hash or range | exchange: its input is a stage that splits its rows, a reader stands in its place |
//! | `CoalescePartitionsExec` without a limit | gather: its input is a stage, a reader stands in its place |
//! | `CoalescePartitionsExec` with a limit, `SortPreservingMergeExec` | stays; its input is a stage |
//! | build side that all partitions of a join share | broadcast: a stage, read whole by every task |
//! | scalar subquery | a stage, read whole by every task whose expressions use its value |
//! | recursive query | a stage of one task with everything below it |
//! | others | stay as they are: partition `p` reads partition `p` of the input |
//!
//! No operator is changed, and no optimizer rule runs: a reader has the very properties of what it stands for, so that
//! the operators above it do not notice. What cannot be cut is named by operator and reason; such a query runs in one
//! task. `checks` puts the stages together again and compares.

use std::sync::Arc;

use datafusion::common::{DataFusionError, Statistics, plan_datafusion_err};
use datafusion::physical_expr::{PhysicalExpr, RangePartitioning};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::recursive_query::RecursiveQueryExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::scalar_subquery::{ScalarSubqueryExec, ScalarSubqueryLink};
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, Partitioning};
use springald_core::codec::sendable_properties;
use springald_core::exchange::{ExchangeKind, ExchangeReaderExec, ExchangeWriterExec, RuntimeFilterExec};
use springald_core::ids::StageId;

use super::operators::{InputUse, input_use};
use super::shape;
use super::subqueries::reads_scalar_subquery;
use crate::job::{InputSpec, StageSpec};

/// A stage as it was cut.
#[derive(Clone)]
pub(super) struct CutStage {
    pub(super) spec: StageSpec,
    /// The root of the stage's plan.
    pub(super) writer: ExchangeWriterExec,
    /// True if the input of the writer is a `ScalarSubqueryExec` that the uncut plan does not have at this place: it
    /// gives the expressions of this stage the values of scalar subqueries.
    pub(super) adds_subqueries: bool,
}

/// Reason for which a plan is not cut.
#[derive(Debug)]
pub(super) enum CutError {
    /// An operator that does not allow it, with the reason.
    Indivisible(String),
    /// The plan is inconsistent.
    Failed(DataFusionError),
}

impl From<DataFusionError> for CutError {
    fn from(error: DataFusionError) -> Self {
        Self::Failed(error)
    }
}

impl std::fmt::Display for CutError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Indivisible(reason) => f.write_str(reason),
            Self::Failed(error) => write!(f, "{}", error.strip_backtrace()),
        }
    }
}

type Plan = Arc<dyn ExecutionPlan>;
type Result<T, E = CutError> = std::result::Result<T, E>;

/// Cuts a plan. Stages come out numbered from 1, inputs before their readers, the result's stage last.
///
/// # Errors
/// [`CutError::Indivisible`] names the operator that must see all of its input in one process.
pub(super) fn cut(plan: &Plan) -> Result<Vec<CutStage>> {
    let mut cutter = Cutter { stages: vec![], subqueries: None, statistics: StatisticsContext::new() };
    let root = cutter.rewrite(plan)?;
    cutter.add_stage(root, None)?;
    Ok(cutter.stages)
}

/// The scalar subqueries whose values the expressions of one plan level may use.
#[derive(Clone)]
struct Subqueries {
    /// The operator of the uncut plan that computes them.
    operator: Plan,
    /// Readers of the stages that compute them.
    links: Vec<ScalarSubqueryLink>,
}

struct Cutter {
    stages: Vec<CutStage>,
    /// Those of the plan level that is being cut.
    subqueries: Option<Subqueries>,
    statistics: StatisticsContext,
}

impl Cutter {
    /// Returns `node` with exchange readers in place of what other stages compute.
    fn rewrite(&mut self, node: &Plan) -> Result<Plan> {
        if let Some(repartition) = node.downcast_ref::<RepartitionExec>() {
            return self.cut_repartition(node, repartition);
        }
        if let Some(coalesce) = node.downcast_ref::<CoalescePartitionsExec>()
            && coalesce.fetch().is_none()
            && partitions(coalesce.input()) > 1
        {
            return self.gather(node, coalesce.input(), false);
        }
        if let Some(subqueries) = node.downcast_ref::<ScalarSubqueryExec>() {
            return self.cut_subqueries(node, subqueries);
        }
        if node.is::<RecursiveQueryExec>() {
            return self.cut_recursive_query(node);
        }
        if node.is::<CoalescePartitionsExec>() || node.is::<SortPreservingMergeExec>() {
            return self.cut_below_merge(node);
        }
        match input_use(node)? {
            InputUse::Partition => {
                check_partition_counts(node)?;
                self.rewrite_children(node)
            }
            InputUse::Concatenated => self.rewrite_children(node),
            InputUse::SharedBuildSide => self.rewrite_join(node),
        }
    }

    fn rewrite_children(&mut self, node: &Plan) -> Result<Plan> {
        let children: Vec<Plan> = node.children().into_iter().cloned().collect();
        let children = children.iter().map(|child| self.rewrite(child)).collect::<Result<_>>()?;
        Ok(replace_children_if_necessary(Arc::clone(node), children)?)
    }

    /// The input of the repartitioning becomes a stage that splits its own rows.
    fn cut_repartition(&mut self, node: &Plan, repartition: &RepartitionExec) -> Result<Plan> {
        let partitioning = repartition.partitioning();
        let expressions = match partitioning {
            Partitioning::Hash(expressions, _) => expressions.clone(),
            Partitioning::Range(range) => range_expressions(range),
            other => return Err(CutError::Indivisible(format!("RepartitionExec deals rows out by {other}"))),
        };
        if expressions.iter().any(reads_scalar_subquery) {
            let reason = "RepartitionExec splits rows by the value of a scalar subquery".to_owned();
            return Err(CutError::Indivisible(reason));
        }
        let input = self.rewrite(repartition.input())?;
        let stage = self.add_stage(input, Some(partitioning.clone()))?;
        if repartition.preserve_order() && stage.whole.is_some() {
            let reason = "RepartitionExec keeps the order of partitions that must run in one task".to_owned();
            return Err(CutError::Indivisible(reason));
        }
        let kind = ExchangeKind::Repartition { preserve_order: repartition.preserve_order() };
        self.reader(&stage, kind, false, node)
    }

    /// The input of `node`, which puts partitions together, becomes a stage of its own; a reader stands for `node`.
    fn gather(&mut self, node: &Plan, input: &Plan, broadcast: bool) -> Result<Plan> {
        let input = self.rewrite(input)?;
        let stage = self.add_stage(input, None)?;
        self.reader(&stage, ExchangeKind::Gather, broadcast, node)
    }

    /// The merge stays, with a reader of its sorted (or limited) partitions.
    fn cut_below_merge(&mut self, node: &Plan) -> Result<Plan> {
        let children = node.children();
        let [input] = children.as_slice() else {
            return Err(plan_datafusion_err!("{} has {} inputs", node.name(), children.len()).into());
        };
        if partitions(input) <= 1 {
            return self.rewrite_children(node);
        }
        let reader = self.stage_of(input, false)?;
        Ok(replace_children_if_necessary(Arc::clone(node), vec![reader])?)
    }

    /// Makes `plan` a stage of its own, and returns its reader.
    fn stage_of(&mut self, plan: &Plan, broadcast: bool) -> Result<Plan> {
        let rewritten = self.rewrite(plan)?;
        let stage = self.add_stage(rewritten, None)?;
        self.reader(&stage, ExchangeKind::Passthrough, broadcast, plan)
    }

    /// A join whose partitions share the build side: with several partitions, a stage computes it once for all tasks.
    fn rewrite_join(&mut self, node: &Plan) -> Result<Plan> {
        let children = node.children();
        let [build, probe] = children.as_slice() else {
            return Err(plan_datafusion_err!("{} has {} inputs", node.name(), children.len()).into());
        };
        let (build, probe) = (Arc::clone(build), Arc::clone(probe));
        let build = if partitions(&probe) > 1 { self.broadcast(&build)? } else { self.rewrite(&build)? };
        let probe = self.rewrite(&probe)?;
        Ok(replace_children_if_necessary(Arc::clone(node), vec![build, probe])?)
    }

    fn broadcast(&mut self, build: &Plan) -> Result<Plan> {
        match build.downcast_ref::<CoalescePartitionsExec>() {
            Some(coalesce) if coalesce.fetch().is_none() && partitions(coalesce.input()) > 1 => {
                self.gather(build, coalesce.input(), true)
            }
            _ => self.stage_of(build, true),
        }
    }

    /// Each subquery becomes a stage; the stages of the input that use their values read them.
    fn cut_subqueries(&mut self, node: &Plan, operator: &ScalarSubqueryExec) -> Result<Plan> {
        let outer = self.subqueries.take();
        let mut links = vec![];
        for link in operator.subqueries() {
            // Its expressions use the values of its own subqueries only.
            let plan = self.stage_of(&link.plan, true)?;
            links.push(ScalarSubqueryLink { plan, index: link.index });
        }
        let mut children: Vec<Plan> = links.iter().map(|link| Arc::clone(&link.plan)).collect();
        self.subqueries = Some(Subqueries { operator: Arc::clone(node), links });
        let input = self.rewrite(operator.input());
        self.subqueries = outer;
        children.insert(0, input?);
        Ok(replace_children_if_necessary(Arc::clone(node), children)?)
    }

    /// The iterations of a recursive query feed each other within one process.
    fn cut_recursive_query(&mut self, node: &Plan) -> Result<Plan> {
        let stage = self.add_stage(Arc::clone(node), None)?;
        self.reader(&stage, ExchangeKind::Passthrough, false, node)
    }

    /// A reader of `stage` that stands for `original`.
    fn reader(&self, stage: &StageSpec, kind: ExchangeKind, broadcast: bool, original: &Plan) -> Result<Plan> {
        let statistics = self.statistics.compute(original.as_ref(), &StatisticsArgs::new());
        // Without statistics nothing is wrong: they estimate.
        let statistics = statistics.unwrap_or_else(|_| Arc::new(Statistics::new_unknown(&original.schema())));
        let properties = sendable_properties(original.properties());
        let properties = properties.map_err(|error| CutError::Indivisible(error.strip_backtrace()))?;
        let count = stage.output_partitions as usize;
        Ok(Arc::new(ExchangeReaderExec::new(stage.id, kind, broadcast, count, properties, statistics)))
    }

    fn add_stage(&mut self, plan: Plan, partitioning: Option<Partitioning>) -> Result<StageSpec> {
        let (plan, adds_subqueries) = self.with_subqueries(plan)?;
        let id = StageId(self.stages.len() as u32 + 1);
        let stage = new_stage(id, ExchangeWriterExec::new(plan, partitioning), adds_subqueries);
        let spec = stage.spec.clone();
        self.stages.push(stage);
        Ok(spec)
    }

    /// A stage below the operator that computes scalar subqueries gets an operator of its own where it uses them.
    fn with_subqueries(&self, plan: Plan) -> Result<(Plan, bool)> {
        let Some(subqueries) = self.subqueries.as_ref().filter(|_| super::subqueries::are_read_in(&plan)) else {
            return Ok((plan, false));
        };
        let Some(operator) = subqueries.operator.downcast_ref::<ScalarSubqueryExec>() else {
            return Err(plan_datafusion_err!("{} computes no subqueries", subqueries.operator.name()).into());
        };
        let added = ScalarSubqueryExec::new(plan, subqueries.links.clone(), operator.results().clone());
        Ok((Arc::new(added), true))
    }
}

/// A stage with this root; everything else follows from that.
pub(super) fn new_stage(id: StageId, writer: ExchangeWriterExec, adds_subqueries: bool) -> CutStage {
    let plan = writer.input();
    let partitions = partitions(plan) as u32;
    let spec = StageSpec {
        id,
        inputs: inputs_of(plan),
        partitions,
        output_partitions: writer.output_partitions() as u32,
        key_partitions: writer.keys().len() as u32,
        hashed: writer.partitioning().is_some(),
        whole: shape::shares_state_across_partitions(plan).then_some(partitions),
        indeterminate: shape::is_indeterminate(plan),
    };
    CutStage { spec, writer, adds_subqueries }
}

/// The stages that a plan reads, each once, in the order of their first readers. One that is read in both ways is not
/// only broadcast.
pub(super) fn inputs_of(plan: &Plan) -> Vec<InputSpec> {
    fn add(plan: &Plan, inputs: &mut Vec<InputSpec>) {
        if let Some(reader) = plan.downcast_ref::<ExchangeReaderExec>() {
            add_input(inputs, InputSpec { stage: reader.stage(), broadcast: reader.broadcast() });
        }
        if let Some(filter) = plan.downcast_ref::<RuntimeFilterExec>() {
            add_input(inputs, InputSpec { stage: filter.stage(), broadcast: true });
        }
        plan.children().into_iter().for_each(|child| add(child, inputs));
    }
    let mut inputs = vec![];
    add(plan, &mut inputs);
    inputs
}

fn add_input(inputs: &mut Vec<InputSpec>, new: InputSpec) {
    match inputs.iter_mut().find(|known| known.stage == new.stage) {
        Some(known) => known.broadcast &= new.broadcast,
        None => inputs.push(new),
    }
}

fn range_expressions(range: &RangePartitioning) -> Vec<Arc<dyn PhysicalExpr>> {
    range.ordering().iter().map(|key| Arc::clone(&key.expr)).collect()
}

fn partitions(plan: &Plan) -> usize {
    plan.output_partitioning().partition_count()
}

/// Fails if partition `p` of `node` cannot be what it makes of partition `p` of its inputs.
fn check_partition_counts(node: &Plan) -> Result<()> {
    let own = partitions(node);
    match node.children().into_iter().map(partitions).find(|count| *count != own) {
        None => Ok(()),
        Some(count) => {
            Err(CutError::Indivisible(format!("{} has {own} partitions, and an input with {count}", node.name())))
        }
    }
}
