//! The operator that drops rows which no row of a join's build side can match, before they cross the exchange.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::BatchCoalescer;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::metrics::{BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::{StreamExt, TryStreamExt};
use tokio::sync::OnceCell;

use super::keys::{KeySet, KeySetBuilder, key_hash_schema};
use super::{ExchangeInput, ExchangeInputRef};
use crate::ids::StageId;

/// After so many rows a partition knows whether filtering pays …
const TRIAL_ROWS: usize = 64 << 10;
/// … which it does if at most so many of a hundred pass.
const WORTH_PERCENT: usize = 80;

/// Keeps the rows whose key is among those that another stage wrote (see [`KeyHashes`](super::KeyHashes)), and few others.
///
/// The keys are fetched once for all partitions of a plan instance. Where filtering does not pay, or there are too many
/// keys to be kept, all rows pass: what comes out is right for the join above either way.
#[derive(Debug, Clone)]
pub struct RuntimeFilterExec {
    input: Arc<dyn ExecutionPlan>,
    columns: Vec<usize>,
    stage: StageId,
    partition: u32,
    keys: Arc<OnceCell<Arc<Keys>>>,
    metrics: ExecutionPlanMetricsSet,
}

/// The set, and the memory that it takes.
#[derive(Debug)]
struct Keys {
    set: KeySet,
    _reservation: MemoryReservation,
}

impl RuntimeFilterExec {
    /// Filters `input` by the key in its `columns`: those are kept whose hash is in output partition `partition` of `stage`.
    pub fn new(input: Arc<dyn ExecutionPlan>, columns: Vec<usize>, stage: StageId, partition: u32) -> Self {
        Self { input, columns, stage, partition, keys: Arc::default(), metrics: ExecutionPlanMetricsSet::new() }
    }

    /// The same by the keys of another stage that writes the same.
    pub fn with_stage(&self, stage: StageId) -> Self {
        Self::new(Arc::clone(&self.input), self.columns.clone(), stage, self.partition)
    }

    /// The plan whose rows are filtered.
    pub fn input(&self) -> &Arc<dyn ExecutionPlan> {
        &self.input
    }

    /// The stage whose keys are kept.
    pub fn stage(&self) -> StageId {
        self.stage
    }

    /// The output partition of that stage with the hashes of its keys.
    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// The columns of the key.
    pub fn columns(&self) -> &[usize] {
        &self.columns
    }
}

impl DisplayAs for RuntimeFilterExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let schema = self.input.schema();
        let name = |column: &usize| schema.fields().get(*column).map_or_else(String::new, |field| field.name().clone());
        let names: Vec<String> = self.columns.iter().map(name).collect();
        write!(f, "RuntimeFilterExec: [{}] in keys of stage {}", names.join(", "), self.stage)
    }
}

impl ExecutionPlan for RuntimeFilterExec {
    fn name(&self) -> &str {
        "RuntimeFilterExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self::new(input, self.columns.clone(), self.stage, self.partition))),
            _ => internal_err!("a runtime filter has exactly one child"),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let Some(input) = context.session_config().get_extension::<ExchangeInputRef>() else {
            return internal_err!("a runtime filter was executed outside of a task");
        };
        let rows = self.input.execute(partition, Arc::clone(&context))?;
        let (cell, columns) = (Arc::clone(&self.keys), self.columns.clone());
        let (stage, keys_partition) = (self.stage, self.partition as usize);
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let dropped = MetricBuilder::new(&self.metrics).counter("rows_dropped", partition);
        let batch_size = context.session_config().batch_size();
        let schema = self.schema();
        let coalescer = BatchCoalescer::new(Arc::clone(&schema), batch_size);
        let filtered = async move {
            let fetch = || fetch(input.0.as_ref(), stage, keys_partition, &context);
            let keys = Arc::clone(cell.get_or_try_init(fetch).await?);
            let filter = Filter {
                rows,
                keys,
                columns,
                coalescer,
                baseline,
                dropped,
                hashes: vec![],
                seen: 0,
                kept: 0,
                state: State::Trial,
            };
            Ok::<_, DataFusionError>(futures::stream::try_unfold(filter, Filter::next))
        };
        let batches = futures::stream::once(filtered).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// Fetches the hashes of all tasks of `stage`. Too many for the memory there is: all keys.
async fn fetch(
    input: &dyn ExchangeInput,
    stage: StageId,
    partition: usize,
    context: &TaskContext,
) -> Result<Arc<Keys>> {
    let reservation = MemoryConsumer::new("runtime filter").register(context.memory_pool());
    let mut hashes = input.read(stage, key_hash_schema(), partition..partition + 1)?;
    let mut builder = KeySetBuilder::default();
    while let Some(batch) = hashes.try_next().await? {
        if !builder.push(&batch)? || reservation.try_resize(builder.bytes()).is_err() {
            reservation.free();
            return Ok(Arc::new(Keys { set: KeySet::ALL, _reservation: reservation }));
        }
    }
    let set = builder.finish();
    reservation.try_resize(set.bytes())?;
    Ok(Arc::new(Keys { set, _reservation: reservation }))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Whether it pays is not known yet.
    Trial,
    /// It pays.
    Filtering,
    /// It does not.
    Passing,
    /// The input has ended.
    Ended,
}

/// The rows of one partition on their way through.
struct Filter {
    rows: SendableRecordBatchStream,
    keys: Arc<Keys>,
    columns: Vec<usize>,
    /// Gathers what is left of batches until it is enough for one.
    coalescer: BatchCoalescer,
    baseline: BaselineMetrics,
    dropped: Count,
    hashes: Vec<u64>,
    seen: usize,
    kept: usize,
    state: State,
}

impl Filter {
    async fn next(mut self) -> Result<Option<(RecordBatch, Self)>> {
        loop {
            if let Some(batch) = self.coalescer.next_completed_batch() {
                self.baseline.record_output(batch.num_rows());
                return Ok(Some((batch, self)));
            }
            if self.state == State::Ended {
                return Ok(None);
            }
            match self.rows.next().await.transpose()? {
                Some(batch) if self.state == State::Passing => {
                    self.baseline.record_output(batch.num_rows());
                    return Ok(Some((batch, self)));
                }
                Some(batch) => self.push(batch)?,
                None => {
                    self.coalescer.finish_buffered_batch()?;
                    self.state = State::Ended;
                }
            }
        }
    }

    fn push(&mut self, batch: RecordBatch) -> Result<()> {
        let _timer = self.baseline.elapsed_compute().timer();
        let rows = batch.num_rows();
        self.seen += rows;
        match self.keys.set.select(&batch, &self.columns, &mut self.hashes)? {
            Some(selected) => {
                let kept = selected.true_count();
                self.kept += kept;
                self.dropped.add(rows - kept);
                if kept == rows {
                    self.coalescer.push_batch(batch)?;
                } else if kept > 0 {
                    self.coalescer.push_batch_with_filter(batch, &selected)?;
                }
            }
            None => {
                self.kept += rows;
                self.coalescer.push_batch(batch)?;
            }
        }
        if self.state == State::Trial && self.seen >= TRIAL_ROWS {
            let pays = self.kept * 100 <= self.seen * WORTH_PERCENT;
            self.state = if pays { State::Filtering } else { State::Passing };
            if !pays {
                self.coalescer.finish_buffered_batch()?;
            }
        }
        Ok(())
    }
}
