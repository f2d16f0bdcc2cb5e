//! What arrives of a cluster's events: `make observe`.
//!
//! ```text
//! springald cluster up: etcd, schedulers, executors, NATS, edge, aggregator, Prometheus      ClickHouse: chdb behind HTTP
//! TPC-H, and more events if wanted ──▶ files ──▶ … ──▶ rows        meanwhile each part is restarted, if wanted
//! at the end: lines in the files against rows, by process: lost, duplicates; time from line to row
//! ```

mod load;
mod options;
mod report;

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use springald_client::Client;
use springald_deploy::cluster::State;
use tempfile::TempDir;
use tokio::process::Command;

pub use options::{Options, Restart};
pub use report::Report;

use crate::process::binary;
use crate::servers::ClickHouse;
use crate::wait::{eventually, same};
use crate::{tpch, workspace};

/// How long the last events may take to arrive, and how many arrive in a second at least: a NATS server that writes through to
/// the disk for each of them takes some hundreds.
const ARRIVAL_DEADLINE: Duration = Duration::from_secs(180);
const LEAST_PER_SECOND: u64 = 200;

/// Pause between two looks at what has arrived.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Where some may be lost: after so many looks without a new one, it is all that comes.
const LOOKS_WITHOUT_A_CHANGE: u32 = 30;

/// Why there is no report.
#[derive(Debug)]
pub enum Stop {
    /// Something that it needs is not on this machine.
    Skipped(String),
    /// Something went wrong.
    Failed(String),
}

impl From<String> for Stop {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

/// Runs it.
///
/// # Errors
/// If Vector or ClickHouse's engine are missing, or something does not start or end.
///
/// # Panics
/// If ClickHouse refuses a query, or events do not arrive in time.
pub async fn run(options: &Options) -> Result<Report, Stop> {
    let vector = vector().ok_or_else(|| Stop::Skipped("there is no Vector (VECTOR_BIN, or in the PATH)".to_owned()))?;
    let clickhouse = ClickHouse::start().await.ok_or_else(|| Stop::Skipped("there is no ClickHouse".to_owned()))?;
    let directory = TempDir::new().map_err(|error| error.to_string())?;
    let mut stack = Stack { directory: directory.path().to_owned(), vector, clickhouse };
    stack.up(options).await?;
    let measured = measure(&mut stack, options).await;
    let ended = stack.command(&["down"]).await;
    let report = measured?;
    ended?;
    Ok(report)
}

async fn measure(stack: &mut Stack, options: &Options) -> Result<Report, String> {
    let state = State::expected(&stack.directory).map_err(|error| error.to_string())?;
    let url = state.known("scheduler-1").map_err(|error| error.to_string())?.addresses["flight_sql"].clone();
    let client = Client::connect(&url).await.map_err(|error| error.to_string())?;
    let scale = tpch::scale(&options.scale);
    tpch::create_tables(&client, scale).await;
    tpch::distribute_everything(&client).await;
    let writer = load::write(stack.directory.join("events"), options.events);
    let mut restarts = options.restart.parts().into_iter();
    for _ in 0..options.runs {
        tpch::verify(&client, scale).await;
        if let Some(part) = restarts.next() {
            stack.restart(part, options.restart).await?;
        }
    }
    for part in restarts {
        stack.restart(part, options.restart).await?;
    }
    writer.await.map_err(|error| error.to_string())??;
    drop(client);
    let deadline = ARRIVAL_DEADLINE + Duration::from_secs(options.events / LEAST_PER_SECOND);
    stack.arrived(options.restart == Restart::Kill, deadline).await
}

/// Everything that runs.
struct Stack {
    directory: PathBuf,
    vector: PathBuf,
    clickhouse: ClickHouse,
}

impl Stack {
    async fn up(&self, options: &Options) -> Result<(), String> {
        let numbers =
            ["--schedulers", "2", "--executors", "2", "--slots", &options.slots.to_string()].map(str::to_owned);
        let mut arguments = vec!["up".to_owned(), "--clickhouse".to_owned(), self.clickhouse.url().to_owned()];
        arguments.extend(numbers);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.command(&arguments).await
    }

    /// `springald cluster …`
    async fn command(&self, arguments: &[&str]) -> Result<(), String> {
        let mut command = Command::new(binary());
        command.arg("cluster").args(arguments).arg("--directory").arg(&self.directory).env("VECTOR_BIN", &self.vector);
        let nats = crate::servers::nats_program();
        if nats.is_file() {
            command.env("NATS_BIN", nats);
        }
        let output = command.output().await.map_err(|error| error.to_string())?;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        eprint!("{}", said(&output.stdout));
        if output.status.success() { Ok(()) } else { Err(format!("cluster {arguments:?}: {}", said(&output.stderr))) }
    }

    async fn restart(&mut self, part: &str, how: Restart) -> Result<(), String> {
        match (part, how) {
            ("clickhouse", _) => {
                self.clickhouse.restart(how == Restart::Kill).await;
                Ok(())
            }
            (part, Restart::Kill) => self.command(&["restart", "--kill", part]).await,
            (part, _) => self.command(&["restart", part]).await,
        }
    }

    /// Waits until every line of the files has arrived, or, if that cannot be promised, nothing arrives any more.
    async fn arrived(&self, may_lose: bool, deadline: Duration) -> Result<Report, String> {
        let loss = query("loss.sql");
        let since = ("since", "2020-01-01 00:00:00");
        let mut earlier = (u64::MAX, 0);
        let mut lines = Lines::default();
        let (written, rows) = eventually("the events arrive", deadline, async || {
            tokio::time::sleep(LOOK_EVERY).await;
            let written = lines.of(&self.directory.join("events"))?;
            let rows = self.clickhouse.rows(&loss, &[since]).await;
            let arrived = sum(&rows, "arrived");
            // Asked so often in a row without a change: it is all that comes.
            earlier = if earlier.0 == arrived { (arrived, earlier.1 + 1) } else { (arrived, 0) };
            if may_lose && earlier.1 >= LOOKS_WITHOUT_A_CHANGE {
                return Ok((written, rows));
            }
            same("arrived", arrived, written).map(|()| (written, rows))
        })
        .await;
        let lag = self.clickhouse.rows(&query("lag.sql"), &[since]).await;
        let lag = lag.first().ok_or("no lag")?;
        let number = |name: &str| lag[name].as_i64().unwrap_or_default();
        Ok(Report {
            events_written: written,
            rows: sum(&rows, "arrived"),
            lost: written.saturating_sub(sum(&rows, "arrived")),
            duplicates: 0,
            sent_again: sum(&rows, "duplicates"),
            lag_p50_millis: number("lag_p50_millis"),
            lag_p99_millis: number("lag_p99_millis"),
            may_lose,
        }
        .with_duplicates(&self.clickhouse)
        .await)
    }
}

fn sum(rows: &[Value], name: &str) -> u64 {
    rows.iter().filter_map(|row| row[name].as_u64()).sum()
}

fn query(name: &str) -> String {
    let path = workspace().join("deploy/clickhouse/queries").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Counts lines of files that grow: each byte is read once.
#[derive(Default)]
struct Lines(HashMap<PathBuf, (u64, u64)>);

impl Lines {
    /// Lines of all files of a folder.
    fn of(&mut self, folder: &Path) -> Result<u64, String> {
        let entries = std::fs::read_dir(folder).map_err(|error| error.to_string())?;
        for entry in entries {
            let path = entry.map_err(|error| error.to_string())?.path();
            let (read, lines) = self.0.entry(path.clone()).or_default();
            let mut file = File::open(&path).map_err(|error| error.to_string())?;
            file.seek(SeekFrom::Start(*read)).map_err(|error| error.to_string())?;
            let mut bytes = vec![];
            *read += file.read_to_end(&mut bytes).map_err(|error| error.to_string())? as u64;
            *lines += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        }
        Ok(self.0.values().map(|(_, lines)| lines).sum())
    }
}

fn vector() -> Option<PathBuf> {
    let named = std::env::var_os("VECTOR_BIN").filter(|value| !value.is_empty()).map(PathBuf::from);
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let in_path = || std::env::split_paths(&folders).map(|folder| folder.join("vector")).find(|path| path.is_file());
    named.filter(|path| path.is_file()).or_else(in_path)
}
