//! One stage and its tasks, as the state machine sees them.

use springald_core::ids::{ExecutorId, StageId, TaskId};

use super::{PartitionSize, StageSpec};

/// Where a task stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// Not started, or to be started again.
    Pending,
    /// Launched.
    Running {
        /// The live attempt.
        attempt: u32,
        /// Who runs it.
        executor: ExecutorId,
    },
    /// Its output is complete.
    Done {
        /// The attempt that wrote it.
        attempt: u32,
        /// Who holds it.
        executor: ExecutorId,
        /// What was written.
        sizes: Vec<PartitionSize>,
    },
}

/// A task of a stage.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) state: TaskState,
    /// The next attempt number: never given out twice, so that a superseded attempt is recognised.
    pub(super) next_attempt: u32,
    /// Failures that count against the task.
    pub(super) failures: u32,
    /// Ran out of memory beside others: next time it gets an executor of its own.
    pub(super) alone: bool,
}

/// Counts of a stage's tasks, for people and for decisions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Tasks not started.
    pub pending: u32,
    /// Tasks launched.
    pub running: u32,
    /// Tasks done.
    pub done: u32,
    /// Failures of all its tasks so far.
    pub failures: u32,
}

/// A stage: its shape, its tasks, and whether its output still exists.
#[derive(Clone, Debug)]
pub struct Stage {
    pub(super) spec: StageSpec,
    pub(super) tasks: Vec<Task>,
    pub(super) progress: Progress,
    /// The output was given up because nobody needed it any more.
    pub(super) freed: bool,
    /// Stages that read this one.
    pub(super) readers: Vec<StageId>,
}

impl Stage {
    pub(super) fn new(spec: StageSpec) -> Self {
        let task = Task { state: TaskState::Pending, next_attempt: 0, failures: 0, alone: false };
        let count = spec.tasks();
        Self {
            tasks: vec![task; count as usize],
            progress: Progress { pending: count, ..Progress::default() },
            freed: false,
            readers: vec![],
            spec,
        }
    }

    /// The stage's shape.
    pub fn spec(&self) -> &StageSpec {
        &self.spec
    }

    /// Counts of its tasks.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// True when every task is done.
    pub fn is_done(&self) -> bool {
        self.progress.done as usize == self.tasks.len()
    }

    /// True when its output was given up.
    pub fn is_freed(&self) -> bool {
        self.freed
    }

    /// The states of its tasks, in order.
    pub fn task_states(&self) -> impl Iterator<Item = &TaskState> {
        self.tasks.iter().map(|task| &task.state)
    }

    /// Rows and bytes of all finished tasks.
    pub fn output(&self) -> (u64, u64) {
        self.task_states().fold((0, 0), |total, state| match state {
            TaskState::Done { sizes, .. } => {
                sizes.iter().fold(total, |(rows, bytes), size| (rows + size.rows, bytes + size.bytes))
            }
            _ => total,
        })
    }

    /// The live attempt of a task, and who runs it.
    pub(super) fn running(&self, task: TaskId) -> Option<&ExecutorId> {
        match &self.tasks.get(task.task as usize)?.state {
            TaskState::Running { attempt, executor } if *attempt == task.attempt => Some(executor),
            _ => None,
        }
    }

    /// Moves a task to another state and keeps the counts.
    pub(super) fn set(&mut self, task: u32, state: TaskState) {
        let Some(slot) = self.tasks.get_mut(task as usize) else { return };
        let old = std::mem::replace(&mut slot.state, state);
        *Self::counter(&mut self.progress, &old) -= 1;
        *Self::counter(&mut self.progress, &slot.state) += 1;
    }

    fn counter<'a>(progress: &'a mut Progress, state: &TaskState) -> &'a mut u32 {
        match state {
            TaskState::Pending => &mut progress.pending,
            TaskState::Running { .. } => &mut progress.running,
            TaskState::Done { .. } => &mut progress.done,
        }
    }
}
