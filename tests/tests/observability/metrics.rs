//! Metrics: what processes serve is what docs/metrics.md says, and Prometheus finds them all.

use std::collections::BTreeSet;

use springald_tests::wait::{SETTLE_DEADLINE, eventually, same};
use springald_tests::{Cluster, ClusterOptions, Http, tpch};

const REFERENCE: &str = include_str!("../../../docs/metrics.md");

/// Metrics that every process has.
const EVERYWHERE: [&str; 3] = ["springald_build_info", "springald_telemetry_", "springald_store_"];

fn documented(prefixes: &[&str]) -> BTreeSet<String> {
    let rows = REFERENCE.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let of_interest = |name: &&str| prefixes.iter().any(|prefix| name.starts_with(prefix));
    rows.filter(|name| name.starts_with("springald_")).filter(of_interest).map(str::to_owned).collect()
}

fn served(text: &str) -> BTreeSet<String> {
    let helped = text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next());
    helped.filter(|name| name.starts_with("springald_")).map(str::to_owned).collect()
}

/// The sum of a metric's series, whatever their labels.
fn total(text: &str, name: &str) -> f64 {
    let series = text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
    series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_cluster_at_work_then_its_metrics_are_those_of_the_reference_and_prometheus_finds_them() {
    let options = ClusterOptions { schedulers: 2, executors: 2, ..ClusterOptions::default() };
    let Some(mut cluster) = Cluster::start_with(options).await else { return };
    let client = cluster.scheduler(0).client().await;
    tpch::create_tables(&client, tpch::scale("0.01")).await;
    tpch::distribute_everything(&client).await;
    let sql = "SELECT o_orderpriority, count(*) FROM orders JOIN lineitem ON o_orderkey = l_orderkey GROUP BY 1";
    client.collect(sql).await.expect("rows");
    client.collect("SELECT n_nationkey / 0 FROM nation").await.expect_err("a division by zero");
    client.collect("SELECT nonsense FROM nation").await.expect_err("no such column");

    let everywhere = |own: &'static str| documented(&[&EVERYWHERE[..], &[own]].concat());
    // A client may hear of a failure before it is counted.
    eventually("all that has happened is counted", SETTLE_DEADLINE, async || {
        let text = cluster.scheduler(0).telemetry.get("/metrics").await?.body;
        same("metrics of a scheduler", served(&text), everywhere("springald_scheduler_"))?;
        for (name, least) in [
            (r#"springald_scheduler_queries_total{state="succeeded"}"#, 1.0),
            (r#"springald_scheduler_queries_total{state="failed"}"#, 1.0),
            (r#"springald_scheduler_queries_total{state="refused"}"#, 1.0),
            (r#"springald_scheduler_task_failures_total{class="fatal"}"#, 1.0),
            (r#"springald_scheduler_flight_sql_calls_total{method="DoGet",code="OK"}"#, 1.0),
            (r#"springald_scheduler_flight_sql_calls_total{method="GetFlightInfo",code="INVALID_ARGUMENT"}"#, 1.0),
            ("springald_scheduler_query_planning_seconds_count", 1.0),
            ("springald_scheduler_query_execution_seconds_count", 1.0),
            ("springald_scheduler_executor_streams_opened_total", 2.0),
            ("springald_store_call_seconds_count", 1.0),
            ("springald_store_available", 1.0),
            ("springald_store_leases_granted_total", 1.0),
            ("springald_telemetry_events_written_total", 1.0),
            ("springald_build_info", 1.0),
        ] {
            if total(&text, name) < least {
                return Err(format!("{name} is less than {least}:\n{text}"));
            }
        }
        Ok(())
    })
    .await;
    let text = cluster.executors[0].telemetry.get("/metrics").await.expect("an answer").body;
    assert_eq!(served(&text), everywhere("springald_executor_"), "of an executor");

    let found = cluster.scheduler(1).rest.json("/api/v1/discovery/prometheus").await.expect("targets");
    let mut services = vec![];
    for target in found.as_array().expect("a list") {
        assert_eq!(target["labels"]["cluster"], "test", "{target}");
        assert!(target["labels"]["instance"].is_string(), "{target}");
        let address = target["targets"][0].as_str().expect("an address");
        let answer = Http::at(address).get("/metrics").await.expect("it is there");
        assert_eq!(answer.status, 200);
        services.push(target["labels"]["service"].as_str().expect("a service").to_owned());
    }
    services.sort_unstable();
    assert_eq!(services, ["executor", "executor", "scheduler", "scheduler"]);
    drop(client);
    cluster.stop_executor().await;
}
