//! A job as dispatch holds it: the state machine, and what the world around it needs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use springald_core::error::{Error, Result};
use springald_core::ids::{ExecutorId, JobId, StageId};
use springald_proto::control::{OperatorMetrics, StageInput, StagePlan, Succeeded, TaskOutput};
use springald_proto::records::{JobRecord, StageSummary};
use tokio::sync::watch;

use super::adoption::Adoption;
use super::executors::Peers;
use super::handover::Release;
use super::profile::{StageRun, TaskMeasures, profile};
use super::stored;
use super::stragglers::Times;
use super::{JobView, NewJob, ResultPart};
use crate::job::{JobGraph, Limits, Stage, TaskState};
use crate::job_events;
use crate::planner::{self, StageMetrics};
use springald_core::ids::TaskId;
use springald_core::telemetry::trace::SpanContext;

pub(super) struct JobEntry {
    pub(super) id: JobId,
    pub(super) graph: JobGraph,
    pub(super) record: JobRecord,
    pub(super) plans: BTreeMap<StageId, StagePlan>,
    texts: BTreeMap<StageId, String>,
    pub(super) metrics: StageMetrics,
    spilled: BTreeMap<StageId, u64>,
    /// Rows and bytes that each task wrote last: they survive the output's being freed and made again, for people.
    outputs: BTreeMap<StageId, BTreeMap<u32, (u64, u64)>>,
    pub(super) view: watch::Sender<JobView>,
    pub(super) owner_revision: u64,
    /// Batches of outcomes that went to the journal under this token.
    pub(super) outcomes_written: u64,
    pub(super) deadline: Option<Instant>,
    /// Tasks that failed, and when they may be started again.
    pub(super) resting: Vec<(Instant, StageId, u32)>,
    pub(super) times: Times,
    /// Its span, that of the whole query.
    pub(super) span: SpanContext,
    /// The stages that run.
    pub(super) runs: BTreeMap<StageId, StageRun>,
    /// What its tasks took, for people.
    pub(super) measures: TaskMeasures,
    /// It was said that it has ended; its result may be lost and made again after that.
    told_finished: bool,
    /// Outputs that were handed over and are still read where they were.
    pub(super) releases: Vec<Release>,
    /// Its share of the slots beside other jobs.
    pub(super) weight: u32,
    /// Since when one of its tasks waits for an executor to itself.
    pub(super) alone_since: Option<Instant>,
    /// Since when nobody could run it.
    pub(super) waiting_since: Option<Instant>,
    /// Clients that wait for or read the result now.
    pub(super) readers: u32,
    /// All of the result was sent, to a client that does not say whether it has arrived.
    pub(super) sent: bool,
    /// When it ends unless a client comes (back); `None` while one is there.
    pub(super) expires: Option<Instant>,
    /// Executors are still telling what they have of it: nothing starts before.
    pub(super) adoption: Option<Adoption>,
}

impl JobEntry {
    pub(super) fn new(job: NewJob, task_failures: u32) -> Result<Self> {
        let specs = job.stages.iter().map(|stage| stage.spec.clone()).collect();
        let limits = Limits { task_failures, ..Limits::default() };
        let mut entry = Self {
            id: job.id,
            graph: JobGraph::new(specs, limits)?.after_takeovers(job.record.takeovers),
            weight: weight_of(&job.record),
            alone_since: None,
            span: job_events::span_of(&job.record),
            runs: BTreeMap::new(),
            measures: TaskMeasures::default(),
            told_finished: false,
            record: job.record,
            plans: BTreeMap::new(),
            texts: BTreeMap::new(),
            metrics: StageMetrics::new(),
            spilled: BTreeMap::new(),
            outputs: BTreeMap::new(),
            view: watch::channel(JobView::Pending).0,
            owner_revision: job.owner_revision,
            outcomes_written: 0,
            deadline: job.deadline,
            resting: vec![],
            times: Times::default(),
            releases: vec![],
            waiting_since: None,
            readers: 0,
            sent: false,
            expires: None,
            adoption: None,
        };
        for stage in job.stages {
            entry.plans.insert(stage.spec.id, stage.plan);
            entry.texts.insert(stage.spec.id, stage.text);
        }
        Ok(entry)
    }

    /// Keeps what a finished task measured.
    pub(super) fn measured(&mut self, task: TaskId, succeeded: &Succeeded) {
        *self.spilled.entry(task.stage).or_default() += succeeded.spilled_bytes;
        let rows: u64 = succeeded.rows.iter().sum();
        let bytes: u64 = succeeded.bytes.iter().sum();
        self.outputs.entry(task.stage).or_default().insert(task.task, (rows, bytes));
        let totals = self.metrics.entry(task.stage).or_default();
        totals.resize_with(totals.len().max(succeeded.operators.len()), OperatorMetrics::default);
        for (total, operator) in totals.iter_mut().zip(&succeeded.operators) {
            for metric in &operator.metrics {
                match total.metrics.iter_mut().find(|known| known.name == metric.name) {
                    Some(known) => known.value = known.value.saturating_add(metric.value),
                    None => total.metrics.push(metric.clone()),
                }
            }
        }
    }

    /// Where the inputs of a stage are now.
    pub(super) fn inputs_of(&self, stage: StageId, peers: &Peers) -> Vec<StageInput> {
        let Some(reader) = self.graph.stage(stage) else { return vec![] };
        reader
            .spec()
            .inputs
            .iter()
            .filter_map(|input| self.graph.stage(input.stage))
            .map(|source| StageInput { stage: source.spec().id.0, outputs: outputs(source, peers).collect() })
            .collect()
    }

    /// Where the parts of the result are, in order.
    pub(super) fn result_parts(&self, peers: &Peers) -> Result<Vec<ResultPart>> {
        let last = self.graph.last_stage();
        outputs(last, peers)
            .map(|output| {
                let executor: ExecutorId = output.executor_id.parse()?;
                Ok(ResultPart {
                    task: TaskId { stage: last.spec().id, task: output.task, attempt: output.attempt },
                    writer: last.written_by(output.task).unwrap_or(&executor).clone(),
                    executor,
                    address: output.address,
                    partitions: output.partitions,
                    repeatable: last.is_repeatable(),
                })
            })
            .collect()
    }

    pub(super) fn fail(&self, error: Error) {
        self.view.send_replace(JobView::Failed(error));
    }

    pub(super) fn ready(&self, parts: Vec<ResultPart>) {
        self.view.send_replace(JobView::Ready(Arc::new(parts)));
    }

    /// The record with its stages as they stand.
    pub(super) fn current_record(&self) -> JobRecord {
        let mut record = self.record.clone();
        record.stages = self.graph.stages().iter().map(|stage| self.summary(stage)).collect();
        record.result_rows = record.stages.last().map_or(0, |stage| stage.output_rows);
        record
    }

    /// What is written down of that.
    pub(super) fn stored_record(&self) -> Box<JobRecord> {
        let mut record = Box::new(self.current_record());
        stored::shorten(&mut record);
        record
    }

    /// Says that the job has ended, with all that is known of it.
    pub(super) fn tell_finished(&mut self, record: &JobRecord) {
        let again = std::mem::replace(&mut self.told_finished, true);
        job_events::finished(record, Some(&profile(self, &record.stages)), again);
    }

    pub(super) fn summary(&self, stage: &Stage) -> StageSummary {
        let id = stage.spec().id;
        let progress = stage.progress();
        let status = match (stage.is_done(), progress.running > 0 || progress.done > 0) {
            (true, _) => "done",
            (false, true) => "running",
            (false, false) => "waiting",
        };
        let outputs = self.outputs.get(&id).into_iter().flat_map(BTreeMap::values);
        let (output_rows, output_bytes) = outputs.fold((0, 0), |sum, output| (sum.0 + output.0, sum.1 + output.1));
        StageSummary {
            stage: id.0,
            status: status.to_owned(),
            tasks: stage.spec().tasks(),
            tasks_done: progress.done,
            tasks_running: progress.running,
            task_failures: progress.failures,
            output_rows,
            output_bytes,
            spilled_bytes: self.spilled.get(&id).copied().unwrap_or_default(),
            plan: self.texts.get(&id).cloned().unwrap_or_default(),
            inputs: stage.spec().inputs.iter().map(|input| input.stage.0).collect(),
        }
    }
}

/// The share that the session has set, checked then; 1 if it has set none.
fn weight_of(record: &JobRecord) -> u32 {
    record.settings.get(planner::WEIGHT).and_then(|value| planner::weight(value).ok()).unwrap_or(1)
}

/// The outputs of a stage's finished tasks. A holder that is not connected any more keeps its place without an address:
/// the reader's failure to fetch from it is what starts the recovery.
fn outputs<'a>(stage: &'a Stage, peers: &'a Peers) -> impl Iterator<Item = TaskOutput> + 'a {
    stage.task_states().enumerate().filter_map(move |(task, state)| {
        let TaskState::Done { attempt, executor, .. } = state else { return None };
        Some(TaskOutput {
            task: task as u32,
            attempt: *attempt,
            executor_id: executor.to_string(),
            address: peers.get(executor).map(|peer| peer.hello.exchange_address.clone()).unwrap_or_default(),
            partitions: stage.spec().writes(task as u32).collect(),
        })
    })
}
