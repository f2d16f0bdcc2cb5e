//! Offers: which ready tasks fill the free slots of an executor.

use springald_core::ids::{ExecutorId, TaskId};

use super::graph::index;
use super::{Action, JobGraph, Launch, Stage, Status, TaskState};

impl JobGraph {
    /// Number of tasks that could start now if an executor had room.
    pub fn ready_tasks(&self) -> u32 {
        if self.status != Status::Running {
            return 0;
        }
        let startable = |stage: &Stage| stage.progress.pending - stage.resting;
        self.stages.iter().filter(|stage| self.is_ready(stage)).map(startable).sum()
    }

    /// True if a task could start now if it had an executor to itself.
    pub fn waits_alone(&self) -> bool {
        self.status == Status::Running && self.next_alone().is_some()
    }

    fn is_ready(&self, stage: &Stage) -> bool {
        // What was given up while it was made again is not needed any more.
        let wanted = stage.progress.pending > stage.resting && !stage.freed;
        wanted && stage.spec.inputs.iter().all(|input| self.stages[index(input.stage)].is_done())
    }

    /// The first task that waits for an executor to itself: position of its stage, and its number.
    fn next_alone(&self) -> Option<(usize, u32)> {
        let stages = self.stages.iter().enumerate();
        let mut failed = stages.filter(|(_, stage)| stage.progress.failures > 0 && self.is_ready(stage));
        failed.find_map(|(position, stage)| {
            let waits = stage.tasks.iter().position(|task| task.alone_from.is_some() && task.is_startable())?;
            Some((position, waits as u32))
        })
    }

    /// Fills the slots with ready tasks: stages in plan order, so that inputs are consumed soon after they were made,
    /// and within a stage first the tasks whose input lies on this executor. Before all others comes a task that wants
    /// the executor to itself, if nothing runs there: that is rare.
    pub(super) fn offer(
        &mut self,
        executor: &ExecutorId,
        mut slots: u32,
        mut tasks: u32,
        idle: Option<u32>,
        actions: &mut Vec<Action>,
    ) {
        if self.status != Status::Running || tasks == 0 {
            return;
        }
        if let (Some(all), Some((position, task))) = (idle, self.next_alone()) {
            actions.push(self.start(position, task, executor, all));
            return;
        }
        for position in 0..self.stages.len() {
            if slots == 0 || tasks == 0 {
                return;
            }
            if !self.is_ready(&self.stages[position]) {
                continue;
            }
            for task in self.pending_by_locality(position, executor) {
                if slots == 0 || tasks == 0 {
                    return;
                }
                let takes = self.stages[position].spec.whole.map_or(1, |most| slots.min(most.max(1)));
                slots -= takes;
                tasks -= 1;
                actions.push(self.start(position, task, executor, takes));
            }
        }
    }

    fn start(&mut self, position: usize, task: u32, executor: &ExecutorId, slots: u32) -> Action {
        let stage = &mut self.stages[position];
        let attempt = stage.tasks[task as usize].new_attempt(self.first_attempt);
        stage.set(task, TaskState::Running { attempt, executor: executor.clone() });
        Action::Launch(Launch {
            task: TaskId { stage: stage.spec.id, task, attempt },
            executor: executor.clone(),
            partitions: stage.spec.slice(task),
            slots,
        })
    }

    /// The tasks of a stage that can start beside others.
    fn pending_by_locality(&self, position: usize, executor: &ExecutorId) -> Vec<u32> {
        let stage = &self.stages[position];
        let tasks = stage.tasks.iter().zip(0u32..);
        let startable = tasks.filter(|(task, _)| task.is_startable() && task.alone_from.is_none());
        let mut pending: Vec<u32> = startable.map(|(_, number)| number).collect();
        let aligned: Vec<&Stage> = stage
            .spec
            .inputs
            .iter()
            .map(|input| (input, &self.stages[index(input.stage)]))
            .filter(|(input, source)| !input.broadcast && !source.spec.hashed)
            .map(|(_, source)| source)
            .collect();
        if !aligned.is_empty() && stage.spec.whole.is_none() {
            let holds = |task: u32| {
                aligned.iter().any(|source| {
                    matches!(source.tasks.get(task as usize).map(|task| &task.state),
                        Some(TaskState::Done { executor: holder, .. }) if holder == executor)
                })
            };
            pending.sort_by_key(|task| !holds(*task));
        }
        pending
    }
}
