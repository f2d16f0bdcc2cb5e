//! The smallest query, over and over: what the way to the answer costs when there is next to nothing to do.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::engine::Engine;
use super::options::{BenchOptions, EngineKind};
use super::report::LatencyReport;
use super::springald::Store;
use super::statement::{Check, Statement};
use crate::error::{BenchError, Result};
use crate::figures::{median, percentile};
use crate::progress::{QUERY_BAR, bar};
use crate::tpch::Table;

/// Runs that are measured.
const RUNS: u16 = 200;

/// Runs before them, that are not.
const WARM_UP: u16 = 20;

/// Rows of the table.
const ROWS: i64 = 25;

const TIMEOUT: Duration = Duration::from_secs(30);

/// An engine with its times so far.
struct Contender {
    engine: Engine,
    report: LatencyReport,
}

/// Measures `SELECT count(*)` over a Parquet file with 25 rows: in DataFusion, without leaving its process, and through
/// Flight SQL in Springald over each of its stores. The engines take turns.
///
/// # Errors
/// If an engine cannot be started, or there is no such file in `dir`.
pub(super) async fn measure(options: &BenchOptions, dir: &Path) -> Result<Vec<LatencyReport>> {
    let scratch = tempfile::tempdir().map_err(BenchError::io("creating a directory in", &std::env::temp_dir()))?;
    let file = scratch.path().join("nation.parquet");
    copy_only_file(&dir.join(Table::Nation.name()), &file)?;
    let mut contenders = vec![
        Contender::new("datafusion, in its process", Engine::start(EngineKind::DataFusion, options).await?),
        Contender::new("springald, embedded store", Engine::start_springald(Store::Embedded, options).await?),
        Contender::new("springald, etcd", Engine::start_springald(Store::Etcd, options).await?),
    ];
    for contender in &mut contenders {
        contender.engine.register("nation", &file).await?;
    }
    let statement = Statement { sql: "SELECT count(*) FROM nation".to_owned(), check: Check::Count(ROWS) };
    let bar = bar(u64::from(WARM_UP + RUNS), QUERY_BAR);
    for run in 0..WARM_UP + RUNS {
        for contender in &mut contenders {
            contender.run(&statement, run >= WARM_UP).await;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(contenders.into_iter().map(Contender::into_report).collect())
}

impl Contender {
    fn new(name: &str, engine: Engine) -> Self {
        Self { engine, report: LatencyReport::new(name) }
    }

    async fn run(&mut self, statement: &Statement, counts: bool) {
        if self.report.error.is_some() {
            return;
        }
        let outcome = self.engine.run(statement, TIMEOUT).await;
        self.report.millis.extend(outcome.millis.filter(|_| counts));
        self.report.error = outcome.error;
    }

    fn into_report(self) -> LatencyReport {
        let mut report = self.report;
        report.p50_millis = median(&report.millis);
        report.p95_millis = percentile(&report.millis, 95);
        report.verified = report.error.is_none();
        report
    }
}

/// Copies the file of a table that is not cut into several.
fn copy_only_file(folder: &Path, target: &Path) -> Result<()> {
    let source = folder.join("part-0.parquet");
    fs::copy(&source, target).map(|_| ()).map_err(BenchError::io("copying", &source))
}
