//! Stages that read each other, on executors of one process, launched by a scheduler that the test plays.

mod support;

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::Int64Type;
use arrow_flight::error::FlightError;
use datafusion::physical_expr::expressions::col;
use datafusion::physical_plan::{ExecutionPlan, Partitioning};
use springald_core::exchange::{ExchangeWriterExec, RuntimeFilterExec};
use springald_core::ids::StageId;
use springald_core::settings::{ByteSize, ExecutorSettings};
use springald_proto::control::executor_message::Message as FromExecutor;
use springald_proto::control::scheduler_message::Message as ToExecutor;
use springald_proto::control::{self, FreeJob, FreeStage, Launch, StageDone, StageInput};
use support::plans::{self, PARTITIONS, as_it_is, copy_of, cut, encoded, plan};
use support::{FakeScheduler, Running, failed, fetch, settings, slice, start, succeeded};

const JOB: &str = "job-1";
const PARTS: u32 = PARTITIONS as u32;

fn launch(stage: u32, plan: Option<control::StagePlan>) -> Launch {
    Launch { job_id: JOB.to_owned(), stage, plan, trace_id: "trace".to_owned(), ..Default::default() }
}

/// Sum of `v` by `k`, as rows of the result have it: any order.
fn sums(batches: &[RecordBatch]) -> Vec<(i64, i64)> {
    let rows = batches.iter().flat_map(|batch| {
        let column = |index: usize| batch.column(index).as_primitive::<Int64Type>().values().to_vec();
        column(0).into_iter().zip(column(1))
    });
    let mut rows: Vec<_> = rows.collect();
    rows.sort_unstable();
    rows
}

fn expected_sums(rows: i64) -> Vec<(i64, i64)> {
    let all = rows * PARTITIONS as i64;
    (0..10).map(|key| (key, (0..all).filter(|number| number % 10 == key).sum())).collect()
}

/// Runs a stage's partitions half on `a` and half on `b`, which have one slot each; returns where the output of its two
/// tasks is.
async fn run_on_both(
    scheduler: &mut FakeScheduler,
    (a, b): (&Running, &Running),
    launch: Launch,
    written: impl Fn(u32) -> Vec<u32>,
) -> StageInput {
    let stage = launch.stage;
    let halves = [(a, 0, vec![0, 1]), (b, 1, vec![2, 3])];
    for (executor, task, partitions) in halves.clone() {
        let launch = Launch { tasks: vec![slice(task, partitions, 1)], ..launch.clone() };
        scheduler.tell(&executor.id, ToExecutor::Launch(launch)).await;
    }
    for (_, outcome) in scheduler.outcomes(2).await {
        assert!(!succeeded(&outcome).partitions.is_empty());
    }
    a.slot_is_free().await;
    b.slot_is_free().await;
    let outputs = halves.map(|(executor, task, _)| executor.output(task, written(task)));
    StageInput { stage, outputs: outputs.into() }
}

async fn fetch_all(input: &StageInput) -> Vec<RecordBatch> {
    let mut batches = vec![];
    for output in &input.outputs {
        let pieces = [(output.task, output.partitions.clone())];
        batches.extend(fetch(&output.address, JOB, input.stage, &pieces).await.expect("fetches"));
    }
    batches
}

async fn two_stage_query(settings: fn() -> ExecutorSettings, rows: i64, check: impl Fn(&Running)) {
    let mut scheduler = FakeScheduler::start().await;
    let a = start("a", &scheduler, settings()).await;
    let b = start("b", &scheduler, settings()).await;
    scheduler.wait_for_offers(&["a", "b"], 1).await;
    // Rows cross the exchange as they are, so that there are enough of them.
    let query = "SELECT k, sum(v) FROM (SELECT DISTINCT k, v, s FROM t) GROUP BY k";
    let stages = cut(plan(query, rows).await);
    assert_eq!(stages.len(), 3);

    let all = |_| (0..PARTS).collect::<Vec<_>>();
    let own = |task| if task == 0 { vec![0, 1] } else { vec![2, 3] };
    let both = (&a, &b);
    let first = run_on_both(&mut scheduler, both, launch(1, encoded(&stages[0])), all).await;
    check(&a);
    let second = Launch { inputs: vec![first], ..launch(2, encoded(&stages[1])) };
    let second = run_on_both(&mut scheduler, both, second, all).await;
    let third = Launch { inputs: vec![second], ..launch(3, encoded(&stages[2])) };
    let result = run_on_both(&mut scheduler, both, third, own).await;

    assert_eq!(sums(&fetch_all(&result).await), expected_sums(rows));

    for executor in [&a, &b] {
        for stage in 1..=3 {
            let job_id = JOB.to_owned();
            scheduler.tell(&executor.id, ToExecutor::StageDone(StageDone { job_id, stage, owner_revision: 0 })).await;
        }
        let free = FreeStage { job_id: JOB.to_owned(), stage: 1, owner_revision: 0 };
        scheduler.tell(&executor.id, ToExecutor::FreeStage(free)).await;
        scheduler.tell(&executor.id, ToExecutor::FreeJob(FreeJob { job_id: JOB.to_owned(), owner_revision: 0 })).await;
        executor
            .wait_until("everything is freed", |stats| {
                stats.exchange_pieces == 0
                    && stats.exchange_memory_bytes == 0
                    && stats.exchange_spilled_bytes == 0
                    && stats.memory_reserved_bytes == 0
                    && stats.pending_outcomes == 0
                    && stats.free_slots == 1
            })
            .await;
    }
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_query_of_three_stages_when_run_on_two_executors_then_the_right_sums_and_nothing_is_left() {
    two_stage_query(|| settings(1), 10_000, |_| {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_little_memory_for_the_exchange_when_run_then_it_spills_and_the_sums_are_right() {
    let little = || ExecutorSettings { exchange_memory_percent: 1, ..settings(1) };
    two_stage_query(little, 50_000, |executor| {
        assert!(executor.executor.stats().exchange_spilled_bytes > 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_task_with_several_slots_when_run_then_its_partitions_share_them_and_metrics_cover_all() {
    let mut scheduler = FakeScheduler::start().await;
    let a = start("a", &scheduler, settings(4)).await;
    scheduler.wait_for_offer("a", 4).await;
    let stages = cut(plan("SELECT k, sum(v) FROM t GROUP BY k", 1000).await);
    let first = Launch { tasks: vec![slice(0, 0..PARTS, 4)], ..launch(1, encoded(&stages[0])) };
    scheduler.tell("a", ToExecutor::Launch(first)).await;
    let offer = scheduler.wait_for_offer("a", 0).await;
    assert_eq!(offer.slots_received, 4);

    let outcomes = scheduler.outcomes(1).await;
    let succeeded = succeeded(&outcomes[0].1);
    assert_eq!(succeeded.partitions, (0..PARTS).collect::<Vec<_>>());
    assert_eq!(succeeded.rows.iter().sum::<u64>(), 40, "10 keys in each of 4 partial aggregations");
    assert_eq!(succeeded.operators.len(), plans::operators(&stages[0]));
    let metric = |operator: usize, name: &str| {
        let metrics = &succeeded.operators[operator].metrics;
        metrics.iter().find(|metric| metric.name == name).map(|metric| metric.value)
    };
    assert_eq!(metric(0, "output_rows"), Some(40));
    assert_eq!(metric(1, "output_rows"), Some(40));
    a.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_stage_when_read_here_and_from_a_peer_then_the_same_rows() {
    let mut scheduler = FakeScheduler::start().await;
    let a = start("a", &scheduler, settings(1)).await;
    let b = start("b", &scheduler, settings(1)).await;
    scheduler.wait_for_offers(&["a", "b"], 1).await;
    let query = "SELECT v, s, CAST(v AS DECIMAL(20, 3)) / 7 AS d, CASE WHEN v % 3 = 0 THEN s END AS n, \
                 arrow_cast(s, 'Dictionary(Int32, Utf8)') AS dictionary, make_array(v, k) AS list, \
                 arrow_cast(make_array(v), 'LargeList(Int64)') AS large, CAST(v AS TIMESTAMP) AS time, \
                 v % 2 = 0 AS even FROM t";
    let scan = plan(query, 5000).await;
    let first = Launch { tasks: vec![slice(0, 0..PARTS, 1)], ..launch(1, encoded(&as_it_is(scan.clone()))) };
    scheduler.tell("a", ToExecutor::Launch(first)).await;
    succeeded(&scheduler.outcomes(1).await[0].1);
    a.slot_is_free().await;

    let input = StageInput { stage: 1, outputs: vec![a.output(0, 0..PARTS)] };
    let mut read = vec![];
    for (executor, stage) in [(&a, 2), (&b, 3)] {
        let copy = Launch {
            inputs: vec![input.clone()],
            tasks: vec![slice(0, 0..PARTS, 1)],
            ..launch(stage, encoded(&copy_of(1, &scan)))
        };
        scheduler.tell(&executor.id, ToExecutor::Launch(copy)).await;
        succeeded(&scheduler.outcomes(1).await[0].1);
        let copied = StageInput { stage, outputs: vec![executor.output(0, 0..PARTS)] };
        read.push(fetch_all(&copied).await);
    }
    let whole = |batches: &[RecordBatch]| concat_batches(&batches[0].schema(), batches).expect("one schema");
    let (here, there) = (whole(&read[0]), whole(&read[1]));
    assert_eq!(here.num_rows(), 20_000);
    assert_eq!(here, there);
    assert_eq!(here.schema().field(4).data_type(), scan.schema().field(4).data_type(), "dictionaries stay such");
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_input_that_is_gone_when_read_then_the_outcome_says_whose_it_was() {
    let mut scheduler = FakeScheduler::start().await;
    let a = start("a", &scheduler, settings(1)).await;
    let b = start("b", &scheduler, settings(1)).await;
    scheduler.wait_for_offers(&["a", "b"], 1).await;
    let like = plan("SELECT v FROM t", 1).await;
    let unreachable = control::TaskOutput {
        task: 5,
        attempt: 0,
        executor_id: "dead".to_owned(),
        address: "127.0.0.1:1".to_owned(),
        partitions: (0..PARTS).collect(),
    };
    let gone = [(a.output(3, 0..PARTS), 3, "a"), (b.output(4, 0..PARTS), 4, "b"), (unreachable, 5, "dead")];
    for (stage, (output, task, executor)) in (2..).zip(gone) {
        let copy = Launch {
            inputs: vec![StageInput { stage: 1, outputs: vec![output] }],
            tasks: vec![slice(0, [2], 1)],
            ..launch(stage, encoded(&copy_of(1, &like)))
        };
        scheduler.tell("a", ToExecutor::Launch(copy)).await;
        let outcomes = scheduler.outcomes(1).await;
        let failure = failed(&outcomes[0].1);
        assert_eq!(failure.class(), control::FailureClass::InputLost, "{failure:?}");
        let lost = failure.lost.as_ref().expect("whose");
        assert_eq!((lost.stage, lost.task, lost.executor_id.as_str()), (1, task, executor));
        a.slot_is_free().await;
    }
    a.stop().await;
    b.stop().await;
}

/// The files that an executor has spilled pieces of stage 1 to, by the task that wrote them.
fn spilled(executor: &Running, task: u32) -> Vec<PathBuf> {
    let pieces = executor.spill_dir.path().join(format!("springald-{}", executor.id)).join("exchange").join(JOB);
    let entries = std::fs::read_dir(pieces).expect("something was spilled");
    let files = entries.map(|entry| entry.expect("readable").path());
    let of_task = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(&format!("1-{task}-0-")))
    };
    files.filter(of_task).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_spilled_output_that_is_damaged_when_read_here_and_by_a_peer_then_it_is_lost_and_held_no_more() {
    let mut scheduler = FakeScheduler::start().await;
    let a = start("a", &scheduler, ExecutorSettings { exchange_memory_percent: 1, ..settings(1) }).await;
    let b = start("b", &scheduler, settings(1)).await;
    scheduler.wait_for_offers(&["a", "b"], 1).await;
    let scan = plan("SELECT v, s FROM t", 50_000).await;
    for (task, partitions) in [(0, [0, 1]), (1, [2, 3])] {
        let first = Launch { tasks: vec![slice(task, partitions, 1)], ..launch(1, encoded(&as_it_is(scan.clone()))) };
        scheduler.tell("a", ToExecutor::Launch(first)).await;
        succeeded(&scheduler.outcomes(1).await[0].1);
        a.slot_is_free().await;
        let files = spilled(&a, task);
        assert!(!files.is_empty());
        for file in files {
            let mut bytes = std::fs::read(&file).expect("readable");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(&file, bytes).expect("writable");
        }
    }
    for (stage, task, reader) in [(2, 0, &a), (3, 1, &b)] {
        let output = a.output(task, [2 * task, 2 * task + 1]);
        let copy = Launch {
            inputs: vec![StageInput { stage: 1, outputs: vec![output] }],
            tasks: vec![slice(0, 0..PARTS, 1)],
            ..launch(stage, encoded(&copy_of(1, &scan)))
        };
        scheduler.tell(&reader.id, ToExecutor::Launch(copy)).await;
        let outcomes = scheduler.outcomes(1).await;
        let failure = failed(&outcomes[0].1);
        assert_eq!(failure.class(), control::FailureClass::InputLost, "{failure:?}");
        assert!(failure.message.contains("not what was written"), "{failure:?}");
        let lost = failure.lost.as_ref().expect("whose");
        assert_eq!((lost.stage, lost.task, lost.executor_id.as_str()), (1, task, "a"));
    }
    scheduler.tell("a", ToExecutor::Adopt(control::Adopt { job_id: JOB.to_owned(), owner_revision: 1 })).await;
    let held = scheduler.wait_for(|_, message| match message {
        FromExecutor::Holdings(holdings) => Some(holdings.finished.len()),
        _ => None,
    });
    assert_eq!(held.await, 0);
    scheduler.tell("a", ToExecutor::FreeJob(FreeJob { job_id: JOB.to_owned(), owner_revision: 1 })).await;
    a.wait_until("everything is freed", |stats| {
        (stats.exchange_pieces, stats.exchange_memory_bytes, stats.exchange_spilled_bytes) == (0, 0, 0)
    })
    .await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_ticket_for_a_piece_that_is_not_there_when_fetched_then_not_found_before_any_batch() {
    let scheduler = FakeScheduler::start().await;
    let a = start("a", &scheduler, settings(1)).await;
    let error = fetch(&a.executor.advertised_address(), JOB, 1, &[(0, vec![0])]).await.expect_err("nothing there");
    let FlightError::Tonic(status) = error else { panic!("{error}") };
    assert_eq!(status.code(), tonic::Code::NotFound);
    a.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_an_operator_too_big_for_the_memory_when_run_then_operator_bytes_and_setting_are_named() {
    let mut scheduler = FakeScheduler::start().await;
    let tight = ExecutorSettings { memory: ByteSize::mib(16), ..settings(1) };
    let a = start("a", &scheduler, tight).await;
    scheduler.wait_for_offer("a", 1).await;
    // A hash join keeps one side in memory, and cannot spill it.
    let sql = "SELECT x.value FROM generate_series(1, 10000000) x JOIN generate_series(1, 10000000) y \
               ON x.value = y.value";
    let join = plan(sql, 1).await;
    let first = Launch { tasks: vec![slice(0, [0], 1)], ..launch(1, encoded(&as_it_is(join))) };
    scheduler.tell("a", ToExecutor::Launch(first)).await;
    let outcomes = scheduler.outcomes(1).await;
    let failure = failed(&outcomes[0].1);
    assert_eq!(failure.class(), control::FailureClass::OutOfMemory, "{failure:?}");
    for part in ["HashJoinInput", "MB", "executor.memory", "16MiB"] {
        assert!(failure.message.contains(part), "{part:?} is not in {}", failure.message);
    }
    a.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_keys_of_a_stage_on_two_executors_when_another_filters_by_them_then_no_match_is_missed_and_most_others_are()
 {
    let mut scheduler = FakeScheduler::start().await;
    let a = start("a", &scheduler, settings(1)).await;
    let b = start("b", &scheduler, settings(1)).await;
    scheduler.wait_for_offers(&["a", "b"], 1).await;
    let (build, probe) =
        (plan("SELECT v, s FROM t WHERE v % 100 = 7", 20_000).await, plan("SELECT k, v FROM t", 20_000).await);
    let hashed = Partitioning::Hash(vec![col("v", &build.schema()).expect("a column")], PARTITIONS);
    let build: Arc<dyn ExecutionPlan> = Arc::new(ExchangeWriterExec::new(build, Some(hashed)).with_keys(vec![vec![0]]));
    let with_keys = |_| (0..=PARTS).collect::<Vec<_>>();
    let build = run_on_both(&mut scheduler, (&a, &b), launch(1, encoded(&build)), with_keys).await;
    let probe = as_it_is(Arc::new(RuntimeFilterExec::new(probe, vec![1], StageId(1), PARTS)));
    let second = Launch { inputs: vec![build], ..launch(2, encoded(&probe)) };
    let own = |task| if task == 0 { vec![0, 1] } else { vec![2, 3] };
    let result = run_on_both(&mut scheduler, (&a, &b), second, own).await;
    let mut numbers: Vec<i64> = sums(&fetch_all(&result).await).into_iter().map(|(_, v)| v).collect();
    numbers.sort_unstable();
    let matches: Vec<i64> = (0..80_000).filter(|number| number % 100 == 7).collect();
    let found: Vec<i64> = numbers.iter().copied().filter(|number| number % 100 == 7).collect();
    assert_eq!(found, matches);
    assert!(numbers.len() < 2 * matches.len(), "{} rows are left of {} with a match", numbers.len(), matches.len());
    a.stop().await;
    b.stop().await;
}
