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
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use springald_core::error::Result;
use springald_core::ids::{JobId, SchedulerId, StageId, TaskId};
use springald_proto::control;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::exchange::input::Locations;
use crate::failure;
use crate::metrics::springald_executor as metrics;
use crate::pull::outcomes::Outcomes;
use crate::slots::{SlotPermit, Slots};
use crate::task::{TaskRunner, TaskSpec, is_cancelled};

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
    /// No new tasks: the process is about to end.
    draining: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Who gets the outcomes of a job's tasks: the scheduler that launched last.
    owners: HashMap<JobId, Scheduler>,
    running: HashMap<(JobId, TaskId), CancellationToken>,
}

/// A launch, checked.
struct Checked {
    job: JobId,
    stage: StageId,
    locations: Arc<Locations>,
    trace_id: String,
}

impl Tasks {
    /// No tasks yet. Those to come are run by `runner`, take their slots from `slots` and are spawned on `tracker`.
    pub(crate) fn new(runner: TaskRunner, slots: Slots, tracker: TaskTracker) -> Self {
        let draining = AtomicBool::new(false);
        Self(Arc::new(Shared { runner, slots, tracker, draining, state: Mutex::default() }))
    }

    /// Number of tasks that run.
    pub(crate) fn running(&self) -> usize {
        self.0.state.lock().running.len()
    }

    /// Accepts no tasks from now on.
    pub(crate) fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    /// Slots to offer: none while draining, or while `scheduler` does not take the outcomes it was sent.
    pub(crate) fn offered(&self, scheduler: &Scheduler) -> u32 {
        if self.0.draining.load(Ordering::Relaxed) || scheduler.outcomes.is_full() { 0 } else { self.0.slots.free() }
    }

    /// Starts what fits; returns the tasks that were not started. Fails if the message makes no sense.
    pub(crate) fn launch(&self, scheduler: &Scheduler, launch: control::Launch) -> Result<Vec<control::TaskKey>> {
        let checked = Checked {
            job: launch.job_id.parse()?,
            stage: StageId(launch.stage),
            locations: Arc::new(Locations::from_proto(launch.inputs)?),
            trace_id: launch.trace_id,
        };
        let mut state = self.0.state.lock();
        state.owners.insert(checked.job.clone(), scheduler.clone());
        if let Some(plan) = launch.plan {
            self.0.runner.plans.keep(&checked.job, checked.stage, plan);
        }
        let full = self.0.draining.load(Ordering::Relaxed) || scheduler.outcomes.is_full();
        let mut handed_back = vec![];
        for slice in launch.tasks {
            let task = TaskId { stage: checked.stage, task: slice.task, attempt: slice.attempt };
            let key = (checked.job.clone(), task);
            if state.running.contains_key(&key) {
                tracing::warn!(job_id = %key.0, task_id = %task, "a task that runs already was launched again");
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
        };
        let span = tracing::info_span!(
            "task",
            job_id = %spec.job,
            stage_id = spec.task.stage.0,
            task_id = spec.task.task,
            attempt = spec.task.attempt,
            trace_id = spec.trace_id,
        );
        let tasks = self.clone();
        self.0.tracker.spawn(async move { tasks.run(spec, cancel, permit).await }.instrument(span));
    }

    async fn run(self, spec: TaskSpec, cancel: CancellationToken, permit: SlotPermit) {
        let started = micros_now();
        log_start(&spec);
        let runner = Arc::clone(&self.0);
        let result = {
            let (spec, cancel) = (spec.clone(), cancel.clone());
            // On its own, so that a panic while decoding or preparing the plan ends the task only.
            let running = tokio::spawn(async move { runner.runner.run(&spec, &cancel).await }.in_current_span());
            running.await.unwrap_or_else(|error| Err(failure::from_join_error(error)))
        };
        let ended = micros_now();
        if cancel.is_cancelled() || result.as_ref().is_err_and(is_cancelled) {
            // It may have finished at the same moment: nobody will ask for what it wrote.
            self.0.runner.store.abort(&spec.job, spec.task);
            self.finish(&spec, None, &cancel);
            metrics::tasks_total("aborted").inc();
            tracing::debug!(job_id = %spec.job, stage_id = spec.task.stage.0, task_id = spec.task.task,
                attempt = spec.task.attempt, trace_id = spec.trace_id, "task aborted");
            return;
        }
        let result = match result {
            Ok(succeeded) => {
                log_success(&spec, &succeeded, ended - started);
                metrics::tasks_total("succeeded").inc();
                control::outcome::Result::Succeeded(succeeded)
            }
            Err(error) => {
                let failed = failure::failed(error);
                log_failure(&spec, &failed);
                metrics::tasks_total("failed").inc();
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
        state.running.remove(&(spec.job.clone(), spec.task));
        if cancel.is_cancelled() {
            drop(state);
            self.0.runner.store.abort(&spec.job, spec.task);
            return;
        }
        if let (Some(outcome), Some(owner)) = (outcome, state.owners.get(&spec.job)) {
            owner.outcomes.add(outcome);
        }
    }

    /// Stops a task if it runs, and drops what it wrote.
    pub(crate) fn abort(&self, key: &control::TaskKey) -> Result<()> {
        let job: JobId = key.job_id.parse()?;
        let task = TaskId { stage: StageId(key.stage), task: key.task, attempt: key.attempt };
        // Cancelled before its output is dropped: should it finish in between, it cleans up itself.
        if let Some(cancel) = self.0.state.lock().running.get(&(job.clone(), task)) {
            cancel.cancel();
        }
        self.0.runner.store.abort(&job, task);
        Ok(())
    }

    /// Drops the plan of a stage.
    pub(crate) fn stage_done(&self, job: &str, stage: u32) -> Result<()> {
        self.0.runner.plans.drop_stage(&job.parse()?, StageId(stage));
        Ok(())
    }

    /// Drops the output of a stage, and its plan.
    pub(crate) fn free_stage(&self, job: &str, stage: u32) -> Result<()> {
        let (job, stage) = (job.parse()?, StageId(stage));
        self.0.runner.plans.drop_stage(&job, stage);
        self.0.runner.store.free_stage(&job, stage);
        Ok(())
    }

    /// Stops the tasks of a job and drops everything it held.
    pub(crate) fn free_job(&self, job: &str) -> Result<()> {
        let job: JobId = job.parse()?;
        self.free(&job);
        Ok(())
    }

    fn free(&self, job: &JobId) {
        let mut state = self.0.state.lock();
        state.running.iter().filter(|((of, _), _)| of == job).for_each(|(_, cancel)| cancel.cancel());
        if let Some(owner) = state.owners.remove(job) {
            owner.outcomes.forget_job(job);
        }
        drop(state);
        self.0.runner.plans.drop_job(job);
        self.0.runner.store.free_job(job);
    }

    /// Frees all jobs of a scheduler that is gone, unless another one has taken them over.
    pub(crate) fn free_jobs_of(&self, scheduler: &SchedulerId) {
        let state = self.0.state.lock();
        let jobs: Vec<JobId> =
            state.owners.iter().filter(|(_, owner)| owner.id == *scheduler).map(|(job, _)| job.clone()).collect();
        drop(state);
        for job in jobs {
            tracing::info!(job_id = %job, scheduler_id = %scheduler, "freeing a job whose scheduler is gone");
            self.free(&job);
        }
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

fn micros_now() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX)
}

fn log_start(spec: &TaskSpec) {
    tracing::debug!(job_id = %spec.job, stage_id = spec.task.stage.0, task_id = spec.task.task,
        attempt = spec.task.attempt, trace_id = spec.trace_id, partitions = spec.partitions.len(),
        slots = spec.slots, "task started");
}

fn log_success(spec: &TaskSpec, succeeded: &control::Succeeded, micros: i64) {
    tracing::debug!(job_id = %spec.job, stage_id = spec.task.stage.0, task_id = spec.task.task,
        attempt = spec.task.attempt, trace_id = spec.trace_id, rows = succeeded.rows.iter().sum::<u64>(),
        bytes = succeeded.bytes.iter().sum::<u64>(), spilled_bytes = succeeded.spilled_bytes, micros,
        "task succeeded");
}

fn log_failure(spec: &TaskSpec, failed: &control::Failed) {
    tracing::info!(job_id = %spec.job, stage_id = spec.task.stage.0, task_id = spec.task.task,
        attempt = spec.task.attempt, trace_id = spec.trace_id, class = failed.class().as_str_name(),
        code = failed.code, error = failed.message, "task failed");
}
