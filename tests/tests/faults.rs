//! Queries that cannot go on, or shall not: each ends with its reason, and frees what it held.

use std::time::Duration;

use arrow::array::RecordBatch;
use arrow_flight::sql::client::FlightSqlServiceClient;
use futures::TryStreamExt;
use springald_client::{Client, QueryStream};
use springald_tests::cluster::Scheduler;
use springald_tests::wait::{ANSWER_DEADLINE, SETTLE_DEADLINE, eventually, same};
use springald_tests::{Cluster, ClusterOptions, Standalone, tpch};
use tokio::task::JoinHandle;
use tonic::transport::Endpoint;

/// A query over no stored data, which the scheduler runs itself, and which takes minutes.
const SLOW_LOCAL: &str = "SELECT count(*) FROM generate_series(1, 100000000000)";
/// As [`SLOW_LOCAL`], with rows from the start.
const ROWS_LOCAL: &str = "SELECT value FROM generate_series(1, 100000000000)";

/// A client that reads the result of a query that takes minutes, and its job.
struct SlowQuery {
    job: String,
    reader: JoinHandle<springald_client::Result<Option<RecordBatch>>>,
}

impl SlowQuery {
    /// Starts it, and waits until it runs.
    async fn start(client: &Client, standalone: &Standalone) -> Self {
        let mut stream: QueryStream = client.query(tpch::SLOW).await.expect("taken");
        let job = stream.job_id().expect("an id").to_owned();
        let reader = tokio::spawn(async move { stream.try_next().await });
        eventually("the query's task runs", SETTLE_DEADLINE, async || {
            let running = standalone.telemetry.metric("springald_executor_tasks_running").await?;
            if running > 0.0 { Ok(()) } else { Err(standalone.rest.job(&job).await?.to_string()) }
        })
        .await;
        assert_eq!(standalone.rest.job(&job).await.expect("the job")["state"], "running");
        Self { job, reader }
    }

    /// The code and the text of the error with which it ends.
    async fn error(self) -> (String, String) {
        let ended = tokio::time::timeout(SETTLE_DEADLINE, self.reader).await.expect("it ends in time");
        let error = ended.expect("the reader ends").expect_err("it cannot succeed");
        (error.code().to_owned(), error.to_string())
    }
}

async fn standalone(arguments: &[&str]) -> (Standalone, Client) {
    let standalone = Standalone::start(arguments).await;
    let client = standalone.client().await;
    tpch::create_tables(&client, tpch::scale("0.01")).await;
    (standalone, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_client_that_goes_away_while_its_query_runs_then_it_is_cancelled_and_everything_freed() {
    let (standalone, client) = standalone(&["--set", "scheduler.client_gone_grace=500ms"]).await;
    let query = SlowQuery::start(&client, &standalone).await;
    query.reader.abort();
    let job = standalone.rest.job_in_state(&query.job, "cancelled").await;
    assert!(job["error"]["message"].as_str().is_some_and(|why| why.contains("client went away")), "{job}");
    standalone.telemetry.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_client_that_goes_away_in_the_middle_of_its_result_then_the_result_is_freed() {
    let (standalone, client) = standalone(&["--set", "scheduler.client_gone_grace=500ms"]).await;
    let mut stream = client.query("SELECT * FROM lineitem").await.expect("taken");
    stream.try_next().await.expect("a batch").expect("there are rows");
    drop(stream);
    standalone.telemetry.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn given_results_that_nobody_reads_on_then_other_queries_of_the_same_client_are_answered() {
    let (standalone, client) = standalone(&[]).await;
    let mut unread = vec![];
    // More of them than fit in what a connection usually takes ahead.
    for _ in 0..8 {
        let mut stream = client.query("SELECT * FROM lineitem").await.expect("taken");
        stream.try_next().await.expect("a batch").expect("there are rows");
        unread.push(stream);
    }
    let answer = tokio::time::timeout(ANSWER_DEADLINE, client.collect("SELECT count(*) FROM lineitem")).await;
    answer.expect("it does not wait for them").expect("answered");
    drop(unread);
    drop(standalone);
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_deadline_when_it_passes_then_the_query_fails_with_its_name_and_everything_is_freed() {
    let (standalone, client) = standalone(&[]).await;
    client.collect("SET springald.deadline = '1s'").await.expect("the setting is known");
    for sql in [tpch::SLOW, SLOW_LOCAL] {
        let stream = client.query(sql).await.expect("taken");
        let job = stream.job_id().expect("an id").to_owned();
        let ended = tokio::time::timeout(SETTLE_DEADLINE, stream.collect_all()).await.expect("it ends in time");
        let error = ended.expect_err("it cannot succeed");
        assert_eq!(error.code(), "SPRINGALD_DEADLINE_EXCEEDED", "{sql}: {error}");
        assert!(error.to_string().contains("springald.deadline"), "{sql}: {error}");
        // The client hears of the end at the same time as it is written down.
        let job = standalone.rest.job_in_state(&job, "failed").await;
        assert_eq!(job["error"]["code"], "SPRINGALD_DEADLINE_EXCEEDED", "{job}");
    }
    assert_eq!(standalone.rest.jobs(Some("failed")).await.expect("jobs").len(), 2);
    standalone.telemetry.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_running_query_when_deleted_through_rest_then_its_client_hears_it_and_everything_is_freed() {
    let (standalone, client) = standalone(&[]).await;
    let query = SlowQuery::start(&client, &standalone).await;
    delete(&standalone, &query.job).await;
    let (code, message) = query.error().await;
    assert_eq!(code, "SPRINGALD_CANCELLED", "{message}");
    for (sql, reads) in [(SLOW_LOCAL, false), (ROWS_LOCAL, true)] {
        let mut stream = client.query(sql).await.expect("taken");
        let job = stream.job_id().expect("an id").to_owned();
        if reads {
            stream.try_next().await.expect("a batch").expect("there are rows");
        }
        let reader = tokio::spawn(stream.try_for_each(|_| std::future::ready(Ok(()))));
        delete(&standalone, &job).await;
        let ended = tokio::time::timeout(SETTLE_DEADLINE, reader).await.expect("it ends in time");
        let error = ended.expect("the reader ends").expect_err("it cannot succeed");
        assert_eq!(error.code(), "SPRINGALD_CANCELLED", "{sql}: {error}");
    }
    eventually("no jobs wait or run", SETTLE_DEADLINE, async || standalone.rest.no_live_jobs().await).await;
    standalone.telemetry.idle().await;
    assert_eq!(standalone.rest.delete("/api/v1/jobs/never-was").await.expect("an answer").status, 404);
}

/// Cancels a job as operators do, and waits until it is.
async fn delete(standalone: &Standalone, job: &str) {
    let path = format!("/api/v1/jobs/{job}");
    assert_eq!(standalone.rest.delete(&path).await.expect("an answer").status, 204);
    standalone.rest.job_in_state(job, "cancelled").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn given_queries_too_big_for_the_memory_then_they_spill_or_say_so_and_the_process_lives() {
    let mut standalone = Standalone::start(&["--memory", "32MiB", "--slots", "1"]).await;
    let client = standalone.client().await;
    let scale = tpch::scale("0.1");
    tpch::create_tables(&client, scale).await;
    for distributed in [false, true] {
        if distributed {
            tpch::distribute_everything(&client).await;
        }
        for query in [1, 9, 18, 21] {
            if let Err(error) = tpch::run(&client, scale, &[query]).await {
                assert!(error.contains("SPRINGALD_RESOURCES_EXHAUSTED"), "distributed: {distributed}: {error}");
                assert!(error.contains("executor.memory"), "the setting is named: {error}");
            }
        }
    }
    let sorted = client.collect("SELECT l_comment FROM lineitem ORDER BY l_comment").await.expect("sorting spills");
    assert_eq!(sorted.iter().map(RecordBatch::num_rows).sum::<usize>(), 600_572);
    assert!(standalone.process.is_running());
    let peak = standalone.process.peak_memory() >> 20;
    assert!(peak < 700, "the process with an executor of 32 MiB had {peak} MiB");
    standalone.telemetry.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn given_queries_that_need_more_disk_than_they_may_have_then_they_fail_with_the_name_of_the_setting() {
    let mut standalone =
        Standalone::start(&["--memory", "32MiB", "--slots", "1", "--set", "executor.spill_limit=1MiB"]).await;
    let client = standalone.client().await;
    tpch::create_tables(&client, tpch::scale("0.1")).await;
    let by_an_operator = "SELECT l_comment FROM lineitem ORDER BY l_comment";
    let by_the_exchange = "SELECT l_orderkey, l_comment FROM lineitem";
    for query in [by_an_operator, by_the_exchange] {
        let error = client.collect(query).await.expect_err("there is not enough room");
        assert_eq!(error.code(), "SPRINGALD_RESOURCES_EXHAUSTED", "{query}: {error}");
        assert!(error.to_string().contains("executor.spill_limit"), "{query}: {error}");
    }
    assert!(standalone.process.is_running());
    standalone.telemetry.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn given_no_executor_then_queries_wait_visibly_and_fail_with_that_reason() {
    let options = ClusterOptions {
        executors: 0,
        scheduler_settings: vec!["scheduler.no_executor_timeout=10s"],
        ..ClusterOptions::default()
    };
    let Some(cluster) = Cluster::start_with(options).await else { return };
    let (client, rest) = (cluster.scheduler(0).client().await, &cluster.scheduler(0).rest);
    tpch::create_tables(&client, tpch::scale("0.01")).await;
    let stream = client.query("SELECT n_name FROM nation WHERE n_comment LIKE '%a%'").await.expect("taken");
    let job = stream.job_id().expect("an id").to_owned();
    let reader = tokio::spawn(stream.try_collect::<Vec<_>>());
    eventually("the job says what it waits for", SETTLE_DEADLINE, async || {
        let job = rest.job(&job).await?;
        same("state", job["state"].as_str(), Some("queued"))?;
        same("waiting_for", job["waiting_for"].as_str(), Some("no executors"))
    })
    .await;
    let ended = tokio::time::timeout(Duration::from_secs(60), reader).await.expect("it ends in time");
    let error = ended.expect("the reader ends").expect_err("nobody runs it");
    assert_eq!(error.code(), "SPRINGALD_UNAVAILABLE", "{error}");
    assert!(error.to_string().contains("scheduler.no_executor_timeout"), "{error}");
    assert_eq!(rest.job_in_state(&job, "failed").await["waiting_for"], serde_json::Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_query_that_waits_when_the_first_executor_comes_then_it_is_answered() {
    let Some(mut cluster) = Cluster::start(1, 0).await else { return };
    let client = cluster.scheduler(0).client().await;
    let scale = tpch::scale("0.01");
    tpch::create_tables(&client, scale).await;
    let waiting = tokio::spawn(async move { tpch::run(&client, scale, &[1]).await });
    let rest = cluster.scheduler(0).rest.clone();
    eventually("a job waits", SETTLE_DEADLINE, async || {
        let queued = rest.jobs(Some("queued")).await?;
        same("jobs that wait", queued.len(), 1)
    })
    .await;
    let analyzed = analyzed_for_the_second_reader(cluster.scheduler(0)).await;
    cluster.add_executor().await;
    let answered = tokio::time::timeout(ANSWER_DEADLINE, waiting).await.expect("it is answered in time");
    answered.expect("the client ends").expect("the answer is right");
    let analyzed = tokio::time::timeout(ANSWER_DEADLINE, analyzed).await.expect("it is answered in time");
    let analyzed = analyzed.expect("the client ends");
    let schema = analyzed.first().expect("a batch").schema();
    let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(columns, ["plan_type", "plan"], "what was measured, and not what the query gives");
    cluster.idle().await;
}

/// Submits an EXPLAIN ANALYZE that nobody can run yet, goes away while its answer is waited for, and asks for it again
/// with the same ticket.
async fn analyzed_for_the_second_reader(scheduler: &Scheduler) -> JoinHandle<Vec<RecordBatch>> {
    let url = scheduler.flight_sql.replace("grpc://", "http://");
    let channel = Endpoint::from_shared(url).expect("a URL").connect().await.expect("connected");
    let mut client = FlightSqlServiceClient::new(channel);
    client.handshake("ann", "").await.expect("a session");
    let sql = "EXPLAIN ANALYZE SELECT count(*) FROM nation WHERE n_comment LIKE '%a%'";
    let info = client.execute(sql.to_owned(), None).await.expect("taken");
    let ticket = info.endpoint.first().and_then(|endpoint| endpoint.ticket.clone()).expect("a ticket");
    // Whatever there is of it is dropped.
    drop(tokio::time::timeout(Duration::from_millis(300), client.do_get(ticket.clone())).await);
    tokio::spawn(async move {
        let again = client.do_get(ticket).await.expect("it is redeemed again");
        again.try_collect::<Vec<RecordBatch>>().await.expect("an answer")
    })
}
