//! What EXPLAIN and EXPLAIN ANALYZE show: the logical plan, and the stages with where they exchange.

use std::collections::BTreeMap;
use std::fmt::Write;

use datafusion::logical_expr::LogicalPlan;
use springald_core::ids::StageId;
use springald_proto::control::{MetricUnit, OperatorMetrics};

use super::{Planned, PlannedStage, Run};

/// Rows of EXPLAIN: the kind of plan, and its text.
pub fn explained(logical: &LogicalPlan, planned: &Planned) -> Vec<(String, String)> {
    let run = match &planned.run {
        Run::Local { plan, .. } => {
            let text = datafusion::physical_plan::displayable(plan.as_ref()).indent(false).to_string();
            ("local_plan".to_owned(), format!("runs in the scheduler\n{text}"))
        }
        Run::Stages(stages) => ("distributed_plan".to_owned(), stages.iter().map(stage_text).collect()),
    };
    vec![("logical_plan".to_owned(), logical.display_indent().to_string()), run]
}

fn stage_text(stage: &PlannedStage) -> String {
    format!("{}\n{}\n", headline(stage), stage.text.trim_end())
}

fn headline(stage: &PlannedStage) -> String {
    let spec = &stage.spec;
    let tasks = match spec.tasks() {
        1 => "1 task".to_owned(),
        tasks => format!("{tasks} tasks"),
    };
    let reads = match spec.inputs.as_slice() {
        [] => String::new(),
        inputs => {
            let names: Vec<String> = inputs.iter().map(|input| input.stage.to_string()).collect();
            format!(", reads {}", names.join(", "))
        }
    };
    format!("Stage {}: {tasks}{reads}", spec.id)
}

/// Metrics of every operator of a stage, in pre-order, summed over its tasks.
pub type StageMetrics = BTreeMap<StageId, Vec<OperatorMetrics>>;

/// The text of EXPLAIN ANALYZE: the stages with each operator's metrics behind it.
pub fn analyzed(stages: &[PlannedStage], metrics: &StageMetrics) -> String {
    let mut text = String::new();
    for stage in stages {
        let _ = writeln!(text, "{}", headline(stage));
        let operators = metrics.get(&stage.spec.id).map_or(&[][..], Vec::as_slice);
        for (line, operator) in stage.text.lines().zip(operators.iter().map(Some).chain(std::iter::repeat(None))) {
            match operator.map(describe).filter(|text| !text.is_empty()) {
                Some(metrics) => {
                    let _ = writeln!(text, "{line}, metrics=[{metrics}]");
                }
                None => {
                    let _ = writeln!(text, "{line}");
                }
            }
        }
    }
    text
}

fn describe(operator: &OperatorMetrics) -> String {
    let shown: Vec<String> = operator
        .metrics
        .iter()
        .map(|metric| match metric.unit() {
            MetricUnit::Count => format!("{}={}", metric.name, metric.value),
            MetricUnit::Bytes => {
                format!("{}={}", metric.name, springald_core::settings::ByteSize(metric.value))
            }
            MetricUnit::Nanoseconds => format!("{}={:.3}ms", metric.name, metric.value as f64 / 1e6),
        })
        .collect();
    shown.join(", ")
}
