//! `tpch-data --scale 1 --dir data/sf1`: generates the TPC-H tables, for tests, benchmarks and `answers/generate.py`.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use springald_bench::tpch::Scale;
use springald_bench::workload::generate_with_progress;

/// Generates the eight TPC-H tables as Parquet.
#[derive(Parser)]
struct Arguments {
    /// TPC-H scale factor.
    #[arg(long, default_value = "1")]
    scale: Scale,
    /// Directory to hold `<table>/part-<n>.parquet`; complete data there is kept.
    #[arg(long)]
    dir: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match generate_with_progress(&arguments.dir, arguments.scale) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
