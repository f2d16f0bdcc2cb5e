//! Taking over: the graph of a job from what its earlier owners have recorded, and from what executors report.

use springald_core::error::ErrorCode;
use springald_core::ids::{ExecutorId, StageId, TaskId};

use super::graph::index;
use super::{Action, Event, InputSpec, JobGraph, Stage, Status, TaskState};

/// Attempt numbers for each owner of a job: more than it can use for one task.
const ATTEMPTS_PER_OWNER: u32 = 100_000;

impl JobGraph {
    /// The graph of the owner after so many takeovers. It does not know all attempts that earlier owners have launched,
    /// so each owner has numbers of its own: no number ever names two attempts, which may have read and written other
    /// rows.
    pub fn after_takeovers(mut self, takeovers: u32) -> Self {
        self.first_attempt = takeovers.min(u32::MAX / ATTEMPTS_PER_OWNER - 1) * ATTEMPTS_PER_OWNER;
        self
    }

    /// Takes in an outcome that was recorded by an earlier owner of the job, in the order in which they were recorded.
    /// What happened in between and was not recorded follows from it: an attempt with an outcome was launched, and one
    /// after a finished attempt was launched because that one's output was lost.
    ///
    /// Gives the reason, if the job has failed with it.
    pub fn replay(&mut self, outcome: Event) -> Option<(ErrorCode, String)> {
        let (task, executor) = match &outcome {
            Event::Succeeded { task, executor, .. } | Event::Failed { task, executor, .. } => (*task, executor.clone()),
            Event::Moved { .. } => {
                self.apply(outcome);
                return None;
            }
            _ => return None,
        };
        let succeeded = matches!(outcome, Event::Succeeded { .. });
        if succeeded && self.has_unknown_inputs(task.stage) {
            if let Some(state) = self.stages[index(task.stage)].tasks.get_mut(task.task as usize) {
                state.next_attempt = state.next_attempt.max(task.attempt.saturating_add(1));
            }
            return None;
        }
        if !self.make_room_for(task) {
            return None;
        }
        let stage = &mut self.stages[index(task.stage)];
        let state = &mut stage.tasks[task.task as usize];
        state.next_attempt = state.next_attempt.max(task.attempt.saturating_add(1));
        stage.set(task.task, TaskState::Running { attempt: task.attempt, executor });
        self.apply(outcome).into_iter().find_map(|action| match action {
            Action::Fail { code, message } => Some((code, message)),
            _ => None,
        })
    }

    /// All recorded outcomes were replayed.
    pub fn replayed(&mut self) {
        for stage in &mut self.stages {
            (0..stage.tasks.len() as u32).for_each(|task| stage.rested(task));
        }
        self.revive_inputs(&mut vec![]);
        if self.status == Status::Running && self.last_stage().is_done() {
            self.status = Status::Succeeded;
        }
    }

    /// True for a stage that reads one of which there were several versions, and none of them is whole as far as is known:
    /// that one will be made anew, and what a task has read of it does not go together with that.
    fn has_unknown_inputs(&self, id: StageId) -> bool {
        let whole = |source: &Stage| source.freed || source.is_done();
        let known = |input: &InputSpec| self.stage(input.stage).is_none_or(whole);
        self.stage(id).is_some_and(|stage| stage.has_versions && !stage.spec.inputs.iter().all(known))
    }

    /// Makes a task pending for this attempt; false if it is not news: older than what is known of a finished task.
    fn make_room_for(&mut self, task: TaskId) -> bool {
        let Some(stage) = self.stage(task.stage) else { return false };
        let Some(state) = stage.tasks.get(task.task as usize) else { return false };
        let done = matches!(state.state, TaskState::Done { .. });
        // Of two attempts side by side, the older one may end last.
        if (done && task.attempt < state.next_attempt) || self.status == Status::Failed {
            return false;
        }
        // After a complete result, only that result's loss can have made more of it run.
        self.status = Status::Running;
        let stage = &self.stages[index(task.stage)];
        if stage.freed && stage.spec.indeterminate {
            self.restart(task.stage, &mut vec![]);
        } else if stage.freed {
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
            let versions = (stage.spec.indeterminate, stage.has_versions);
            let freed = stage.freed;
            Some((stage.tasks.get_mut(task.task as usize)?, versions, freed))
        });
        let Some((state, (indeterminate, has_versions), freed)) = known else {
            return actions.push(Action::Abort { task, executor });
        };
        let newest = task.attempt >= state.next_attempt;
        state.next_attempt = state.next_attempt.max(task.attempt.saturating_add(1));
        let is_it = |attempt: u32, by: &ExecutorId| attempt == task.attempt && *by == executor;
        let known = match &state.state {
            TaskState::Pending => false,
            TaskState::Running { attempt, executor: by } => {
                is_it(*attempt, by) || state.second.as_ref().is_some_and(|(attempt, by)| is_it(*attempt, by))
            }
            TaskState::Done { attempt, executor: by, .. } => is_it(*attempt, by),
        };
        // An attempt that was given up can be taken back, unless others may have seen another version meanwhile. What it has
        // read nobody can tell: it counts only where that is always the same.
        let same = !has_versions && (newest || !indeterminate);
        let wanted = running && !freed && state.state == TaskState::Pending && same;
        if wanted {
            self.stages[position].set(task.task, TaskState::Running { attempt: task.attempt, executor });
        } else if !known || freed {
            actions.push(Action::Abort { task, executor });
        }
    }
}
