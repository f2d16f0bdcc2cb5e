//! The process that is DataFusion: `springald bench-worker`. It takes requests on standard input and answers on standard
//! output, each a line of JSON, until its input ends.
//!
//! It is DataFusion as it comes, with as many partitions as the cluster has slots. The binary's allocator is the same
//! for both engines.

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::Instant;

use arrow::array::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use serde::{Deserialize, Serialize};

use super::statement::{Outcome, Statement};
use crate::error::{BenchError, Result};

/// Options of `springald bench-worker`.
#[derive(Clone, Debug, clap::Args)]
pub struct WorkerOptions {
    /// Partitions of the plans.
    #[arg(long)]
    partitions: usize,
}

/// What the worker is asked. It answers each with an [`Outcome`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Make a table of a Parquet file, or of a directory of them.
    Register { name: String, path: PathBuf },
    /// Run a statement and verify its result.
    Run(Statement),
}

/// Answers requests until there are no more.
///
/// # Errors
/// If a request cannot be read or an answer not be written: the parent has gone.
pub async fn work(options: WorkerOptions) -> Result<()> {
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(options.partitions));
    let broken = |error| BenchError::engine("the worker's pipes", error);
    while let Some(line) = next_line().await.map_err(broken)? {
        let outcome = answer(&context, serde_json::from_str(&line)?).await;
        let mut output = std::io::stdout().lock();
        writeln!(output, "{}", serde_json::to_string(&outcome)?).and_then(|()| output.flush()).map_err(broken)?;
    }
    Ok(())
}

async fn next_line() -> std::io::Result<Option<String>> {
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map(|length| (length > 0).then_some(line))
    });
    read.await.map_err(std::io::Error::other)?
}

async fn answer(context: &SessionContext, request: Request) -> Outcome {
    match request {
        Request::Register { name, path } => {
            let path = path.to_string_lossy();
            match context.register_parquet(name, path.as_ref(), ParquetReadOptions::default()).await {
                Ok(()) => Outcome::default(),
                Err(error) => Outcome::failed(error),
            }
        }
        Request::Run(statement) => {
            let begin = Instant::now();
            match run(context, &statement.sql).await {
                Ok(result) => statement.outcome(begin.elapsed().as_secs_f64() * 1e3, &result),
                Err(error) => Outcome::failed(error),
            }
        }
    }
}

async fn run(context: &SessionContext, sql: &str) -> Result<Vec<RecordBatch>, DataFusionError> {
    context.sql(sql).await?.collect().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::statement::Check;

    #[tokio::test]
    async fn given_statements_then_a_worker_tells_right_from_wrong_and_failed() {
        let context = SessionContext::new();
        let ask = async |sql: &str, count| {
            let statement = Statement { sql: sql.to_owned(), check: Check::Count(count) };
            answer(&context, Request::Run(statement)).await
        };
        let right = ask("SELECT count(*) FROM (VALUES (1), (2))", 2).await;
        assert!(right.millis.is_some() && right.error.is_none(), "{right:?}");
        let wrong = ask("SELECT count(*) FROM (VALUES (1), (2))", 3).await;
        assert!(wrong.millis.is_some() && wrong.error.is_some(), "{wrong:?}");
        let failed = ask("SELECT nothing", 1).await;
        assert!(failed.millis.is_none() && failed.error.is_some(), "{failed:?}");
    }

    #[tokio::test]
    async fn given_a_table_that_is_not_there_then_the_worker_says_so() {
        let request = Request::Register { name: "t".to_owned(), path: "/no/such/file.parquet".into() };
        let registered = answer(&SessionContext::new(), request).await;
        let counted = Statement { sql: "SELECT count(*) FROM t".to_owned(), check: Check::Count(1) };
        let counted = answer(&SessionContext::new(), Request::Run(counted)).await;
        assert!(registered.error.or(counted.error).is_some());
    }
}
