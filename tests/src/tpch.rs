//! TPC-H for tests: data, tables, and queries whose answers are known.

use std::path::PathBuf;
use std::time::Duration;

use springald_bench::demo::{self, Plan};
use springald_bench::tpch::{self, QUERIES, Scale};
use springald_client::Client;

use crate::{Cluster, ClusterOptions};

/// Longest time for one query.
const QUERY_TIMEOUT: Duration = Duration::from_secs(180);

/// The scale factor of a text.
///
/// # Panics
/// If it is none.
pub fn scale(text: &str) -> Scale {
    text.parse().expect("a scale factor")
}

/// The directory with the data at `scale`: kept in the user's cache, where the demonstration keeps it too.
///
/// # Panics
/// If it cannot be generated.
pub async fn data(scale: Scale) -> PathBuf {
    let cache = dirs::cache_dir().expect("a cache directory of the user");
    let directory = cache.join("springald").join("tpch").join(scale.directory_name());
    let target = directory.clone();
    let generated = tokio::task::spawn_blocking(move || tpch::generate(&target, scale, &|_| ())).await;
    generated.expect("the generator ends").expect("data can be generated");
    directory
}

/// Makes the eight tables at `scale` known to the cluster.
///
/// # Panics
/// If the cluster refuses one.
pub async fn create_tables(client: &Client, scale: Scale) {
    demo::register_tables(client, &data(scale).await).await.expect("tables can be created");
}

/// Runs the queries with these numbers one after another. The error tells which gave no or a wrong answer.
pub async fn run(client: &Client, scale: Scale, numbers: &[u8]) -> Result<(), String> {
    let queries = QUERIES.iter().filter(|query| numbers.contains(&query.number)).collect();
    let plan = Plan { scale, queries, runs: 1, query_timeout: QUERY_TIMEOUT, rest_url: None };
    let report = demo::run_queries(client, &plan, &|_| ()).await;
    let wrong =
        report.queries.iter().filter_map(|query| Some(format!("query {}: {}", query.query, query.error.as_ref()?)));
    let wrong: Vec<String> = wrong.collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

/// Runs all 22 queries and compares their answers.
///
/// # Panics
/// If one gives no or a wrong answer.
pub async fn verify(client: &Client, scale: Scale) {
    let all: Vec<u8> = QUERIES.iter().map(|query| query.number).collect();
    if let Err(wrong) = run(client, scale, &all).await {
        panic!("through {}:\n{wrong}", client.url());
    }
}

/// A cluster with the tables of scale 0.1, and a client that knows all of its schedulers and whose queries run in stages;
/// `None`, after saying so, where there is no etcd.
///
/// # Panics
/// If it cannot be had.
pub async fn distributed(
    schedulers: usize,
    executors: usize,
    scheduler_settings: Vec<&'static str>,
) -> Option<(Cluster, Client)> {
    let options = ClusterOptions { schedulers, executors, scheduler_settings, ..ClusterOptions::default() };
    let cluster = Cluster::start_with(options).await?;
    let client = cluster.client_of_all().await;
    create_tables(&client, scale("0.1")).await;
    distribute_everything(&client).await;
    Some((cluster, client))
}

/// From here on, the session's queries are cut into stages, however small they are.
///
/// # Panics
/// If the setting is refused.
pub async fn distribute_everything(client: &Client) {
    client.collect("SET springald.whole_query_bytes = '0B'").await.expect("the setting is known");
}

/// A query over `lineitem` that takes minutes even at scale 0.01: it compares every row with every other.
pub const SLOW: &str = "SELECT count(*) FROM lineitem a JOIN lineitem b ON a.l_comment < b.l_comment";
