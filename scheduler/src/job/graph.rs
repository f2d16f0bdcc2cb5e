//! [`JobGraph`]: the fold over a job's events.

use springald_core::error::{ErrorCode, FailureClass, Result};
use springald_core::ids::{ExecutorId, StageId, TaskId};

use super::spec::validate;
use super::{Action, Event, Failure, PartitionSize, Stage, StageSpec, TaskState};

/// Bounds on trying again.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A task that fails this often fails its job.
    pub task_failures: u32,
    /// A task whose executors are lost this often while they run it fails its job: it may be what ends them.
    pub task_losses: u32,
    /// So many lost inputs and lost executors, over the whole job, fail it.
    pub job_losses: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { task_failures: 4, task_losses: 16, job_losses: 1000 }
    }
}

/// Where a job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Work is left.
    Running,
    /// The result is complete; it stays until it was fetched.
    Succeeded,
    /// It will not get a result.
    Failed,
}

/// The stages of one job, the state of every task, and the rules by which they change.
#[derive(Clone, Debug)]
pub struct JobGraph {
    pub(super) stages: Vec<Stage>,
    limits: Limits,
    pub(super) status: Status,
    losses: u32,
    /// This owner's attempts are numbered from here on, whatever it knows of those of earlier ones.
    pub(super) first_attempt: u32,
}

impl JobGraph {
    /// A job with these stages; the last one's output is the result. Fails if they are not a valid plan.
    pub fn new(stages: Vec<StageSpec>, limits: Limits) -> Result<Self> {
        validate(&stages)?;
        let mut stages: Vec<Stage> = stages.into_iter().map(Stage::new).collect();
        let edges: Vec<(StageId, StageId)> = stages
            .iter()
            .flat_map(|stage| stage.spec.inputs.iter().map(|input| (input.stage, stage.spec.id)))
            .collect();
        for (input, reader) in edges {
            let source = &mut stages[index(input)];
            source.readers.push(reader);
            let differs = source.has_versions || source.spec.indeterminate;
            stages[index(reader)].has_versions |= differs;
        }
        Ok(Self { stages, limits, status: Status::Running, losses: 0, first_attempt: 0 })
    }

    /// Where the job stands.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// All stages, inputs before readers.
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// The stage with that number, if the job has it.
    pub fn stage(&self, id: StageId) -> Option<&Stage> {
        self.stages.get((id.0 as usize).checked_sub(1)?)
    }

    /// The stage whose output is the result.
    pub fn last_stage(&self) -> &Stage {
        self.stages.last().expect("a valid plan has a last stage")
    }

    /// Number of tasks that are still to be started, ready or not.
    pub fn pending_tasks(&self) -> u32 {
        self.stages.iter().filter(|stage| !stage.freed).map(|stage| stage.progress.pending).sum()
    }

    /// Number of tasks that run now.
    pub fn running_tasks(&self) -> u32 {
        self.stages.iter().map(|stage| stage.progress.running).sum()
    }

    /// True if this attempt is the live one, and runs on this executor.
    pub fn is_live(&self, task: TaskId, executor: &ExecutorId) -> bool {
        self.status == Status::Running && self.stage(task.stage).is_some_and(|stage| stage.runs(task, executor))
    }

    /// Takes in an event; gives what is to be done. Events about superseded attempts change nothing.
    pub fn apply(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Offer { executor, slots, tasks, idle } => self.offer(&executor, slots, tasks, idle, &mut actions),
            Event::HandedBack { task, executor } => self.handed_back(task, &executor),
            Event::Succeeded { task, executor, sizes } => self.succeeded(task, executor, sizes, &mut actions),
            Event::Failed { task, executor, failure } => self.failed(task, &executor, failure, &mut actions),
            Event::Rested { stage, task } => self.rested(stage, task),
            Event::Speculate { task, executor } => self.speculate(task, executor, &mut actions),
            Event::Moved { task, from, to } => self.moved(task, from, to, &mut actions),
            Event::Reported { task, executor } => self.reported(task, executor, &mut actions),
            Event::ExecutorLost { executor } => self.executor_lost(&executor, &mut actions),
            Event::OutputLost { task, executor } => self.output_lost(task, &executor, &mut actions),
            Event::Stop { code, reason } => self.fail(code, reason, &mut actions),
            Event::ResultFetched => self.result_fetched(&mut actions),
        }
        actions
    }

    fn handed_back(&mut self, task: TaskId, executor: &ExecutorId) {
        if let Some(stage) = self.live(task, executor) {
            stage.end_attempt(task);
        }
    }

    fn rested(&mut self, stage: StageId, task: u32) {
        if let Some(stage) = self.stages.get_mut((stage.0 as usize).wrapping_sub(1)) {
            stage.rested(task);
        }
    }

    // === outcomes ===

    /// The stage of a task, if this very attempt is running on this very executor.
    fn live(&mut self, task: TaskId, executor: &ExecutorId) -> Option<&mut Stage> {
        if self.status != Status::Running {
            return None;
        }
        let stage = self.stages.get_mut((task.stage.0 as usize).checked_sub(1)?)?;
        stage.runs(task, executor).then_some(stage)
    }

    fn succeeded(&mut self, task: TaskId, executor: ExecutorId, sizes: Vec<PartitionSize>, actions: &mut Vec<Action>) {
        if self.holds(task, &executor) {
            return;
        }
        let Some(stage) = self.live(task, &executor) else {
            actions.push(Action::Abort { task, executor });
            return;
        };
        let slower = stage.attempts_of(task.task).filter(|(live, _)| *live != task);
        actions.extend(slower.map(|(task, executor)| Action::Abort { task, executor: executor.clone() }));
        stage.set(task.task, TaskState::Done { attempt: task.attempt, executor, sizes });
        if stage.is_done() {
            let id = stage.spec.id;
            actions.push(Action::StageDone { stage: id });
            self.free_inputs(id, actions);
            if self.last_stage().is_done() {
                self.status = Status::Succeeded;
                actions.push(Action::Finish);
            }
        }
    }

    /// Gives up the inputs of a stage that is done with them, where no other stage needs them.
    fn free_inputs(&mut self, reader: StageId, actions: &mut Vec<Action>) {
        for input in self.stages[index(reader)].spec.inputs.clone() {
            let source = &self.stages[index(input.stage)];
            let needed = source.readers.iter().map(|reader| &self.stages[index(*reader)]);
            let needed = needed.into_iter().any(|reader| !reader.is_done() && !reader.freed);
            if !needed && !source.freed {
                self.give_up(input.stage, actions);
            }
        }
    }

    /// Nobody needs this stage's output any more. If part of it was just being made again (its readers had it already
    /// when it was lost), that stops, and what it was made from is not needed either.
    fn give_up(&mut self, id: StageId, actions: &mut Vec<Action>) {
        self.stages[index(id)].freed = true;
        self.stop_tasks(id, actions);
        actions.push(Action::FreeStage { stage: id });
        self.free_inputs(id, actions);
    }

    /// Stops the tasks of a stage that run.
    fn stop_tasks(&mut self, id: StageId, actions: &mut Vec<Action>) {
        let stage = &mut self.stages[index(id)];
        for task in 0..stage.tasks.len() as u32 {
            let running = stage.attempts_of(task);
            actions.extend(running.map(|(task, executor)| Action::Abort { task, executor: executor.clone() }));
            if matches!(stage.tasks[task as usize].state, TaskState::Running { .. }) {
                stage.set(task, TaskState::Pending);
            }
        }
    }

    fn failed(&mut self, task: TaskId, executor: &ExecutorId, failure: Failure, actions: &mut Vec<Action>) {
        let (limit, own) = (self.limits.task_failures, self.first_attempt);
        let Some(stage) = self.live(task, executor) else { return };
        if failure.class == FailureClass::InputLost {
            return self.input_lost(task, failure, actions);
        }
        stage.progress.failures += 1;
        stage.end_attempt(task);
        let state = &mut stage.tasks[task.task as usize];
        state.failures += 1;
        let hopeless = match failure.class {
            FailureClass::Fatal => true,
            FailureClass::OutOfMemory => {
                // What ran beside those that an earlier owner has launched, nobody knows.
                let was_alone = state.alone_from.is_some_and(|from| task.attempt >= from.max(own));
                state.alone_from.get_or_insert(state.next_attempt);
                was_alone
            }
            _ => state.failures >= limit,
        };
        if hopeless {
            let tries = state.failures;
            let message = match failure.class {
                FailureClass::Fatal => failure.message,
                _ => format!("task {task} failed {tries} times, the last time: {}", failure.message),
            };
            self.fail(failure.code, message, actions);
        } else {
            let failures = state.failures;
            self.rest(task, failures, actions);
        }
    }

    /// A task that has failed is not started again at once.
    fn rest(&mut self, task: TaskId, failures: u32, actions: &mut Vec<Action>) {
        let stage = &mut self.stages[index(task.stage)];
        if stage.tasks[task.task as usize].state == TaskState::Pending {
            stage.rest(task.task);
            actions.push(Action::Rest { stage: task.stage, task: task.task, failures });
        }
    }

    // === losses ===

    /// A reader could not fetch a piece. The producer runs again; the reader is not to blame.
    fn input_lost(&mut self, reader: TaskId, failure: Failure, actions: &mut Vec<Action>) {
        self.stages[index(reader.stage)].end_attempt(reader);
        match &failure.lost {
            Some((lost, holder)) if self.holds(*lost, holder) => self.lose(lost.stage, lost.task, actions),
            // It is elsewhere by now, or nobody knows whose it was.
            _ => self.rest(reader, 1, actions),
        }
        self.count_loss(format!("inputs were lost too often, the last time: {}", failure.message), actions);
        self.revive_inputs(actions);
    }

    fn output_lost(&mut self, task: TaskId, executor: &ExecutorId, actions: &mut Vec<Action>) {
        let freed = self.stage(task.stage).is_none_or(Stage::is_freed);
        if self.status != Status::Failed && !freed && self.holds(task, executor) {
            self.lose(task.stage, task.task, actions);
            self.count_loss(format!("the output of task {task} was lost too often"), actions);
            self.revive_inputs(actions);
        }
    }

    /// True if this very attempt is the finished one, and this executor holds its output.
    pub fn holds(&self, task: TaskId, holder: &ExecutorId) -> bool {
        let state =
            self.stage(task.stage).and_then(|stage| stage.tasks.get(task.task as usize)).map(|task| &task.state);
        matches!(state, Some(TaskState::Done { attempt, executor, .. }) if *attempt == task.attempt && executor == holder)
    }

    fn executor_lost(&mut self, lost: &ExecutorId, actions: &mut Vec<Action>) {
        if self.status == Status::Failed {
            return;
        }
        let (mut touched, mut deadly) = (false, None);
        for position in 0..self.stages.len() {
            for task in 0..self.stages[position].tasks.len() as u32 {
                let stage = &mut self.stages[position];
                let ended: Vec<TaskId> =
                    stage.attempts_of(task).filter(|(_, by)| *by == lost).map(|(task, _)| task).collect();
                if !ended.is_empty() {
                    touched = true;
                    stage.tasks[task as usize].losses += 1;
                    if stage.tasks[task as usize].losses >= self.limits.task_losses {
                        deadly = Some((stage.spec.id, task));
                    }
                }
                ended.into_iter().for_each(|attempt| stage.end_attempt(attempt));
                if matches!(&stage.tasks[task as usize].state, TaskState::Done { executor, .. } if executor == lost)
                    && !stage.freed
                {
                    let id = stage.spec.id;
                    self.lose(id, task, actions);
                    touched = true;
                }
            }
        }
        if let Some((stage, task)) = deadly {
            let message = format!(
                "{} executors were lost while they ran task {task} of stage {stage}, which may be why; the last was {lost}",
                self.limits.task_losses
            );
            return self.fail(ErrorCode::Unavailable, message, actions);
        }
        if touched {
            self.count_loss(format!("executors were lost too often, the last was {lost}"), actions);
            self.revive_inputs(actions);
        }
    }

    fn count_loss(&mut self, message: String, actions: &mut Vec<Action>) {
        self.losses += 1;
        if self.losses > self.limits.job_losses {
            self.fail(ErrorCode::Unavailable, message, actions);
        }
    }

    /// The output of a finished task is gone. If the stage may answer differently when run again, all of it is, with
    /// everything that has read it: no reader may see two versions.
    pub(super) fn lose(&mut self, id: StageId, task: u32, actions: &mut Vec<Action>) {
        if self.stages[index(id)].spec.indeterminate {
            self.restart(id, actions);
        } else {
            self.stages[index(id)].set(task, TaskState::Pending);
        }
        if self.status == Status::Succeeded && !self.last_stage().is_done() {
            self.status = Status::Running;
        }
    }

    /// All of a stage is made anew, with everything that has read it.
    pub(super) fn restart(&mut self, id: StageId, actions: &mut Vec<Action>) {
        self.stop_tasks(id, actions);
        let stage = &mut self.stages[index(id)];
        stage.freed = false;
        for task in 0..stage.tasks.len() as u32 {
            stage.set(task, TaskState::Pending);
        }
        for reader in self.stages[index(id)].readers.clone() {
            self.restart(reader, actions);
        }
    }

    /// A stage that must run (again) needs inputs that exist (again): from the last stage down, outputs that were given
    /// up are made anew.
    pub(super) fn revive_inputs(&mut self, actions: &mut Vec<Action>) {
        for position in (0..self.stages.len()).rev() {
            if self.stages[position].is_done() || self.stages[position].freed {
                continue;
            }
            for input in self.stages[position].spec.inputs.clone() {
                let source = index(input.stage);
                if !self.stages[source].freed {
                    continue;
                }
                if self.stages[source].spec.indeterminate {
                    self.restart(input.stage, actions);
                    return self.revive_inputs(actions);
                }
                self.remake(input.stage);
            }
        }
    }

    /// All of a stage's output, which was given up, is made anew.
    pub(super) fn remake(&mut self, id: StageId) {
        let stage = &mut self.stages[index(id)];
        stage.freed = false;
        for task in 0..stage.tasks.len() as u32 {
            stage.set(task, TaskState::Pending);
        }
    }

    // === the end ===

    fn fail(&mut self, code: ErrorCode, message: String, actions: &mut Vec<Action>) {
        if self.status == Status::Running {
            self.status = Status::Failed;
            actions.push(Action::Fail { code, message });
        }
    }

    fn result_fetched(&mut self, actions: &mut Vec<Action>) {
        let last = self.stages.last_mut().expect("a valid plan has a last stage");
        if self.status == Status::Succeeded && !last.freed {
            last.freed = true;
            actions.push(Action::FreeStage { stage: last.spec.id });
        }
    }
}

/// Position of a stage; stages are numbered from 1, which [`validate`] has checked.
pub(super) fn index(id: StageId) -> usize {
    id.0 as usize - 1
}
