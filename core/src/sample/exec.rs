//! The sample in a physical plan.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::{BatchCoalescer, filter_record_batch};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics, internal_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig, FileScanConfigBuilder};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::{Stream, StreamExt, TryStreamExt};

use super::rows::{Sample, Sampler, stable_hash};

/// Keeps a part of the rows of its input, partition by partition.
#[derive(Clone, Debug)]
pub struct SampleExec {
    input: Arc<dyn ExecutionPlan>,
    sample: Sample,
    metrics: ExecutionPlanMetricsSet,
}

impl SampleExec {
    /// Samples `input`.
    pub fn new(input: Arc<dyn ExecutionPlan>, sample: Sample) -> Self {
        Self { input, sample, metrics: ExecutionPlanMetricsSet::new() }
    }

    /// Samples `input`. If it is a scan of files, they are not divided later: a row's number counts from the beginning of
    /// its file.
    pub fn of_whole_files(input: &Arc<dyn ExecutionPlan>, sample: Sample) -> Self {
        let whole = scan_of(input).filter(|config| config.output_partitioning.is_none()).map(|config| {
            // The optimizer divides the files of no scan that declares a partitioning.
            let partitioning = Partitioning::UnknownPartitioning(config.file_groups.len());
            let builder = FileScanConfigBuilder::from(config.clone()).with_output_partitioning(Some(partitioning));
            DataSourceExec::from_data_source(builder.build()) as Arc<dyn ExecutionPlan>
        });
        Self::new(whole.unwrap_or_else(|| Arc::clone(input)), sample)
    }

    /// The sample's parameters.
    pub fn sample(&self) -> &Sample {
        &self.sample
    }

    /// The operator whose rows are sampled.
    pub fn input(&self) -> &Arc<dyn ExecutionPlan> {
        &self.input
    }

    /// True if the same plan always gives the same sample: its input is stored, and read in a fixed order. A sample of
    /// joined, aggregated or exchanged rows may differ each time.
    pub fn is_repeatable(&self) -> bool {
        has_fixed_order(&self.input)
    }

    /// The files of `partition`, if the input is a scan of files.
    fn files(&self, partition: usize) -> Option<(&FileScanConfig, Vec<PartitionedFile>)> {
        let config = scan_of(&self.input)?;
        Some((config, config.file_groups.get(partition)?.files().to_vec()))
    }
}

/// The scan of files that a plan consists of.
fn scan_of(plan: &Arc<dyn ExecutionPlan>) -> Option<&FileScanConfig> {
    plan.downcast_ref::<DataSourceExec>()?.data_source().downcast_ref::<FileScanConfig>()
}

/// True if each partition of the plan has the same rows in the same order whenever it runs.
fn has_fixed_order(plan: &Arc<dyn ExecutionPlan>) -> bool {
    if let Some(scan) = plan.downcast_ref::<DataSourceExec>() {
        let source = scan.data_source();
        return source.is::<FileScanConfig>() || source.is::<MemorySourceConfig>();
    }
    let passes_rows = plan.is::<FilterExec>() || plan.is::<ProjectionExec>();
    plan.is::<PlaceholderRowExec>() || (passes_rows && plan.children().into_iter().all(has_fixed_order))
}

/// Opens the scan of one file, with the metrics of the scan of all.
fn open_file(
    config: FileScanConfig,
    file: PartitionedFile,
    context: Arc<TaskContext>,
) -> Result<SendableRecordBatchStream> {
    let config = FileScanConfigBuilder::from(config)
        .with_file_groups(vec![FileGroup::new(vec![file])])
        .with_output_partitioning(None)
        .with_preserve_order(true)
        .build();
    DataSourceExec::from_data_source(config).execute(0, context)
}

/// Identifies a file, or a part of one.
fn sequence_of(file: &PartitionedFile) -> u64 {
    let start = file.range.as_ref().map_or(0, |range| range.start);
    stable_hash(format!("{start}:{}", file.object_meta.location).as_bytes())
}

impl DisplayAs for SampleExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sample { method, percent, seed } = self.sample;
        write!(f, "SampleExec: {method} {}%, seed={seed}", percent.value())
    }
}

impl ExecutionPlan for SampleExec {
    fn name(&self) -> &str {
        "SampleExec"
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

    /// Rows that are dealt between partitions, and files that are divided, would change the rows' positions.
    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self::new(input, self.sample))),
            _ => internal_err!("a sample has exactly one child"),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let output = Output {
            schema: self.schema(),
            batch_size: context.session_config().batch_size(),
            metrics: BaselineMetrics::new(&self.metrics, partition),
        };
        let sample = self.sample;
        let Some((config, files)) = self.files(partition) else {
            let sampler = Sampler::new(&sample, partition as u64);
            let rows = self.input.execute(partition, in_fixed_order(&context))?;
            return Ok(output.stream(kept(rows, sampler)));
        };
        let config = config.clone();
        let kept = futures::stream::iter(files).then(move |file| {
            let sampler = Sampler::new(&sample, sequence_of(&file));
            let rows = open_file(config.clone(), file, Arc::clone(&context));
            async move { rows.map(|rows| kept(rows, sampler)) }
        });
        Ok(output.stream(kept.try_flatten()))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], _args: &StatisticsArgs) -> Result<Arc<Statistics>> {
        let [input] = inputs else { return internal_err!("a sample has exactly one input") };
        let part = self.sample.percent.value() / 100.0;
        let scaled = |count: Precision<usize>| count.to_inexact().map(|count| (count as f64 * part) as usize);
        let mut statistics = Statistics::clone(input).to_inexact();
        statistics.num_rows = scaled(statistics.num_rows);
        statistics.total_byte_size = scaled(statistics.total_byte_size);
        Ok(Arc::new(statistics))
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::LowerEqual
    }
}

/// A context in which a scan's partitions do not take files from each other.
fn in_fixed_order(context: &TaskContext) -> Arc<TaskContext> {
    let mut config = context.session_config().clone();
    config.options_mut().execution.enable_file_stream_work_stealing = false;
    Arc::new(TaskContext::new(
        context.task_id(),
        context.session_id(),
        config,
        context.scalar_functions().clone(),
        context.higher_order_functions().clone(),
        context.aggregate_functions().clone(),
        context.window_functions().clone(),
        context.runtime_env(),
    ))
}

/// The sampled rows of one sequence.
fn kept(rows: SendableRecordBatchStream, mut sampler: Sampler) -> impl Stream<Item = Result<RecordBatch>> + Send {
    rows.map(move |batch| {
        let batch = batch?;
        let selected = sampler.select(batch.num_rows());
        Ok(filter_record_batch(&batch, &selected)?)
    })
}

/// The output of one partition.
struct Output {
    schema: SchemaRef,
    batch_size: usize,
    metrics: BaselineMetrics,
}

impl Output {
    /// Gathers what is left of batches until it is enough for one.
    fn stream(self, batches: impl Stream<Item = Result<RecordBatch>> + Send + 'static) -> SendableRecordBatchStream {
        let Self { schema, batch_size, metrics } = self;
        let coalescer = BatchCoalescer::new(Arc::clone(&schema), batch_size);
        let gathered = futures::stream::try_unfold(
            (Box::pin(batches), Some(coalescer), metrics),
            |(mut batches, mut coalescer, metrics)| async move {
                while let Some(gathering) = &mut coalescer {
                    if let Some(batch) = gathering.next_completed_batch() {
                        metrics.record_output(batch.num_rows());
                        return Ok(Some((batch, (batches, coalescer, metrics))));
                    }
                    match batches.next().await.transpose()? {
                        Some(batch) if batch.num_columns() == 0 => {
                            metrics.record_output(batch.num_rows());
                            return Ok(Some((batch, (batches, coalescer, metrics))));
                        }
                        Some(batch) => gathering.push_batch(batch)?,
                        None => {
                            gathering.finish_buffered_batch()?;
                            let last = gathering.next_completed_batch();
                            coalescer = None;
                            if let Some(batch) = last {
                                metrics.record_output(batch.num_rows());
                                return Ok(Some((batch, (batches, coalescer, metrics))));
                            }
                        }
                    }
                }
                Ok(None)
            },
        );
        Box::pin(RecordBatchStreamAdapter::new(schema, gathered))
    }
}
