//! What dispatch says of single tasks and executors, and counts of all jobs.

use springald_core::ids::{ExecutorId, JobId, TaskId};
use springald_core::telemetry::events::names;

use super::actor::Actor;
use crate::clock;
use crate::job::{Failure, Status};
use crate::metrics::springald_scheduler as metrics;

/// An executor has gone: it was lost, or has drained and left.
pub(super) fn executor_gone(id: &ExecutorId, drained: bool) {
    metrics::executor_streams_ended_total(if drained { "left" } else { "lost" }).inc();
    match drained {
        true => tracing::info!(event = names::EXECUTOR_LEFT, executor_id = %id, "executor left"),
        false => tracing::warn!(event = names::EXECUTOR_LOST, executor_id = %id, "executor lost"),
    }
}

impl Actor {
    /// A live attempt has failed; says so, unless the job ends with it.
    pub(super) fn tell_failure(&self, executor: &ExecutorId, id: &JobId, task: TaskId, failure: &Failure) {
        metrics::task_failures_total(failure.class.as_str()).inc();
        let Some(job) = self.jobs.get(id).filter(|job| *job.graph.status() == Status::Running) else { return };
        let rest = job.resting.iter().rev().find(|(_, stage, number)| (*stage, *number) == (task.stage, task.task));
        let retry_millis = rest.map_or(0, |(due, ..)| due.saturating_duration_since(clock::now()).as_millis() as u64);
        tracing::warn!(event = names::TASK_RETRIED, job_id = %id, stage_id = task.stage.0, task_id = task.task,
            attempt = task.attempt, trace_id = job.record.trace_id, user = job.record.user, executor_id = %executor,
            class = failure.class.as_str(), error_code = failure.code.as_str(), error = failure.message, retry_millis,
            "a task has failed and is tried again");
    }

    /// Brings the gauges of jobs up to date.
    pub(super) fn count_jobs(&self) {
        let (mut queued, mut running, mut fetching) = (0, 0, 0);
        for job in self.jobs.values() {
            *match (job.graph.status(), job.record.started_micros) {
                (Status::Succeeded, _) => &mut fetching,
                (_, 0) => &mut queued,
                _ => &mut running,
            } += 1;
        }
        metrics::jobs("queued").set(queued);
        metrics::jobs("running").set(running);
        metrics::jobs("fetching").set(fetching);
    }
}
