//! The demonstration: data, tables, the 22 queries, and the report that decides the exit status.
//!
//! ```text
//! binary: parse DemoOptions ─▶ prepare_data ─▶ (binary starts a cluster) ─▶ register_tables ─▶ run ─▶ DemoReport
//! ```

mod options;
mod report;
mod runner;

use std::fs;
use std::path::{Path, PathBuf};

use springald_client::Client;

pub use options::DemoOptions;
pub use report::{DemoReport, QueryReport};
pub(crate) use runner::run_once;
pub use runner::{Plan, Step, run_queries};

use crate::error::{BenchError, Result};
use crate::progress::{QUERY_BAR, bar};
use crate::tpch::Table;

/// Makes sure that the data is there, showing progress on standard error, and returns its directory.
///
/// # Errors
/// As [`WorkloadOptions::prepare_data`](crate::workload::WorkloadOptions::prepare_data).
pub async fn prepare_data(options: &DemoOptions) -> Result<PathBuf> {
    options.workload.prepare_data().await
}

/// Makes the eight tables in `dir` known to the cluster, which must see the same file system.
///
/// # Errors
/// [`BenchError::Client`] with what the cluster says, as that a table exists already.
pub async fn register_tables(client: &Client, dir: &Path) -> Result<()> {
    for table in Table::ALL {
        register_table(client, table.name(), &dir.join(table.name())).await?;
    }
    Ok(())
}

/// Makes a Parquet file, or a directory of them, known to the cluster as a table.
///
/// # Errors
/// As [`register_tables`].
pub(crate) async fn register_table(client: &Client, name: &str, path: &Path) -> Result<()> {
    let location = path.to_str().ok_or_else(|| BenchError::PathNotText(path.to_owned()))?.replace('\'', "''");
    let slash = if path.is_dir() { "/" } else { "" };
    let sql = format!("CREATE EXTERNAL TABLE {name} STORED AS PARQUET LOCATION '{location}{slash}'");
    client.collect(&sql).await.map_err(BenchError::client(format!("creating table {name}")))?;
    Ok(())
}

/// Runs the chosen queries with a progress bar on standard error, prints the report to standard output and writes the
/// JSON file, if one is wanted. [`DemoReport::exit_code`] is the status for the process.
///
/// `rest_url` is the scheduler's REST interface, `http://host:port`.
///
/// # Errors
/// Only if the JSON file cannot be written; a query that fails is part of the report.
pub async fn run(client: &Client, rest_url: &str, options: &DemoOptions) -> Result<DemoReport> {
    let plan = Plan {
        scale: options.workload.scale,
        queries: options.workload.selected_queries(),
        runs: options.runs,
        query_timeout: options.query_timeout(),
        rest_url: Some(rest_url.to_owned()),
    };
    let bar = bar(plan.queries.len() as u64 * u64::from(plan.runs), QUERY_BAR);
    let progress = |step| match step {
        Step::Begin { query } => bar.set_message(format!("query {query}")),
        Step::End => bar.inc(1),
    };
    let report = run_queries(client, &plan, &progress).await;
    bar.finish_and_clear();
    println!("{}", report.to_text());
    if let Some(path) = &options.json {
        fs::write(path, report.to_json()? + "\n").map_err(BenchError::io("writing", path))?;
    }
    Ok(report)
}
