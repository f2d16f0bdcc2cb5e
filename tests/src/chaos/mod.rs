//! Chaos: a cluster under load whose processes are killed, stopped and cut off, one after another.
//!
//! ```text
//! Load: streams of TPC-H queries, every answer compared ──▶ schedulers ⇄ executors, over a three-member etcd
//! every few seconds: a fault at a random node; some seconds later it is made good (torment)
//! or: every process is replaced, one after the other (rolling); or: etcd is away as a whole (outage)
//! at the end: all is made good, all queries end, and nothing is left
//! ```
//!
//! [`measure`] needs no load: one long query, whose scheduler or one of whose executors is killed.

mod cluster;
mod load;
mod losses;
mod measure;
mod net;
mod node;
pub(crate) mod random;
mod report;
mod resources;
mod rolling;
mod torment;

use std::path::PathBuf;
use std::time::Duration;

use chrono::Utc;
use springald_bench::tpch::Scale;
use springald_client::Client;
use tokio::time::Instant;

pub use measure::{Measured, measure};
pub use report::Report;

use cluster::Cluster;
use load::Load;
use resources::Baseline;

use crate::etcd;

/// How long to wait after the last query until nothing may be left: results that nobody confirmed go after a while.
const IDLE_DEADLINE: Duration = Duration::from_secs(120);

/// What is done to the cluster.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Minutes of faults.
    #[arg(long, default_value_t = 2.0)]
    pub minutes: f64,
    /// Time between two faults, as 5s.
    #[arg(long, default_value = "5s", value_parser = seconds)]
    pub fault_every: Duration,
    /// TPC-H scale factor.
    #[arg(long, default_value = "1")]
    pub scale: Scale,
    /// Concurrent streams of queries.
    #[arg(long, default_value_t = 3)]
    pub streams: usize,
    /// Schedulers.
    #[arg(long, default_value_t = 3)]
    pub schedulers: usize,
    /// Executors.
    #[arg(long, default_value_t = 4)]
    pub executors: usize,
    /// Slots of each executor.
    #[arg(long, default_value_t = 1)]
    pub slots: u32,
    /// Memory of each executor.
    #[arg(long, default_value = "1GiB")]
    pub memory: String,
    /// Repeats the choices of an earlier run.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Only these faults, by name, separated by commas.
    #[arg(long, value_delimiter = ',')]
    pub faults: Vec<String>,
    /// Instead of random faults: every executor and then every scheduler is told to end and replaced, one after the other.
    #[arg(long)]
    pub rolling: bool,
    /// Instead of random faults: all members of etcd are killed for so long, and then stopped for so long, as 60s.
    #[arg(long, value_parser = seconds, conflicts_with = "rolling")]
    pub etcd_outage: Option<Duration>,
    /// Instead of a load: times one query of about half a minute, also with its scheduler and with an executor killed.
    #[arg(long, conflicts_with_all = ["rolling", "etcd_outage"])]
    pub measure: bool,
    /// Also writes the report to this file, as JSON.
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Also keeps the log of every process, in this directory.
    #[arg(long)]
    pub logs: Option<PathBuf>,
}

/// `5s` or `5`.
fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.trim().trim_end_matches('s').parse::<f64>().map_err(|error| error.to_string())?;
    Duration::try_from_secs_f64(number).map_err(|error| error.to_string())
}

/// Runs it. `None`, after saying so, when there is no etcd.
///
/// # Panics
/// If the cluster does not start, or the data cannot be made.
pub async fn run(options: &Options) -> Option<Report> {
    if !etcd::is_installed() {
        return None;
    }
    let seed = options.seed.unwrap_or_else(|| Utc::now().timestamp_micros() as u64);
    println!("seed {seed}");
    let mut cluster = Cluster::start(options.schedulers, options.executors, options.slots, &options.memory).await;
    let baseline = Baseline::of(&cluster.nodes);
    let client = Client::connect(&cluster.urls).await.expect("a session");
    crate::tpch::create_tables(&client, options.scale).await;
    drop(client);
    let load = Load::start(&cluster.urls, options.scale, options.streams, seed).await;
    let started = Instant::now();
    let harm = match options.etcd_outage {
        _ if options.rolling => rolling::replace_all(&mut cluster).await,
        Some(outage) => rolling::etcd_away(&mut cluster, outage).await,
        None => torment::torment(&mut cluster, options, seed).await,
    };
    let minutes = started.elapsed().as_secs_f64() / 60.0;
    let tally = load.end().await;
    let left = match cluster.idle(IDLE_DEADLINE).await {
        Ok(()) => settled(async || baseline.compare(&cluster.nodes), IDLE_DEADLINE).await.err(),
        Err(left) => Some(left),
    };
    let mut report = Report::new(&cluster, harm, &tally, left, (minutes, seed));
    report.planned = options.rolling;
    if let Some(directory) = &options.logs {
        cluster.keep_logs(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    }
    Some(report)
}

/// Looks until nothing is left, or time is up. The error says what is.
async fn settled(look: impl AsyncFn() -> Result<(), String>, deadline: Duration) -> Result<(), String> {
    let end = Instant::now() + deadline;
    loop {
        let seen = look().await;
        if seen.is_ok() || Instant::now() >= end {
            return seen;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
