//! `springald-observe`: see [`springald_tests::observe`]. Needs the binary `springald` beside it, and a Vector.

use std::process::ExitCode;

use clap::Parser;
use springald_tests::observe;

#[derive(Parser)]
#[command(about = "Runs TPC-H on a cluster with the whole pipeline of events, and measures what arrives in ClickHouse")]
struct Cli {
    #[command(flatten)]
    options: observe::Options,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Cli { options } = Cli::parse();
    let report = match observe::run(&options).await {
        Ok(report) => report,
        Err(observe::Stop::Skipped(why)) => {
            println!("SKIPPED: observe: {why}");
            return ExitCode::SUCCESS;
        }
        Err(observe::Stop::Failed(why)) => {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
    };
    let json = serde_json::to_string_pretty(&report.to_json()).unwrap_or_default();
    println!("{json}");
    if let Some(path) = &options.json
        && let Err(error) = std::fs::write(path, json)
    {
        eprintln!("{}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
