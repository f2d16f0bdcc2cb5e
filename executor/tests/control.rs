//! The control protocol from an executor's side: offers, hand-backs, aborts, reconnecting, panics.

mod support;

use std::sync::Arc;
use std::time::Duration;

use datafusion::execution::object_store::ObjectStoreRegistry;
use object_store::ObjectStore;
use springald_core::error::ErrorCode;
use springald_core::settings::ExecutorSettings;
use springald_executor::{Executor, ExecutorOptions};
use springald_proto::control::executor_message::Message as FromExecutor;
use springald_proto::control::scheduler_message::Message as ToExecutor;
use springald_proto::control::{self, Abort, Adopt, FreeJob, Launch, TaskKey};
use support::plans::{as_it_is, encoded, plan};
use support::{FakeScheduler, failed, settings, slice, start, start_with, succeeded};
use url::Url;

/// Each of four partitions runs for hours, and can be stopped at any time.
const ENDLESS: &str = "SELECT sum(value) FROM generate_series(1, 1000000000000000) \
                       UNION ALL SELECT sum(value) FROM generate_series(2, 1000000000000000) \
                       UNION ALL SELECT sum(value) FROM generate_series(3, 1000000000000000) \
                       UNION ALL SELECT sum(value) FROM generate_series(4, 1000000000000000)";

/// Runs for hours without ever giving its thread back: a join without a match, in one call.
const STUBBORN: &str = "SELECT count(*) FROM t a, t b, t c, t d WHERE a.v + b.v + c.v + d.v < 0";

async fn launch(job: &str, sql: &str, rows: i64, tasks: Vec<control::TaskSlice>) -> ToExecutor {
    let plan = encoded(&as_it_is(plan(sql, rows).await));
    ToExecutor::Launch(Launch { job_id: job.to_owned(), stage: 1, plan, tasks, ..Default::default() })
}

/// Object stores whose use is a defect.
#[derive(Debug)]
struct PanickingStores;

impl ObjectStoreRegistry for PanickingStores {
    fn register_store(&self, _: &Url, _: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        None
    }

    fn get_store(&self, _: &Url) -> datafusion::error::Result<Arc<dyn ObjectStore>> {
        panic!("the store of this test always panics")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_plan_that_panics_when_run_then_its_task_fails_and_the_executor_lives() {
    let mut scheduler = FakeScheduler::start().await;
    let a = start_with("a", &scheduler, settings(1), Arc::new(PanickingStores)).await;
    scheduler.wait_for_offer("a", 1).await;
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("t.csv");
    std::fs::write(&file, "x\n1\n").expect("written");
    let context = datafusion::prelude::SessionContext::new();
    let frame = context.read_csv(file.to_str().expect("text"), Default::default()).await.expect("readable");
    let scan = encoded(&as_it_is(frame.create_physical_plan().await.expect("plans")));
    let launch_scan = Launch {
        job_id: "panics".to_owned(),
        stage: 1,
        plan: scan,
        tasks: vec![slice(0, [0], 1)],
        ..Default::default()
    };
    scheduler.tell("a", ToExecutor::Launch(launch_scan)).await;
    let outcomes = scheduler.outcomes(1).await;
    let failure = failed(&outcomes[0].1);
    assert_eq!(failure.class(), control::FailureClass::Fatal);
    assert!(failure.message.contains("operator panicked: the store of this test always panics"), "{failure:?}");

    a.slot_is_free().await;
    scheduler.tell("a", launch("healthy", "SELECT v FROM t", 10, vec![slice(0, [0, 1], 1)]).await).await;
    let outcomes = scheduler.outcomes(1).await;
    assert_eq!(succeeded(&outcomes[0].1).rows, [10, 10]);
    a.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_more_tasks_than_slots_when_launched_then_the_rest_is_handed_back_and_offers_count_all() {
    let mut scheduler = FakeScheduler::start().await;
    let a = start("a", &scheduler, settings(2)).await;
    let hello = scheduler
        .wait_for(|_, message| match message {
            FromExecutor::Hello(hello) => Some(hello.clone()),
            _ => None,
        })
        .await;
    assert_eq!((hello.cluster.as_str(), hello.slots), ("test", 2));
    assert_eq!(hello.exchange_address, a.executor.advertised_address());
    scheduler.wait_for_offer("a", 2).await;

    let tasks = (0..4).map(|task| slice(task, [task], 1)).collect();
    scheduler.tell("a", launch("j", ENDLESS, 1, tasks).await).await;
    let back = scheduler
        .wait_for(|_, message| match message {
            FromExecutor::HandedBack(back) => Some(back.tasks.iter().map(|key| key.task).collect::<Vec<_>>()),
            _ => None,
        })
        .await;
    assert_eq!(back, [2, 3]);
    let offer = scheduler.wait_for_offer("a", 0).await;
    assert_eq!(offer.slots_received, 4);

    let first = TaskKey { job_id: "j".to_owned(), stage: 1, task: 0, attempt: 0 };
    scheduler.tell("a", ToExecutor::Abort(Abort { tasks: vec![first], owner_revision: 0 })).await;
    scheduler.wait_for_offer("a", 1).await;
    scheduler.tell("a", ToExecutor::FreeJob(FreeJob { job_id: "j".to_owned(), owner_revision: 0 })).await;
    scheduler.wait_for_offer("a", 2).await;
    a.wait_until("all is stopped", |stats| {
        stats.running_tasks == 0 && stats.pending_outcomes == 0 && stats.memory_reserved_bytes == 0
    })
    .await;
    a.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_an_outcome_that_nobody_acknowledged_when_the_stream_breaks_then_it_is_reported_again() {
    let mut scheduler = FakeScheduler::start().await;
    let a = start("a", &scheduler, settings(1)).await;
    scheduler.wait_for_offer("a", 1).await;
    scheduler.tell("a", launch("j", "SELECT v FROM t", 10, vec![slice(0, [0], 1)]).await).await;
    let outcomes = |_: &str, message: &FromExecutor| match message {
        FromExecutor::Outcomes(report) => Some(report.outcomes.clone()),
        _ => None,
    };
    let said = scheduler.wait_for(outcomes).await;
    scheduler.hang_up("a");
    let again = scheduler.outcomes(1).await;
    assert_eq!(again.into_iter().map(|(_, outcome)| outcome).collect::<Vec<_>>(), said);
    a.wait_until("acknowledged", |stats| stats.pending_outcomes == 0 && stats.connected_schedulers == 1).await;
    a.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_token_that_is_void_when_a_scheduler_uses_it_then_it_hears_which_one_is_obeyed() {
    let mut scheduler = FakeScheduler::start().await;
    let a = start("a", &scheduler, settings(1)).await;
    scheduler.wait_for_offer("a", 1).await;
    let adopt = |owner_revision| ToExecutor::Adopt(Adopt { job_id: "j".to_owned(), owner_revision });
    let late = Launch { job_id: "j".to_owned(), stage: 1, owner_revision: 5, ..Default::default() };
    for message in [adopt(9), adopt(5), ToExecutor::Launch(late)] {
        scheduler.tell("a", message).await;
        let holdings = |_: &str, message: &FromExecutor| match message {
            FromExecutor::Holdings(holdings) => Some(holdings.clone()),
            _ => None,
        };
        let said = scheduler.wait_for(holdings).await;
        assert_eq!((said.job_id.as_str(), said.owner_revision), ("j", 9));
        assert!(said.running.is_empty() && said.finished.is_empty());
    }
    a.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_retry_of_the_same_partition_when_launched_then_it_gets_a_fresh_plan() {
    let mut scheduler = FakeScheduler::start().await;
    let a = start("a", &scheduler, settings(1)).await;
    scheduler.wait_for_offer("a", 1).await;
    let sql = "SELECT k, sum(v) FROM t GROUP BY k";
    scheduler.tell("a", launch("j", sql, 100, vec![slice(0, [0], 1)]).await).await;
    let first = scheduler.outcomes(1).await;
    a.slot_is_free().await;
    let again = control::TaskSlice { attempt: 1, ..slice(0, [0], 1) };
    let without_plan = Launch { job_id: "j".to_owned(), stage: 1, tasks: vec![again], ..Default::default() };
    scheduler.tell("a", ToExecutor::Launch(without_plan)).await;
    let second = scheduler.outcomes(1).await;
    assert_eq!(succeeded(&first[0].1).rows, succeeded(&second[0].1).rows);
    a.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_launches_that_make_no_sense_when_received_then_failures_that_say_so() {
    let mut scheduler = FakeScheduler::start().await;
    let a = start("a", &scheduler, settings(1)).await;
    scheduler.wait_for_offer("a", 1).await;
    let no_plan = Launch { job_id: "j".to_owned(), stage: 9, tasks: vec![slice(0, [0], 1)], ..Default::default() };
    scheduler.tell("a", ToExecutor::Launch(no_plan)).await;
    let outcomes = scheduler.outcomes(1).await;
    assert_eq!(failed(&outcomes[0].1).class(), control::FailureClass::Transient);

    a.slot_is_free().await;
    scheduler.tell("a", launch("j", "SELECT v FROM t", 1, vec![slice(0, [77], 1)]).await).await;
    let outcomes = scheduler.outcomes(1).await;
    assert!(failed(&outcomes[0].1).message.contains("77"));
    a.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_tasks_that_do_not_give_their_thread_back_when_they_run_then_the_executor_answers_and_can_shut_down() {
    let mut scheduler = FakeScheduler::start().await;
    let a = start("a", &scheduler, settings(2)).await;
    scheduler.wait_for_offer("a", 2).await;
    for job in ["i", "j"] {
        scheduler.tell("a", launch(job, STUBBORN, 2000, vec![slice(0, [0], 1)]).await).await;
    }
    scheduler.wait_for_offer("a", 0).await;
    scheduler.tell("a", launch("k", "SELECT v FROM t", 1, vec![slice(0, [0], 1)]).await).await;
    let handed_back = |_: &str, message: &FromExecutor| matches!(message, FromExecutor::HandedBack(_)).then_some(());
    scheduler.wait_for(handed_back).await;
    let stopping = a.executor.shutdown(Duration::from_millis(50));
    tokio::time::timeout(support::DEADLINE, stopping).await.expect("stops in time");
    assert_eq!(std::fs::read_dir(a.spill_dir.path()).expect("readable").count(), 0);
}

#[tokio::test]
async fn given_a_port_in_use_or_settings_that_make_no_sense_when_started_then_an_error_names_it() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = taken.local_addr().expect("bound").port();
    let nowhere = || ExecutorSettings { bind: "0.0.0.0".to_owned(), ..settings(1) };
    let cases = [
        (ExecutorSettings { exchange_port: port, ..settings(1) }, ErrorCode::Unavailable, port.to_string()),
        (nowhere(), ErrorCode::Invalid, "executor.advertise".to_owned()),
        (ExecutorSettings { slots: 1 << 20, ..settings(1) }, ErrorCode::Invalid, "executor.slots".to_owned()),
        (ExecutorSettings { bind: "here".to_owned(), ..settings(1) }, ErrorCode::Invalid, "executor.bind".to_owned()),
    ];
    for (settings, code, named) in cases {
        let spill_dir = tempfile::tempdir().expect("a directory");
        let (_sender, schedulers) = tokio::sync::watch::channel(Default::default());
        let started = Executor::start(ExecutorOptions {
            cluster: "test".parse().expect("valid"),
            id: "a".parse().expect("valid"),
            settings: ExecutorSettings { spill_dir: spill_dir.path().to_owned(), ..settings },
            schedulers,
            object_stores: springald_core::object_stores::registry(),
            lease_ttl: Duration::from_secs(3),
        });
        let error = started.await.err().expect("it cannot start");
        assert_eq!(error.code(), code);
        assert!(error.message().contains(&named), "{named:?} is not in {error}");
    }
}
