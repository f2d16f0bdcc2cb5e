//! From SQL to something that can run.
//!
//! ```text
//!   SQL ─▶ logical plan ─▶ physical plan for one executor
//!                            │ reads nothing stored ─────────────▶ Local: the scheduler runs it
//!                            │ small, or cannot be cut ──────────▶ one stage, one task, all of an executor's slots
//!                            └ else: physical plan for many ─cut─▶ stages joined by exchanges ─check─▶
//! ```
//!
//! Decides where a query runs; knows nothing of jobs, executors by name, or the store.

mod build_sides;
mod checks;
mod cut;
mod estimate;
mod explain;
mod grouping_sets;
mod join_modes;
mod lineage;
mod merge;
mod operators;
mod options;
mod runtime_filters;
mod shape;
mod subqueries;
#[cfg(test)]
mod tests;
mod top_k;
mod unions;

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::TaskContext;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, WindowExpr, displayable};
use springald_core::codec::{WindowFilters, collect_streams, decode_plan, encode_plan_with_filters};
use springald_core::error::{Error, ErrorCode, Result};
use springald_core::exchange::ExchangeWriterExec;
use springald_core::ids::StageId;
use springald_core::plan_diff::difference_with_filters;
use springald_core::plan_session::{PlanSession, config_of, settings_of};
use springald_core::telemetry::events::names;
use springald_proto::control::StagePlan;

use self::cut::{CutError, CutStage, new_stage};
use crate::job::StageSpec;
use crate::metrics::springald_scheduler as metrics;

pub use explain::{StageMetrics, analyzed, explained};
pub use options::{ClusterShape, QueryOptions, WEIGHT, weight};

/// Bytes of streams that are collected for one plan, with which they travel.
const MAX_STREAM_BYTES: usize = 16 << 20;

/// Pieces that one stage may write, for each slot of the cluster, and in a small cluster.
const PIECES_PER_SLOT: u64 = 16_384;
const PIECES_AT_LEAST: u64 = 2_000_000;

/// A planned query.
pub struct Planned {
    /// Schema of the result, equal to the last bit to that of its batches.
    pub schema: SchemaRef,
    /// How it runs.
    pub run: Run,
    /// Reason for which it runs in one task although it is not small.
    pub not_cut: Option<String>,
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

/// Plans a query. `base` makes sessions for the two ways of running: see [`QueryOptions::whole`] and
/// [`QueryOptions::distributed`].
///
/// # Errors
/// Those of planning; and where an operator cannot be encoded for executors, with its name.
pub async fn plan(
    logical: &LogicalPlan,
    base: &SessionState,
    options: &QueryOptions,
    cluster: ClusterShape,
) -> Result<Planned> {
    let whole_state = options.whole(base, cluster);
    // The two sessions differ in settings of physical planning only.
    let logical = whole_state.optimize(logical)?;
    let whole = physical_plan(&logical, &whole_state).await?;
    let schema = whole.schema();
    let input = estimate::input_of(&whole);
    if !input.stored {
        let run = Run::Local { plan: whole, context: whole_state.task_ctx() };
        return Ok(Planned { schema, run, not_cut: None });
    }
    let filters = WindowFilters::from_logical_plan(&logical, &whole_state)?;
    let mut not_cut = None;
    if input.bytes > options.whole_limit(cluster) {
        let state = options.distributed(base, cluster, input.bytes);
        let physical = collected(physical_plan(&logical, &state).await?, &state).await?;
        match distribute(&physical, &schema, &Session { state: &state, filters: &filters }, options)? {
            Ok(stages) => {
                stages.iter().try_for_each(|stage| check_pieces(&stage.spec, cluster))?;
                return Ok(Planned { schema, run: Run::Stages(stages), not_cut: None });
            }
            Err(error) => not_cut = Some(report_not_cut(&error)),
        }
    }
    let whole = collected(whole, &whole_state).await?;
    let session = Session { state: &whole_state, filters: &filters };
    let (whole, bytes) = encode(vec![whole_stage(whole, cluster)], &session)?;
    let run = Run::Stages(planned_stages(whole, bytes, &whole_state)?);
    Ok(Planned { schema, run, not_cut })
}

/// Session and window filters of a plan.
struct Session<'a> {
    state: &'a SessionState,
    /// Filters of its window functions, which the functions do not give away.
    filters: &'a WindowFilters,
}

async fn physical_plan(logical: &LogicalPlan, state: &SessionState) -> Result<Arc<dyn ExecutionPlan>> {
    Ok(state.query_planner().create_physical_plan(logical, state).await?)
}

/// The plan with what its streams give (tables of the information schema) in their place: streams cannot be sent.
async fn collected(plan: Arc<dyn ExecutionPlan>, state: &SessionState) -> Result<Arc<dyn ExecutionPlan>> {
    Ok(collect_streams(plan, &state.task_ctx(), MAX_STREAM_BYTES).await?)
}

fn report_not_cut(error: &CutError) -> String {
    let reason = error.to_string();
    match error {
        CutError::Indivisible(_) => {
            metrics::plans_not_cut_total("indivisible").inc();
            tracing::debug!(event = names::PLANNER_FALLBACK_SINGLE_TASK, error = reason, "the plan is not cut");
        }
        CutError::Failed(_) => {
            metrics::plans_not_cut_total("check").inc();
            tracing::warn!(
                event = names::PLANNER_FALLBACK_SINGLE_TASK,
                error = reason,
                "the plan is not cut: a check failed"
            );
        }
    }
    reason
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

/// Cuts a plan into stages and checks that they are the plan. The inner error says why it is not cut.
///
/// # Errors
/// A stage cannot be encoded for executors.
fn distribute(
    physical: &Arc<dyn ExecutionPlan>,
    schema: &SchemaRef,
    session: &Session<'_>,
    options: &QueryOptions,
) -> Result<Result<Vec<PlannedStage>, CutError>> {
    if physical.schema() != *schema {
        let reason = "planned for many partitions, its result has another schema".to_owned();
        return Ok(Err(CutError::Indivisible(reason)));
    }
    let stages = match cut_into_stages(physical, options) {
        Ok(stages) => stages,
        Err(error) => return Ok(Err(error)),
    };
    let (stages, bytes) = encode(stages, session)?;
    let checked = checks::check_requirements(&stages, session.state.config_options())
        .and_then(|()| checks::check_assembled(&stages, physical));
    match checked {
        Ok(()) => planned_stages(stages, bytes, session.state).map(Ok),
        Err(error) => Ok(Err(error.into())),
    }
}

fn cut_into_stages(physical: &Arc<dyn ExecutionPlan>, options: &QueryOptions) -> Result<Vec<CutStage>, CutError> {
    let stages = cut::cut(physical)?;
    match options.runtime_filters {
        true => Ok(runtime_filters::add(build_sides::split(stages)?)?),
        false => Ok(stages),
    }
}

/// The whole query as one stage with one task.
fn whole_stage(plan: Arc<dyn ExecutionPlan>, cluster: ClusterShape) -> CutStage {
    let mut stage = new_stage(StageId(1), ExchangeWriterExec::new(plan, None), false);
    stage.spec.whole = Some(cluster.largest_slots);
    stage
}

/// Encodes stages, those that are equal once. What would not arrive at executors as it is, is refused.
fn encode(stages: Vec<CutStage>, session: &Session<'_>) -> Result<(Vec<CutStage>, Vec<Bytes>)> {
    let context = SESSION.context(config_of(&settings_of(session.state.config_options())?)?);
    let encode = |plan: &Arc<dyn ExecutionPlan>| encode_checked(plan, session.filters, &context).map_err(refused);
    Ok(merge::encoded(stages, &encode)?.into_iter().unzip())
}

fn planned_stages(stages: Vec<CutStage>, bytes: Vec<Bytes>, state: &SessionState) -> Result<Vec<PlannedStage>> {
    let settings = settings_of(state.config_options())?;
    let planned = stages.into_iter().zip(bytes).map(|(stage, plan)| PlannedStage {
        spec: stage.spec,
        plan: StagePlan { plan, settings: settings.clone() },
        text: displayable(&stage.writer).indent(false).to_string(),
    });
    Ok(planned.collect())
}

/// Encodes a stage's plan, decodes it like an executor, and fails unless the two are equal.
fn encode_checked(
    plan: &Arc<dyn ExecutionPlan>,
    filters: &WindowFilters,
    context: &TaskContext,
) -> datafusion::common::Result<Bytes> {
    let bytes = encode_plan_with_filters(Arc::clone(plan), filters)?;
    let decoded = decode_plan(&bytes, context)?;
    let filter = |function: &dyn WindowExpr| filters.filter_of(function);
    match difference_with_filters((plan, &filter), (&decoded, &filter))? {
        None => Ok(bytes),
        Some(difference) => datafusion::common::internal_err!("it does not arrive as it is: {difference}"),
    }
}

/// The functions with which plans are decoded for the check.
static SESSION: LazyLock<PlanSession> = LazyLock::new(|| PlanSession::new(Arc::default()));

fn refused(error: datafusion::error::DataFusionError) -> datafusion::error::DataFusionError {
    metrics::plans_refused_total().inc();
    let text = error.strip_backtrace();
    tracing::warn!(event = names::PLANNER_ENCODING_REFUSED, error = text, "a plan cannot be sent to executors");
    let message = format!("the query cannot be sent to executors: {text}");
    Error::new(ErrorCode::Unsupported, message).with_source(error).into()
}
