//! The sample in a logical plan.

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchemaRef, Result, internal_err};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};

use super::rows::{Percent, Sample, SampleMethod, mix, stable_hash};

/// Keeps a part of the rows of its input.
///
/// No filter and no limit is moved below it: that would change which rows it numbers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Hash)]
pub struct SampleNode {
    input: LogicalPlan,
    method: SampleMethod,
    percent: Percent,
    seed: SampleSeed,
}

/// The seed of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Hash)]
pub enum SampleSeed {
    /// Known: given by `REPEATABLE`, or [fixed](fix_seeds).
    Fixed(u64),
    /// Identifies the `TABLESAMPLE` in its text, and waits for the seed of the statement.
    OfStatement(u64),
}

impl SampleNode {
    /// Samples `input`.
    pub fn new(input: LogicalPlan, method: SampleMethod, percent: Percent, seed: SampleSeed) -> Self {
        Self { input, method, percent, seed }
    }

    /// The sample's parameters. Fails if its seed is not fixed.
    pub fn sample(&self) -> Result<Sample> {
        match self.seed {
            SampleSeed::Fixed(seed) => Ok(Sample { method: self.method, percent: self.percent, seed }),
            SampleSeed::OfStatement(_) => internal_err!("the seed of a TABLESAMPLE is not fixed"),
        }
    }
}

impl UserDefinedLogicalNodeCore for SampleNode {
    fn name(&self) -> &str {
        "Sample"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sample: {} {}%", self.method, self.percent.value())?;
        match self.seed {
            SampleSeed::Fixed(seed) => write!(f, ", seed={seed}"),
            SampleSeed::OfStatement(_) => Ok(()),
        }
    }

    fn with_exprs_and_inputs(&self, _expressions: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        match (inputs.pop(), inputs.is_empty()) {
            (Some(input), true) => Ok(Self { input, ..self.clone() }),
            _ => internal_err!("a sample has exactly one input"),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![output_columns.to_vec()])
    }
}

/// Fixes the seeds that the statement does not give itself: planned again with the same `statement_seed`, it samples the
/// same rows. References to one WITH query share its samples.
pub fn fix_seeds(plan: LogicalPlan, statement_seed: u64) -> Result<LogicalPlan> {
    with_seeds(plan, |place| SampleSeed::Fixed(mix(statement_seed ^ mix(place))))
}

/// Tells the samples in the text of the view `name` from those at the same place in another text.
pub fn within(plan: LogicalPlan, name: &str) -> Result<LogicalPlan> {
    let scope = stable_hash(name.as_bytes());
    with_seeds(plan, |place| SampleSeed::OfStatement(mix(scope ^ mix(place))))
}

/// Replaces the seeds that wait for that of the statement.
fn with_seeds(plan: LogicalPlan, seed_of: impl Fn(u64) -> SampleSeed) -> Result<LogicalPlan> {
    let replaced = plan.transform_down_with_subqueries(|node| {
        let LogicalPlan::Extension(extension) = &node else { return Ok(Transformed::no(node)) };
        let Some(sample) = extension.node.as_any().downcast_ref::<SampleNode>() else {
            return Ok(Transformed::no(node));
        };
        let SampleSeed::OfStatement(place) = sample.seed else { return Ok(Transformed::no(node)) };
        let node = Arc::new(SampleNode { seed: seed_of(place), ..sample.clone() });
        Ok(Transformed::yes(LogicalPlan::Extension(Extension { node })))
    })?;
    Ok(replaced.data)
}
