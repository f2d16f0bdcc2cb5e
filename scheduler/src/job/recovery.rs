//! Taking over: the graph of a job from what its earlier owners have recorded, and from what executors report.

use springald_core::error::ErrorCode;
use springald_core::ids::{ExecutorId, TaskId};

use super::graph::index;
use super::{Action, Event, JobGraph, Status, TaskState};

impl JobGraph {
    /// Takes in an outcome that was recorded by an earlier owner of the job, in the order in which they were recorded.
    /// What happened in between and was not recorded follows from it: an attempt with an outcome was launched, and one
    /// after a finished attempt was launched because that one's output was lost.
    ///
    /// Gives the reason, if the job has failed with it.
    pub fn replay(&mut self, outcome: Event) -> Option<(ErrorCode, String)> {
        let (task, executor) = match &outcome {
            Event::Succeeded { task, executor, .. } | Event::Failed { task, executor, .. } => (*task, executor.clone()),
            _ => return None,
        };
        if !self.make_room_for(task) {
            return None;
        }
        let stage = &mut self.stages[index(task.stage)];
        stage.tasks[task.task as usize].next_attempt = task.attempt.saturating_add(1);
        stage.set(task.task, TaskState::Running { attempt: task.attempt, executor });
        self.apply(outcome).into_iter().find_map(|action| match action {
            Action::Fail { code, message } => Some((code, message)),
            _ => None,
        })
    }

    /// All recorded outcomes were replayed.
    pub fn replayed(&mut self) {
        self.revive_inputs(&mut vec![]);
        if self.status == Status::Running && self.last_stage().is_done() {
            self.status = Status::Succeeded;
        }
    }

    /// Makes a task pending whose next attempt is this one; false if that attempt is not news.
    fn make_room_for(&mut self, task: TaskId) -> bool {
        let Some(stage) = self.stage(task.stage) else { return false };
        let Some(state) = stage.tasks.get(task.task as usize) else { return false };
        if task.attempt < state.next_attempt || self.status == Status::Failed {
            return false;
        }
        let done = matches!(state.state, TaskState::Done { .. });
        // After a complete result, only that result's loss can have made more of it run.
        self.status = Status::Running;
        let stage = &self.stages[index(task.stage)];
        if stage.freed {
            self.remake(task.stage);
        } else if done {
            self.lose(task.stage, task.task, &mut vec![]);
        }
        true
    }

    pub(super) fn reported(&mut self, task: TaskId, executor: ExecutorId, actions: &mut Vec<Action>) {
        let running = self.status == Status::Running;
        let position = (task.stage.0 as usize).wrapping_sub(1);
        let known = self.stages.get_mut(position).and_then(|stage| {
            let indeterminate = stage.spec.indeterminate;
            let freed = stage.freed;
            Some((stage.tasks.get_mut(task.task as usize)?, indeterminate, freed))
        });
        let Some((state, indeterminate, freed)) = known else {
            return actions.push(Action::Abort { task, executor });
        };
        let newest = task.attempt >= state.next_attempt;
        state.next_attempt = state.next_attempt.max(task.attempt.saturating_add(1));
        let known = match &state.state {
            TaskState::Pending => false,
            TaskState::Running { attempt, executor: by } | TaskState::Done { attempt, executor: by, .. } => {
                *attempt == task.attempt && *by == executor
            }
        };
        // An attempt that was given up can be taken back, unless others may have seen another version meanwhile.
        let wanted = running && !freed && state.state == TaskState::Pending && (newest || !indeterminate);
        if wanted {
            self.stages[position].set(task.task, TaskState::Running { attempt: task.attempt, executor });
        } else if !known || freed {
            actions.push(Action::Abort { task, executor });
        }
    }
}
