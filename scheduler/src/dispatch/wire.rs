//! Between the control protocol and the state machine's terms.

use springald_core::error::{ErrorCode, FailureClass};
use springald_core::ids::{ExecutorId, JobId, StageId, TaskId};
use springald_proto::control::{FailureClass as WireClass, Outcome, TaskKey, outcome};

use crate::job::{Event, Failure, PartitionSize};

pub(super) fn task_key(job: &JobId, task: TaskId) -> TaskKey {
    TaskKey { job_id: job.to_string(), stage: task.stage.0, task: task.task, attempt: task.attempt }
}

pub(super) fn parse_key(key: &TaskKey) -> Option<(JobId, TaskId)> {
    let task = TaskId { stage: StageId(key.stage), task: key.task, attempt: key.attempt };
    Some((key.job_id.parse().ok()?, task))
}

/// What a replay needs of an outcome: operator metrics are for people, and large.
pub(super) fn without_metrics(outcome: &Outcome) -> Outcome {
    let mut outcome = outcome.clone();
    if let Some(outcome::Result::Succeeded(succeeded)) = &mut outcome.result {
        succeeded.operators.clear();
    }
    outcome
}

/// The event that an outcome is; `None` if it says nothing.
pub(super) fn event_of(task: TaskId, executor: &ExecutorId, outcome: Outcome) -> Option<Event> {
    let executor = executor.clone();
    Some(match outcome.result? {
        outcome::Result::Succeeded(succeeded) => {
            let sizes = succeeded.partitions.iter().zip(succeeded.rows.iter().zip(&succeeded.bytes));
            let sizes = sizes.map(|(partition, (rows, bytes))| PartitionSize {
                partition: *partition,
                rows: *rows,
                bytes: *bytes,
            });
            Event::Succeeded { task, executor, sizes: sizes.collect() }
        }
        outcome::Result::Failed(failed) => {
            let class = match failed.class() {
                WireClass::Transient | WireClass::ExecutorLost => FailureClass::Transient,
                WireClass::InputLost => FailureClass::InputLost,
                WireClass::OutOfMemory => FailureClass::OutOfMemory,
                WireClass::Fatal | WireClass::Unspecified => FailureClass::Fatal,
            };
            let lost = failed.lost.and_then(|lost| {
                let task = TaskId { stage: StageId(lost.stage), task: lost.task, attempt: lost.attempt };
                Some((task, lost.executor_id.parse().ok()?))
            });
            let code = ErrorCode::from_name(&failed.code);
            Event::Failed { task, executor, failure: Failure { class, code, message: failed.message, lost } }
        }
    })
}
