//! Executors that leave, and processes that are replaced one after another: nothing fails, and nothing is done twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::util::pretty::pretty_format_batches;
use serde_json::json;
use springald_client::Client;
use springald_tests::wait::{SETTLE_DEADLINE, eventually, same};
use springald_tests::{Cluster, tpch};
use tokio::task::JoinHandle;

/// A result in many parts, at all executors.
const SPREAD: &str = "SELECT l_orderkey, l_linenumber, l_comment FROM lineitem WHERE l_orderkey % 5 = 0";
/// Seconds of work for each of two tasks.
const SECONDS: &str = "SELECT max(sha512(repeat(l_comment, 200))) FROM lineitem";

async fn cluster(schedulers: usize, executors: usize) -> Option<(Cluster, Client)> {
    tpch::distributed(schedulers, executors, vec![]).await
}

/// The rows of a table, sorted.
fn rows(batches: &[arrow::array::RecordBatch]) -> Vec<String> {
    let text = pretty_format_batches(batches).expect("a table").to_string();
    let mut rows: Vec<String> = text.lines().map(str::to_owned).collect();
    rows.sort_unstable();
    rows
}

/// The sum of a metric over all live schedulers.
async fn at_schedulers(cluster: &Cluster, metric: &str) -> u64 {
    let mut sum = 0.0;
    for scheduler in &cluster.schedulers {
        sum += scheduler.telemetry.metric(metric).await.expect("metrics");
    }
    sum as u64
}

/// Streams of queries, each answer compared, until told to end.
struct Load {
    over: Arc<AtomicBool>,
    streams: Vec<JoinHandle<Result<u32, String>>>,
}

impl Load {
    async fn start(cluster: &Cluster, streams: u8) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let mut load = Self { over: Arc::clone(&over), streams: vec![] };
        for stream in 0..streams {
            let client = cluster.client_of_all().await;
            tpch::distribute_everything(&client).await;
            let over = Arc::clone(&over);
            load.streams.push(tokio::spawn(async move {
                let mut rounds = 0;
                while !over.load(Ordering::Relaxed) {
                    let number = (u32::from(stream) * 7 + rounds) % 22 + 1;
                    tpch::run(&client, tpch::scale("0.1"), &[number as u8]).await?;
                    rounds += 1;
                }
                Ok(rounds)
            }));
        }
        load
    }

    /// Ends it; gives the number of queries, all of which were answered rightly.
    async fn end(self) -> u32 {
        self.over.store(true, Ordering::Relaxed);
        let mut queries = 0;
        for stream in self.streams {
            queries += stream.await.expect("the client ends").expect("the answers are right");
        }
        queries
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn given_load_when_every_executor_is_replaced_then_no_query_fails_and_no_task_runs_again() {
    let Some((mut cluster, _)) = cluster(2, 3).await else { return };
    let load = Load::start(&cluster, 3).await;
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        cluster.add_executor().await;
        cluster.stop_executor().await;
    }
    let queries = load.end().await;
    let handed_over = at_schedulers(&cluster, "springald_scheduler_outputs_handed_over_total").await;
    println!("{queries} queries, {handed_over} outputs handed over");
    assert_eq!(at_schedulers(&cluster, "springald_scheduler_tasks_lost_total").await, 0, "tasks ran again");
    cluster.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn given_load_when_every_scheduler_is_replaced_then_no_query_fails_and_no_task_runs_again() {
    // A query whose first answer is lost is submitted again; the result of the first submission waits for nobody.
    let settings = vec!["scheduler.result_retention=10s"];
    let Some((mut cluster, _)) = tpch::distributed(3, 2, settings).await else { return };
    let load = Load::start(&cluster, 3).await;
    let mut lost = 0;
    for number in 0..3 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        lost += at_schedulers(&cluster, "springald_scheduler_tasks_lost_total").await;
        cluster.restart_scheduler(number).await;
    }
    let queries = load.end().await;
    lost += at_schedulers(&cluster, "springald_scheduler_tasks_lost_total").await;
    println!("{queries} queries");
    assert_eq!(lost, 0, "tasks ran again");
    cluster.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_result_that_waits_when_its_executors_are_drained_then_it_is_handed_over_and_read_as_it_was() {
    let Some((mut cluster, client)) = cluster(1, 2).await else { return };
    let expected = rows(&client.collect(SPREAD).await.expect("undisturbed"));
    let waiting = client.query(SPREAD).await.expect("taken");
    let job = waiting.job_id().expect("an id").to_owned();
    cluster.scheduler(0).rest.job_in_state(&job, "succeeded").await;
    let rest = cluster.scheduler(0).rest.clone();
    for _ in 0..2 {
        cluster.add_executor().await;
        let mut leaving = cluster.executors.remove(0);
        let path = format!("/api/v1/executors/{}/drain", leaving.id);
        assert_eq!(rest.post_status(&path, &json!({})).await.expect("answered"), 202);
        let status = leaving.process.ended(SETTLE_DEADLINE).await;
        assert!(status.success(), "{status}: {}", leaving.process.errors());
    }
    assert!(at_schedulers(&cluster, "springald_scheduler_outputs_handed_over_total").await > 0);
    let before = cluster.total(r#"springald_executor_tasks_total{outcome="succeeded"}"#).await.expect("metrics");
    assert_eq!(rows(&waiting.collect_all().await.expect("the result is there")), expected);
    let after = cluster.total(r#"springald_executor_tasks_total{outcome="succeeded"}"#).await.expect("metrics");
    assert!((after - before).abs() < 0.5, "a task was run again");
    cluster.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn given_an_executor_that_is_told_to_drain_while_it_works_then_it_is_shown_and_ends_its_tasks_first() {
    let Some((mut cluster, client)) = cluster(1, 2).await else { return };
    let rest = cluster.scheduler(0).rest.clone();
    client.collect("SET springald.partitions = '2'").await.expect("the setting is known");
    let reader = tokio::spawn(async move { client.collect(SECONDS).await });
    eventually("a task runs", SETTLE_DEADLINE, async || {
        let running = cluster.executors[0].telemetry.metric("springald_executor_tasks_running").await?;
        if running > 0.0 { Ok(()) } else { Err(format!("{running}")) }
    })
    .await;
    let id = cluster.executors[0].id.clone();
    let path = format!("/api/v1/executors/{id}/drain");
    assert_eq!(rest.post_status(&path, &json!({})).await.expect("answered"), 202);
    eventually("the executor is shown as draining", SETTLE_DEADLINE, async || {
        let list = cluster.listed_executors().await?;
        let own = list.iter().find(|executor| executor["id"] == id.as_str()).ok_or("not listed")?;
        same("state", own["state"].as_str().map(str::to_owned), Some("draining".to_owned()))
    })
    .await;
    assert!(cluster.executors[0].process.is_running(), "its task runs");
    let status = cluster.executors[0].process.ended(SETTLE_DEADLINE).await;
    assert!(status.success(), "{status}");
    reader.await.expect("the reader ends").expect("answered");
    assert_eq!(at_schedulers(&cluster, "springald_scheduler_tasks_lost_total").await, 0, "a task was run again");
    let nobody = rest.post_status("/api/v1/executors/nobody/drain", &json!({})).await.expect("answered");
    assert_eq!(nobody, 404);
}
