//! The root of every stage: says how the stage's output is split into partitions.

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};

/// Marks the end of a stage. The executor runs the input itself and splits what comes out; the node carries how.
#[derive(Debug, Clone)]
pub struct ExchangeWriterExec {
    input: Arc<dyn ExecutionPlan>,
    partitioning: Option<Partitioning>,
    keys: Vec<Vec<usize>>,
}

impl ExchangeWriterExec {
    /// Splits the rows of `input` by `partitioning`, or, without one, keeps its partitions as they are.
    pub fn new(input: Arc<dyn ExecutionPlan>, partitioning: Option<Partitioning>) -> Self {
        Self { input, partitioning, keys: vec![] }
    }

    /// Writes hashes of these keys too, each the columns of one, into partitions of their own behind those with rows.
    pub fn with_keys(self, keys: Vec<Vec<usize>>) -> Self {
        Self { keys, ..self }
    }

    /// The same for another plan with the same columns.
    pub fn with_input(self, input: Arc<dyn ExecutionPlan>) -> Self {
        Self { input, ..self }
    }

    /// The columns of the keys whose hashes are written.
    pub fn keys(&self) -> &[Vec<usize>] {
        &self.keys
    }

    /// The plan whose output is written.
    pub fn input(&self) -> &Arc<dyn ExecutionPlan> {
        &self.input
    }

    /// How rows are split; `None`: output partition `p` is the input's partition `p`.
    pub fn partitioning(&self) -> Option<&Partitioning> {
        self.partitioning.as_ref()
    }

    /// Number of output partitions with rows.
    pub fn output_partitions(&self) -> usize {
        match &self.partitioning {
            Some(partitioning) => partitioning.partition_count(),
            None => self.input.properties().output_partitioning().partition_count(),
        }
    }
}

impl DisplayAs for ExchangeWriterExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.partitioning {
            Some(partitioning) => write!(f, "ExchangeWriterExec: {partitioning}")?,
            None => write!(f, "ExchangeWriterExec: {} partitions as they are", self.output_partitions())?,
        }
        let schema = self.input.schema();
        let name = |column: &usize| schema.fields().get(*column).map_or("", |field| field.name().as_str());
        for key in &self.keys {
            write!(f, ", keys=[{}]", key.iter().map(name).collect::<Vec<_>>().join(", "))?;
        }
        Ok(())
    }
}

impl ExecutionPlan for ExchangeWriterExec {
    fn name(&self) -> &str {
        "ExchangeWriterExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        if let Some(Partitioning::Hash(expressions, _)) = &self.partitioning {
            for expression in expressions {
                if f(expression)? == TreeNodeRecursion::Stop {
                    return Ok(TreeNodeRecursion::Stop);
                }
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(self.as_ref().clone().with_input(input))),
            _ => internal_err!("an exchange writer has exactly one child"),
        }
    }

    fn execute(&self, _partition: usize, _context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        internal_err!("an exchange writer is run by the executor's task runner, not as an operator")
    }
}
