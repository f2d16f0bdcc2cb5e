//! What EXPLAIN and EXPLAIN ANALYZE show: the logical plan, and the stages with where they exchange.

use std::collections::BTreeMap;
use std::fmt::Write;

use datafusion::logical_expr::LogicalPlan;
use springald_core::ids::StageId;
use springald_proto::control::{MetricUnit, OperatorMetrics};
use springald_proto::records::StageSummary;

use super::{Planned, PlannedStage, Run};

/// Rows of EXPLAIN: the kind of plan, and its text.
pub fn explained(logical: &LogicalPlan, planned: &Planned) -> Vec<(String, String)> {
    let run = match &planned.run {
        Run::Local { plan, .. } => {
            let text = datafusion::physical_plan::displayable(plan.as_ref()).indent(false).to_string();
            ("local_plan".to_owned(), format!("runs in the scheduler\n{text}"))
        }
        Run::Stages(stages) => {
            let reason = planned.not_cut.as_ref().map(|reason| format!("Runs in one task: {reason}\n"));
            let text = reason.into_iter().chain(stages.iter().map(stage_text)).collect();
            ("distributed_plan".to_owned(), text)
        }
    };
    vec![("logical_plan".to_owned(), logical.display_indent().to_string()), run]
}

fn stage_text(stage: &PlannedStage) -> String {
    let spec = &stage.spec;
    let inputs = spec.inputs.iter().map(|input| input.stage.0);
    format!("{}\n{}\n", headline(spec.id.0, spec.tasks(), inputs), stage.text.trim_end())
}

fn headline(stage: u32, tasks: u32, inputs: impl Iterator<Item = u32>) -> String {
    let tasks = match tasks {
        1 => "1 task".to_owned(),
        tasks => format!("{tasks} tasks"),
    };
    let inputs: Vec<String> = inputs.map(|input| input.to_string()).collect();
    let reads = if inputs.is_empty() { String::new() } else { format!(", reads {}", inputs.join(", ")) };
    format!("Stage {stage}: {tasks}{reads}")
}

/// Metrics of every operator of a stage, in pre-order, summed over its tasks.
pub type StageMetrics = BTreeMap<StageId, Vec<OperatorMetrics>>;

/// The text of EXPLAIN ANALYZE: the stages with each operator's metrics behind it.
pub fn analyzed(stages: &[StageSummary], metrics: &StageMetrics) -> String {
    let mut text = String::new();
    for stage in stages {
        let _ = writeln!(text, "{}", headline(stage.stage, stage.tasks, stage.inputs.iter().copied()));
        let operators = metrics.get(&StageId(stage.stage)).map_or(&[][..], Vec::as_slice);
        for (line, operator) in stage.plan.lines().zip(operators.iter().map(Some).chain(std::iter::repeat(None))) {
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
