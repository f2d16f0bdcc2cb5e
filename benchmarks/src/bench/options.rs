//! What the user can choose for the comparison.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::workload::WorkloadOptions;

/// Options of `springald bench`.
#[derive(Clone, Debug, clap::Args)]
pub struct BenchOptions {
    /// Data and queries.
    #[command(flatten)]
    pub workload: WorkloadOptions,
    /// The engines to measure.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [EngineKind::Springald, EngineKind::DataFusion])]
    pub engines: Vec<EngineKind>,
    /// How often each query runs in each engine; the median counts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub runs: u16,
    /// Number of Springald's executors.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub executors: u16,
    /// Task slots of each executor. DataFusion has as many partitions as the cluster has slots.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub slots: u16,
    /// Memory of each executor, as 4GiB [default: the executor's own].
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Also writes the report to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Also draws the medians into this file, as SVG.
    #[arg(long, value_name = "FILE.svg")]
    pub chart: Option<PathBuf>,
    /// Measures the time of a `SELECT count(*)` over 25 rows instead of the queries.
    #[arg(long, conflicts_with_all = ["queries", "chart", "runs", "engines"])]
    pub latency: bool,
    /// Longest time for one run of one query, in seconds.
    #[arg(long, default_value_t = 1800, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub timeout: u32,
}

impl BenchOptions {
    /// The engines to measure, each once, in the order given.
    pub fn selected_engines(&self) -> Vec<EngineKind> {
        let mut engines = Vec::new();
        for engine in &self.engines {
            if !engines.contains(engine) {
                engines.push(*engine);
            }
        }
        engines
    }

    /// Task slots of all executors together.
    pub fn total_slots(&self) -> usize {
        usize::from(self.executors) * usize::from(self.slots)
    }

    /// Longest time for one run of one query.
    pub fn query_timeout(&self) -> Duration {
        Duration::from_secs(self.timeout.into())
    }
}

/// An engine that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// A cluster of this program's processes over etcd.
    Springald,
    /// The same without its events, to see what they cost.
    #[value(name = "springald-silent")]
    #[serde(rename = "springald-silent")]
    SpringaldSilent,
    /// DataFusion in one process, as it comes.
    #[value(name = "datafusion")]
    DataFusion,
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Springald => "springald",
            Self::SpringaldSilent => "springald-silent",
            Self::DataFusion => "datafusion",
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        bench: BenchOptions,
    }

    pub(in crate::bench) fn parse(arguments: &[&str]) -> Result<BenchOptions, clap::Error> {
        Command::try_parse_from([&["bench"], arguments].concat()).map(|command| command.bench)
    }

    #[test]
    fn given_no_options_then_both_engines_run_all_queries_three_times_with_two_slots() {
        let options = parse(&[]).expect("defaults");
        assert_eq!(options.selected_engines(), [EngineKind::Springald, EngineKind::DataFusion]);
        assert_eq!((options.runs, options.total_slots()), (3, 2));
        assert_eq!(options.workload.selected_queries().len(), 22);
    }

    #[test]
    fn given_engines_then_each_is_measured_once() {
        let options = parse(&["--engines", "datafusion,springald,datafusion"]).expect("options");
        assert_eq!(options.selected_engines(), [EngineKind::DataFusion, EngineKind::Springald]);
    }

    #[test]
    fn given_options_that_do_not_go_together_then_they_are_refused() {
        for bad in [["--latency", "--chart=c.svg"], ["--latency", "--queries=1"], ["--engines", "duckdb"]] {
            assert!(parse(&bad).is_err(), "{bad:?} was accepted");
        }
    }
}
