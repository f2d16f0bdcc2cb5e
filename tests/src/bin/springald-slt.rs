//! `springald-slt`: see [`springald_tests::slt`]. Needs the binary `springald` beside it.

use std::process::ExitCode;

use clap::Parser;
use springald_tests::slt;

#[derive(Parser)]
#[command(about = "Runs DataFusion's sqllogictest scripts through Flight SQL and compares with DataFusion in process")]
struct Cli {
    #[command(flatten)]
    options: slt::Options,
}

fn main() -> ExitCode {
    let Cli { options } = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().thread_stack_size(slt::STACK_BYTES).enable_all().build();
    let report = match runtime {
        Ok(runtime) => runtime.block_on(finished(options)),
        Err(error) => Err(format!("cannot start its threads: {error}")),
    };
    match report {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs and reports; true if there is nothing unexpected.
async fn finished(options: slt::Options) -> Result<bool, String> {
    let report = slt::run(&options).await?;
    print!("{}", report.summary());
    Ok(report.is_clean())
}
