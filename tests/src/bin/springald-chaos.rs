//! `springald-chaos`: see [`springald_tests::chaos`]. Needs the binary `springald` beside it.

use std::process::ExitCode;

use clap::Parser;
use springald_tests::chaos;

#[derive(Parser)]
#[command(about = "Torments a cluster under load and checks every answer")]
struct Cli {
    #[command(flatten)]
    options: chaos::Options,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Cli { options } = Cli::parse();
    let (json, good) = if options.measure {
        let Some(measured) = chaos::measure(&options).await else { return ExitCode::SUCCESS };
        (measured.to_json(), measured.is_within_limits())
    } else {
        let Some(report) = chaos::run(&options).await else { return ExitCode::SUCCESS };
        if let Some(why) = &report.skipped {
            println!("SKIPPED: cut_scheduler, cut_executor: {why}");
        }
        (report.to_json(), report.is_clean())
    };
    let json = serde_json::to_string_pretty(&json).unwrap_or_default();
    println!("{json}");
    if let Some(path) = &options.json
        && let Err(error) = std::fs::write(path, json)
    {
        eprintln!("{}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
