//! Schedulers and executors that are lost in the middle of a query: it is answered all the same.

use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use chrono::{DateTime, TimeDelta, Utc};
use futures::TryStreamExt;
use springald_client::{Client, QueryStream};
use springald_tests::cluster::Scheduler;
use springald_tests::wait::{ANSWER_DEADLINE, SETTLE_DEADLINE, eventually, same};
use springald_tests::{Cluster, tpch};
use tokio::task::JoinHandle;

/// Seconds of work in many tasks, whose answer depends on every row.
const HASHES: &str = "SELECT l_returnflag, l_linestatus, count(*) AS n, max(sha512(repeat(l_comment, 60))) AS hash \
    FROM lineitem GROUP BY l_returnflag, l_linestatus ORDER BY l_returnflag, l_linestatus";
/// Tasks of its first stage.
const TASKS: u64 = 24;

/// The longest time that a job may be without a scheduler: the lease's time to live, and what an etcd on a busy machine
/// adds to that.
const TAKEOVER_DEADLINE: TimeDelta = TimeDelta::seconds(20);

async fn cluster(schedulers: usize, executors: usize) -> Option<(Cluster, Client)> {
    // A query whose first answer is lost is submitted again; the result of the first submission waits for nobody.
    cluster_with(schedulers, executors, vec!["scheduler.result_retention=10s"]).await
}

async fn cluster_with(
    schedulers: usize,
    executors: usize,
    scheduler_settings: Vec<&'static str>,
) -> Option<(Cluster, Client)> {
    let (cluster, client) = tpch::distributed(schedulers, executors, scheduler_settings).await?;
    client.collect(&format!("SET springald.partitions = '{TASKS}'")).await.expect("the setting is known");
    Some((cluster, client))
}

fn text(batches: &[RecordBatch]) -> String {
    pretty_format_batches(batches).expect("a table").to_string()
}

/// The answer to the query when nothing is lost, and the time that it takes.
async fn undisturbed(client: &Client) -> (String, Duration) {
    let started = Instant::now();
    let answer = text(&client.collect(HASHES).await.expect("undisturbed"));
    (answer, started.elapsed())
}

/// A query that is being read, and its job.
struct Running {
    job: String,
    reader: JoinHandle<springald_client::Result<Vec<RecordBatch>>>,
    started: Instant,
}

impl Running {
    /// Starts it, and waits until part of its first stage is done.
    async fn start(cluster: &Cluster, client: &Client, scheduler: usize) -> Self {
        let started = Instant::now();
        let stream = client.query(HASHES).await.expect("taken");
        let job = stream.job_id().expect("an id").to_owned();
        let reader = tokio::spawn(stream.collect_all());
        let rest = cluster.scheduler(scheduler).rest.clone();
        eventually("part of the first stage is done", SETTLE_DEADLINE, async || {
            let job = rest.job(&job).await?;
            let done = job["stages"][0]["tasks_done"].as_u64().unwrap_or_default();
            if done >= TASKS / 4 { Ok(()) } else { Err(job.to_string()) }
        })
        .await;
        Self { job, reader, started }
    }

    /// Its answer, which must be this one, and the time that it took.
    async fn answers(self, expected: &str) -> Duration {
        let ended = tokio::time::timeout(ANSWER_DEADLINE, self.reader).await.expect("it is answered in time");
        let answer = ended.expect("the reader ends").expect("it is answered");
        assert_eq!(text(&answer), expected);
        self.started.elapsed()
    }
}

/// The tasks that executors have run to their end.
async fn tasks_run(cluster: &Cluster) -> u64 {
    cluster.total(r#"springald_executor_tasks_total{outcome="succeeded"}"#).await.expect("metrics") as u64
}

/// The tasks that a job has, by its record at a scheduler.
async fn tasks_of(cluster: &Cluster, scheduler: usize, job: &str) -> u64 {
    let job = cluster.scheduler(scheduler).rest.job(job).await.expect("the job");
    job["stages"].as_array().expect("stages").iter().map(|stage| stage["tasks"].as_u64().expect("a number")).sum()
}

/// When a scheduler went on with a job of another one, by its events.
async fn taken_over(scheduler: &Scheduler, job: &str) -> DateTime<Utc> {
    eventually("the takeover is logged", SETTLE_DEADLINE, async || {
        let events = scheduler.process.events();
        let own = events.iter().find(|event| event["message"] == "job taken over" && event["job_id"] == job);
        let ts = own.and_then(|event| event["ts"].as_str()).ok_or("it is not")?;
        ts.parse::<DateTime<Utc>>().map_err(|error| format!("{ts}: {error}"))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_scheduler_that_is_killed_then_another_answers_and_no_task_runs_twice() {
    let Some((mut cluster, client)) = cluster(2, 3).await else { return };
    let (expected, undisturbed) = undisturbed(&client).await;
    let before = tasks_run(&cluster).await;
    let running = Running::start(&cluster, &client, 0).await;
    let job = running.job.clone();
    let killed = Utc::now();
    cluster.kill_scheduler(0);
    let disturbed = running.answers(&expected).await;
    let without_scheduler = taken_over(cluster.scheduler(0), &job).await - killed;
    println!(
        "undisturbed {undisturbed:?}, with its scheduler killed {disturbed:?}, of which it had none for {} ms",
        without_scheduler.num_milliseconds()
    );
    assert!(without_scheduler < TAKEOVER_DEADLINE, "{without_scheduler}");
    assert_eq!(tasks_run(&cluster).await - before, tasks_of(&cluster, 0, &job).await, "a task was run again");
    cluster.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_scheduler_that_is_stopped_past_its_lease_then_it_changes_nothing_and_says_so() {
    let Some((mut cluster, client)) = cluster(2, 2).await else { return };
    let (expected, _) = undisturbed(&client).await;
    let before = tasks_run(&cluster).await;
    let running = Running::start(&cluster, &client, 0).await;
    let job = running.job.clone();
    cluster.scheduler(0).process.signal("STOP");
    let other = cluster.scheduler(1).rest.clone();
    eventually("the other scheduler owns the job", SETTLE_DEADLINE, async || {
        same("takeovers", other.job(&job).await?["takeovers"].as_u64(), Some(1))
    })
    .await;
    cluster.scheduler(0).process.signal("CONT");
    running.answers(&expected).await;
    assert_eq!(tasks_run(&cluster).await - before, tasks_of(&cluster, 1, &job).await, "a task was run again");
    let fenced = cluster.schedulers[0].process.event("this scheduler does not own the job any more").await;
    assert_eq!(fenced["job_id"], job.as_str());
    cluster.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_result_that_waits_when_its_scheduler_is_killed_then_another_hands_it_out() {
    // Results wait as long as they usually do.
    let Some((mut cluster, client)) = cluster_with(2, 2, vec![]).await else { return };
    let all = "SELECT l_orderkey, l_linenumber, l_comment FROM lineitem WHERE l_orderkey % 7 = 0";
    let sorted = |mut rows: Vec<String>| {
        rows.sort_unstable();
        rows
    };
    let rows = |batches: &[RecordBatch]| text(batches).lines().map(str::to_owned).collect::<Vec<_>>();
    let expected = sorted(rows(&client.collect(all).await.expect("undisturbed")));
    let waiting: QueryStream = client.query(all).await.expect("taken");
    let local: QueryStream = client.query("SELECT 41 + 1 AS answer").await.expect("taken");
    let mut half = client.query(all).await.expect("taken");
    let first = half.try_next().await.expect("a batch").expect("there are rows");
    let job = waiting.job_id().expect("an id").to_owned();
    cluster.scheduler(0).rest.job_in_state(&job, "succeeded").await;
    let before = tasks_run(&cluster).await;
    cluster.kill_scheduler(0);
    let answer = waiting.collect_all().await.expect("the result is there");
    assert_eq!(sorted(rows(&answer)), expected);
    let answer = local.collect_all().await.expect("what the scheduler was to run itself, another one runs");
    assert!(text(&answer).contains("42"));
    let mut halves = vec![first];
    halves.extend(half.try_collect::<Vec<_>>().await.expect("it is read on where it broke off"));
    assert_eq!(sorted(rows(&halves)), expected);
    assert_eq!(tasks_run(&cluster).await, before, "a task was run again");
    cluster.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn given_an_executor_that_is_killed_then_only_what_it_held_is_made_again() {
    let Some((mut cluster, client)) = cluster(1, 3).await else { return };
    let (expected, undisturbed) = undisturbed(&client).await;
    let running = Running::start(&cluster, &client, 0).await;
    cluster.kill_executor();
    let disturbed = running.answers(&expected).await;
    println!("undisturbed {undisturbed:?}, with one of three executors killed {disturbed:?}");
    cluster.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_scheduler_and_an_executor_that_are_killed_together_then_the_query_is_answered() {
    let Some((mut cluster, client)) = cluster(2, 3).await else { return };
    let (expected, _) = undisturbed(&client).await;
    let running = Running::start(&cluster, &client, 0).await;
    cluster.kill_executor();
    cluster.kill_scheduler(0);
    running.answers(&expected).await;
    cluster.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn given_streams_of_queries_when_schedulers_are_replaced_then_all_answers_are_right() {
    let Some((mut cluster, _)) = cluster(3, 2).await else { return };
    let scale = tpch::scale("0.1");
    let mut streams = vec![];
    for first in [1, 8, 15] {
        let client = cluster.client_of_all().await;
        tpch::distribute_everything(&client).await;
        streams.push(tokio::spawn(async move {
            let numbers: Vec<u8> = (0..7).map(|step| first + step).collect();
            tpch::run(&client, scale, &numbers).await
        }));
    }
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        cluster.kill_scheduler(0);
        tokio::time::sleep(Duration::from_secs(4)).await;
    }
    for stream in streams {
        stream.await.expect("the client ends").expect("the answers are right");
    }
    cluster.idle().await;
}
