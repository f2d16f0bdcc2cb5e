//! The comparison with another engine: the same queries over the same files, side by side, verified.
//!
//! ```text
//!              ┌─ springald: scheduler + executors + etcd, each a process ── Flight SQL ─┐
//! bench::run ──┤                                                                         ├─▶ BenchReport ─▶ table,
//!              └─ datafusion: one process (bench::work) ── lines of JSON ────────────────┘   JSON, chart, exit code
//! ```
//!
//! Both engines run all the time, and only one of them has something to do.

mod chart;
mod datafusion;
mod engine;
mod etcd;
mod latency;
mod options;
mod process;
mod queries;
mod report;
mod springald;
mod statement;
mod worker;

use std::fs;

pub use options::{BenchOptions, EngineKind};
pub use report::{BenchReport, EngineReport, LatencyReport, ProcessReport, QueryRatio, QueryReport, Ratios};
pub use worker::{WorkerOptions, work};

use crate::error::{BenchError, Result};

/// Measures what the options say, prints the report to standard output and writes the files that are wanted.
/// [`BenchReport::exit_code`] is the status for the process. This program must have the roles `scheduler`, `executor`,
/// `standalone` and `bench-worker`. Dropping the future ends all processes.
///
/// # Errors
/// If there is no data, an engine cannot be started or a file not be written; a query that fails is part of the report.
pub async fn run(options: &BenchOptions) -> Result<BenchReport> {
    let data = options.workload.prepare_data().await?;
    let report = if options.latency {
        BenchReport::new(options, Vec::new(), latency::measure(options, &data).await?)
    } else {
        BenchReport::new(options, queries::measure(options, &data).await?, Vec::new())
    };
    println!("{}", report.to_text());
    if let Some(path) = &options.json {
        fs::write(path, report.to_json()? + "\n").map_err(BenchError::io("writing", path))?;
    }
    if let Some(path) = &options.chart {
        let svg = chart::draw(&report).map_err(|reason| BenchError::Chart { path: path.clone(), reason })?;
        fs::write(path, svg).map_err(BenchError::io("writing", path))?;
    }
    Ok(report)
}
