//! The tasks of this process: which run, for whom, and what becomes of them.
//!
//! ```text
//!   Launch ──▶ slots free? ──no──▶ handed back
//!                 │yes
//!                 ▼
//!            TaskRunner ──▶ outcome ──▶ Outcomes of the scheduler that owns the job
//!                 ▲
//!   Abort, FreeJob┘ (no outcome)
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::error::DataFusionError;
use parking_lot::{Mutex, MutexGuard};
use springald_core::error::{Error, ErrorCode, Result};
use springald_core::ids::{JobId, SchedulerId, StageId, TaskId};
use springald_core::telemetry::events::names;
use springald_core::telemetry::trace::{self, Finished, SpanContext};
use springald_proto::control;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::exchange::input::Locations;
use crate::exchange::store::Written;
use crate::failure;
use crate::metrics::springald_executor as metrics;
use crate::owners::Owners;
use crate::pull::outcomes::Outcomes;
use crate::slots::{SlotPermit, Slots};
use crate::task::{TaskRunner, TaskSpec, dropped_meanwhile, is_cancelled};

/// A scheduler as tasks know it.
#[derive(Clone, Debug)]
pub(crate) struct Scheduler {
    pub(crate) id: SchedulerId,
    pub(crate) outcomes: Arc<Outcomes>,
}

/// The tasks of this process; cheap to clone.
#[derive(Clone)]
pub(crate) struct Tasks(Arc<Shared>);

struct Shared {
    runner: TaskRunner,
    slots: Slots,
    /// Everything that runs is spawned here, and awaited at shutdown.
    tracker: TaskTracker,
    /// No new tasks: the process is about to end. Shared with whoever tells whether the process is ready.
    draining: Arc<AtomicBool>,
    /// Somebody wants this process to drain and end.
    asked_to_drain: CancellationToken,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whom a job's tasks obey, and who gets their outcomes.
    owners: Owners,
    running: HashMap<(JobId, TaskId), CancellationToken>,
}

/// A launch, checked.
struct Checked {
    job: JobId,
    stage: StageId,
    locations: Arc<Locations>,
    trace_id: String,
    /// The stage's span.
    span: Option<SpanContext>,
}

impl Tasks {
    /// No tasks yet. Those to come are run by `runner`, take their slots from `slots` and are spawned on `tracker`.
    pub(crate) fn new(runner: TaskRunner, slots: Slots, tracker: TaskTracker) -> Self {
        let (draining, asked_to_drain) = (Arc::default(), CancellationToken::new());
        Self(Arc::new(Shared { runner, slots, tracker, draining, asked_to_drain, state: Mutex::default() }))
    }

    /// Number of tasks that run.
    pub(crate) fn running(&self) -> usize {
        self.0.state.lock().running.len()
    }

    /// Accepts no tasks from now on.
    pub(crate) fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
        self.0.slots.wake();
    }

    /// True if no more tasks are accepted.
    pub(crate) fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    /// True from when on no more tasks are accepted.
    pub(crate) fn draining(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0.draining)
    }

    /// A scheduler wants this process to drain and end.
    pub(crate) fn ask_to_drain(&self) {
        self.drain();
        self.0.asked_to_drain.cancel();
    }

    /// Returns when a scheduler wants this process to drain and end.
    pub(crate) async fn asked_to_drain(&self) {
        self.0.asked_to_drain.cancelled().await;
    }

    /// Slots to offer: none while draining, or while `scheduler` does not take the outcomes it was sent.
    pub(crate) fn offered(&self, scheduler: &Scheduler) -> u32 {
        if self.is_draining() || scheduler.outcomes.is_full() { 0 } else { self.0.slots.free() }
    }

    /// Starts what fits; returns the tasks that were not started. Fails if the message makes no sense.
    pub(crate) fn launch(&self, scheduler: &Scheduler, launch: control::Launch) -> Result<Vec<control::TaskKey>> {
        let checked = Checked {
            job: launch.job_id.parse()?,
            stage: StageId(launch.stage),
            locations: Arc::new(Locations::from_proto(launch.inputs)?),
            trace_id: launch.trace_id,
            span: launch.traceparent.parse().ok(),
        };
        let mut state = self.0.state.lock();
        if state.owners.is_new(&checked.job, launch.owner_revision) {
            // An owner that has not asked what is here does not count on it, and would never have it dropped.
            self.free(&checked.job, state);
            state = self.0.state.lock();
        }
        if !state.owners.obey(&checked.job, scheduler, launch.owner_revision) {
            return Ok(vec![]);
        }
        if let Some(plan) = launch.plan {
            self.0.runner.plans.keep(&checked.job, checked.stage, plan);
        }
        let full = self.is_draining() || scheduler.outcomes.is_full();
        let mut handed_back = vec![];
        for slice in launch.tasks {
            let task = TaskId { stage: checked.stage, task: slice.task, attempt: slice.attempt };
            let key = (checked.job.clone(), task);
            if let Some(running) = state.running.get(&key) {
                if running.is_cancelled() {
                    // It ends without an outcome, and the new one cannot start beside it.
                    handed_back.push(task_key(&key.0, task));
                    continue;
                }
                tracing::warn!(event = names::TASK_LAUNCHED_TWICE, job_id = %key.0, stage_id = task.stage.0,
                    task_id = task.task, attempt = task.attempt, "a task that runs already was launched again");
                continue;
            }
            let permit = if full { None } else { self.0.slots.try_take(slice.slots) };
            match permit {
                Some(permit) => {
                    let cancel = CancellationToken::new();
                    state.running.insert(key, cancel.clone());
                    self.start(&checked, task, slice, permit, cancel);
                }
                None => handed_back.push(task_key(&key.0, task)),
            }
        }
        Ok(handed_back)
    }

    fn start(
        &self,
        launch: &Checked,
        task: TaskId,
        slice: control::TaskSlice,
        permit: SlotPermit,
        cancel: CancellationToken,
    ) {
        let spec = TaskSpec {
            job: launch.job.clone(),
            task,
            partitions: slice.partitions,
            slots: permit.slots(),
            locations: Arc::clone(&launch.locations),
            trace_id: launch.trace_id.clone(),
            spans: launch.span.map(|stage| (stage, stage.child())),
        };
        let span = tracing::info_span!(
            "task",
            job_id = %spec.job,
            stage_id = spec.task.stage.0,
            task_id = spec.task.task,
            attempt = spec.task.attempt,
            trace_id = spec.trace_id,
            span_id = spec.spans.map(|(_, own)| own.span_id()),
        );
        let tasks = self.clone();
        self.0.tracker.spawn(async move { tasks.run(spec, cancel, permit).await }.instrument(span));
    }

    async fn run(self, spec: TaskSpec, cancel: CancellationToken, permit: SlotPermit) {
        let started = trace::now_micros();
        log_start(&spec);
        let runner = Arc::clone(&self.0);
        let result = {
            let (spec, cancel) = (spec.clone(), cancel.clone());
            // On its own, so that a panic while decoding or preparing the plan ends the task only.
            let running = tokio::spawn(async move { runner.runner.run(&spec, &cancel).await }.in_current_span());
            running.await.unwrap_or_else(|error| Err(failure::from_join_error(error)))
        };
        let ended = trace::now_micros();
        export_span(&spec, (started, ended), result.as_ref().err());
        if cancel.is_cancelled() {
            // It may have finished at the same moment: nobody will ask for what it wrote.
            self.0.runner.store.abort(&spec.job, spec.task);
            self.finish(&spec, None, &cancel);
            metrics::tasks_total("aborted").inc();
            tracing::debug!(event = names::TASK_ABORTED, job_id = %spec.job, stage_id = spec.task.stage.0, task_id = spec.task.task,
                attempt = spec.task.attempt, trace_id = spec.trace_id, "task aborted");
            return;
        }
        let result = match result {
            Ok(succeeded) => {
                log_success(&spec, &succeeded, ended - started);
                metrics::tasks_total("succeeded").inc();
                metrics::task_seconds().observe((ended - started) as f64 / 1e6);
                metrics::task_spilled_bytes_total().inc_by(succeeded.spilled_bytes);
                control::outcome::Result::Succeeded(succeeded)
            }
            Err(error) => {
                let failed = failure::failed(if is_cancelled(&error) { dropped_meanwhile(error) } else { error });
                log_failure(&spec, &failed);
                metrics::tasks_total("failed").inc();
                metrics::task_failures_total(failure::class_name(failed.class())).inc();
                control::outcome::Result::Failed(failed)
            }
        };
        let outcome = control::Outcome {
            key: Some(task_key(&spec.job, spec.task)),
            started_micros: started,
            ended_micros: ended,
            result: Some(result),
        };
        self.finish(&spec, Some(outcome), &cancel);
        // After the outcome, so that the next offer goes out with it or after it.
        drop(permit);
    }

    /// Takes the task off the list; its outcome goes to the job's owner, if it was not aborted meanwhile.
    fn finish(&self, spec: &TaskSpec, outcome: Option<control::Outcome>, cancel: &CancellationToken) {
        let mut state = self.0.state.lock();
        if cancel.is_cancelled() {
            // While it is on the list: afterwards an owner that asks is told that the output is here.
            self.0.runner.store.abort(&spec.job, spec.task);
        }
        state.running.remove(&(spec.job.clone(), spec.task));
        if cancel.is_cancelled() {
            return;
        }
        if let (Some(outcome), Some(owner)) = (outcome, state.owners.scheduler(&spec.job)) {
            owner.outcomes.add(outcome);
        }
    }

    /// A scheduler has taken a job over: from now on it gets the outcomes. Gives what is here of the job; nothing if it is
    /// not obeyed, which it is told instead.
    pub(crate) fn adopt(&self, scheduler: &Scheduler, adopt: &control::Adopt) -> Result<Option<control::Holdings>> {
        let job: JobId = adopt.job_id.parse()?;
        let mut state = self.0.state.lock();
        if !state.owners.obey(&job, scheduler, adopt.owner_revision) {
            return Ok(None);
        }
        let here = state.running.iter().filter(|((of, _), _)| *of == job);
        let here: HashMap<TaskId, bool> = here.map(|((_, task), cancel)| (*task, cancel.is_cancelled())).collect();
        let mut finished = self.0.runner.store.finished(&job);
        drop(state);
        // Its outcome is on its way, or it was stopped, and has none.
        finished.retain(|(task, _)| !here.contains_key(task));
        let running = here.into_iter().filter(|(_, stopped)| !stopped);
        Ok(Some(control::Holdings {
            job_id: adopt.job_id.clone(),
            owner_revision: adopt.owner_revision,
            running: running.map(|(task, _)| task_key(&job, task)).collect(),
            finished: finished.into_iter().map(|(task, written)| outcome_of_held(&job, task, &written)).collect(),
        }))
    }

    /// The jobs that something is held of, for a scheduler that is being connected to.
    pub(crate) fn held_jobs(&self) -> Vec<control::HeldJob> {
        self.0.state.lock().owners.held()
    }

    /// Stops tasks of a job and drops what they wrote, on behalf of the owner with this fencing token.
    pub(crate) fn abort(&self, abort: &control::Abort) -> Result<()> {
        for key in &abort.tasks {
            let job: JobId = key.job_id.parse()?;
            let task = TaskId { stage: StageId(key.stage), task: key.task, attempt: key.attempt };
            let state = self.0.state.lock();
            if !state.owners.allows(&job, abort.owner_revision) {
                continue;
            }
            // Cancelled before its output is dropped: should it finish in between, it cleans up itself.
            if let Some(cancel) = state.running.get(&(job.clone(), task)) {
                cancel.cancel();
            }
            drop(state);
            self.0.runner.store.abort(&job, task);
        }
        Ok(())
    }

    /// Drops the plan of a stage.
    pub(crate) fn stage_done(&self, done: &control::StageDone) -> Result<()> {
        let job: JobId = done.job_id.parse()?;
        if self.0.state.lock().owners.allows(&job, done.owner_revision) {
            self.0.runner.plans.drop_stage(&job, StageId(done.stage));
        }
        Ok(())
    }

    /// Drops the output of a stage, and its plan.
    pub(crate) fn free_stage(&self, free: &control::FreeStage) -> Result<()> {
        let (job, stage) = (free.job_id.parse()?, StageId(free.stage));
        if self.0.state.lock().owners.allows(&job, free.owner_revision) {
            self.0.runner.plans.drop_stage(&job, stage);
            self.0.runner.store.free_stage(&job, stage);
        }
        Ok(())
    }

    /// Stops the tasks of a job and drops everything it held.
    pub(crate) fn free_job(&self, free: &control::FreeJob) -> Result<()> {
        let job: JobId = free.job_id.parse()?;
        let mut state = self.0.state.lock();
        if state.owners.allows(&job, free.owner_revision) {
            state.owners.ended(&job, free.owner_revision);
            self.free(&job, state);
        }
        Ok(())
    }

    fn free(&self, job: &JobId, mut state: MutexGuard<'_, State>) {
        state.running.iter().filter(|((of, _), _)| of == job).for_each(|(_, cancel)| cancel.cancel());
        state.owners.forget(job);
        drop(state);
        self.0.runner.plans.drop_job(job);
        self.0.runner.store.free_job(job);
    }

    /// Frees all jobs of a scheduler that is gone, unless another one has taken them over.
    pub(crate) fn free_jobs_of(&self, scheduler: &SchedulerId) {
        let jobs = self.0.state.lock().owners.jobs_of(scheduler);
        for job in jobs {
            let state = self.0.state.lock();
            if state.owners.scheduler(&job).is_none_or(|owner| owner.id != *scheduler) {
                // Another one has taken it over since.
                continue;
            }
            tracing::info!(event = names::JOB_FREED, job_id = %job, scheduler_id = %scheduler, "freeing a job whose scheduler is gone");
            self.free(&job, state);
        }
    }

    /// Takes over an output that another executor hands over; the answer is for the scheduler that wants it. `None` if it
    /// is not the job's owner.
    pub(crate) fn take_over(
        &self,
        scheduler: &Scheduler,
        wanted: control::Move,
    ) -> Result<Option<impl Future<Output = control::Moved> + Send + use<>>> {
        let job: JobId = wanted.job_id.parse()?;
        let output = wanted.output.ok_or_else(|| Error::invalid("an output to take over without its name"))?;
        let task = TaskId { stage: StageId(wanted.stage), task: output.task, attempt: output.attempt };
        if !self.0.state.lock().owners.obey(&job, scheduler, wanted.owner_revision) {
            return Ok(None);
        }
        let shared = Arc::clone(&self.0);
        Ok(Some(async move {
            let taken = match shared.draining.load(Ordering::Relaxed) {
                true => Err(Error::unavailable("this executor is about to leave, too")),
                false => shared.runner.reader.take_over(&output.address, &job, task, &output.partitions).await,
            };
            let held = shared.state.lock().owners.scheduler(&job).is_some();
            let taken = match held {
                true => taken,
                // Freed while it was on its way: nobody would ever ask for it, or drop it.
                false => {
                    shared.runner.store.abort(&job, task);
                    Err(Error::new(ErrorCode::Cancelled, "the job has ended meanwhile"))
                }
            };
            let error = taken.err().map(|error| error.to_string()).unwrap_or_default();
            control::Moved { key: Some(task_key(&job, task)), owner_revision: wanted.owner_revision, error }
        }))
    }

    /// Stops all tasks.
    pub(crate) fn abort_all(&self) {
        self.0.state.lock().running.values().for_each(CancellationToken::cancel);
    }
}

/// A task's key as the protocol has it.
pub(crate) fn task_key(job: &JobId, task: TaskId) -> control::TaskKey {
    control::TaskKey { job_id: job.to_string(), stage: task.stage.0, task: task.task, attempt: task.attempt }
}

/// The outcome of a task whose whole output is here, as far as that tells.
fn outcome_of_held(job: &JobId, task: TaskId, written: &Written) -> control::Outcome {
    let succeeded = control::Succeeded {
        partitions: written.pieces.iter().map(|piece| piece.partition).collect(),
        rows: written.pieces.iter().map(|piece| piece.rows).collect(),
        bytes: written.pieces.iter().map(|piece| piece.bytes).collect(),
        operators: vec![],
        spilled_bytes: written.spilled_bytes,
    };
    let result = Some(control::outcome::Result::Succeeded(succeeded));
    control::Outcome { key: Some(task_key(job, task)), started_micros: 0, ended_micros: 0, result }
}

fn export_span(spec: &TaskSpec, times: (i64, i64), error: Option<&DataFusionError>) {
    let Some((stage, own)) = spec.spans else { return };
    Finished::new(format!("task {}", spec.task), own, Some(stage), times)
        .with("job_id", spec.job.to_string())
        .with("stage_id", i64::from(spec.task.stage.0))
        .with("task_id", i64::from(spec.task.task))
        .with("attempt", i64::from(spec.task.attempt))
        .failed(error.map(DataFusionError::strip_backtrace))
        .export();
}

fn log_start(spec: &TaskSpec) {
    tracing::debug!(event = names::TASK_STARTED, job_id = %spec.job, stage_id = spec.task.stage.0, task_id = spec.task.task,
        attempt = spec.task.attempt, trace_id = spec.trace_id, partitions = spec.partitions.len(),
        slots = spec.slots, "task started");
}

fn log_success(spec: &TaskSpec, succeeded: &control::Succeeded, micros: i64) {
    tracing::debug!(event = names::TASK_SUCCEEDED, job_id = %spec.job, stage_id = spec.task.stage.0, task_id = spec.task.task,
        attempt = spec.task.attempt, trace_id = spec.trace_id, rows = succeeded.rows.iter().sum::<u64>(),
        bytes = succeeded.bytes.iter().sum::<u64>(), spilled_bytes = succeeded.spilled_bytes, micros,
        "task succeeded");
}

fn log_failure(spec: &TaskSpec, failed: &control::Failed) {
    tracing::info!(event = names::TASK_FAILED, job_id = %spec.job, stage_id = spec.task.stage.0, task_id = spec.task.task,
        attempt = spec.task.attempt, trace_id = spec.trace_id, class = failure::class_name(failed.class()),
        error_code = failed.code, error = failed.message, "task failed");
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Schema;
    use springald_proto::control::{FreeJob, Move, TaskOutput};

    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn given_an_output_on_its_way_here_when_its_job_is_freed_then_it_is_not_kept() {
        let (tasks, _, store) = testing::tasks(1);
        let scheduler = Scheduler { id: SchedulerId::generate(), outcomes: Arc::default() };
        let output = TaskOutput { address: "127.0.0.1:1".to_owned(), partitions: vec![0], ..TaskOutput::default() };
        let wanted = Move { job_id: "j".to_owned(), owner_revision: 5, stage: 1, output: Some(output) };
        let taking = tasks.take_over(&scheduler, wanted).expect("makes sense").expect("obeyed");
        tasks.free_job(&FreeJob { job_id: "j".to_owned(), owner_revision: 5 }).expect("makes sense");
        // It arrives.
        let (job, task) = ("j".parse().expect("valid"), TaskId { stage: StageId(1), task: 0, attempt: 0 });
        let writer = store.begin(&job, task, &Arc::new(Schema::empty()), [0]).expect("begins");
        writer.finish().expect("finishes");

        let moved = taking.await;
        assert!(moved.error.contains("ended"), "{moved:?}");
        assert_eq!(store.stats().pieces, 0);
    }
}
