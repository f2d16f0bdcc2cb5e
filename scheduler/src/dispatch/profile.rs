//! What a job's tasks measured, for people: in the job's last event, and stage by stage.

use std::collections::BTreeMap;

use serde::Serialize;
use springald_core::ids::{StageId, TaskId};
use springald_core::telemetry::events::names;
use springald_core::telemetry::trace::{Finished, SpanContext};
use springald_proto::control::{MetricUnit, OperatorMetrics, Outcome};
use springald_proto::records::StageSummary;

use super::job_entry::JobEntry;
use crate::records;

/// A profile past this goes without operators: it must fit a message of the pipeline.
const MAX_BYTES: usize = 256 << 10;

/// Time and rows of each task that has succeeded, the last attempt's.
#[derive(Default)]
pub(super) struct TaskMeasures(BTreeMap<StageId, BTreeMap<u32, (u64, u64)>>);

/// The tasks of a stage together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spread {
    total_micros: u64,
    median_micros: u64,
    max_micros: u64,
    time_skew_percent: u64,
    row_skew_percent: u64,
}

impl TaskMeasures {
    pub(super) fn add(&mut self, task: TaskId, outcome: &Outcome, rows: u64) {
        let micros = u64::try_from(outcome.ended_micros - outcome.started_micros).unwrap_or_default();
        self.0.entry(task.stage).or_default().insert(task.task, (micros, rows));
    }

    fn spread(&self, stage: StageId) -> Spread {
        let Some(tasks) = self.0.get(&stage) else { return Spread::default() };
        let mut micros: Vec<u64> = tasks.values().map(|(micros, _)| *micros).collect();
        let mut rows: Vec<u64> = tasks.values().map(|(_, rows)| *rows).collect();
        micros.sort_unstable();
        rows.sort_unstable();
        Spread {
            total_micros: micros.iter().sum(),
            median_micros: median(&micros),
            max_micros: micros.last().copied().unwrap_or_default(),
            time_skew_percent: skew_percent(&micros),
            row_skew_percent: skew_percent(&rows),
        }
    }
}

fn median(sorted: &[u64]) -> u64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// The largest in percent of the median. A median of zero counts as one.
fn skew_percent(sorted: &[u64]) -> u64 {
    match sorted.last() {
        Some(largest) => (largest.saturating_mul(100) / median(sorted).max(1)).max(100),
        None => 100,
    }
}

#[derive(Serialize)]
struct Profile {
    stages: Vec<StageProfile>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    operators_left_out: bool,
}

#[derive(Serialize)]
struct StageProfile {
    stage: u32,
    status: String,
    inputs: Vec<u32>,
    tasks: u32,
    task_failures: u32,
    rows: u64,
    bytes: u64,
    spilled_bytes: u64,
    task_micros: u64,
    task_micros_median: u64,
    task_micros_max: u64,
    time_skew_percent: u64,
    row_skew_percent: u64,
    operators: Vec<OperatorProfile>,
}

#[derive(Serialize)]
struct OperatorProfile {
    name: String,
    metrics: BTreeMap<String, u64>,
}

/// The profile of a job, as JSON on one line.
pub(super) fn profile(job: &JobEntry, stages: &[StageSummary]) -> String {
    let stages = stages.iter().map(|stage| stage_profile(job, stage)).collect();
    let mut profile = Profile { stages, operators_left_out: false };
    let json = to_json(&profile);
    if json.len() <= MAX_BYTES {
        return json;
    }
    profile.operators_left_out = true;
    profile.stages.iter_mut().for_each(|stage| stage.operators.clear());
    to_json(&profile)
}

fn to_json(profile: &Profile) -> String {
    serde_json::to_string(profile).expect("numbers and texts are JSON")
}

fn stage_profile(job: &JobEntry, stage: &StageSummary) -> StageProfile {
    let id = StageId(stage.stage);
    let spread = job.measures.spread(id);
    StageProfile {
        stage: stage.stage,
        status: stage.status.clone(),
        inputs: stage.inputs.clone(),
        tasks: stage.tasks,
        task_failures: stage.task_failures,
        rows: stage.output_rows,
        bytes: stage.output_bytes,
        spilled_bytes: stage.spilled_bytes,
        task_micros: spread.total_micros,
        task_micros_median: spread.median_micros,
        task_micros_max: spread.max_micros,
        time_skew_percent: spread.time_skew_percent,
        row_skew_percent: spread.row_skew_percent,
        operators: operators(&stage.plan, job.metrics.get(&id).map_or(&[], Vec::as_slice)),
    }
}

/// A plan's text has one operator per line, in the order of their metrics.
fn operators(plan: &str, metrics: &[OperatorMetrics]) -> Vec<OperatorProfile> {
    let name = |line: &str| line.trim_start().split([':', ' ', ',']).next().unwrap_or_default().to_owned();
    let lines = plan.lines().zip(metrics);
    lines.map(|(line, operator)| OperatorProfile { name: name(line), metrics: named(operator) }).collect()
}

fn named(operator: &OperatorMetrics) -> BTreeMap<String, u64> {
    let named = operator.metrics.iter().map(|metric| {
        let unit = match metric.unit() {
            MetricUnit::Nanoseconds => "_nanos",
            MetricUnit::Bytes if !metric.name.ends_with("bytes") => "_bytes",
            MetricUnit::Bytes | MetricUnit::Count => "",
        };
        (format!("{}{unit}", metric.name), metric.value)
    });
    named.collect()
}

/// A stage that runs: its span, and since when.
#[derive(Clone, Copy)]
pub(super) struct StageRun {
    pub(super) span: SpanContext,
    started_micros: i64,
}

impl JobEntry {
    /// Tasks of a stage are about to start. Gives the span that theirs are part of.
    pub(super) fn stage_starts(&mut self, stage: StageId) -> SpanContext {
        if let Some(run) = self.runs.get(&stage) {
            return run.span;
        }
        let run = StageRun { span: self.span.child(), started_micros: records::now_micros() };
        self.runs.insert(stage, run);
        let tasks = self.graph.stage(stage).map_or(0, |stage| stage.spec().tasks());
        tracing::info!(event = names::STAGE_STARTED, job_id = %self.id, stage_id = stage.0, trace_id = run.span.trace_id(),
            span_id = run.span.span_id(), user = self.record.user, tasks, "stage started");
        run.span
    }

    /// All tasks of a stage are done.
    pub(super) fn stage_done(&mut self, stage: StageId) {
        let Some(run) = self.runs.remove(&stage) else { return };
        let Some(summary) = self.graph.stage(stage).map(|stage| self.summary(stage)) else { return };
        let spread = self.measures.spread(stage);
        let ended_micros = records::now_micros();
        tracing::info!(event = names::STAGE_FINISHED, job_id = %self.id, stage_id = stage.0,
            trace_id = run.span.trace_id(), span_id = run.span.span_id(), user = self.record.user, tasks = summary.tasks,
            task_failures = summary.task_failures, rows = summary.output_rows, bytes = summary.output_bytes,
            spilled_bytes = summary.spilled_bytes, millis = (ended_micros - run.started_micros) / 1000,
            time_skew_percent = spread.time_skew_percent, row_skew_percent = spread.row_skew_percent, "stage finished");
        self.stage_span(stage, run, ended_micros).with("rows", summary.output_rows as i64).export();
    }

    /// The job ends: so do the stages that still ran.
    pub(super) fn stages_end(&mut self) {
        let ended_micros = records::now_micros();
        for (stage, run) in std::mem::take(&mut self.runs) {
            self.stage_span(stage, run, ended_micros).failed(Some("the job ended before")).export();
        }
    }

    fn stage_span(&self, stage: StageId, run: StageRun, ended_micros: i64) -> Finished {
        Finished::new(format!("stage {stage}"), run.span, Some(self.span), (run.started_micros, ended_micros))
            .with("job_id", self.id.to_string())
            .with("stage_id", i64::from(stage.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use springald_proto::control::Metric;

    fn outcome(micros: i64) -> Outcome {
        Outcome { started_micros: 1000, ended_micros: 1000 + micros, ..Outcome::default() }
    }

    #[test]
    fn given_tasks_when_one_takes_much_longer_then_the_skew_says_so() {
        let mut measures = TaskMeasures::default();
        let stage = StageId(1);
        for (task, micros, rows) in [(0, 100, 10), (1, 110, 10), (2, 330, 10)] {
            measures.add(TaskId { stage, task, attempt: 0 }, &outcome(micros), rows);
        }
        let spread = measures.spread(stage);
        let expected = Spread {
            total_micros: 540,
            median_micros: 110,
            max_micros: 330,
            time_skew_percent: 300,
            row_skew_percent: 100,
        };
        assert_eq!(spread, expected);
    }

    #[test]
    fn given_a_plan_and_its_metrics_then_operators_have_names_and_units() {
        let metric = |name: &str, value, unit: MetricUnit| Metric { name: name.to_owned(), value, unit: unit.into() };
        let metrics = vec![
            OperatorMetrics { metrics: vec![metric("output_rows", 3, MetricUnit::Count)] },
            OperatorMetrics {
                metrics: vec![
                    metric("elapsed_compute", 5, MetricUnit::Nanoseconds),
                    metric("spilled_bytes", 7, MetricUnit::Bytes),
                    metric("scanned", 9, MetricUnit::Bytes),
                ],
            },
        ];
        let operators = operators("ExchangeWriterExec: hash\n  FilterExec: a@0 = 1\n    Other", &metrics);
        let json = serde_json::to_string(&operators).expect("JSON");
        assert_eq!(
            json,
            r#"[{"name":"ExchangeWriterExec","metrics":{"output_rows":3}},{"name":"FilterExec","metrics":{"elapsed_compute_nanos":5,"scanned_bytes":9,"spilled_bytes":7}}]"#
        );
    }
}
