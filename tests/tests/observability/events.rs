//! The contract of the events, held to what real processes write.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use springald_core::telemetry::events::check_line;
use springald_tests::wait::{SETTLE_DEADLINE, eventually};
use springald_tests::{Cluster, ClusterOptions, Standalone, tpch};

const REFERENCE: &str = include_str!("../../../docs/events.md");
const LOG: &str = "telemetry.log=info,springald=debug";

/// Every line of a log, each of which keeps the contract; without gaps, and none twice.
fn checked(who: &str, log: &str) -> Vec<Value> {
    let events: Vec<Value> =
        log.lines().map(|line| check_line(line).unwrap_or_else(|error| panic!("{who}: {error}\n{line}"))).collect();
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence"], number as u64 + 1, "{who}: a gap, or a number out of order: {event}");
    }
    let instances: BTreeSet<&str> = events.iter().filter_map(|event| event["instance"].as_str()).collect();
    assert_eq!(instances.len(), 1, "{who} is one process");
    events
}

fn named<'a>(events: &'a [Value], name: &'a str) -> impl Iterator<Item = &'a Value> + 'a {
    events.iter().filter(move |event| event["event"] == name)
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_cluster_at_work_then_its_events_keep_the_contract_and_tell_of_each_job() {
    let options = ClusterOptions {
        schedulers: 1,
        executors: 2,
        scheduler_settings: vec![LOG],
        executor_settings: vec![LOG],
        ..ClusterOptions::default()
    };
    let Some(mut cluster) = Cluster::start_with(options).await else { return };
    let client = cluster.scheduler(0).client().await;
    tpch::create_tables(&client, tpch::scale("0.01")).await;
    tpch::distribute_everything(&client).await;
    let sql = "SELECT l_returnflag, count(*) FROM lineitem WHERE l_comment <> 'x' GROUP BY l_returnflag";
    let stream = client.query(sql).await.expect("taken");
    let job = stream.job_id().expect("an id").to_owned();
    stream.collect_all().await.expect("rows");
    client.collect("SELECT n_nationkey / 0 FROM nation").await.expect_err("a division by zero");
    client.collect("SELECT nonsense FROM nation").await.expect_err("no such column");
    client.collect("SELECT 1").await.expect("rows");
    client.collect("EXPLAIN ANALYZE SELECT count(*) FROM nation").await.expect("a plan");
    drop(client);
    cluster.stop_executor().await;
    cluster.kill_executor();
    let scheduler = &mut cluster.schedulers[0];
    eventually("the loss of an executor is told", SETTLE_DEADLINE, async || {
        let lost = scheduler.process.events().iter().any(|event| event["event"] == "executor.lost");
        if lost { Ok(()) } else { Err("not told".to_owned()) }
    })
    .await;
    scheduler.process.stop().await;

    let events = checked("scheduler", &scheduler.process.log());
    let told: BTreeSet<&str> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    for name in [
        "scheduler.started",
        "executor.joined",
        "executor.draining",
        "executor.left",
        "executor.lost",
        "client.connected",
        "catalog.changed",
        "job.submitted",
        "job.started",
        "job.finished",
        "job.refused",
        "stage.started",
        "stage.finished",
        "scheduler.stopped",
    ] {
        assert!(told.contains(name), "{name} is not among {told:?}");
    }
    finished_tells_all(&events, &job);
    let states: BTreeMap<&str, usize> = named(&events, "job.finished").fold(BTreeMap::new(), |mut states, event| {
        *states.entry(event["state"].as_str().unwrap_or_default()).or_default() += 1;
        states
    });
    assert_eq!(states.get("failed"), Some(&1), "{states:?}");
    assert!(events.iter().all(|event| event["service"] == "scheduler" && event["cluster"] == "test"));
}

/// One job's events, from its id alone.
fn finished_tells_all(events: &[Value], job: &str) {
    let of_job: Vec<Value> = events.iter().filter(|event| event["job_id"] == job).cloned().collect();
    let order: Vec<&str> = of_job.iter().filter_map(|event| event["event"].as_str()).collect();
    assert_eq!(order.first(), Some(&"job.submitted"), "{order:?}");
    let submitted = named(&of_job, "job.submitted").next().expect("submitted");
    assert!(submitted["sql"].as_str().is_some_and(|sql| sql.contains("l_returnflag")), "{submitted}");
    let finished = named(&of_job, "job.finished").next().expect("finished");
    assert_eq!((&finished["state"], &finished["kind"]), (&"succeeded".into(), &"query".into()));
    assert_eq!(finished["trace_id"], submitted["trace_id"]);
    for field in ["planning_micros", "queued_micros", "execution_micros", "total_micros"] {
        assert!(finished[field].as_i64().is_some_and(|micros| micros >= 0), "{field}: {finished}");
    }
    let stages = finished["profile"]["stages"].as_array().expect("stages");
    assert_eq!(finished["stages"], stages.len());
    assert!(stages.len() > 1, "{finished}");
    for stage in stages {
        for key in stage.as_object().expect("an object").keys() {
            let named = [format!("`stages[].{key}`"), format!("`{key}`"), format!("`stages[].{key}[]")];
            assert!(named.iter().any(|name| REFERENCE.contains(name)), "{key} is not in docs/events.md");
        }
        assert_eq!(stage["status"], "done", "{stage}");
        assert!(stage["task_micros"].as_u64().is_some_and(|micros| micros > 0), "{stage}");
        assert!(stage["time_skew_percent"].as_u64().is_some_and(|percent| percent >= 100), "{stage}");
        let operators = stage["operators"].as_array().expect("operators");
        assert_eq!(operators[0]["name"], "ExchangeWriterExec", "{stage}");
        assert_eq!(operators[0]["metrics"]["output_rows"], stage["rows"], "{stage}");
    }
    let done = named(&of_job, "stage.finished").count();
    assert_eq!(done, stages.len(), "each stage is told to be done once");
}

#[tokio::test(flavor = "multi_thread")]
async fn given_executors_then_their_events_have_the_ids_of_the_task_and_end_with_the_process() {
    let mut standalone = Standalone::start(&["--set", LOG, "--executors", "2", "--slots", "1"]).await;
    let client = standalone.client().await;
    tpch::create_tables(&client, tpch::scale("0.01")).await;
    tpch::distribute_everything(&client).await;
    let stream = client.query("SELECT n_regionkey, count(*) FROM nation GROUP BY n_regionkey").await.expect("taken");
    let job = stream.job_id().expect("an id").to_owned();
    stream.collect_all().await.expect("rows");
    client.collect("SELECT n_nationkey / 0 FROM nation").await.expect_err("a division by zero");
    drop(client);
    standalone.process.stop().await;

    let events = checked("standalone", &standalone.process.log());
    let trace = named(&events, "job.submitted").find(|event| event["job_id"] == job.as_str()).expect("submitted");
    let tasks: Vec<&Value> = named(&events, "task.succeeded").filter(|event| event["job_id"] == job.as_str()).collect();
    assert!(!tasks.is_empty());
    for task in tasks {
        assert_eq!(task["trace_id"], trace["trace_id"], "{task}");
        assert_ne!(task["span_id"], trace["span_id"], "a task has its own span: {task}");
        for id in ["stage_id", "task_id", "attempt"] {
            assert!(task[id].is_u64(), "{id}: {task}");
        }
    }
    let failed = named(&events, "task.failed").next().expect("a task has failed");
    assert_eq!((&failed["class"], &failed["error_code"]), (&"fatal".into(), &"SPRINGALD_QUERY".into()));
    // What is said last is written, too.
    assert_eq!(events.last().map(|event| &event["event"]), Some(&"scheduler.stopped".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn given_redaction_then_statements_come_without_their_values() {
    let mut standalone =
        Standalone::start(&["--set", "telemetry.sql=redacted", "--set", "telemetry.sql_bytes=40B"]).await;
    let client = standalone.client().await;
    client.collect("SELECT 'value-of-a-person' AS x, 471147114711 AS number /* remark */").await.expect("rows");
    drop(client);
    standalone.process.stop().await;
    let log = standalone.process.log();
    let events = checked("standalone", &log);
    let submitted = named(&events, "job.submitted").next().expect("submitted");
    assert_eq!(submitted["sql"], "SELECT ? AS x, ? AS number  ");
    assert!(!log.contains("value-of-a-person") && !log.contains("471147114711") && !log.contains("remark"));
}
