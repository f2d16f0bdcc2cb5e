//! `springald scheduler`.

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use springald_core::error::{Error, Result};
use springald_core::ids::SchedulerId;
use springald_core::object_stores;
use springald_core::telemetry::TelemetryServer;
use springald_scheduler::{Scheduler, SchedulerOptions, engine::Engine};

use crate::cli;
use crate::config::Overrides;

pub async fn run(options: cli::Scheduler) -> Result<ExitCode> {
    let id = SchedulerId::generate();
    let mut overrides = Overrides::default();
    overrides.common(&options.common);
    overrides.ports(&options.ports);
    overrides.store(&options.store);
    let Some(settings) = super::settings(&options.common, &overrides, "scheduler", id.as_str())? else {
        return Ok(ExitCode::SUCCESS);
    };

    let engine: Arc<OnceLock<Arc<Engine>>> = Arc::default();
    let asked = Arc::clone(&engine);
    let ready = move || asked.get().ok_or_else(|| Error::unavailable("starting")).and_then(|engine| engine.ready());
    let telemetry = TelemetryServer::start(&settings.telemetry, Arc::new(ready)).await?;
    let store = super::store::etcd(&settings.cluster).await?;
    let scheduler = Scheduler::start(SchedulerOptions {
        id,
        cluster: settings.cluster.name.parse()?,
        telemetry_address: telemetry.advertised(&settings.scheduler.advertise),
        store,
        object_stores: object_stores::registry(),
        settings,
    })
    .await?;
    let _ = engine.set(Arc::clone(scheduler.engine()));
    super::told_to_end().await?;
    scheduler.shutdown(super::SHUTDOWN_DEADLINE).await;
    Ok(ExitCode::SUCCESS)
}
