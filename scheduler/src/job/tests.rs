//! The state machine under random schedules of offers, outcomes, losses and late messages.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use springald_core::error::{ErrorCode, FailureClass};
use springald_core::ids::{ExecutorId, StageId, TaskId};

use super::*;

fn executor(name: u32) -> ExecutorId {
    format!("executor-{name}").parse().expect("a valid id")
}

fn stage(id: u32, inputs: &[u32], partitions: u32, hashed: Option<u32>) -> StageSpec {
    StageSpec {
        id: StageId(id),
        inputs: inputs.iter().map(|input| InputSpec { stage: StageId(*input), broadcast: false }).collect(),
        partitions,
        output_partitions: hashed.unwrap_or(partitions),
        hashed: hashed.is_some(),
        whole: None,
        indeterminate: false,
    }
}

/// scan(3) ─hash 4─▶ join(4) ─hash 2─▶ final(2) ─▶ merge(1), with scan(2) ─hash 4─▶ join.
fn diamond() -> Vec<StageSpec> {
    vec![
        stage(1, &[], 3, Some(4)),
        stage(2, &[], 2, Some(4)),
        stage(3, &[1, 2], 4, Some(2)),
        stage(4, &[3], 2, None),
        stage(5, &[4], 1, None),
    ]
}

fn sizes(spec: &StageSpec, task: u32) -> Vec<PartitionSize> {
    spec.writes(task).map(|partition| PartitionSize { partition, rows: 1, bytes: 8 }).collect()
}

fn failure(class: FailureClass, lost: Option<(TaskId, ExecutorId)>) -> Failure {
    Failure { class, code: ErrorCode::Query, message: "injected".to_owned(), lost }
}

fn launches(actions: &[Action]) -> Vec<Launch> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Launch(launch) => Some(launch.clone()),
            _ => None,
        })
        .collect()
}

fn offer(name: u32, slots: u32) -> Event {
    Event::Offer { executor: executor(name), slots, tasks: u32::MAX, idle: true }
}

fn succeed(graph: &mut JobGraph, launch: &Launch) -> Vec<Action> {
    let spec = graph.stage(launch.task.stage).expect("the stage exists").spec().clone();
    let sizes = sizes(&spec, launch.task.task);
    graph.apply(Event::Succeeded { task: launch.task, executor: launch.executor.clone(), sizes })
}

#[test]
fn given_a_plan_when_all_tasks_succeed_then_stages_run_in_order_and_are_freed() {
    let mut graph = JobGraph::new(diamond(), Limits::default()).expect("a valid plan");
    let mut order = vec![];
    let mut finished = false;
    while !finished {
        let batch = launches(&graph.apply(offer(1, 2)));
        assert!(!batch.is_empty(), "the job is stuck");
        for launch in batch {
            for action in succeed(&mut graph, &launch) {
                match action {
                    Action::FreeStage { stage } => order.push(stage.0),
                    Action::Finish => finished = true,
                    _ => {}
                }
            }
        }
    }
    assert_eq!(order, [1, 2, 3, 4]);
    assert_eq!(graph.apply(Event::ResultFetched), [Action::FreeStage { stage: StageId(5) }]);
    assert_eq!(graph.apply(offer(1, 8)), []);
}

#[test]
fn given_a_failed_attempt_when_its_late_success_arrives_then_it_is_dropped() {
    let mut graph = JobGraph::new(vec![stage(1, &[], 1, None)], Limits::default()).expect("a valid plan");
    let first = launches(&graph.apply(offer(1, 1))).remove(0);
    graph.apply(Event::Failed {
        task: first.task,
        executor: first.executor.clone(),
        failure: failure(FailureClass::Transient, None),
    });
    let late = succeed(&mut graph, &first);
    assert_eq!(late, [Action::Abort { task: first.task, executor: first.executor.clone() }]);
    let second = launches(&graph.apply(offer(2, 1))).remove(0);
    assert_eq!(second.task.attempt, 1);
    assert!(succeed(&mut graph, &second).contains(&Action::Finish));
}

#[test]
fn given_a_querys_own_error_when_it_fails_then_the_job_fails_at_once_with_its_message() {
    let mut graph = JobGraph::new(diamond(), Limits::default()).expect("a valid plan");
    let launch = launches(&graph.apply(offer(1, 1))).remove(0);
    let actions = graph.apply(Event::Failed {
        task: launch.task,
        executor: launch.executor,
        failure: failure(FailureClass::Fatal, None),
    });
    assert_eq!(actions, [Action::Fail { code: ErrorCode::Query, message: "injected".to_owned() }]);
}

#[test]
fn given_transient_failures_when_the_limit_is_reached_then_the_job_fails() {
    let mut graph = JobGraph::new(diamond(), Limits { task_failures: 3, ..Limits::default() }).expect("a valid plan");
    for round in 0..3 {
        let launch = launches(&graph.apply(offer(1, 1))).remove(0);
        let actions = graph.apply(Event::Failed {
            task: launch.task,
            executor: launch.executor,
            failure: failure(FailureClass::Transient, None),
        });
        assert_eq!(!actions.is_empty(), round == 2, "round {round}: {actions:?}");
    }
    assert_eq!(*graph.status(), Status::Failed);
}

#[test]
fn given_an_out_of_memory_task_when_retried_then_it_waits_for_an_idle_executor_once() {
    let mut graph = JobGraph::new(vec![stage(1, &[], 1, None)], Limits::default()).expect("a valid plan");
    let fail = |graph: &mut JobGraph, launch: &Launch| {
        graph.apply(Event::Failed {
            task: launch.task,
            executor: launch.executor.clone(),
            failure: failure(FailureClass::OutOfMemory, None),
        })
    };
    let first = launches(&graph.apply(offer(1, 4))).remove(0);
    assert_eq!(fail(&mut graph, &first), []);
    assert_eq!(graph.apply(Event::Offer { executor: executor(1), slots: 3, tasks: 1, idle: false }), []);
    let second = launches(&graph.apply(offer(1, 4))).remove(0);
    assert_eq!(second.slots, 4);
    assert!(matches!(fail(&mut graph, &second)[..], [Action::Fail { .. }]));
}

#[test]
fn given_an_indeterminate_stage_when_part_is_lost_then_all_of_it_and_its_readers_run_again() {
    let mut stages = diamond();
    stages[0].indeterminate = true;
    let mut graph = JobGraph::new(stages, Limits::default()).expect("a valid plan");
    for round in 0..2 {
        for launch in launches(&graph.apply(offer(round, 3))) {
            succeed(&mut graph, &launch);
        }
    }
    let reader = launches(&graph.apply(offer(2, 1))).remove(0);
    assert_eq!(reader.task.stage, StageId(3));
    let actions = graph.apply(Event::ExecutorLost { executor: executor(0) });
    assert!(actions.contains(&Action::Abort { task: reader.task, executor: reader.executor }));
    assert_eq!(graph.stage(StageId(1)).expect("stage 1").progress().pending, 3);
    assert_eq!(graph.stage(StageId(3)).expect("stage 3").progress().pending, 4);
}

#[test]
fn given_an_input_that_is_made_again_when_its_readers_finish_without_it_then_it_is_given_up() {
    let stages = vec![stage(1, &[], 2, Some(2)), stage(2, &[1], 2, Some(1)), stage(3, &[2], 1, None)];
    let mut graph = JobGraph::new(stages, Limits::default()).expect("a valid plan");
    for launch in launches(&graph.apply(offer(1, 2))) {
        succeed(&mut graph, &launch);
    }
    let readers = launches(&graph.apply(offer(2, 2)));
    graph.apply(Event::ExecutorLost { executor: executor(1) });
    let again = launches(&graph.apply(offer(3, 1))).remove(0);
    assert_eq!(again.task.stage, StageId(1));

    // The readers had fetched all of it.
    succeed(&mut graph, &readers[0]);
    let actions = succeed(&mut graph, &readers[1]);
    assert!(actions.contains(&Action::Abort { task: again.task, executor: executor(3) }), "{actions:?}");
    assert!(actions.contains(&Action::FreeStage { stage: StageId(1) }), "{actions:?}");
    let next = launches(&graph.apply(offer(3, 4)));
    assert_eq!(next.iter().map(|launch| launch.task.stage.0).collect::<Vec<_>>(), [3]);
}

#[test]
fn given_invalid_plans_when_made_into_a_graph_then_refused() {
    let bad = [
        vec![],
        vec![stage(2, &[], 1, None)],
        vec![stage(1, &[1], 1, None)],
        vec![stage(1, &[2], 1, None), stage(2, &[], 1, None)],
        vec![stage(1, &[], 1, None), stage(2, &[], 1, None)],
        vec![stage(1, &[0], 1, None)],
    ];
    for stages in bad {
        assert!(JobGraph::new(stages.clone(), Limits::default()).is_err(), "{stages:?}");
    }
}

/// The world around a graph: which executors live, which pieces they hold, which messages are still under way.
struct World {
    graph: JobGraph,
    running: Vec<Launch>,
    /// Messages that will be delivered once more, late.
    stale: Vec<Launch>,
    held: BTreeMap<ExecutorId, BTreeSet<(StageId, u32, u32)>>,
    launched: BTreeSet<TaskId>,
    ended: bool,
    next_executor: u32,
    live: Vec<u32>,
}

impl World {
    fn new(stages: Vec<StageSpec>) -> Self {
        let limits = Limits { task_failures: u32::MAX, job_losses: u32::MAX };
        Self {
            graph: JobGraph::new(stages, limits).expect("a valid plan"),
            running: vec![],
            stale: vec![],
            held: BTreeMap::new(),
            launched: BTreeSet::new(),
            ended: false,
            next_executor: 3,
            live: vec![0, 1, 2],
        }
    }

    fn apply(&mut self, event: Event) {
        for action in self.graph.apply(event) {
            match action {
                Action::Launch(launch) => {
                    assert!(!self.ended, "launched after the end: {launch:?}");
                    assert!(self.launched.insert(launch.task), "launched twice: {launch:?}");
                    self.check_inputs(&launch);
                    self.running.push(launch);
                }
                Action::Abort { task, .. } => {
                    if let Some(at) = self.running.iter().position(|launch| launch.task == task) {
                        let aborted = self.running.swap_remove(at);
                        self.stale.push(aborted);
                    }
                }
                Action::FreeStage { stage } => {
                    self.held.values_mut().for_each(|pieces| pieces.retain(|piece| piece.0 != stage));
                }
                Action::StageDone { .. } => {}
                Action::Finish => self.ended = true,
                Action::Fail { message, .. } => panic!("the job failed: {message}"),
            }
        }
        self.ended = *self.graph.status() != Status::Running;
    }

    /// Every input of a launched task is finished, by the attempt that the graph names.
    fn check_inputs(&self, launch: &Launch) {
        let spec = self.graph.stage(launch.task.stage).expect("the stage exists").spec();
        for input in &spec.inputs {
            let source = self.graph.stage(input.stage).expect("the input exists");
            assert!(source.is_done() && !source.is_freed(), "{launch:?} reads {:?} too early", input.stage);
        }
    }

    /// The first piece of the task's input that no longer exists, if any: what a real fetch would find.
    fn missing_input(&self, launch: &Launch) -> Option<(TaskId, ExecutorId)> {
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

    fn step(&mut self, choice: u32, detail: u32) {
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
            13 if !self.running.is_empty() => {
                let launch = self.running.swap_remove(detail as usize % self.running.len());
                self.apply(Event::HandedBack { task: launch.task, executor: launch.executor });
            }
            _ => {}
        }
    }

    fn complete(&mut self, launch: &Launch) {
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
    fn settle(&mut self) {
        for round in 0.. {
            if self.ended {
                return;
            }
            assert!(round < 1000, "the job does not end: {:?}", self.graph);
            for name in self.live.clone() {
                self.apply(offer(name, 4));
            }
            for launch in std::mem::take(&mut self.running) {
                self.complete(&launch);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn given_any_order_of_faults_when_they_stop_then_the_job_finishes_with_every_partition_once(
        indeterminate in 0u32..6,
        steps in proptest::collection::vec((0u32..14, any::<u32>()), 0..120),
    ) {
        let mut stages = diamond();
        if let Some(stage) = stages.get_mut(indeterminate as usize) {
            stage.indeterminate = true;
        }
        let mut world = World::new(stages);
        for (choice, detail) in steps {
            world.step(choice, detail);
        }
        world.settle();
        let last = world.graph.last_stage();
        prop_assert!(last.is_done());
        prop_assert_eq!(last.output().0, 1);
        world.apply(Event::ResultFetched);
        prop_assert!(world.graph.stages().iter().all(Stage::is_freed), "something was never freed");
    }

    #[test]
    fn given_the_same_events_when_applied_twice_then_the_same_actions(
        steps in proptest::collection::vec((0u32..14, any::<u32>()), 0..60),
    ) {
        let run = || {
            let mut world = World::new(diamond());
            for (choice, detail) in &steps {
                world.step(*choice, *detail);
            }
            format!("{:?} {:?}", world.graph, world.running)
        };
        prop_assert_eq!(run(), run());
    }
}
