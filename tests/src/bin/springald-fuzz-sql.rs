//! `springald-fuzz-sql`: see [`springald_tests::fuzz_sql`]. Needs the binary `springald` beside it.

use std::process::ExitCode;

use clap::Parser;
use springald_tests::fuzz_sql;

#[derive(Parser)]
#[command(about = "Compares random queries, staged and whole, with DataFusion in one process")]
struct Cli {
    #[command(flatten)]
    options: fuzz_sql::Options,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Cli { options } = Cli::parse();
    fuzz_sql::silence_datafusion();
    let report = match &options.sql {
        Some(path) => match fuzz_sql::replay(path).await {
            Ok(report) => report,
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        },
        None => fuzz_sql::run(&options).await,
    };
    if options.sql.is_some() {
        report.differences.iter().chain(&report.own).for_each(|found| println!("{}", found.to_text()));
    }
    let json = report.to_json();
    if let Some(path) = &options.json
        && let Err(error) = std::fs::write(path, serde_json::to_string_pretty(&json).unwrap_or_default())
    {
        eprintln!("{}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    for (name, value) in json.as_object().into_iter().flatten().filter(|(_, value)| !value.is_array()) {
        println!("{name}: {value}");
    }
    if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
