//! Runs one task: partitions of a stage's plan, into the pieces of its output.
//!
//! ```text
//!   plan.execute(p) ──batches──▶ Splitter ──▶ PieceWriter      one lane per slot, each taking the next partition
//! ```
//!
//! A lane runs on its own, so that a panic in an operator ends the task and not the process, and on the threads for
//! operators (see [`compute`](crate::compute)). Stopping a task drops the streams of its lanes, and waits until they
//! are gone: an operator that does not give its thread back keeps its slots until it does.

use std::collections::VecDeque;
use std::sync::Arc;

use datafusion::common::internal_datafusion_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::physical_plan::metrics::Time;
use futures::StreamExt;
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
    /// How many of them run at one time.
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
    pub(crate) plans: Plans,
    pub(crate) store: ExchangeStore,
    pub(crate) reader: Arc<PieceReader>,
}

/// What the lanes of a task share.
struct Work {
    plan: Arc<StagePlan>,
    context: Arc<TaskContext>,
    writer: PieceWriter,
    /// Partitions that no lane has taken yet.
    waiting: Mutex<VecDeque<u32>>,
    split_time: Time,
    lanes: usize,
}

impl TaskRunner {
    /// Runs the task to its end, or until `cancel`. Its pieces are visible when this returns `Ok`, and discarded
    /// otherwise.
    pub(crate) async fn run(&self, spec: &TaskSpec, cancel: &CancellationToken) -> Result<control::Succeeded> {
        let plan = self.plans.claim(&spec.job, spec.task.stage, &spec.partitions, &spec.locations)?;
        let work = self.prepare(spec, &plan)?;
        let split_time = work.split_time.clone();
        let ran = self.run_lanes(work, cancel).await;
        let writer = ran.map_err(|error| naming_files(error, plan.writer().input(), &spec.partitions))?;
        let written = writer.finish()?;
        Ok(succeeded(spec, &plan, written, split_time.value() as u64))
    }

    fn prepare(&self, spec: &TaskSpec, plan: &Arc<StagePlan>) -> Result<Work> {
        check_partitions(spec, plan.partitions())?;
        let input = TaskInput::new(spec.job.clone(), Arc::clone(&spec.locations), Arc::clone(&self.reader));
        let input = input.within(spec.spans.map(|(_, own)| own));
        let config = plan.config().clone().with_extension(Arc::new(ExchangeInputRef(Arc::new(input))));
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
        Ok(Work {
            plan: Arc::clone(plan),
            context: Arc::new(context),
            writer: pieces,
            waiting: Mutex::new(spec.partitions.iter().copied().collect()),
            split_time: Time::new(),
            lanes,
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

async fn run_lane(work: Arc<Work>, lane: usize) -> Result<()> {
    let writer = work.plan.writer();
    let input = writer.input();
    let schema = input.schema();
    let batch_size = work.context.session_config().batch_size();
    let place = (lane, work.lanes);
    let mut splitter = Splitter::new(writer.partitioning(), &schema, batch_size, &work.split_time, place)?;
    let mut keys: Vec<(u32, KeyHashes)> =
        key_partitions(writer).zip(writer.keys().iter().cloned().map(KeyHashes::new)).collect();
    let buffered = MemoryConsumer::new("exchange writer").register(work.context.memory_pool());
    let mut ready = vec![];
    let mut row_bytes = 0;
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
            row_bytes = write(&work, &mut ready).await?.unwrap_or(row_bytes);
            // Bounded by partitions × batch size; counted so that operators see less memory, never refused.
            buffered.resize(splitter.buffered_rows() * row_bytes);
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

/// Writes what is ready; returns the bytes per row of the last batch, if there was one.
async fn write(work: &Work, ready: &mut Vec<Routed>) -> Result<Option<usize>> {
    let mut row_bytes = None;
    for (partition, batch) in ready.drain(..) {
        row_bytes = Some(batch.get_array_memory_size() / batch.num_rows().max(1));
        work.writer.push(partition, batch).await?;
    }
    Ok(row_bytes)
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

/// True for the error of a task that was stopped: nobody waits for its outcome.
pub(crate) fn is_cancelled(error: &DataFusionError) -> bool {
    springald_core::error::find_source::<Error>(error).is_some_and(|error| error.code() == ErrorCode::Cancelled)
}
