//! The leaf of a stage that reads another stage's output.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::StreamExt;

use super::ExchangeInputRef;
use crate::ids::StageId;

/// Reads the output of a stage: partition `p` is piece `p` of every task of that stage, or, broadcast, everything
/// in its one partition.
#[derive(Debug, Clone)]
pub struct ExchangeReaderExec {
    stage: StageId,
    broadcast: bool,
    input_partitions: usize,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl ExchangeReaderExec {
    /// A reader of `stage`, which writes `input_partitions` partitions of `schema`; `partitioning` is what the
    /// operators above may rely on.
    pub fn new(
        stage: StageId,
        schema: SchemaRef,
        partitioning: Partitioning,
        broadcast: bool,
        input_partitions: usize,
    ) -> Self {
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(schema),
            partitioning,
            EmissionType::Incremental,
            Boundedness::Bounded,
        ));
        Self { stage, broadcast, input_partitions, properties, metrics: ExecutionPlanMetricsSet::new() }
    }

    /// The same of another stage that writes the same.
    pub fn with_stage(&self, stage: StageId) -> Self {
        Self { stage, metrics: ExecutionPlanMetricsSet::new(), ..self.clone() }
    }

    /// The stage that is read.
    pub fn stage(&self) -> StageId {
        self.stage
    }

    /// True if every task reads all of the input.
    pub fn broadcast(&self) -> bool {
        self.broadcast
    }

    /// Number of partitions that the input stage writes.
    pub fn input_partitions(&self) -> usize {
        self.input_partitions
    }
}

impl DisplayAs for ExchangeReaderExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExchangeReaderExec: stage={}, ", self.stage)?;
        if self.broadcast {
            write!(f, "broadcast of {} partitions", self.input_partitions)
        } else {
            write!(f, "partitioning={}", self.properties.partitioning)
        }
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

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let Some(input) = context.session_config().get_extension::<ExchangeInputRef>() else {
            return internal_err!("an exchange reader was executed outside of a task");
        };
        let partitions = if self.broadcast { 0..self.input_partitions } else { partition..partition + 1 };
        let batches = input.0.read(self.stage, self.schema(), partitions)?;
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
