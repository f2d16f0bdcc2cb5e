//! What each role starts, and how it ends.

mod bench;
mod cluster;
mod demo;
mod executor;
mod reference;
mod scheduler;
mod standalone;
mod store;

use std::process::ExitCode;
use std::time::Duration;

use springald_core::error::{Error, Result};
use springald_core::settings::Settings;
use springald_core::telemetry::events::names;
use springald_core::telemetry::{self, Identity};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{Command, Common};
use crate::config::{self, Overrides};

/// How long a process that was told to end waits for its work.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(20);

/// Runs a command until it is done or told to end.
pub async fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Standalone(options) => standalone::run(options).await,
        Command::Scheduler(options) => scheduler::run(options).await,
        Command::Executor(options) => executor::run(options).await,
        Command::Sql(options) => Ok(springald_client::shell::run(options).await),
        Command::Demo(options) => demo::run(options).await,
        Command::Bench(options) => bench::run(options).await,
        Command::Reference { page } => reference::run(page),
        Command::Cluster(command) => cluster::run(command).await,
        Command::Pipeline(command) => cluster::set_up(command).await,
        Command::BenchWorker(options) => bench::work(options).await,
    }
}

/// Loads the settings and starts telemetry, for a process of this kind with this id; `None` when they were only to be
/// shown.
fn settings(common: &Common, overrides: &Overrides, service: &'static str, instance: &str) -> Result<Option<Settings>> {
    let settings = config::load(common, overrides, &config::environment())?;
    if common.generate_config {
        print!("{}", config::generate(&settings)?);
        return Ok(None);
    }
    let cluster = settings.cluster.name.clone();
    telemetry::init(&settings.telemetry, &Identity { service, instance: instance.to_owned(), cluster })?;
    Ok(Some(settings))
}

/// Returns when the process is told to end.
async fn told_to_end() -> Result<()> {
    let failed = |error| Error::internal("cannot listen for signals").with_source(error);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!(event = names::PROCESS_ENDING, "ending");
    Ok(())
}
