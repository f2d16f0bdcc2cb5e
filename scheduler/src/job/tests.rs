//! The state machine under random schedules of offers, outcomes, losses and late messages.

use std::collections::BTreeSet;

use proptest::prelude::*;
use springald_core::error::{ErrorCode, FailureClass};
use springald_core::ids::{StageId, TaskId};

use super::world::*;
use super::*;

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
    assert_eq!(graph.apply(offer(2, 1)), [], "it rests");
    graph.apply(Event::Rested { stage: StageId(1), task: 0 });
    let second = launches(&graph.apply(offer(2, 1))).remove(0);
    assert_eq!(second.task.attempt, 1);
    assert!(succeed(&mut graph, &second).contains(&Action::Finish));
}

#[test]
fn given_a_task_that_ends_whoever_runs_it_then_the_job_fails_before_all_executors_are_gone() {
    let limits = Limits { task_losses: 3, ..Limits::default() };
    let mut graph = JobGraph::new(vec![stage(1, &[], 2, None)], limits).expect("a valid plan");
    let idle = launches(&graph.apply(offer(9, 1))).remove(0);
    for name in 1..=3 {
        assert_eq!(*graph.status(), Status::Running);
        assert_eq!(launches(&graph.apply(offer(name, 1))).len(), 1);
        graph.apply(Event::ExecutorLost { executor: executor(name) });
    }
    assert_eq!(*graph.status(), Status::Failed, "task {} ran elsewhere", idle.task);
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
        let TaskId { stage, task, .. } = launch.task;
        match round {
            2 => assert!(matches!(actions[..], [Action::Fail { .. }]), "{actions:?}"),
            _ => assert_eq!(actions, [Action::Rest { stage, task, failures: round + 1 }]),
        }
        graph.apply(Event::Rested { stage, task });
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
    assert_eq!(fail(&mut graph, &first), [Action::Rest { stage: StageId(1), task: 0, failures: 1 }]);
    graph.apply(Event::Rested { stage: StageId(1), task: 0 });
    assert_eq!(graph.apply(Event::Offer { executor: executor(1), slots: 3, tasks: 1, idle: None }), []);
    let second = launches(&graph.apply(offer(1, 4))).remove(0);
    assert_eq!(second.slots, 4);
    assert!(matches!(fail(&mut graph, &second)[..], [Action::Fail { .. }]));
}

#[test]
fn given_two_attempts_that_run_out_of_memory_beside_others_then_the_task_is_still_tried_alone() {
    let mut graph = JobGraph::new(vec![stage(1, &[], 2, None)], Limits::default()).expect("a valid plan");
    let fail = |graph: &mut JobGraph, launch: &Launch| {
        let failure = failure(FailureClass::OutOfMemory, None);
        graph.apply(Event::Failed { task: launch.task, executor: launch.executor.clone(), failure })
    };
    let first = launches(&graph.apply(offer(1, 1))).remove(0);
    let second = launches(&graph.apply(Event::Speculate { task: first.task, executor: executor(2) })).remove(0);
    assert_eq!(fail(&mut graph, &first), [], "the second attempt goes on");
    assert_eq!(graph.apply(Event::Speculate { task: second.task, executor: executor(3) }), [], "not beside others");
    assert_eq!(fail(&mut graph, &second), [Action::Rest { stage: StageId(1), task: 0, failures: 2 }]);
    assert!(!graph.waits_alone(), "it rests");
    graph.apply(Event::Rested { stage: StageId(1), task: 0 });
    assert!(graph.waits_alone());
    let other = launches(&graph.apply(Event::Offer { executor: executor(1), slots: 4, tasks: 4, idle: None }));
    assert_eq!(other.iter().map(|launch| launch.task.task).collect::<Vec<_>>(), [1], "beside others it does not start");
    // Others wait, so that one slot is theirs: all of them are for the task.
    let alone = Event::Offer { executor: executor(2), slots: 1, tasks: 1, idle: Some(4) };
    let alone = launches(&graph.apply(alone)).remove(0);
    assert_eq!((alone.task.task, alone.slots), (0, 4));
    assert!(matches!(fail(&mut graph, &alone)[..], [Action::Fail { .. }]));
}

#[test]
fn given_a_takeover_when_a_task_has_run_out_of_memory_before_then_the_new_owner_tries_it_alone() {
    let stages = vec![stage(1, &[], 1, None)];
    let failed = |attempt| {
        let failure = failure(FailureClass::OutOfMemory, None);
        Event::Failed { task: TaskId { stage: StageId(1), task: 0, attempt }, executor: executor(1), failure }
    };
    let graph = JobGraph::new(stages, Limits::default()).expect("a valid plan");
    let mut graph = graph.after_takeovers(1);
    // Side by side, for all that is known.
    assert_eq!((graph.replay(failed(0)), graph.replay(failed(1))), (None, None));
    graph.replayed();
    let alone = launches(&graph.apply(offer(1, 4))).remove(0);
    assert!(alone.task.attempt > 1 && alone.slots == 4, "{alone:?}");
    assert!(matches!(graph.apply(failed(alone.task.attempt))[..], [Action::Fail { .. }]));
}

#[test]
fn given_owners_one_after_another_when_they_launch_a_task_then_never_under_the_same_number() {
    let launched = |takeovers| {
        let graph = JobGraph::new(vec![stage(1, &[], 1, None)], Limits::default()).expect("a valid plan");
        launches(&graph.after_takeovers(takeovers).apply(offer(1, 1))).remove(0).task.attempt
    };
    assert_eq!((launched(0), launched(1), launched(2)), (0, 100_000, 200_000));
    assert!(launched(u32::MAX) > launched(40_000), "there are numbers left");
}

#[test]
fn given_an_executor_that_reports_an_earlier_owners_attempt_late_then_it_is_not_taken_for_the_one_that_runs() {
    let mut stages = vec![stage(1, &[], 1, Some(1)), stage(2, &[1], 1, None)];
    stages[0].indeterminate = true;
    let graph = JobGraph::new(stages, Limits::default()).expect("a valid plan");
    let mut graph = graph.after_takeovers(1);
    // Stage 1 was made by the earlier owner, and is made again; stage 2 ran there, and of that nothing was recorded.
    let source = launches(&graph.apply(offer(2, 1))).remove(0);
    succeed(&mut graph, &source);
    let reader = launches(&graph.apply(offer(1, 1))).remove(0);
    let earlier = TaskId { attempt: 0, ..reader.task };
    let reported = graph.apply(Event::Reported { task: earlier, executor: executor(1) });
    assert_eq!(reported, [Action::Abort { task: earlier, executor: executor(1) }]);
    assert!(graph.is_live(reader.task, &executor(1)));
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
fn given_what_was_made_from_an_indeterminate_stage_when_its_executor_returns_then_it_is_not_taken_back() {
    let mut stages = vec![stage(1, &[], 1, Some(2)), stage(2, &[1], 2, None)];
    stages[0].indeterminate = true;
    let mut graph = JobGraph::new(stages, Limits::default()).expect("a valid plan");
    let source = launches(&graph.apply(offer(1, 1))).remove(0);
    succeed(&mut graph, &source);
    let reader = launches(&graph.apply(offer(2, 1))).remove(0);
    succeed(&mut graph, &reader);
    for lost in [1, 2] {
        graph.apply(Event::ExecutorLost { executor: executor(lost) });
    }
    // Stage 1 is made anew, and may be another one now.
    let reported = Event::Reported { task: reader.task, executor: executor(2) };
    assert_eq!(graph.apply(reported), [Action::Abort { task: reader.task, executor: executor(2) }]);
}

#[test]
fn given_a_replay_that_cannot_tell_which_version_was_read_then_what_was_made_from_it_does_not_count() {
    let mut stages = vec![stage(1, &[], 2, Some(2)), stage(2, &[1], 2, None)];
    stages[0].indeterminate = true;
    let succeeded = |stage: u32, task, attempt| {
        let sizes = sizes(&stages[stage as usize - 1], task);
        Event::Succeeded { task: TaskId { stage: StageId(stage), task, attempt }, executor: executor(attempt), sizes }
    };
    // That task 1 was made again shows that all of stage 1 was; whether task 0 ended before or after, nothing shows.
    let recorded = [succeeded(1, 1, 0), succeeded(1, 0, 0), succeeded(1, 1, 1), succeeded(2, 0, 0)];
    let mut graph = JobGraph::new(stages.clone(), Limits::default()).expect("a valid plan");
    for outcome in recorded {
        assert_eq!(graph.replay(outcome), None);
    }
    graph.replayed();
    let done = |stage| graph.stage(StageId(stage)).expect("a stage").progress().done;
    assert_eq!((done(1), done(2)), (1, 0));
}

#[test]
fn given_a_slow_task_when_its_second_attempt_ends_first_then_the_first_is_stopped_and_counts_no_more() {
    let mut graph = JobGraph::new(vec![stage(1, &[], 2, None)], Limits::default()).expect("a valid plan");
    let slow = launches(&graph.apply(offer(1, 1))).remove(0);
    assert_eq!(graph.apply(Event::Speculate { task: slow.task, executor: executor(1) }), [], "not beside itself");
    let second = launches(&graph.apply(Event::Speculate { task: slow.task, executor: executor(2) })).remove(0);
    assert_eq!(second.task, TaskId { attempt: 1, ..slow.task });
    assert_eq!(graph.apply(Event::Speculate { task: slow.task, executor: executor(3) }), [], "two are enough");
    let abort = Action::Abort { task: slow.task, executor: executor(1) };
    assert_eq!(succeed(&mut graph, &second), std::slice::from_ref(&abort));
    assert_eq!(succeed(&mut graph, &slow), [abort], "it is too late");
    assert_eq!(graph.last_stage().progress().done, 1);
}

#[test]
fn given_two_attempts_when_one_fails_or_its_executor_is_lost_then_the_other_goes_on() {
    let mut graph = JobGraph::new(vec![stage(1, &[], 1, None)], Limits::default()).expect("a valid plan");
    let first = launches(&graph.apply(offer(1, 1))).remove(0);
    let second = launches(&graph.apply(Event::Speculate { task: first.task, executor: executor(2) })).remove(0);
    graph.apply(Event::ExecutorLost { executor: executor(1) });
    assert!(graph.is_live(second.task, &second.executor) && !graph.is_live(first.task, &first.executor));
    let third = launches(&graph.apply(Event::Speculate { task: second.task, executor: executor(3) })).remove(0);
    let failure = failure(FailureClass::Transient, None);
    assert_eq!(graph.apply(Event::Failed { task: third.task, executor: executor(3), failure }), []);
    assert!(succeed(&mut graph, &second).contains(&Action::Finish));
}

#[test]
fn given_an_output_that_is_handed_over_when_its_first_holder_leaves_then_nothing_runs_again() {
    let mut graph = JobGraph::new(vec![stage(1, &[], 1, None)], Limits::default()).expect("a valid plan");
    let launch = launches(&graph.apply(offer(1, 1))).remove(0);
    succeed(&mut graph, &launch);
    assert_eq!(graph.outputs_at(&executor(1)), [launch.task]);
    let moved = |to| Event::Moved { task: launch.task, from: executor(1), to: executor(to) };
    assert_eq!(graph.apply(moved(2)), []);
    assert_eq!(graph.apply(moved(3)), [Action::Abort { task: launch.task, executor: executor(3) }], "one is enough");
    graph.apply(Event::ExecutorLost { executor: executor(1) });
    assert_eq!(*graph.status(), Status::Succeeded);
    assert_eq!(graph.last_stage().written_by(0), Some(&executor(1)), "a reader knows it by that name");
    graph.apply(Event::ExecutorLost { executor: executor(2) });
    assert_eq!(*graph.status(), Status::Running);
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn given_any_order_of_faults_when_they_stop_then_the_job_finishes_with_every_partition_once(
        indeterminate in 0u32..6,
        steps in proptest::collection::vec((0u32..18, any::<u32>()), 0..120),
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
    fn given_owners_that_die_at_any_moment_when_others_take_over_then_the_job_finishes_all_the_same(
        indeterminate in 0u32..6,
        steps in proptest::collection::vec((0u32..18, any::<u32>()), 0..120),
    ) {
        let mut stages = diamond();
        if let Some(stage) = stages.get_mut(indeterminate as usize) {
            stage.indeterminate = true;
        }
        let mut world = World::new(stages);
        for (choice, detail) in steps {
            world.step(choice, detail);
        }
        world.take_over(1);
        world.settle();
        prop_assert!(world.graph.last_stage().is_done());
        prop_assert_eq!(world.graph.last_stage().output().0, 1);
    }

    #[test]
    fn given_a_run_without_losses_when_another_takes_over_then_no_finished_task_runs_again(
        steps in proptest::collection::vec((0u32..9, any::<u32>()), 0..80),
        forgotten in 0usize..5,
    ) {
        let mut world = World::new(diamond());
        for (choice, detail) in steps {
            world.step(choice, detail);
        }
        world.stale.clear();
        let running = world.running.len();
        let held: BTreeSet<_> = world.held.values().flatten().copied().collect();
        world.take_over(forgotten);
        prop_assert_eq!(world.running.len(), running, "running tasks are adopted");
        for stage in world.graph.stages().iter().filter(|stage| !stage.is_freed()) {
            for (task, state) in stage.task_states().enumerate() {
                let was_held = held.iter().any(|key| key.0 == stage.spec().id && key.1 == task as u32);
                prop_assert!(!was_held || *state != TaskState::Pending, "task {} of {} is lost", task, stage.spec().id);
            }
        }
        world.settle();
    }

    #[test]
    fn given_the_same_events_when_applied_twice_then_the_same_actions(
        steps in proptest::collection::vec((0u32..18, any::<u32>()), 0..60),
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
