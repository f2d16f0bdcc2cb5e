//! What can be said on the command line.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// The commands.
#[derive(Clone, Debug, Subcommand)]
pub enum ClusterCommand {
    /// Starts etcd, schedulers, executors, and what this machine has of NATS, Vector, ClickHouse, Prometheus and Grafana.
    ///
    /// What is missing is named and left out. Programs are looked for in the PATH, or where VECTOR_BIN, NATS_BIN,
    /// CLICKHOUSE_BIN, PROMETHEUS_BIN, GRAFANA_BIN and ETCD_BIN say.
    Up(UpOptions),
    /// Shows what runs, and where it listens. Exit code 1 if something has ended or is not healthy.
    Status(Place),
    /// Shows the last lines of the logs, and of the events of schedulers and executors.
    Logs(LogsOptions),
    /// Ends parts and starts them again, as they were; those that have ended are started at once.
    Restart(RestartOptions),
    /// Ends what was started, the last first.
    Down(DownOptions),
}

/// Where the cluster's files are.
#[derive(Args, Clone, Debug)]
pub struct Place {
    /// Directory of the cluster's state, data and logs.
    #[arg(long, value_name = "DIR", default_value = ".springald")]
    pub directory: PathBuf,
}

/// What to start.
#[derive(Args, Clone, Debug)]
pub struct UpOptions {
    /// Where its files are.
    #[command(flatten)]
    pub place: Place,
    /// Number of schedulers.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=8))]
    pub schedulers: u32,
    /// Number of executors.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub executors: u32,
    /// Slots of each executor.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub slots: u32,
    /// Memory of each executor.
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    pub memory: String,
    /// A ClickHouse that runs already, to be used instead of one of this cluster's own.
    #[arg(long, value_name = "http://HOST:PORT")]
    pub clickhouse: Option<String>,
    /// Fails if anything is missing.
    #[arg(long)]
    pub full: bool,
    /// Seconds that each part may take until it is healthy.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub wait: u64,
}

/// Which logs.
#[derive(Args, Clone, Debug)]
pub struct LogsOptions {
    /// Where its files are.
    #[command(flatten)]
    pub place: Place,
    /// Parts, for example `scheduler-1`; all without it.
    pub names: Vec<String>,
    /// Lines of each file.
    #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = 20)]
    pub lines: usize,
}

/// What to start again.
#[derive(Args, Clone, Debug)]
pub struct RestartOptions {
    /// Where its files are.
    #[command(flatten)]
    pub place: Place,
    /// Parts, for example `edge`.
    #[arg(required = true)]
    pub names: Vec<String>,
    /// Kills them instead of asking them to end.
    #[arg(long)]
    pub kill: bool,
    /// Seconds that each part may take to end, and to be healthy again.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub wait: u64,
}

/// How to end.
#[derive(Args, Clone, Debug)]
pub struct DownOptions {
    /// Where its files are.
    #[command(flatten)]
    pub place: Place,
    /// Deletes its data and logs too.
    #[arg(long)]
    pub delete: bool,
    /// Seconds that each part may take to end before it is killed.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub wait: u64,
}
