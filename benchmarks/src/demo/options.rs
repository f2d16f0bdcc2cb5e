//! What the user can choose for the demonstration.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::workload::WorkloadOptions;

/// Options of `springald demo`.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoOptions {
    /// Data and queries.
    #[command(flatten)]
    pub workload: WorkloadOptions,
    /// Number of executors.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub executors: u16,
    /// Task slots of each executor [default: the cores, divided among the executors].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub slots: Option<u16>,
    /// Memory of each executor, as 4GiB [default: the executor's own].
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Also writes the report to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Leaves the cluster running afterwards, and says how to connect.
    #[arg(long)]
    pub keep: bool,
    /// How often each query runs.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub runs: u16,
    /// Longest time for one run of one query, in seconds.
    #[arg(long, default_value_t = 1800, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub timeout: u32,
}

impl DemoOptions {
    /// Task slots of each executor: as chosen, or the cores divided among the executors, at least 1.
    pub fn slots_per_executor(&self) -> u16 {
        self.slots.unwrap_or_else(|| {
            let cores = thread::available_parallelism().map_or(1, usize::from);
            u16::try_from(cores / usize::from(self.executors.max(1))).unwrap_or(u16::MAX).max(1)
        })
    }

    /// Longest time for one run of one query.
    pub fn query_timeout(&self) -> Duration {
        Duration::from_secs(self.timeout.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        demo: DemoOptions,
    }

    fn parse(arguments: &[&str]) -> Result<DemoOptions, clap::Error> {
        Command::try_parse_from([&["demo"], arguments].concat()).map(|command| command.demo)
    }

    #[test]
    fn given_no_options_then_all_queries_run_once_at_scale_1() {
        let options = parse(&[]).expect("defaults");
        assert_eq!(options.workload.scale.to_string(), "1");
        assert_eq!(options.workload.selected_queries().len(), 22);
        assert_eq!((options.executors, options.runs), (2, 1));
        assert!(options.slots_per_executor() >= 1);
    }

    #[test]
    fn given_options_then_they_are_kept() {
        let options =
            parse(&["--scale", "10", "--slots", "1", "--memory", "3GiB", "--queries", "9,1", "--data-dir", "/d"])
                .expect("options");
        assert_eq!(options.slots_per_executor(), 1);
        assert_eq!(options.workload.selected_queries().iter().map(|query| query.number).collect::<Vec<_>>(), [9, 1]);
        assert_eq!(options.workload.data_directory().expect("directory"), PathBuf::from("/d/sf10"));
    }

    #[test]
    fn given_values_out_of_range_then_they_are_refused() {
        for bad in [["--scale", "0"], ["--queries", "23"], ["--runs", "0"], ["--executors", "0"], ["--slots", "0"]] {
            assert!(parse(&bad).is_err(), "{bad:?} was accepted");
        }
    }
}
