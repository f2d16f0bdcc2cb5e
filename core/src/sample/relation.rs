//! `TABLESAMPLE` in SQL.

use std::sync::Arc;

use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{Extension, LogicalPlan};
use datafusion::sql::sqlparser::ast::{
    Expr, Spanned, TableFactor, TableSample, TableSampleKind, TableSampleMethod, TableSampleQuantity, TableSampleSeed,
    TableSampleUnit, UnaryOperator, Value,
};

use super::node::{SampleNode, SampleSeed};
use super::rows::{Percent, SampleMethod, stable_hash};

/// Plans tables and subqueries with `TABLESAMPLE`.
#[derive(Debug)]
pub struct SamplePlanner;

impl RelationPlanner for SamplePlanner {
    fn plan_relation(
        &self,
        mut relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let place = place(&relation);
        let (sample, alias) = match &mut relation {
            TableFactor::Table { sample, alias, .. } | TableFactor::Derived { sample, alias, .. }
                if sample.is_some() =>
            {
                (sample.take(), alias.take())
            }
            _ => return Ok(RelationPlanning::Original(Box::new(relation))),
        };
        let Some(TableSampleKind::BeforeTableAlias(sample) | TableSampleKind::AfterTableAlias(sample)) = sample else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let (method, percent, seed) = parameters(*sample)?;
        let input = context.plan(relation)?;
        let node = SampleNode::new(input, method, percent, seed.unwrap_or(SampleSeed::OfStatement(place)));
        let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

/// Identifies a relation by its place in the text and, if it is a table, its name.
fn place(relation: &TableFactor) -> u64 {
    let start = relation.span().start;
    let name = match relation {
        TableFactor::Table { name, .. } => name.to_string(),
        _ => String::new(),
    };
    stable_hash(format!("{}:{}:{name}", start.line, start.column).as_bytes())
}

fn parameters(sample: TableSample) -> Result<(SampleMethod, Percent, Option<SampleSeed>)> {
    let TableSample { modifier: _, name, quantity, seed, bucket, offset } = sample;
    if bucket.is_some() {
        return plan_err!("TABLESAMPLE (BUCKET … OUT OF …) is not supported: write TABLESAMPLE BERNOULLI (percent)");
    }
    if offset.is_some() {
        return plan_err!("SAMPLE … OFFSET is not supported: write TABLESAMPLE BERNOULLI (percent)");
    }
    let method = match name {
        None | Some(TableSampleMethod::Bernoulli | TableSampleMethod::Row) => SampleMethod::Bernoulli,
        Some(TableSampleMethod::System | TableSampleMethod::Block) => SampleMethod::System,
    };
    let percent = match quantity {
        Some(quantity) => percent(quantity)?,
        None => return plan_err!("TABLESAMPLE needs a percentage: write TABLESAMPLE {method} (percent)"),
    };
    Ok((method, percent, seed.map(fixed_seed).transpose()?))
}

fn percent(quantity: TableSampleQuantity) -> Result<Percent> {
    let TableSampleQuantity { parenthesized, value, unit } = quantity;
    if unit == Some(TableSampleUnit::Rows) {
        return plan_err!(
            "TABLESAMPLE (… ROWS) is not supported: write TABLESAMPLE BERNOULLI (percent), or ORDER BY random() LIMIT {value}"
        );
    }
    // ClickHouse's SAMPLE without brackets is a fraction of 1 or a number of rows.
    if !parenthesized {
        return plan_err!("SAMPLE {value} is not supported: write TABLESAMPLE BERNOULLI (percent)");
    }
    match number(&value) {
        Some(percent) => Percent::new(percent),
        None => plan_err!("TABLESAMPLE needs a number from 0 to 100 that is written out, not {value}"),
    }
}

fn number(value: &Expr) -> Option<f64> {
    match value {
        Expr::Value(value) => match &value.value {
            Value::Number(text, _) => text.parse().ok(),
            _ => None,
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => number(expr).map(|value| -value),
        Expr::UnaryOp { op: UnaryOperator::Plus, expr } | Expr::Nested(expr) => number(expr),
        _ => None,
    }
}

fn fixed_seed(seed: TableSampleSeed) -> Result<SampleSeed> {
    let TableSampleSeed { modifier, value } = seed;
    let number = match &value.value {
        Value::Number(text, _) => text.parse().ok(),
        _ => None,
    };
    match number {
        Some(seed) => Ok(SampleSeed::Fixed(seed)),
        None => plan_err!("TABLESAMPLE … {modifier} needs an integer from 0 to {}, not {value}", u64::MAX),
    }
}
