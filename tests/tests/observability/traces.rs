//! One query is one trace, across all processes that take part.

use std::collections::BTreeSet;

use arrow_flight::sql::client::FlightSqlServiceClient;
use futures::TryStreamExt;
use springald_tests::wait::{SETTLE_DEADLINE, eventually};
use springald_tests::{Cluster, ClusterOptions, Standalone, tpch};
use tonic::transport::Endpoint;

use super::collector::{Collector, Seen};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CLIENT_SPAN: &str = "00f067aa0ba902b7";
const SQL: &str = "SELECT o_orderpriority, count(*) AS n FROM orders JOIN lineitem ON o_orderkey = l_orderkey \
    GROUP BY o_orderpriority ORDER BY o_orderpriority";

async fn cluster(collector: &Collector, percent: u8) -> Option<Cluster> {
    let endpoint: &'static str = format!("telemetry.otlp_endpoint={}", collector.url()).leak();
    let sampled: &'static str = format!("telemetry.trace_sample_percent={percent}").leak();
    let options = ClusterOptions {
        schedulers: 1,
        executors: 2,
        scheduler_settings: vec![endpoint, sampled],
        executor_settings: vec![endpoint],
        ..ClusterOptions::default()
    };
    let cluster = Cluster::start_with(options).await?;
    let client = cluster.scheduler(0).client().await;
    tpch::create_tables(&client, tpch::scale("0.01")).await;
    Some(cluster)
}

/// Runs the query, distributed, as a client with a trace of its own.
async fn run_in_trace(cluster: &Cluster, sampled: bool) {
    let url = cluster.scheduler(0).flight_sql.replace("grpc://", "http://");
    let channel = Endpoint::from_shared(url).expect("a URL").connect().await.expect("connected");
    let mut client = FlightSqlServiceClient::new(channel);
    client.handshake("ann", "").await.expect("a session");
    client.set_header("traceparent", format!("00-{TRACE}-{CLIENT_SPAN}-0{}", u8::from(sampled)));
    client.execute_update("SET springald.whole_query_bytes = '0B'".to_owned(), None).await.expect("set");
    let info = client.execute(SQL.to_owned(), None).await.expect("taken");
    for endpoint in info.endpoint {
        let ticket = endpoint.ticket.expect("a ticket");
        client.do_get(ticket).await.expect("rows").try_collect::<Vec<_>>().await.expect("rows");
    }
}

fn named<'a>(spans: &'a [Seen], prefix: &'a str) -> Vec<&'a Seen> {
    spans.iter().filter(|seen| seen.span.name.starts_with(prefix)).collect()
}

/// The spans of the query in the client's trace, once all kinds are there.
async fn spans_of_query(collector: &Collector) -> Vec<Seen> {
    eventually("the whole trace is exported", SETTLE_DEADLINE, async || {
        let spans: Vec<Seen> = collector.spans().into_iter().filter(|seen| hex(&seen.span.trace_id) == TRACE).collect();
        let query = named(&spans, "query");
        let whole = query.iter().any(|seen| super::collector::text(&seen.span.attributes, "kind") == "query")
            && ["planning", "stage", "task", "fetch"].iter().all(|name| !named(&spans, name).is_empty());
        let orphans = spans.iter().filter(|seen| {
            let parent = hex(&seen.span.parent_span_id);
            parent != CLIENT_SPAN && !spans.iter().any(|other| hex(&other.span.span_id) == parent)
        });
        // Processes export by themselves, each in its own time; a fetch is between two executors.
        let instances: BTreeSet<&str> = named(&spans, "task").iter().map(|seen| seen.instance.as_str()).collect();
        match (whole && instances.len() > 1, orphans.count()) {
            (true, 0) => Ok(spans),
            (_, orphans) => Err(format!("{} spans of {instances:?}, {orphans} without their parents", spans.len())),
        }
    })
    .await
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_client_with_a_trace_then_all_that_its_query_does_anywhere_is_part_of_it() {
    let collector = Collector::start().await;
    // Nothing but what clients ask for.
    let Some(mut cluster) = cluster(&collector, 0).await else { return };
    run_in_trace(&cluster, true).await;
    let spans = spans_of_query(&collector).await;

    let parents = [("planning", "query"), ("stage", "query"), ("task", "stage"), ("fetch", "task")];
    for (child, parent) in parents {
        let ids: BTreeSet<String> = named(&spans, parent).iter().map(|seen| hex(&seen.span.span_id)).collect();
        for seen in named(&spans, child) {
            assert!(ids.contains(&hex(&seen.span.parent_span_id)), "a {child} that is part of no {parent}: {seen:?}");
            assert!(seen.span.end_time_unix_nano >= seen.span.start_time_unix_nano, "{seen:?}");
        }
    }
    for query in named(&spans, "query") {
        assert_eq!(hex(&query.span.parent_span_id), CLIENT_SPAN);
    }
    let executors: BTreeSet<&str> = cluster.executors.iter().map(|executor| executor.id.as_str()).collect();
    let ran: BTreeSet<&str> = named(&spans, "task").iter().map(|seen| seen.instance.as_str()).collect();
    assert_eq!(ran, executors, "tasks of both executors");
    assert!(collector.spans().iter().all(|seen| hex(&seen.span.trace_id) == TRACE), "others were not sampled");

    let events = cluster.schedulers[0].process.events();
    let submitted = events.iter().find(|event| event["event"] == "job.submitted" && event["trace_id"] == TRACE);
    let submitted = submitted.expect("the job's events have the trace");
    let of_query = named(&spans, "query");
    let own = of_query.iter().any(|seen| submitted["span_id"] == hex(&seen.span.span_id));
    assert!(own, "the event has the query's span: {submitted}");
    cluster.stop_executor().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_trace_that_its_client_does_not_sample_then_it_is_not_exported() {
    let collector = Collector::start().await;
    let Some(cluster) = cluster(&collector, 100).await else { return };
    let earlier = collector.spans().len();
    run_in_trace(&cluster, false).await;
    cluster.scheduler(0).client().await.collect("SELECT 1").await.expect("rows");
    // Those of the last statement come; those before it would have come before.
    eventually("spans come", SETTLE_DEADLINE, async || {
        let spans = collector.spans();
        let last =
            spans.iter().any(|seen| super::collector::text(&seen.span.attributes, "db.query.text") == "SELECT 1");
        if last { Ok(()) } else { Err(format!("{} spans, {earlier} earlier", spans.len())) }
    })
    .await;
    assert!(collector.spans().iter().all(|seen| hex(&seen.span.trace_id) != TRACE));
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_collector_that_is_not_there_then_queries_run_and_lost_spans_are_counted() {
    // Nothing listens on port 1.
    let mut standalone = Standalone::start(&["--set", "telemetry.otlp_endpoint=http://127.0.0.1:1"]).await;
    let client = standalone.client().await;
    for _ in 0..3 {
        client.collect("SELECT 1").await.expect("rows");
    }
    let first = more_are_lost(&standalone, 0.0).await;
    eventually("it is said", SETTLE_DEADLINE, async || {
        if times_said(&standalone) > 0 { Ok(()) } else { Err("it is not".to_owned()) }
    })
    .await;
    client.collect("SELECT 1").await.expect("rows");
    more_are_lost(&standalone, first).await;
    // What was said of the second failure would be written by then.
    drop(client);
    standalone.process.stop().await;
    assert_eq!(times_said(&standalone), 1, "it is said once");
}

/// Waits until more spans are counted as lost than `before`; how many then.
async fn more_are_lost(standalone: &Standalone, before: f64) -> f64 {
    eventually("lost spans are counted", SETTLE_DEADLINE, async || {
        let text = standalone.telemetry.get("/metrics").await?.body;
        let lost = text.lines().find_map(|line| {
            line.strip_prefix(r#"springald_telemetry_spans_dropped_total{reason="export_failed"} "#)?
                .parse::<f64>()
                .ok()
        });
        lost.filter(|lost| *lost > before).ok_or_else(|| format!("{lost:?}, {before} before"))
    })
    .await
}

fn times_said(standalone: &Standalone) -> usize {
    standalone.process.events().iter().filter(|event| event["event"] == "traces.not_exported").count()
}
