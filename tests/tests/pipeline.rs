//! The pipeline of events, between real servers: what JetStream keeps, and what ClickHouse makes of it.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};
use springald_deploy::clickhouse::{Migrated, Schema, migrate};
use springald_deploy::nats::{Client, Made, ask, setup};
use springald_tests::pipeline::{aggregate, messages, publish};
use springald_tests::servers::{ClickHouse, Nats, schema};
use springald_tests::workspace;

const SINCE_EVER: (&str, &str) = ("since", "2020-01-01 00:00:00");

fn query(name: &str) -> String {
    let path = workspace().join("deploy/clickhouse/queries").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The samples of the programs, as if they had been written now: tables forget what is old.
fn samples() -> Vec<String> {
    let text = std::fs::read_to_string(workspace().join("vector/samples/events.jsonl")).expect("the samples");
    let mut lines = vec![];
    for line in text.lines() {
        let Ok(mut event) = serde_json::from_str::<Value>(line) else {
            lines.push(line.to_owned());
            continue;
        };
        if let Some(ts) = event["ts"].as_str().and_then(|ts| DateTime::parse_from_rfc3339(ts).ok()) {
            let day = Utc::now().date_naive();
            let now = ts.naive_utc().time();
            event["ts"] = day.and_time(now).and_utc().to_rfc3339_opts(SecondsFormat::Micros, true).into();
        }
        if event["submitted_micros"].is_u64() {
            event["submitted_micros"] = Utc::now().timestamp_micros().into();
        }
        lines.push(event.to_string());
    }
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_nats_server_when_set_up_twice_and_sent_a_message_twice_then_there_is_one_stream_with_one_message() {
    let Some(nats) = Nats::start().await else { return };
    assert_eq!(setup(&nats.url(), 1).await.expect("it is set up"), Made::Created);
    let mut client = Client::connect(&nats.url()).await.expect("a connection");
    for _ in 0..2 {
        let subject = "springald.demo.scheduler.info";
        client.request(subject, Some("s-1"), br#"{"event_id":"s-1"}"#).await.expect("an acknowledgement");
    }
    assert_eq!(messages(&mut client).await, 1);

    assert_eq!(setup(&nats.url(), 1).await.expect("it is set up again"), Made::Updated);
    assert_eq!(messages(&mut client).await, 1, "what it had stays");
    let info =
        ask(&mut client, "STREAM.INFO.SPRINGALD_EVENTS", &json!({})).await.expect("an answer").expect("a stream");
    assert_eq!(
        (&info["config"]["storage"], &info["config"]["duplicate_window"]),
        (&json!("file"), &json!(600_000_000_000_u64))
    );
    let names =
        ask(&mut client, "CONSUMER.NAMES.SPRINGALD_EVENTS", &json!({})).await.expect("an answer").expect("names");
    assert_eq!(names["consumers"], json!(["aggregators"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_server_that_is_not_there_when_set_up_then_the_error_names_it() {
    let error = setup("nats://127.0.0.1:1", 1).await.expect_err("nothing listens there");
    assert!(error.to_string().contains("nats://127.0.0.1:1 cannot be reached"), "{error}");
    setup("http://127.0.0.1:1", 1).await.expect_err("not an address of NATS");
}

#[tokio::test(flavor = "multi_thread")]
async fn given_clickhouse_when_migrated_twice_then_each_is_applied_once_and_a_changed_one_is_refused() {
    let Some(clickhouse) = ClickHouse::start().await else { return };
    let all: Vec<String> = schema().migrations().into_iter().map(|(name, _)| name).collect();
    let first = migrate(&clickhouse.server, &schema()).await.expect("they apply");
    assert_eq!(first, Migrated { applied: all.clone(), earlier: 0 });
    let second = migrate(&clickhouse.server, &schema()).await.expect("they were applied");
    assert_eq!(second, Migrated { applied: vec![], earlier: all.len() });

    let changed = "ALTER TABLE springald.schema_migrations UPDATE checksum = 'x' WHERE name = '001_events.sql' SETTINGS mutations_sync = 1";
    clickhouse.server.query(changed, "TabSeparated", &[]).await.expect("a change");
    let error = migrate(&clickhouse.server, &schema()).await.expect_err("it differs");
    assert!(error.to_string().contains("001_events.sql was changed"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn given_the_statements_for_a_cluster_of_servers_then_clickhouse_can_read_all_of_them() {
    let Some(clickhouse) = ClickHouse::start().await else { return };
    let cluster = Schema { cluster: Some("three".to_owned()), ..schema() };
    for (name, text) in cluster.migrations() {
        for statement in cluster.statements(text) {
            let sql = format!("EXPLAIN AST {statement}");
            clickhouse.server.query(&sql, "TabSeparated", &[]).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn given_samples_that_are_all_sent_and_written_twice_when_asked_then_each_counts_once_and_nothing_is_lost() {
    let (Some(nats), Some(clickhouse)) = (Nats::start().await, ClickHouse::with_tables().await) else { return };
    setup(&nats.url(), 1).await.expect("a stream");
    let mut client = Client::connect(&nats.url()).await.expect("a connection");
    let lines = samples();
    let refused = publish(&mut client, &lines, 2).await;
    assert_eq!(refused.len(), 3, "broken lines: {refused:?}");
    let written = (lines.len() - refused.len()) as u64;
    assert_eq!(messages(&mut client).await, written);
    assert_eq!(aggregate(&mut client, &clickhouse.server).await, Vec::<String>::new());
    // A consumer without a memory of what was taken, as after a crash: all of it comes again.
    let gone = ask(&mut client, "CONSUMER.DELETE.SPRINGALD_EVENTS.aggregators", &json!({})).await.expect("an answer");
    assert_eq!(gone.expect("the stream")["success"], true);
    setup(&nats.url(), 1).await.expect("a consumer");
    assert_eq!(aggregate(&mut client, &clickhouse.server).await, Vec::<String>::new());

    let loss = clickhouse.rows(&query("loss.sql"), &[SINCE_EVER]).await;
    let sum = |name: &str| -> u64 { loss.iter().map(|row| row[name].as_u64().expect("a number")).sum() };
    assert_eq!((sum("arrived"), sum("lost"), sum("duplicates")), (written, 0, written), "{loss:?}");

    // The one query of the samples that was cut into stages.
    let job = "01a2120dcc3e7660b0ae999a5f26fb1f";
    let history = clickhouse.rows(&query("job.sql"), &[("job", job)]).await;
    let [row] = history.as_slice() else { panic!("one row, not {history:?}") };
    assert_eq!(
        (&row["state"], &row["user"], &row["total_micros"]),
        (&json!("succeeded"), &json!("anonymous"), &json!(170_945))
    );
    assert_eq!((&row["stages"], &row["tasks"], &row["result_rows"]), (&json!(4), &json!(10), &json!(5)));
    let events = clickhouse.rows(&query("job_events.sql"), &[("job", job)]).await;
    let of_job = lines.iter().filter(|line| line.contains(job));
    assert_eq!(events.len(), of_job.filter(|line| !is_reduced(line)).count(), "{events:#?}");
    let stages = clickhouse.rows(&query("job_stages.sql"), &[("job", job)]).await;
    let ids: Vec<_> = stages.iter().map(|row| row["stage_id"].as_u64()).collect();
    assert_eq!(ids, [Some(1), Some(2), Some(3), Some(4)]);
    let operators = clickhouse.rows(&query("job_operators.sql"), &[("job", job)]).await;
    let names: Vec<&str> = operators.iter().filter_map(|row| row["name"].as_str()).collect();
    assert!(
        ["HashJoinExec", "AggregateExec", "DataSourceExec"].iter().all(|wanted| names.contains(wanted)),
        "{names:?}"
    );

    let minutes = "SELECT sum(jobs) AS jobs, max(slowest) AS slowest FROM (SELECT uniqExactMerge(jobs) AS jobs, \
                   max(slowest_micros) AS slowest FROM springald.jobs_per_minute GROUP BY minute, state)";
    let ended = lines.iter().filter(|line| line.contains(r#""event":"job.finished""#)).count();
    assert_eq!(clickhouse.rows(minutes, &[]).await, [json!({"jobs": ended, "slowest": 170_945})]);
    let lag = clickhouse.rows(&query("lag.sql"), &[SINCE_EVER]).await;
    let reduced = lines.iter().filter(|line| is_reduced(line)).count() as u64;
    assert!(reduced > 0, "there are debug events among the samples");
    assert_eq!(lag[0]["rows"].as_u64(), Some(written - reduced), "{lag:?}");
}

/// True for a debug event that is counted and not kept.
fn is_reduced(line: &str) -> bool {
    let event: Value = serde_json::from_str(line).unwrap_or_default();
    event["level"] == "debug" && event["sequence"].as_u64().is_some_and(|sequence| sequence % 10 != 0)
}

#[tokio::test(flavor = "multi_thread")]
async fn given_events_of_which_some_are_missing_when_asked_for_the_loss_then_exactly_these_are_counted() {
    let Some(clickhouse) = ClickHouse::with_tables().await else { return };
    // Two processes: of one, 3 of 20 are missing and 2 came twice; of the other, all are there, most of them counted only.
    let first: Vec<u64> = (1..=20).filter(|number| ![4, 5, 11].contains(number)).collect();
    let mut rows: String = first.iter().chain(&[7, 8]).map(|number| row("a", *number)).collect();
    rows.push_str(&row("b", 10));
    clickhouse.server.insert("springald", "events", rows).await.expect("rows");
    let minute = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
    let reduced = json!({"minute": minute, "cluster": "c", "service": "executor", "instance": "b", "level": "debug",
        "event": "task.started", "events": 9, "sequences": [1, 2, 3, 4, 5, 6, 7, 8, 9]});
    clickhouse.server.insert("springald", "event_reductions", reduced.to_string()).await.expect("rows");

    let loss = clickhouse.rows(&query("loss.sql"), &[SINCE_EVER]).await;
    let found: Vec<_> =
        loss.iter().map(|row| (&row["instance"], &row["arrived"], &row["lost"], &row["duplicates"])).collect();
    let number = |value: u64| json!(value);
    assert_eq!(
        found,
        [(&json!("a"), &number(17), &number(3), &number(2)), (&json!("b"), &number(10), &number(0), &number(0)),]
    );
    let in_future = (Utc::now() + TimeDelta::hours(1)).format("%Y-%m-%d %H:%M:%S").to_string();
    assert!(clickhouse.rows(&query("loss.sql"), &[("since", &in_future)]).await.is_empty());
}

fn row(instance: &str, sequence: u64) -> String {
    let now = Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true);
    let row = json!({
        "v": 1, "event_id": format!("{instance}-{sequence}"), "sequence": sequence, "ts": now, "level": "info", "cluster": "c",
        "service": "executor", "instance": instance, "event": "task.started", "message": "m", "edge_ts": now,
        "aggregator_ts": now,
    });
    format!("{row}\n")
}
