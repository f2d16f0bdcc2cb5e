//! `springald cluster` and `springald pipeline`: processes around a cluster, and what they need.

use std::process::ExitCode;

use springald_core::error::{Error, ErrorCode, Result};
use springald_deploy::cluster::{self, ClusterCommand};
use springald_deploy::setup;

use crate::cli::PipelineCommand;

pub async fn run(command: ClusterCommand) -> Result<ExitCode> {
    let all_well = cluster::run(command).await.map_err(failed)?;
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub async fn set_up(command: PipelineCommand) -> Result<ExitCode> {
    let PipelineCommand::Setup(options) = command;
    for line in setup::run(&options).await.map_err(failed)? {
        println!("{line}");
    }
    Ok(ExitCode::SUCCESS)
}

fn failed(error: springald_deploy::Error) -> Error {
    use springald_deploy::Error as Deploy;
    let code = match error {
        Deploy::Unreachable { .. } => ErrorCode::Unavailable,
        Deploy::Address { .. } | Deploy::Invalid(_) => ErrorCode::Invalid,
        _ => ErrorCode::Internal,
    };
    Error::new(code, error.to_string()).with_source(error)
}
