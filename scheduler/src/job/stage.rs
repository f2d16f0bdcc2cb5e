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
    /// A second attempt that runs beside that of `state`, because that one is slow.
    pub(super) second: Option<(u32, ExecutorId)>,
    /// The next attempt number, as far as attempts are known: never given out twice, so that a superseded attempt is
    /// recognised.
    pub(super) next_attempt: u32,
    /// Failures that count against the task.
    pub(super) failures: u32,
    /// How often an executor was lost that ran it.
    pub(super) losses: u32,
    /// Ran out of memory beside others: attempts from this one on get an executor of their own.
    pub(super) alone_from: Option<u32>,
    /// It failed a moment ago, and is not started again yet.
    pub(super) rests: bool,
    /// Who wrote the output, if somebody else holds it by now.
    pub(super) wrote: Option<ExecutorId>,
}

impl Task {
    /// The number of a new attempt: not below `first`.
    pub(super) fn new_attempt(&mut self, first: u32) -> u32 {
        let attempt = self.next_attempt.max(first);
        self.next_attempt = attempt.saturating_add(1);
        attempt
    }

    /// True if it can be started as soon as its stage's inputs are there.
    pub(super) fn is_startable(&self) -> bool {
        self.state == TaskState::Pending && !self.rests
    }
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
    /// Pending tasks that rest.
    pub(super) resting: u32,
    /// The output was given up because nobody needed it any more.
    pub(super) freed: bool,
    /// Stages that read this one.
    pub(super) readers: Vec<StageId>,
    /// Something that it reads, near or far, may differ when it is made again: its attempts may have read other versions.
    pub(super) has_versions: bool,
}

impl Stage {
    pub(super) fn new(spec: StageSpec) -> Self {
        let task = Task {
            state: TaskState::Pending,
            second: None,
            next_attempt: 0,
            failures: 0,
            losses: 0,
            alone_from: None,
            rests: false,
            wrote: None,
        };
        let count = spec.tasks();
        Self {
            tasks: vec![task; count as usize],
            progress: Progress { pending: count, ..Progress::default() },
            resting: 0,
            freed: false,
            readers: vec![],
            has_versions: false,
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

    /// True if its tasks write the same rows whenever they are run again, whatever else was run again since.
    pub fn is_repeatable(&self) -> bool {
        !self.spec.indeterminate && !self.has_versions
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

    /// All attempts that run, and where.
    pub fn attempts(&self) -> impl Iterator<Item = (TaskId, &ExecutorId)> {
        (0..self.tasks.len() as u32).flat_map(|task| self.attempts_of(task))
    }

    /// The attempts of one task that run: none, one, or two.
    pub(super) fn attempts_of(&self, task: u32) -> impl Iterator<Item = (TaskId, &ExecutorId)> {
        let stage = self.spec.id;
        let slot = self.tasks.get(task as usize);
        let first = slot.and_then(|slot| match &slot.state {
            TaskState::Running { attempt, executor } => Some((*attempt, executor)),
            _ => None,
        });
        let second = slot.and_then(|slot| slot.second.as_ref()).map(|(attempt, executor)| (*attempt, executor));
        let live = first.into_iter().chain(second);
        live.map(move |(attempt, executor)| (TaskId { stage, task, attempt }, executor))
    }

    /// True if this attempt runs on this executor.
    pub(super) fn runs(&self, task: TaskId, executor: &ExecutorId) -> bool {
        self.attempts_of(task.task).any(|(live, by)| live == task && by == executor)
    }

    /// Who wrote the output of a finished task, wherever it is now.
    pub fn written_by(&self, task: u32) -> Option<&ExecutorId> {
        let slot = self.tasks.get(task as usize)?;
        match &slot.state {
            TaskState::Done { executor, .. } => Some(slot.wrote.as_ref().unwrap_or(executor)),
            _ => None,
        }
    }

    /// Takes a running attempt off that has no result: the other one goes on alone if there is one, else the task is
    /// pending.
    pub(super) fn end_attempt(&mut self, task: TaskId) {
        let rest = self.attempts_of(task.task).find(|(live, _)| *live != task);
        let state = match rest {
            Some((TaskId { attempt, .. }, executor)) => TaskState::Running { attempt, executor: executor.clone() },
            None => TaskState::Pending,
        };
        self.set(task.task, state);
    }

    /// A pending task is not started for now.
    pub(super) fn rest(&mut self, task: u32) {
        if let Some(slot) = self.tasks.get_mut(task as usize)
            && slot.state == TaskState::Pending
            && !slot.rests
        {
            slot.rests = true;
            self.resting += 1;
        }
    }

    /// A task that rests can be started again.
    pub(super) fn rested(&mut self, task: u32) {
        if let Some(slot) = self.tasks.get_mut(task as usize)
            && std::mem::take(&mut slot.rests)
        {
            self.resting -= 1;
        }
    }

    /// Moves a task to another state and keeps the counts. No second attempt runs from then on.
    pub(super) fn set(&mut self, task: u32, state: TaskState) {
        self.rested(task);
        let Some(slot) = self.tasks.get_mut(task as usize) else { return };
        slot.second = None;
        slot.wrote = None;
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
