//! The world around a job graph, for tests: executors that live, hold pieces and die, messages that come late or twice,
//! owners that die and are succeeded.

use std::collections::{BTreeMap, BTreeSet};

use springald_core::error::{ErrorCode, FailureClass};
use springald_core::ids::{ExecutorId, StageId, TaskId};

use super::*;

pub(super) fn executor(name: u32) -> ExecutorId {
    format!("executor-{name}").parse().expect("a valid id")
}

pub(super) fn stage(id: u32, inputs: &[u32], partitions: u32, hashed: Option<u32>) -> StageSpec {
    StageSpec {
        id: StageId(id),
        inputs: inputs.iter().map(|input| InputSpec { stage: StageId(*input), broadcast: false }).collect(),
        partitions,
        output_partitions: hashed.unwrap_or(partitions),
        key_partitions: 0,
        hashed: hashed.is_some(),
        whole: None,
        indeterminate: false,
    }
}

/// scan(3) ─hash 4─▶ join(4) ─hash 2─▶ final(2) ─▶ merge(1), with scan(2) ─hash 4─▶ join.
pub(super) fn diamond() -> Vec<StageSpec> {
    vec![
        stage(1, &[], 3, Some(4)),
        stage(2, &[], 2, Some(4)),
        stage(3, &[1, 2], 4, Some(2)),
        stage(4, &[3], 2, None),
        stage(5, &[4], 1, None),
    ]
}

pub(super) fn sizes(spec: &StageSpec, task: u32) -> Vec<PartitionSize> {
    spec.writes(task).map(|partition| PartitionSize { partition, rows: 1, bytes: 8 }).collect()
}

pub(super) fn failure(class: FailureClass, lost: Option<(TaskId, ExecutorId)>) -> Failure {
    Failure { class, code: ErrorCode::Query, message: "injected".to_owned(), lost }
}

pub(super) fn launches(actions: &[Action]) -> Vec<Launch> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Launch(launch) => Some(launch.clone()),
            _ => None,
        })
        .collect()
}

pub(super) fn offer(name: u32, slots: u32) -> Event {
    Event::Offer { executor: executor(name), slots, tasks: u32::MAX, idle: Some(slots) }
}

/// The world around a graph: which executors live, which pieces they hold, which messages are still under way.
pub(super) struct World {
    pub(super) graph: JobGraph,
    pub(super) running: Vec<Launch>,
    /// Messages that will be delivered once more, late.
    pub(super) stale: Vec<Launch>,
    pub(super) held: BTreeMap<ExecutorId, BTreeSet<(StageId, u32, u32)>>,
    /// All attempts ever, whoever owned the job.
    pub(super) launched: BTreeSet<TaskId>,
    pub(super) takeovers: u32,
    /// Outcomes as they are recorded, in order.
    pub(super) recorded: Vec<Event>,
    pub(super) stages: Vec<StageSpec>,
    pub(super) resting: Vec<(StageId, u32)>,
    pub(super) ended: bool,
    pub(super) next_executor: u32,
    pub(super) live: Vec<u32>,
}

impl World {
    pub(super) fn new(stages: Vec<StageSpec>) -> Self {
        let limits = Limits { task_failures: u32::MAX, task_losses: u32::MAX, job_losses: u32::MAX };
        Self {
            graph: JobGraph::new(stages.clone(), limits).expect("a valid plan"),
            stages,
            recorded: vec![],
            running: vec![],
            stale: vec![],
            held: BTreeMap::new(),
            launched: BTreeSet::new(),
            takeovers: 0,
            resting: vec![],
            ended: false,
            next_executor: 3,
            live: vec![0, 1, 2],
        }
    }

    pub(super) fn apply(&mut self, event: Event) {
        if let Event::Succeeded { task, executor, .. } | Event::Failed { task, executor, .. } = &event
            && self.graph.is_live(*task, executor)
        {
            self.recorded.push(event.clone());
        }
        if let Event::Moved { task, from, .. } = &event
            && self.graph.outputs_at(from).contains(task)
        {
            self.recorded.push(event.clone());
        }
        for action in self.graph.apply(event) {
            match action {
                Action::Launch(launch) => {
                    assert!(!self.ended, "launched after the end: {launch:?}");
                    assert!(self.launched.insert(launch.task), "launched twice: {launch:?}");
                    self.check_inputs(&launch);
                    self.running.push(launch);
                }
                Action::Abort { task, executor } => {
                    if let Some(at) =
                        self.running.iter().position(|launch| launch.task == task && launch.executor == executor)
                    {
                        let aborted = self.running.swap_remove(at);
                        self.stale.push(aborted);
                    }
                    let key = (task.stage, task.task, task.attempt);
                    self.held.get_mut(&executor).map(|pieces| pieces.remove(&key));
                }
                Action::FreeStage { stage } => {
                    self.held.values_mut().for_each(|pieces| pieces.retain(|piece| piece.0 != stage));
                }
                Action::Rest { stage, task, .. } => self.resting.push((stage, task)),
                Action::StageDone { .. } => {}
                Action::Finish => self.ended = true,
                Action::Fail { message, .. } => panic!("the job failed: {message}"),
            }
        }
        self.ended = *self.graph.status() != Status::Running;
    }

    /// Every input of a launched task is finished, by the attempt that the graph names.
    pub(super) fn check_inputs(&self, launch: &Launch) {
        let spec = self.graph.stage(launch.task.stage).expect("the stage exists").spec();
        for input in &spec.inputs {
            let source = self.graph.stage(input.stage).expect("the input exists");
            assert!(source.is_done() && !source.is_freed(), "{launch:?} reads {:?} too early", input.stage);
        }
    }

    /// The first piece of the task's input that no longer exists, if any: what a real fetch would find.
    pub(super) fn missing_input(&self, launch: &Launch) -> Option<(TaskId, ExecutorId)> {
        let spec = self.graph.stage(launch.task.stage)?.spec();
        spec.inputs.iter().find_map(|input| {
            let states = self.graph.stage(input.stage)?.task_states().enumerate();
            states.into_iter().find_map(|(task, state)| match state {
                TaskState::Done { attempt, executor, .. } => {
                    let key = (input.stage, task as u32, *attempt);
                    let there = self.held.get(executor).is_some_and(|pieces| pieces.contains(&key));
                    let id = TaskId { stage: input.stage, task: task as u32, attempt: *attempt };
                    (!there).then(|| (id, executor.clone()))
                }
                _ => None,
            })
        })
    }

    pub(super) fn step(&mut self, choice: u32, detail: u32) {
        match choice {
            0..=3 => {
                let name = self.live[detail as usize % self.live.len()];
                self.apply(offer(name, 1 + detail % 3));
            }
            4..=8 if !self.running.is_empty() => {
                let launch = self.running.swap_remove(detail as usize % self.running.len());
                self.complete(&launch);
                if detail.is_multiple_of(3) {
                    self.stale.push(launch);
                }
            }
            9 if !self.running.is_empty() => {
                let launch = self.running.swap_remove(detail as usize % self.running.len());
                let failure = failure(FailureClass::Transient, None);
                self.apply(Event::Failed { task: launch.task, executor: launch.executor.clone(), failure });
                self.stale.push(launch);
            }
            10 if !self.stale.is_empty() => {
                let launch = self.stale.swap_remove(detail as usize % self.stale.len());
                let spec = self.graph.stage(launch.task.stage).expect("the stage exists").spec().clone();
                let sizes = sizes(&spec, launch.task.task);
                self.apply(Event::Succeeded { task: launch.task, executor: launch.executor, sizes });
            }
            11 => {
                let name = self.live.remove(detail as usize % self.live.len());
                self.live.push(self.next_executor);
                self.next_executor += 1;
                self.held.remove(&executor(name));
                self.running.retain(|launch| launch.executor != executor(name));
                self.apply(Event::ExecutorLost { executor: executor(name) });
            }
            12 => {
                // A piece vanishes without a word: its reader must find out.
                if let Some(pieces) = self.held.values_mut().find(|pieces| !pieces.is_empty()) {
                    pieces.pop_first();
                }
            }
            14 => self.take_over(detail as usize % 4),
            15 if !self.resting.is_empty() => {
                let (stage, task) = self.resting.swap_remove(detail as usize % self.resting.len());
                self.apply(Event::Rested { stage, task });
            }
            16 if !self.running.is_empty() => {
                let task = self.running[detail as usize % self.running.len()].task;
                let name = self.live[detail as usize / 7 % self.live.len()];
                self.apply(Event::Speculate { task, executor: executor(name) });
            }
            17 => self.hand_over(detail),
            13 if !self.running.is_empty() => {
                let launch = self.running.swap_remove(detail as usize % self.running.len());
                self.apply(Event::HandedBack { task: launch.task, executor: launch.executor });
            }
            _ => {}
        }
    }

    /// An executor hands one of its outputs over to another one, and keeps its own copy as long as it may be read there.
    pub(super) fn hand_over(&mut self, detail: u32) {
        let from = executor(self.live[detail as usize % self.live.len()]);
        let to = executor(self.live[detail as usize / 7 % self.live.len()]);
        let outputs = self.graph.outputs_at(&from);
        let Some(task) = outputs.get(detail as usize / 49 % outputs.len().max(1)).copied() else { return };
        let key = (task.stage, task.task, task.attempt);
        if from != to && self.held.get(&from).is_some_and(|pieces| pieces.contains(&key)) {
            self.held.entry(to.clone()).or_default().insert(key);
            self.apply(Event::Moved { task, from, to });
        }
    }

    /// The owner dies, and with it the last `forgotten` outcomes, which it had not written down. Another one rebuilds the
    /// graph from the rest, and from what the executors say.
    pub(super) fn take_over(&mut self, forgotten: usize) {
        let kept = self.recorded.len().saturating_sub(forgotten);
        self.recorded.truncate(kept);
        self.takeovers += 1;
        let limits = Limits { task_failures: u32::MAX, task_losses: u32::MAX, job_losses: u32::MAX };
        let graph = JobGraph::new(self.stages.clone(), limits).expect("a valid plan");
        self.graph = graph.after_takeovers(self.takeovers);
        for outcome in self.recorded.clone() {
            assert_eq!(self.graph.replay(outcome), None);
        }
        self.graph.replayed();
        self.ended = *self.graph.status() != Status::Running;
        self.stale.clear();
        for launch in self.running.clone() {
            self.apply(Event::Reported { task: launch.task, executor: launch.executor });
        }
        for (executor, pieces) in self.held.clone() {
            for (stage, task, attempt) in pieces {
                let id = TaskId { stage, task, attempt };
                self.apply(Event::Reported { task: id, executor: executor.clone() });
                let Some(spec) = self.graph.stage(stage).map(|stage| stage.spec().clone()) else { continue };
                let sizes = sizes(&spec, task);
                self.apply(Event::Succeeded { task: id, executor: executor.clone(), sizes });
            }
        }
        self.lose_what_nobody_holds();
        self.ended = *self.graph.status() != Status::Running;
    }

    pub(super) fn lose_what_nobody_holds(&mut self) {
        let mut missing = vec![];
        for stage in self.graph.stages().iter().filter(|stage| !stage.is_freed()) {
            for (task, state) in stage.task_states().enumerate() {
                if let TaskState::Done { attempt, executor, .. } = state {
                    let key = (stage.spec().id, task as u32, *attempt);
                    let id = TaskId { stage: stage.spec().id, task: task as u32, attempt: *attempt };
                    if !self.held.get(executor).is_some_and(|pieces| pieces.contains(&key)) {
                        missing.push((id, executor.clone()));
                    }
                }
            }
        }
        for (task, executor) in missing {
            self.apply(Event::OutputLost { task, executor });
        }
    }

    pub(super) fn complete(&mut self, launch: &Launch) {
        if let Some(lost) = self.missing_input(launch) {
            let failure = failure(FailureClass::InputLost, Some(lost));
            return self.apply(Event::Failed { task: launch.task, executor: launch.executor.clone(), failure });
        }
        let key = (launch.task.stage, launch.task.task, launch.task.attempt);
        self.held.entry(launch.executor.clone()).or_default().insert(key);
        let spec = self.graph.stage(launch.task.stage).expect("the stage exists").spec().clone();
        let sizes = sizes(&spec, launch.task.task);
        self.apply(Event::Succeeded { task: launch.task, executor: launch.executor.clone(), sizes });
    }

    /// No more faults: the job must end.
    pub(super) fn settle(&mut self) {
        for round in 0.. {
            if self.ended {
                return;
            }
            assert!(round < 1000, "the job does not end: {:?}", self.graph);
            for (stage, task) in std::mem::take(&mut self.resting) {
                self.apply(Event::Rested { stage, task });
            }
            for name in self.live.clone() {
                self.apply(offer(name, 4));
            }
            for launch in std::mem::take(&mut self.running) {
                self.complete(&launch);
            }
        }
    }
}
