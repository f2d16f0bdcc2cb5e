//! From SQL to something that can run.
//!
//! ```text
//!   SQL ─▶ logical plan ─▶ physical plan for one executor
//!                            │ reads nothing stored ─────────────▶ Local: the scheduler runs it
//!                            │ small, or cannot be cut ──────────▶ one stage, one task, all of an executor's slots
//!                            └ else: physical plan for many ─cut─▶ stages joined by exchanges
//! ```
//!
//! Decides where a query runs; knows nothing of jobs, executors by name, or the store.

mod ballista;
mod build_sides;
mod decided;
mod estimate;
mod explain;
mod lineage;
mod merge;
mod options;
mod runtime_filters;
mod shape;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::TaskContext;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, displayable};
use springald_core::codec::encode_plan;
use springald_core::error::{Error, Result};
use springald_core::exchange::ExchangeWriterExec;
use springald_core::ids::StageId;
use springald_core::telemetry::events::names;
use springald_proto::control::StagePlan;

use crate::job::StageSpec;

pub use explain::{StageMetrics, analyzed, explained};
pub use options::{ClusterShape, QueryOptions, WEIGHT, weight};

/// Pieces that one stage may write, for each slot of the cluster, and in a small cluster.
const PIECES_PER_SLOT: u64 = 16_384;
const PIECES_AT_LEAST: u64 = 2_000_000;

/// A planned query.
pub struct Planned {
    /// Schema of the result, equal to the last bit to that of its batches.
    pub schema: SchemaRef,
    /// How it runs.
    pub run: Run,
}

/// How a query runs.
pub enum Run {
    /// In the scheduler: it reads nothing stored, or cannot be sent anywhere.
    Local {
        /// The plan.
        plan: Arc<dyn ExecutionPlan>,
        /// What it runs with.
        context: Arc<TaskContext>,
    },
    /// On executors.
    Stages(Vec<PlannedStage>),
}

/// A stage, ready to be stored and sent. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PlannedStage {
    /// Its shape, for the state machine.
    pub spec: StageSpec,
    /// Its plan, encoded.
    pub plan: StagePlan,
    /// Its plan, for people.
    pub text: String,
}

/// Plans a query. `state` makes sessions for the two ways of running: see [`QueryOptions::whole`] and
/// [`QueryOptions::distributed`].
pub async fn plan(
    logical: &LogicalPlan,
    base: &SessionState,
    options: &QueryOptions,
    cluster: ClusterShape,
) -> Result<Planned> {
    let whole_state = options.whole(base, cluster);
    let whole = whole_state.create_physical_plan(logical).await?;
    let schema = whole.schema();
    let input = estimate::input_of(&whole);
    if !input.stored {
        return Ok(Planned { schema, run: Run::Local { plan: whole, context: whole_state.task_ctx() } });
    }
    if input.bytes > options.whole_limit(cluster) {
        let state = options.distributed(base, cluster, input.bytes);
        if let Some(stages) = distribute(logical, &state, options, &schema).await? {
            stages.iter().try_for_each(|stage| check_pieces(&stage.spec, cluster))?;
            return Ok(Planned { schema, run: Run::Stages(stages) });
        }
    }
    match whole_stage(Arc::clone(&whole), &whole_state, cluster) {
        Ok(stage) => Ok(Planned { schema, run: Run::Stages(vec![stage]) }),
        Err(error) => {
            tracing::debug!(event = names::PLAN_KEPT_LOCAL, %error, "the plan cannot be sent to an executor; the scheduler runs it");
            Ok(Planned { schema, run: Run::Local { plan: whole, context: whole_state.task_ctx() } })
        }
    }
}

/// Every piece takes some room at the executor that has it, and in each message that names it, though it may be empty.
fn check_pieces(stage: &StageSpec, cluster: ClusterShape) -> Result<()> {
    let most = PIECES_AT_LEAST.max(PIECES_PER_SLOT * u64::from(cluster.total_slots));
    if stage.pieces() <= most {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "stage {} would write {} pieces ({} tasks, {} partitions each), and may write {most}: lower springald.partitions, \
         or read fewer tables in one UNION",
        stage.id,
        stage.pieces(),
        stage.tasks(),
        stage.output_partitions,
    )))
}

/// Cuts the query into stages; `None` if it has operators that cannot be cut or sent.
async fn distribute(
    logical: &LogicalPlan,
    state: &SessionState,
    options: &QueryOptions,
    schema: &SchemaRef,
) -> Result<Option<Vec<PlannedStage>>> {
    let physical = state.create_physical_plan(logical).await?;
    if shape::cannot_be_cut(&physical) || physical.schema() != *schema {
        return Ok(None);
    }
    let mut cut = match ballista::cut(physical, state.config_options(), options.broadcast_bytes) {
        Ok(cut) => cut,
        Err(error) => {
            tracing::debug!(event = names::PLAN_KEPT_WHOLE, %error, "the plan cannot be cut into stages; it runs whole");
            return Ok(None);
        }
    };
    if options.runtime_filters {
        cut = runtime_filters::add(build_sides::split(cut)?)?;
    }
    let settings = options::changed_settings(state);
    let Ok(encoded) = merge::encoded(cut) else { return Ok(None) };
    let planned = encoded.into_iter().map(|(stage, plan)| PlannedStage {
        spec: stage.spec,
        plan: StagePlan { plan, settings: settings.clone() },
        text: displayable(&stage.writer).indent(false).to_string(),
    });
    Ok(Some(planned.collect()))
}

/// The whole query as one stage with one task.
fn whole_stage(
    plan: Arc<dyn ExecutionPlan>,
    state: &SessionState,
    cluster: ClusterShape,
) -> datafusion::common::Result<PlannedStage> {
    let partitions = plan.output_partitioning().partition_count() as u32;
    let indeterminate = shape::is_indeterminate(&plan);
    let writer: Arc<dyn ExecutionPlan> = Arc::new(ExchangeWriterExec::new(plan, None));
    let text = displayable(writer.as_ref()).indent(false).to_string();
    let spec = StageSpec {
        id: StageId(1),
        inputs: vec![],
        partitions,
        output_partitions: partitions,
        key_partitions: 0,
        hashed: false,
        whole: Some(cluster.largest_slots),
        indeterminate,
    };
    let plan = StagePlan { plan: encode_plan(writer)?, settings: options::changed_settings(state) };
    Ok(PlannedStage { spec, plan, text })
}
