//! A second attempt at a task that is slow: whichever ends first counts, the other is stopped.

use springald_core::ids::{ExecutorId, TaskId};

use super::graph::index;
use super::{Action, JobGraph, Launch, Status, TaskState};

impl JobGraph {
    /// Starts a second attempt beside `task`, if that is the only live one, runs elsewhere, and its inputs are there. A
    /// task that has run out of memory is not tried beside others.
    pub(super) fn speculate(&mut self, task: TaskId, executor: ExecutorId, actions: &mut Vec<Action>) {
        let Some(stage) = self.stage(task.stage) else { return };
        let readable = |id| self.stage(id).is_some_and(|source| source.is_done() && !source.is_freed());
        let inputs_there = stage.spec.inputs.iter().all(|input| readable(input.stage));
        let possible = self.status == Status::Running && !stage.freed && stage.spec.whole.is_none();
        if !inputs_there || !possible {
            return;
        }
        let first = self.first_attempt;
        let stage = &mut self.stages[index(task.stage)];
        let Some(slot) = stage.tasks.get_mut(task.task as usize) else { return };
        let is_only = slot.second.is_none()
            && matches!(&slot.state, TaskState::Running { attempt, executor: by } if *attempt == task.attempt && *by != executor);
        if !is_only || slot.alone_from.is_some() {
            return;
        }
        let attempt = slot.new_attempt(first);
        slot.second = Some((attempt, executor.clone()));
        let partitions = stage.spec.slice(task.task);
        actions.push(Action::Launch(Launch { task: TaskId { attempt, ..task }, executor, partitions, slots: 1 }));
    }
}
