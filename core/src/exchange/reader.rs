//! The leaf of a stage that reads another stage's output.

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics, internal_err};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::sorts::streaming_merge::StreamingMergeBuilder;
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::StreamExt;

use super::{ExchangeInput, ExchangeInputRef};
use crate::ids::StageId;

/// How the output partitions of a stage become the partitions of its reader. Names the operator of the uncut plan that
/// the reader stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeKind {
    /// Reader partition `p` is output partition `p`, which one task wrote: its order is kept. Stands for the root of the
    /// stage's plan.
    Passthrough,
    /// Reader partition `p` is output partition `p` of every task. Stands for a `RepartitionExec`.
    Repartition {
        /// The sorted outputs of the tasks are merged, so that the reader's partitions are sorted too.
        preserve_order: bool,
    },
    /// One reader partition with all output partitions, in no order. Stands for a `CoalescePartitionsExec`.
    Gather,
}

/// Reads the output of a stage and has all properties (partitioning, orderings, equivalences, statistics) of the
/// operator that it stands for.
#[derive(Debug, Clone)]
pub struct ExchangeReaderExec {
    stage: StageId,
    kind: ExchangeKind,
    broadcast: bool,
    input_partitions: usize,
    properties: Arc<PlanProperties>,
    statistics: Arc<Statistics>,
    metrics: ExecutionPlanMetricsSet,
}

impl ExchangeReaderExec {
    /// Creates a reader of `stage`, which writes `input_partitions` output partitions. `properties` and `statistics` are
    /// those of the operator that it stands for. `broadcast`: every task of the reading stage reads all of it.
    pub fn new(
        stage: StageId,
        kind: ExchangeKind,
        broadcast: bool,
        input_partitions: usize,
        properties: Arc<PlanProperties>,
        statistics: Arc<Statistics>,
    ) -> Self {
        let metrics = ExecutionPlanMetricsSet::new();
        Self { stage, kind, broadcast, input_partitions, properties, statistics, metrics }
    }

    /// Returns the same reader of another stage that writes the same.
    pub fn with_stage(&self, stage: StageId) -> Self {
        Self { stage, metrics: ExecutionPlanMetricsSet::new(), ..self.clone() }
    }

    /// The stage that is read.
    pub fn stage(&self) -> StageId {
        self.stage
    }

    /// How output partitions become partitions of the reader.
    pub fn kind(&self) -> ExchangeKind {
        self.kind
    }

    /// True if every task of the reading stage reads all of the input.
    pub fn broadcast(&self) -> bool {
        self.broadcast
    }

    /// Number of output partitions of the input stage.
    pub fn input_partitions(&self) -> usize {
        self.input_partitions
    }

    /// Statistics of all partitions together.
    pub fn statistics(&self) -> &Arc<Statistics> {
        &self.statistics
    }

    fn read(
        &self,
        input: &dyn ExchangeInput,
        partition: usize,
        context: &TaskContext,
    ) -> Result<SendableRecordBatchStream> {
        match self.kind {
            ExchangeKind::Passthrough | ExchangeKind::Repartition { preserve_order: false } => {
                input.read(self.stage, self.schema(), partition..partition + 1)
            }
            ExchangeKind::Gather => input.read(self.stage, self.schema(), 0..self.input_partitions),
            ExchangeKind::Repartition { preserve_order: true } => self.merge(input, partition, context),
        }
    }

    /// Merges what the tasks of the stage wrote for `partition`, each of which is sorted.
    fn merge(
        &self,
        input: &dyn ExchangeInput,
        partition: usize,
        context: &TaskContext,
    ) -> Result<SendableRecordBatchStream> {
        let Some(ordering) = self.properties.output_ordering() else {
            return internal_err!("stage {} is to be merged, and has no order", self.stage);
        };
        let runs = input.read_runs(self.stage, self.schema(), partition)?;
        // Without its metrics: those are the reader's, which counts the rows that leave it.
        let baseline = BaselineMetrics::new(&ExecutionPlanMetricsSet::new(), partition);
        StreamingMergeBuilder::new()
            .with_streams(runs)
            .with_schema(self.schema())
            .with_expressions(ordering)
            .with_metrics(baseline)
            .with_batch_size(context.session_config().batch_size())
            .with_reservation(MemoryConsumer::new("exchange merge").register(context.memory_pool()))
            .build()
    }
}

impl DisplayAs for ExchangeReaderExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExchangeReaderExec: stage={}, ", self.stage)?;
        match self.kind {
            ExchangeKind::Passthrough => write!(f, "partitions={}", self.input_partitions)?,
            ExchangeKind::Repartition { .. } => write!(f, "partitioning={}", self.properties.partitioning)?,
            ExchangeKind::Gather => write!(f, "gather of {} partitions", self.input_partitions)?,
        }
        if self.kind == (ExchangeKind::Repartition { preserve_order: true }) {
            write!(f, ", preserve_order=true")?;
        }
        if let Some(ordering) = self.properties.output_ordering() {
            write!(f, ", sort_exprs=[{ordering}]")?;
        }
        if self.broadcast {
            write!(f, ", broadcast")?;
        }
        Ok(())
    }
}

impl ExecutionPlan for ExchangeReaderExec {
    fn name(&self) -> &str {
        "ExchangeReaderExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { internal_err!("an exchange reader has no children") }
    }

    fn statistics_from_inputs(
        &self,
        _input_stats: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        match args.partition() {
            None => Ok(Arc::clone(&self.statistics)),
            Some(_) => Ok(Arc::new(Statistics::new_unknown(&self.schema()))),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let Some(input) = context.session_config().get_extension::<ExchangeInputRef>() else {
            return internal_err!("an exchange reader was executed outside of a task");
        };
        let batches = self.read(input.0.as_ref(), partition, &context)?;
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let counted = batches.inspect(move |batch| {
            if let Ok(batch) = batch {
                baseline.record_output(batch.num_rows());
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), counted)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
