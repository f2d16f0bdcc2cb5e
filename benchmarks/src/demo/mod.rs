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
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use springald_client::Client;

pub use options::DemoOptions;
pub use report::{DemoReport, QueryReport};
pub use runner::{Plan, Step, run_queries};

use crate::error::{BenchError, Result};
use crate::tpch::{self, Scale, Table};

/// How often a progress bar moves even if nothing happens, so that a person sees that the program lives.
const TICK: Duration = Duration::from_millis(100);

const DATA_BAR: &str = "{msg} {wide_bar} {human_pos} of {human_len} rows, {eta} left";
const QUERY_BAR: &str = "{msg} {wide_bar} {pos} of {len}, {elapsed}";

/// Makes sure that the data is there, showing progress on standard error, and returns its directory.
///
/// # Errors
/// What [`tpch::generate`] gives, and [`BenchError::NoCacheDirectory`].
pub async fn prepare_data(options: &DemoOptions) -> Result<PathBuf> {
    let (dir, scale) = (options.data_directory()?, options.scale);
    let target = dir.clone();
    let generated = tokio::task::spawn_blocking(move || generate_with_progress(&target, scale)).await;
    generated.map_err(|error| BenchError::Worker(error.to_string()))??;
    Ok(dir)
}

/// [`tpch::generate`] with a progress bar on standard error.
///
/// # Errors
/// As [`tpch::generate`].
pub fn generate_with_progress(dir: &Path, scale: Scale) -> Result<()> {
    let bar = bar(tpch::expected_rows(scale), DATA_BAR);
    bar.set_message(format!("TPC-H scale {scale}"));
    let result = tpch::generate(dir, scale, &|rows| bar.inc(rows));
    bar.finish_and_clear();
    result
}

/// Makes the eight tables in `dir` known to the cluster, which must see the same file system.
///
/// # Errors
/// [`BenchError::Client`] with what the cluster says, as that a table exists already.
pub async fn register_tables(client: &Client, dir: &Path) -> Result<()> {
    let root =
        dir.to_str().ok_or_else(|| BenchError::PathNotText(dir.to_owned()))?.trim_end_matches('/').replace('\'', "''");
    for table in Table::ALL {
        let name = table.name();
        let sql = format!("CREATE EXTERNAL TABLE {name} STORED AS PARQUET LOCATION '{root}/{name}/'");
        client.collect(&sql).await.map_err(BenchError::client(format!("creating table {name}")))?;
    }
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
        scale: options.scale,
        queries: options.selected_queries(),
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

/// A bar on standard error; hidden where that is no terminal.
fn bar(length: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::new(length);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("━╸─"));
    }
    bar.enable_steady_tick(TICK);
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_the_templates_of_the_bars_then_they_are_valid() {
        for template in [DATA_BAR, QUERY_BAR] {
            ProgressStyle::with_template(template).expect(template);
        }
    }
}
