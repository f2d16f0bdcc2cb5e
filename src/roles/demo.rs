//! `springald demo`: TPC-H, from nothing to verified answers, in one command.

use std::process::ExitCode;
use std::time::Duration;

use springald_bench::demo::{self, DemoOptions};
use springald_client::Client;
use springald_core::error::{Error, ErrorCode, Result};
use springald_core::settings::Settings;
use springald_core::telemetry::{self, Identity};

use super::standalone::EmbeddedCluster;
use crate::cli::Common;
use crate::config::{self, Overrides};

/// How long the executors may take to connect.
const CONNECT_DEADLINE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

pub async fn run(options: DemoOptions) -> Result<ExitCode> {
    let settings = settings(&options)?;
    telemetry::init(&settings.telemetry, &Identity::of_process("demo", &settings.cluster.name))?;
    let data = demo::prepare_data(&options).await.map_err(failed)?;
    let cluster = EmbeddedCluster::start(settings, options.executors.into(), String::new()).await?;
    let scheduler = cluster.scheduler();
    let all_there = async {
        while scheduler.engine().executors_connected() < u32::from(options.executors) {
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(CONNECT_DEADLINE, all_there)
        .await
        .map_err(|_| Error::new(ErrorCode::DeadlineExceeded, "the executors did not connect in time"))?;
    let url = format!("grpc://{}", scheduler.flight_sql_address());
    let client = Client::connect(&url).await.map_err(failed)?;
    demo::register_tables(&client, &data).await.map_err(failed)?;
    let rest = format!("http://{}", scheduler.rest_address());
    let report = demo::run(&client, &rest, &options).await.map_err(failed)?;
    if options.keep {
        println!("The cluster is up. Flight SQL: {url}   REST: {rest}   End it with Ctrl-C.");
        super::told_to_end().await?;
    }
    drop(client);
    cluster.shutdown().await?;
    Ok(ExitCode::from(report.exit_code()))
}

/// Those of the environment, but with free ports, little talk, and the resources that were asked for.
fn settings(options: &DemoOptions) -> Result<Settings> {
    let mut settings = config::load(&Common::default(), &Overrides::default(), &config::environment())?;
    settings.scheduler.flight_sql_port = 0;
    settings.scheduler.control_port = 0;
    settings.scheduler.rest_port = 0;
    settings.executor.slots = options.slots_per_executor().into();
    if std::env::var_os("SPRINGALD_TELEMETRY_LOG").is_none() {
        settings.telemetry.log = "error".to_owned();
    }
    if let Some(memory) = &options.memory {
        settings.executor.memory = memory.parse()?;
    }
    Ok(settings)
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorCode::Internal, error.to_string()).with_source(error)
}
