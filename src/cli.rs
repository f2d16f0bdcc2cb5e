//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use springald_bench::bench::{BenchOptions, WorkerOptions};
use springald_bench::demo::DemoOptions;
use springald_client::shell::ShellOptions;
use springald_deploy::cluster::ClusterCommand;
use springald_deploy::setup::SetupOptions;

/// A distributed SQL engine that loses no query.
#[derive(Parser)]
#[command(name = "springald", version, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// All roles in one process, with the embedded store: needs no other server.
    Standalone(Standalone),
    /// A scheduler of a cluster.
    Scheduler(Scheduler),
    /// An executor of a cluster.
    Executor(Executor),
    /// Runs SQL: of -c, of a file, of standard input, or as you type it.
    ///
    /// Exit codes: 0 all statements succeeded, 1 a statement failed (those after it did not run), 2 wrong usage, 3 no
    /// server can be reached.
    Sql(ShellOptions),
    /// Generates TPC-H data, starts an embedded cluster, runs the 22 queries and verifies their answers.
    Demo(DemoOptions),
    /// Runs the TPC-H queries on Springald and on DataFusion in one process, side by side, and compares the times.
    Bench(BenchOptions),
    /// Writes a page of the reference, as docs/ has it.
    #[command(hide = true)]
    Reference {
        /// Which page.
        page: Page,
    },
    /// Starts and ends a cluster of processes on this machine, with what stands around it.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// What carries events to ClickHouse.
    #[command(subcommand)]
    Pipeline(PipelineCommand),
    /// The process that `bench` runs DataFusion in.
    #[command(hide = true)]
    BenchWorker(WorkerOptions),
}

/// A page of the reference that is made from the code.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Page {
    /// docs/events.md.
    Events,
    /// docs/metrics.md.
    Metrics,
}

#[derive(Subcommand)]
pub enum PipelineCommand {
    /// Makes the stream of events in NATS and the tables in ClickHouse, or brings them up to date. Can be run again.
    Setup(SetupOptions),
}

/// Where settings come from: the file, then the environment (SPRINGALD_<SECTION>_<NAME>), then flags.
#[derive(Args, Clone, Default)]
pub struct Common {
    /// Settings file (YAML).
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Writes all settings, with their documentation and as they stand, to standard output, and ends.
    #[arg(long)]
    pub generate_config: bool,
    /// Sets any setting, for example `--set scheduler.max_jobs=50`; repeatable.
    #[arg(long, value_name = "SECTION.NAME=VALUE")]
    pub set: Vec<String>,
    /// What is logged, for example `info` or `info,springald_scheduler=debug`.
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// IP address that all services bind.
    #[arg(long, value_name = "IP")]
    pub bind: Option<String>,
    /// Host name under which others reach this process.
    #[arg(long, value_name = "HOST")]
    pub advertise: Option<String>,
    /// Port of metrics and health; 0: a free one.
    #[arg(long, value_name = "PORT")]
    pub telemetry_port: Option<u16>,
}

/// Ports of a scheduler; 0: a free one.
#[derive(Args, Clone, Default)]
pub struct SchedulerPorts {
    /// Port of Flight SQL.
    #[arg(long, value_name = "PORT")]
    pub flight_sql_port: Option<u16>,
    /// Port of the control service.
    #[arg(long, value_name = "PORT")]
    pub control_port: Option<u16>,
    /// Port of REST.
    #[arg(long, value_name = "PORT")]
    pub rest_port: Option<u16>,
}

/// The resources of an executor.
#[derive(Args, Clone, Default)]
pub struct Resources {
    /// Tasks that run at one time, in each executor [default: the number of cores].
    #[arg(long)]
    pub slots: Option<u32>,
    /// Memory of each executor, for example 4GiB.
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Directory for spilled data.
    #[arg(long, value_name = "DIR")]
    pub spill_dir: Option<PathBuf>,
}

/// How to reach the cluster's store.
#[derive(Args, Clone, Default)]
pub struct Store {
    /// etcd client URLs, separated by commas.
    #[arg(long, value_name = "URL[,URL…]")]
    pub etcd: Option<String>,
    /// Name of the cluster.
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
}

#[derive(Args)]
pub struct Standalone {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub ports: SchedulerPorts,
    #[command(flatten)]
    pub resources: Resources,
    /// Number of executors.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub executors: u32,
    /// Keeps tables and jobs in this directory; without it they end with the process.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

#[derive(Args)]
pub struct Scheduler {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub ports: SchedulerPorts,
    #[command(flatten)]
    pub store: Store,
}

#[derive(Args)]
pub struct Executor {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub resources: Resources,
    #[command(flatten)]
    pub store: Store,
    /// Port of the exchange service; 0: a free one.
    #[arg(long, value_name = "PORT")]
    pub exchange_port: Option<u16>,
}
