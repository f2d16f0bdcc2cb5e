//! Runs one task: partitions of a stage's plan, into the pieces of its output.
//!
//! ```text
//!   lane (one per slot) ─┬─ strand: takes the next partition ─▶ plan.execute(p) ──batches──▶ Splitter ──▶ PieceWriter
//!                        └─ …       until there is none
//! ```
//!
//! A lane runs on its own, so that a panic in an operator ends the task and not the process, and on the threads for
//! operators (see [`compute`](springald_core::compute)). Stopping a task drops the streams of its lanes, and waits
//! until they are gone: an operator that does not give its thread back keeps its slots until it does.
//!
//! A lane has one strand where partitions run apart, as those of a stage that was cut out of a query do. Where they
//! [depend on each other](depend_on_each_other), as those of a whole plan do, each has a strand of its own, and a lane
//! runs its strands by turns: however few slots there are, nothing waits for a partition that nobody has started.

use std::collections::VecDeque;
use std::sync::Arc;

use datafusion::common::internal_datafusion_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::Time;
use datafusion::physical_plan::repartition::RepartitionExec;
use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use springald_core::error::{Error, ErrorCode};
use springald_core::exchange::{ExchangeInputRef, ExchangeWriterExec, KeyHashes, key_hash_schema};
use springald_core::ids::{JobId, TaskId};
use springald_core::telemetry::trace::SpanContext;
use springald_proto::control::{self, MetricUnit};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::exchange::input::{Locations, PieceReader, TaskInput};
use crate::exchange::partition::{Routed, Splitter};
use crate::exchange::store::{ExchangeStore, PieceWriter, Written};
use crate::failure::from_join_error;
use crate::operators::{self, Sums, Wanted};
use crate::plans::{Plans, StagePlan};
use crate::scanned::naming_files;

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct TaskSpec {
    pub(crate) job: JobId,
    pub(crate) task: TaskId,
    /// Partitions of the stage's plan, in order.
    pub(crate) partitions: Vec<u32>,
    /// How many of them compute at one time.
    pub(crate) slots: u32,
    pub(crate) locations: Arc<Locations>,
    pub(crate) trace_id: String,
    /// The stage's span, if the scheduler has sent one, and the task's own.
    pub(crate) spans: Option<(SpanContext, SpanContext)>,
}

/// Runs tasks in this process.
pub(crate) struct TaskRunner {
    /// The threads for operators.
    pub(crate) compute: Handle,
    pub(crate) plans: Arc<Plans>,
    pub(crate) store: ExchangeStore,
    pub(crate) reader: Arc<PieceReader>,
}

/// What the lanes of a task share.
struct Work {
    plan: Arc<StagePlan>,
    context: Arc<TaskContext>,
    writer: PieceWriter,
    /// Partitions that no strand has taken yet.
    waiting: Mutex<VecDeque<u32>>,
    split_time: Time,
    lanes: usize,
    /// As many as lanes, at least.
    strands: usize,
}

impl TaskRunner {
    /// Runs the task to its end, or until `cancel`. Its pieces are visible when this returns `Ok`, and discarded
    /// otherwise.
    pub(crate) async fn run(&self, spec: &TaskSpec, cancel: &CancellationToken) -> Result<control::Succeeded> {
        let plan = self.claim(spec).await?;
        let ran = self.run_in(&plan, spec, cancel).await;
        if ran.is_err() && !cancel.is_cancelled() {
            self.plans.give_up(&spec.job, spec.task.stage, &plan);
        }
        ran
    }

    /// An instance of the plan. A large one takes long to decode: not on the threads that keep streams alive.
    async fn claim(&self, spec: &TaskSpec) -> Result<Arc<StagePlan>> {
        let (plans, spec) = (Arc::clone(&self.plans), spec.clone());
        let claiming = self
            .compute
            .spawn(async move { plans.claim(&spec.job, spec.task.stage, &spec.partitions, &spec.locations) });
        Ok(claiming.await.map_err(from_join_error)??)
    }

    async fn run_in(
        &self,
        plan: &Arc<StagePlan>,
        spec: &TaskSpec,
        cancel: &CancellationToken,
    ) -> Result<control::Succeeded> {
        let work = self.prepare(spec, plan)?;
        let split_time = work.split_time.clone();
        let ran = self.run_lanes(work, cancel).await;
        let writer = ran.map_err(|error| naming_files(error, plan.writer().input(), &spec.partitions))?;
        let written = writer.finish()?;
        Ok(succeeded(spec, plan, written, split_time.value() as u64))
    }

    fn prepare(&self, spec: &TaskSpec, plan: &Arc<StagePlan>) -> Result<Work> {
        check_partitions(spec, plan.partitions())?;
        let input = TaskInput::new(spec.job.clone(), Arc::clone(&spec.locations), Arc::clone(&self.reader));
        let input = input.within(spec.spans.map(|(_, own)| own));
        let mut config = plan.config().clone().with_extension(Arc::new(ExchangeInputRef(Arc::new(input))));
        if spec.partitions.len() < plan.partitions() && config.options().optimizer.enable_join_dynamic_filter_pushdown {
            // A join that filters by what it has built waits for word from all partitions. Others are not run here.
            config.options_mut().optimizer.enable_join_dynamic_filter_pushdown = false;
        }
        let context = self.plans.context(config).with_task_id(format!("{}/{}", spec.job, spec.task));
        let writer = plan.writer();
        let schema = writer.input().schema();
        let partitions: Vec<u32> = match writer.partitioning() {
            Some(_) => (0..writer.output_partitions() as u32).collect(),
            None => spec.partitions.clone(),
        };
        let mut pieces = self.store.begin(&spec.job, spec.task, &schema, partitions)?;
        for partition in key_partitions(writer) {
            pieces.add_piece(partition, &key_hash_schema())?;
        }
        let lanes = (spec.slots.max(1) as usize).min(spec.partitions.len());
        let strands = if depend_on_each_other(writer.input()) { spec.partitions.len() } else { lanes };
        Ok(Work {
            plan: Arc::clone(plan),
            context: Arc::new(context),
            writer: pieces,
            waiting: Mutex::new(spec.partitions.iter().copied().collect()),
            split_time: Time::new(),
            lanes,
            strands,
        })
    }

    /// Runs all partitions; returns the writer with everything in it.
    async fn run_lanes(&self, work: Work, cancel: &CancellationToken) -> Result<PieceWriter> {
        let work = Arc::new(work);
        let mut lanes = JoinSet::new();
        for lane in 0..work.lanes {
            lanes.spawn_on(run_lane(Arc::clone(&work), lane), &self.compute);
        }
        let outcome = loop {
            let ended = tokio::select! {
                biased;
                () = cancel.cancelled() => break Err(Error::new(ErrorCode::Cancelled, "the task was stopped").into()),
                ended = lanes.join_next() => ended,
            };
            match ended {
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(error))) => break Err(error),
                Some(Err(error)) => break Err(from_join_error(error)),
                None => break Ok(()),
            }
        };
        // After a failure: until the other lanes have let go of their memory, the slot is not free.
        lanes.shutdown().await;
        outcome?;
        let work = Arc::into_inner(work).ok_or_else(|| internal_datafusion_err!("a lane outlived its task"))?;
        Ok(work.writer)
    }
}

/// The partitions of a task come from the scheduler: each must be there, and once.
fn check_partitions(spec: &TaskSpec, count: usize) -> Result<()> {
    let mut sorted = spec.partitions.clone();
    sorted.sort_unstable();
    let unique = sorted.windows(2).all(|pair| pair.first() != pair.last());
    let known = sorted.last().is_some_and(|last| (*last as usize) < count);
    if unique && known {
        return Ok(());
    }
    let message = format!("task {} is to run partitions {:?} of a plan with {count}", spec.task, spec.partitions);
    Err(Error::internal(message).into())
}

/// True if partitions of the plan make no progress, or pile up what is for others, while others do not run:
/// - a hash join with a dynamic filter does not begin to probe before all partitions have told what they have built;
/// - a repartitioning reads its input for all partitions. It does not stop for those that are not read, but keeps their
///   rows, and spills them: with one read after the other, nearly all of its input would lie there.
///
/// What other operators share, they make once, in whichever partition asks first (build sides), or leave to the one
/// that ends last (rows of a left side without a match). Side by side, partitions need the memory that DataFusion needs
/// by itself, which runs all of them at once.
fn depend_on_each_other(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let own = plan.is::<RepartitionExec>() || !plan.dynamic_expressions_produced().is_empty();
    own || plan.children().into_iter().any(depend_on_each_other)
}

async fn run_lane(work: Arc<Work>, lane: usize) -> Result<()> {
    if work.strands <= work.lanes {
        return run_strand(work, lane).await;
    }
    let strands = (lane..work.strands).step_by(work.lanes);
    let mut strands: FuturesUnordered<_> = strands.map(|strand| run_strand(Arc::clone(&work), strand)).collect();
    while strands.try_next().await?.is_some() {}
    Ok(())
}

async fn run_strand(work: Arc<Work>, strand: usize) -> Result<()> {
    let writer = work.plan.writer();
    let input = writer.input();
    let schema = input.schema();
    let batch_size = work.context.session_config().batch_size();
    let place = (strand, work.strands);
    let mut splitter = Splitter::new(writer.partitioning(), &schema, batch_size, &work.split_time, place)?;
    let mut keys: Vec<(u32, KeyHashes)> =
        key_partitions(writer).zip(writer.keys().iter().cloned().map(KeyHashes::new)).collect();
    let buffered = MemoryConsumer::new("exchange writer").register(work.context.memory_pool());
    let mut ready = vec![];
    while let Some(partition) = next_partition(&work) {
        splitter.start(partition, &mut ready)?;
        let mut batches = input.execute(partition as usize, Arc::clone(&work.context))?;
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            for (partition, hashes) in &mut keys {
                if let Some(full) = hashes.push(&batch)? {
                    work.writer.push(*partition, full).await?;
                }
            }
            splitter.push(batch, &mut ready)?;
            // Bounded by partitions × bytes of a batch; counted so that operators see less memory, never refused.
            buffered.resize(splitter.held_bytes());
            write(&work, &mut ready).await?;
        }
    }
    splitter.flush(&mut ready)?;
    write(&work, &mut ready).await?;
    for (partition, mut hashes) in keys {
        if let Some(rest) = hashes.finish()? {
            work.writer.push(partition, rest).await?;
        }
    }
    Ok(())
}

/// The output partitions for hashes of keys: behind those for rows.
fn key_partitions(writer: &ExchangeWriterExec) -> impl Iterator<Item = u32> {
    writer.output_partitions() as u32..(writer.output_partitions() + writer.keys().len()) as u32
}

fn next_partition(work: &Work) -> Option<u32> {
    work.waiting.lock().pop_front()
}

/// Writes what is ready.
async fn write(work: &Work, ready: &mut Vec<Routed>) -> Result<()> {
    for (partition, batch) in ready.drain(..) {
        work.writer.push(partition, batch).await?;
    }
    Ok(())
}

fn succeeded(spec: &TaskSpec, plan: &StagePlan, written: Written, split_nanos: u64) -> control::Succeeded {
    let whole = spec.partitions.len() == plan.partitions();
    let wanted = if whole { Wanted::All } else { Wanted::Partitions(&spec.partitions) };
    let mut operators = operators::of_plan(plan.root(), wanted);
    if let Some(writer) = operators.first_mut() {
        let mut sums = Sums::default();
        sums.add_value("output_rows", written.pieces.iter().map(|piece| piece.rows).sum(), MetricUnit::Count);
        sums.add_value("output_bytes", written.pieces.iter().map(|piece| piece.bytes).sum(), MetricUnit::Bytes);
        sums.add_value("spilled_bytes", written.spilled_bytes, MetricUnit::Bytes);
        sums.add_value("repartition_time", split_nanos, MetricUnit::Nanoseconds);
        *writer = sums.into_proto();
    }
    let spilled = operators.iter().flat_map(|operator| &operator.metrics);
    let spilled = spilled.filter(|metric| metric.name == "spilled_bytes").map(|metric| metric.value).sum();
    control::Succeeded {
        partitions: written.pieces.iter().map(|piece| piece.partition).collect(),
        rows: written.pieces.iter().map(|piece| piece.rows).collect(),
        bytes: written.pieces.iter().map(|piece| piece.bytes).collect(),
        operators,
        spilled_bytes: spilled,
    }
}

/// The error of a task that nobody has stopped, and whose output was dropped while it wrote: it may be tried again.
pub(crate) fn dropped_meanwhile(error: DataFusionError) -> DataFusionError {
    Error::unavailable("the task's output was freed while it was written").with_source(error).into()
}

/// True for the error of a task that was stopped, or whose output was dropped.
pub(crate) fn is_cancelled(error: &DataFusionError) -> bool {
    springald_core::error::find_source::<Error>(error).is_some_and(|error| error.code() == ErrorCode::Cancelled)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use datafusion::catalog::memory::MemorySourceConfig;
    use datafusion::common::{JoinType, NullEquality};
    use datafusion::config::ConfigOptions;
    use datafusion::physical_expr::PhysicalExpr;
    use datafusion::physical_expr::expressions::{Column, DynamicFilterPhysicalExpr, lit};
    use datafusion::physical_plan::Partitioning;
    use datafusion::physical_plan::filter::FilterExec;
    use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode};
    use springald_core::codec::encode_plan;
    use springald_core::ids::StageId;
    use springald_core::plan_session::settings_of;

    use super::*;
    use crate::testing::fixture;

    const ROWS: u64 = 1000;

    fn key() -> Arc<dyn PhysicalExpr> {
        Arc::new(Column::new("k", 0))
    }

    fn numbers() -> Arc<dyn ExecutionPlan> {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..ROWS as i64));
        let batch = RecordBatch::try_from_iter([("k", numbers)]).expect("a batch");
        let schema = batch.schema();
        MemorySourceConfig::try_new_exec(&[vec![batch]], schema, None).expect("a source")
    }

    fn by_hash(input: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        Arc::new(RepartitionExec::try_new(input, Partitioning::Hash(vec![key()], 2)).expect("a plan"))
    }

    /// A join of all numbers with themselves in two partitions, which filters what it probes with by what it has built.
    fn join(mode: PartitionMode) -> Arc<dyn ExecutionPlan> {
        let built = match mode {
            PartitionMode::CollectLeft => numbers(),
            _ => by_hash(numbers()),
        };
        let filter = Arc::new(DynamicFilterPhysicalExpr::new(vec![key()], lit(true)));
        let predicate: Arc<dyn PhysicalExpr> = Arc::<DynamicFilterPhysicalExpr>::clone(&filter);
        let probed = Arc::new(FilterExec::try_new(predicate, by_hash(numbers())).expect("a plan"));
        let on = vec![(key(), key())];
        let nulls = NullEquality::NullEqualsNothing;
        let join = HashJoinExec::try_new(built, probed, on, None, &JoinType::Inner, None, mode, nulls, false);
        Arc::new(join.and_then(|join| join.with_dynamic_filter_expr(filter)).expect("a plan"))
    }

    /// Rows that a task with these partitions of `plan` and this many slots writes.
    async fn rows_of(plan: Arc<dyn ExecutionPlan>, partitions: &[u32], slots: u32) -> u64 {
        let runner = fixture(64 << 20, 32 << 20, 1 << 30).runner;
        let job: JobId = "job".parse().expect("valid");
        let plan = encode_plan(Arc::new(ExchangeWriterExec::new(plan, None))).expect("it can be sent");
        let settings = settings_of(&ConfigOptions::new()).expect("can be sent");
        runner.plans.keep(&job, StageId(1), control::StagePlan { plan, settings });
        let spec = TaskSpec {
            job,
            task: TaskId { stage: StageId(1), task: 0, attempt: 0 },
            partitions: partitions.to_vec(),
            slots,
            locations: Arc::default(),
            trace_id: String::new(),
            spans: None,
        };
        let cancel = CancellationToken::new();
        let ran = tokio::time::timeout(Duration::from_secs(60), runner.run(&spec, &cancel)).await;
        ran.expect("no partition waits for one that is not started").expect("it runs").rows.iter().sum()
    }

    #[tokio::test]
    async fn given_a_join_whose_partitions_wait_for_each_other_when_there_are_fewer_slots_then_it_ends() {
        for mode in [PartitionMode::Partitioned, PartitionMode::CollectLeft] {
            for slots in [1, 2] {
                assert_eq!(rows_of(join(mode), &[0, 1], slots).await, ROWS, "{mode:?}, {slots} slots");
            }
        }
    }

    #[tokio::test]
    async fn given_a_join_whose_partitions_wait_for_each_other_when_a_task_has_some_of_them_then_it_ends() {
        for mode in [PartitionMode::Partitioned, PartitionMode::CollectLeft] {
            let (first, second) = (rows_of(join(mode), &[0], 1).await, rows_of(join(mode), &[1], 1).await);
            assert_eq!(first + second, ROWS, "{mode:?}");
            assert!(first > 0 && second > 0, "{mode:?}");
        }
    }

    #[test]
    fn given_plans_when_looked_at_then_only_what_is_shared_has_partitions_depend_on_each_other() {
        assert!(depend_on_each_other(&join(PartitionMode::Partitioned)));
        assert!(depend_on_each_other(&by_hash(numbers())));
        assert!(!depend_on_each_other(&numbers()));
    }
}
