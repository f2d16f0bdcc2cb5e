//! What goes into the state machine, and what comes out.

use std::ops::Range;

use springald_core::error::{ErrorCode, FailureClass};
use springald_core::ids::{ExecutorId, StageId, TaskId};

/// Rows and bytes that a task wrote for one output partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionSize {
    /// The output partition.
    pub partition: u32,
    /// Rows in it.
    pub rows: u64,
    /// Their size in memory.
    pub bytes: u64,
}

/// Why a task failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Decides what happens next.
    pub class: FailureClass,
    /// The code for the user.
    pub code: ErrorCode,
    /// The message for the user.
    pub message: String,
    /// With [`FailureClass::InputLost`]: whose output was missing, and where.
    pub lost: Option<(TaskId, ExecutorId)>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An executor has slots for this job.
    Offer {
        /// The executor.
        executor: ExecutorId,
        /// Slots that this job may fill now.
        slots: u32,
        /// Tasks that it may start, at most.
        tasks: u32,
        /// All slots of that executor, if nothing runs there: it can take a task that wants it alone.
        idle: Option<u32>,
    },
    /// A launched task did not fit any more; it was not started.
    HandedBack {
        /// The task.
        task: TaskId,
        /// Who handed it back.
        executor: ExecutorId,
    },
    /// A task has written all its output.
    Succeeded {
        /// The task.
        task: TaskId,
        /// Who ran it and holds its output.
        executor: ExecutorId,
        /// What it wrote.
        sizes: Vec<PartitionSize>,
    },
    /// A task failed.
    Failed {
        /// The task.
        task: TaskId,
        /// Who ran it.
        executor: ExecutorId,
        /// Why.
        failure: Failure,
    },
    /// A task that failed has rested for long enough.
    Rested {
        /// Its stage.
        stage: StageId,
        /// The task.
        task: u32,
    },
    /// This attempt is much slower than its peers, and an executor has nothing better to do than to try, too.
    Speculate {
        /// The slow attempt.
        task: TaskId,
        /// Where to run the second one.
        executor: ExecutorId,
    },
    /// An executor that is about to leave has handed an output over to another one.
    Moved {
        /// The attempt that wrote it.
        task: TaskId,
        /// Who held it.
        from: ExecutorId,
        /// Who has a copy of it now.
        to: ExecutorId,
    },
    /// An executor says that it runs, or has run, this attempt, which was launched by an earlier owner of the job or on
    /// an earlier control stream. Wanted, it counts as launched; else it is aborted.
    Reported {
        /// The task.
        task: TaskId,
        /// Who reports it.
        executor: ExecutorId,
    },
    /// An executor is gone with everything it held and ran.
    ExecutorLost {
        /// The executor.
        executor: ExecutorId,
    },
    /// The output of a finished task could not be had by whoever fetches the result.
    OutputLost {
        /// The task.
        task: TaskId,
        /// Who should have held it.
        executor: ExecutorId,
    },
    /// The job must end now: cancelled, past its deadline, or without executors for too long.
    Stop {
        /// The code for the user.
        code: ErrorCode,
        /// The reason for the user.
        reason: String,
    },
    /// The client has all of the result.
    ResultFetched,
}

/// A task to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The task, with a new attempt number.
    pub task: TaskId,
    /// Where to start it.
    pub executor: ExecutorId,
    /// Partitions of the stage's plan that it executes.
    pub partitions: Range<u32>,
    /// Slots that it fills.
    pub slots: u32,
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a task.
    Launch(Launch),
    /// A task has failed and may be tried again: after a while, [`Event::Rested`] is due.
    Rest {
        /// Its stage.
        stage: StageId,
        /// The task.
        task: u32,
        /// How often it has failed so far: the more often, the longer.
        failures: u32,
    },
    /// Stop a task whose outcome is no longer wanted, and drop what it wrote.
    Abort {
        /// The task.
        task: TaskId,
        /// Who runs it.
        executor: ExecutorId,
    },
    /// All tasks of the stage are done: executors can drop its plan.
    StageDone {
        /// The stage.
        stage: StageId,
    },
    /// Nobody will read the stage's output any more.
    FreeStage {
        /// The stage.
        stage: StageId,
    },
    /// The result is complete.
    Finish,
    /// The job has failed or was stopped.
    Fail {
        /// The code for the user.
        code: ErrorCode,
        /// The message for the user.
        message: String,
    },
}
