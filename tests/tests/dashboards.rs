//! A cluster's events and metrics, seen as operators see them: every panel of the dashboards over a real run, the alerts, and
//! everything that is known of a job, from its id.

use std::fs;

use serde_json::{Value, json};
use springald_deploy::files::{PROMETHEUS, render, texts};
use springald_deploy::nats::{Client, setup};
use springald_tests::dashboards::{Text, queries};
use springald_tests::pipeline::{aggregate, messages, publish};
use springald_tests::servers::{ClickHouse, Nats, Prometheus};
use springald_tests::wait::{SETTLE_DEADLINE, eventually, same};
use springald_tests::{Cluster, tpch, workspace};
use tempfile::TempDir;

const SINCE_EVER: (&str, &str) = ("since", "2020-01-01 00:00:00");

/// Panels that may show nothing when all is well, or that are about Vector, which does not run here.
const MAY_BE_EMPTY: [&str; 12] = [
    "Alerts",
    "Takeovers and lost tasks",
    "Store trouble",
    "Failures of tasks",
    "Fetches tried again, streams opened again",
    "Events dropped by processes",
    "Lines put aside",
    "Through Vector",
    "Waiting in buffers",
    "Thrown away by Vector",
    "Warnings and errors",
    "Task attempts",
];

#[tokio::test(flavor = "multi_thread")]
async fn given_a_cluster_that_ran_queries_when_its_events_and_metrics_are_looked_at_then_every_panel_shows_them() {
    let (Some(nats), Some(clickhouse)) = (Nats::start().await, ClickHouse::with_tables().await) else { return };
    let Some(cluster) = Cluster::start(2, 2).await else { return };
    let rules = TempDir::new().expect("a temporary directory");
    let Some(prometheus) = Prometheus::start(&scraped(&cluster, &rules)).await else { return };
    let client = cluster.scheduler(0).client().await;
    tpch::create_tables(&client, tpch::scale("0.01")).await;
    tpch::distribute_everything(&client).await;
    tpch::verify(&client, tpch::scale("0.01")).await;
    client.collect("SELECT * FROM nowhere").await.expect_err("there is no such table");
    client.collect("SELECT CAST(l_comment AS INT) FROM lineitem").await.expect_err("no comment is a number");
    cluster.idle().await;

    let lines = events(&cluster);
    setup(&nats.url(), 1).await.expect("a stream");
    let mut stream = Client::connect(&nats.url()).await.expect("a connection");
    assert_eq!(publish(&mut stream, &lines, 1).await, Vec::<String>::new(), "every line of a process is an event");
    assert_eq!(messages(&mut stream).await, lines.len() as u64);
    assert_eq!(aggregate(&mut stream, &clickhouse.server).await, Vec::<String>::new());
    let loss = clickhouse.rows(&query("loss.sql"), &[SINCE_EVER]).await;
    assert_eq!(loss.len(), 4, "two schedulers and two executors: {loss:?}");
    assert!(loss.iter().all(|row| row["lost"] == 0 && row["duplicates"] == 0), "{loss:?}");

    let job = everything_about_a_job(&clickhouse).await;
    eventually("Prometheus has seen the cluster for a while", SETTLE_DEADLINE, async || {
        same("processes", number(&prometheus, "sum(springald:processes:count)").await?, 4.0)?;
        let seen = number(&prometheus, r#"count(springald:queries:rate5m{state="succeeded"})"#).await?;
        same("queries", seen, 1.0)
    })
    .await;
    for query in queries(&job) {
        // A rate wants two samples of a series, and the series of a process begins when it is first scraped.
        eventually(&format!("{} shows something", query.place), SETTLE_DEADLINE, async || {
            let rows = match &query.text {
                Text::Sql(sql) => clickhouse.rows(sql, &[]).await.len(),
                Text::PromQl(text) => ask(&prometheus, text).await?.len(),
            };
            match rows > 0 || MAY_BE_EMPTY.contains(&query.title.as_str()) {
                true => Ok(()),
                false => Err(format!("nothing: {:?}", query.text)),
            }
        })
        .await;
    }
}

/// All lines that the processes wrote.
fn events(cluster: &Cluster) -> Vec<String> {
    let schedulers = cluster.schedulers.iter().map(|scheduler| &scheduler.process);
    let processes = schedulers.chain(cluster.executors.iter().map(|executor| &executor.process));
    processes.flat_map(|process| process.events()).map(|event| event.to_string()).collect()
}

/// From a job's id alone: its row, its events, its trace, its stages and operators. Returns the id.
async fn everything_about_a_job(clickhouse: &ClickHouse) -> String {
    let largest =
        "SELECT job_id FROM springald.job_history FINAL WHERE state = 'succeeded' ORDER BY stages DESC LIMIT 1";
    let job = clickhouse.rows(largest, &[]).await[0]["job_id"].as_str().expect("an id").to_owned();
    let of_job = async |name: &str| clickhouse.rows(&query(name), &[("job", &job)]).await;
    let history = of_job("job.sql").await;
    assert_eq!(history.len(), 1, "{history:?}");
    let stages = history[0]["stages"].as_u64().expect("a number");
    assert!(stages > 1 && history[0]["total_micros"].as_u64() > Some(0), "{history:?}");
    let trace = history[0]["trace_id"].as_str().expect("a trace");
    assert_eq!(trace.len(), 32, "{history:?}");
    let names: Vec<Value> = of_job("job_events.sql").await.into_iter().map(|row| row["event"].clone()).collect();
    for wanted in ["job.submitted", "stage.finished", "job.finished"] {
        assert!(names.contains(&json!(wanted)), "{wanted} is not among {names:?}");
    }
    assert_eq!(of_job("job_stages.sql").await.len() as u64, stages);
    let operators = of_job("job_operators.sql").await;
    assert!(operators.iter().any(|row| row["output_rows"].as_u64() > Some(0)), "{operators:?}");
    job
}

fn query(name: &str) -> String {
    let path = workspace().join("deploy/clickhouse/queries").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `deploy/prometheus`, for this cluster, and quicker.
fn scraped(cluster: &Cluster, rules: &TempDir) -> String {
    let folder = PROMETHEUS.get_dir("rules").expect("rules");
    for (name, text) in texts(folder, "yml") {
        let text = text.replace("interval: 15s", "interval: 1s");
        fs::write(rules.path().join(name), text).expect("a file");
    }
    let file = PROMETHEUS.get_file("prometheus.yml").and_then(|file| file.contents_utf8()).expect("the configuration");
    let rest = |number: usize| cluster.scheduler(number).rest.url().replace("http://", "");
    let replaced = [
        ("scheduler-1:8080", rest(0)),
        ("scheduler-2:8080", rest(1)),
        ("scrape_interval: 5s", "scrape_interval: 1s".to_owned()),
        ("evaluation_interval: 15s", "evaluation_interval: 1s".to_owned()),
        ("refresh_interval: 10s", "refresh_interval: 1s".to_owned()),
        ("/etc/prometheus/rules", rules.path().display().to_string()),
    ];
    let replaced: Vec<(&str, &str)> = replaced.iter().map(|(from, to)| (*from, to.as_str())).collect();
    render(file, &replaced).expect("the file names these")
}

async fn ask(prometheus: &Prometheus, expression: &str) -> Result<Vec<Value>, String> {
    let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("query", expression).finish();
    let answer = prometheus.http.json(&format!("/api/v1/query?{query}")).await?;
    answer["data"]["result"].as_array().cloned().ok_or_else(|| answer.to_string())
}

/// The one value of an expression.
async fn number(prometheus: &Prometheus, expression: &str) -> Result<f64, String> {
    let result = ask(prometheus, expression).await?;
    let value = result.first().and_then(|one| one["value"][1].as_str()).and_then(|text| text.parse().ok());
    value.ok_or_else(|| format!("{expression}: {result:?}"))
}
