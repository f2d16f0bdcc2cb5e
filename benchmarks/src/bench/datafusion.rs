//! DataFusion in a process of its own, as this process sees it: see [`super::worker`].

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::time::timeout;

use super::options::BenchOptions;
use super::process::{Launch, Process};
use super::statement::{Outcome, Statement};
use super::worker::Request;
use crate::error::{BenchError, Result};

/// Time to read the footers of a table's files.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(60);

/// A running worker.
pub(super) struct DataFusion {
    process: Process,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl DataFusion {
    /// Starts a worker with as many partitions as the cluster has slots.
    pub(super) fn start(options: &BenchOptions) -> Result<Self> {
        let partitions = options.total_slots().to_string();
        let launch = Launch::own("datafusion")?.args(["bench-worker", "--partitions", &partitions]);
        let (process, input, output) = launch.start_piped()?;
        let broken = |error| BenchError::engine("datafusion", error);
        let input = ChildStdin::from_std(input).map_err(broken)?;
        let output = BufReader::new(ChildStdout::from_std(output).map_err(broken)?).lines();
        Ok(Self { process, input, output })
    }

    /// Makes a table of a Parquet file, or of the directory of them.
    pub(super) async fn register(&mut self, name: &str, path: &Path) -> Result<()> {
        let request = Request::Register { name: name.to_owned(), path: path.to_owned() };
        match self.ask(&request, REGISTER_TIMEOUT).await.error {
            None => Ok(()),
            Some(error) => Err(BenchError::engine("datafusion", format!("table {name}: {error}"))),
        }
    }

    /// Runs a statement; the time is the worker's own.
    pub(super) async fn run(&mut self, statement: &Statement, limit: Duration) -> Outcome {
        self.ask(&Request::Run(statement.clone()), limit).await
    }

    /// Its process.
    pub(super) fn processes(&self) -> &[Process] {
        std::slice::from_ref(&self.process)
    }

    /// One request. After one that failed to be answered in time there are no others: the worker is killed.
    async fn ask(&mut self, request: &Request, limit: Duration) -> Outcome {
        match timeout(limit, self.exchange(request)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => {
                Outcome::failed(self.process.check_running().err().map_or(error, |ended| ended.to_string()))
            }
            Err(_) => {
                self.process.kill();
                Outcome::failed(format!("no result within {} s; killed", limit.as_secs()))
            }
        }
    }

    async fn exchange(&mut self, request: &Request) -> Result<Outcome, String> {
        let line = serde_json::to_string(request).map_err(|error| error.to_string())? + "\n";
        self.input.write_all(line.as_bytes()).await.map_err(|error| error.to_string())?;
        let answer = self.output.next_line().await.map_err(|error| error.to_string())?;
        let answer = answer.ok_or_else(|| "the worker has ended".to_owned())?;
        serde_json::from_str(&answer).map_err(|error| format!("{error}: {answer}"))
    }
}
