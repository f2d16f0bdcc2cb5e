//! Outputs that one executor hands over to another, because it is about to leave.

use std::collections::BTreeSet;

use springald_core::ids::{ExecutorId, StageId, TaskId};

use super::graph::index;
use super::{Action, JobGraph, Stage, Status, TaskState};

impl JobGraph {
    /// The finished attempts whose output is at this executor, and still needed.
    pub fn outputs_at(&self, holder: &ExecutorId) -> Vec<TaskId> {
        if self.status == Status::Failed {
            return vec![];
        }
        let outputs = |stage: &Stage| -> Vec<TaskId> {
            let id = stage.spec.id;
            let held = stage.task_states().enumerate().filter_map(|(task, state)| match state {
                TaskState::Done { attempt, executor, .. } if executor == holder => {
                    Some(TaskId { stage: id, task: task as u32, attempt: *attempt })
                }
                _ => None,
            });
            held.collect()
        };
        self.stages.iter().filter(|stage| !stage.freed).flat_map(outputs).collect()
    }

    /// The attempts that run now and read this stage's output.
    pub fn running_readers(&self, id: StageId) -> BTreeSet<TaskId> {
        let Some(stage) = self.stage(id) else { return BTreeSet::new() };
        let readers = stage.readers.iter().map(|reader| &self.stages[index(*reader)]);
        readers.flat_map(Stage::attempts).map(|(task, _)| task).collect()
    }

    /// An output is at `to` now. If it is not wanted there, that copy is dropped.
    pub(super) fn moved(&mut self, task: TaskId, from: ExecutorId, to: ExecutorId, actions: &mut Vec<Action>) {
        let freed = self.stage(task.stage).is_none_or(Stage::is_freed);
        if self.status == Status::Failed || freed || !self.holds(task, &from) {
            if !self.holds(task, &to) {
                actions.push(Action::Abort { task, executor: to });
            }
            return;
        }
        let slot = &mut self.stages[index(task.stage)].tasks[task.task as usize];
        if let TaskState::Done { executor, .. } = &mut slot.state {
            *executor = to;
            slot.wrote.get_or_insert(from);
        }
    }
}
