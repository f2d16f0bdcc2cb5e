//! `springald bench`: Springald beside another engine, and the process that the other engine runs in.

use std::process::ExitCode;

use springald_bench::bench::{self, BenchOptions, WorkerOptions};
use springald_core::error::{Error, ErrorCode, Result};

pub async fn run(options: BenchOptions) -> Result<ExitCode> {
    let measured = tokio::select! {
        report = bench::run(&options) => report.map_err(failed)?,
        // Dropping the comparison ends its processes.
        told = super::told_to_end() => {
            told?;
            return Err(Error::new(ErrorCode::Cancelled, "the comparison was ended early"));
        }
    };
    Ok(ExitCode::from(measured.exit_code()))
}

pub async fn work(options: WorkerOptions) -> Result<ExitCode> {
    bench::work(options).await.map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorCode::Internal, error.to_string()).with_source(error)
}
