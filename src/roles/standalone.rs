//! `springald standalone`: all roles in one process. They talk to each other over loopback, as they do in a cluster.

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use springald_core::error::{Error, Result};
use springald_core::ids::{ExecutorId, SchedulerId};
use springald_core::object_stores;
use springald_core::settings::Settings;
use springald_core::telemetry::TelemetryServer;
use springald_scheduler::{Scheduler, SchedulerOptions, engine::Engine};

use super::executor::Member;
use crate::cli;
use crate::config::Overrides;

pub async fn run(options: cli::Standalone) -> Result<ExitCode> {
    let mut overrides = Overrides::default();
    overrides.common(&options.common);
    overrides.ports(&options.ports);
    overrides.resources(&options.resources);
    overrides.add("cluster", "data_dir", options.data_dir.as_ref().map(|path| path.display()));
    let Some(settings) = super::settings(&options.common, &overrides, "standalone", SchedulerId::generate().as_str())?
    else {
        return Ok(ExitCode::SUCCESS);
    };
    let engine: Arc<OnceLock<Arc<Engine>>> = Arc::default();
    let asked = Arc::clone(&engine);
    let ready = move || asked.get().ok_or_else(|| Error::unavailable("starting")).and_then(|engine| engine.ready());
    let telemetry = TelemetryServer::start(&settings.telemetry, Arc::new(ready)).await?;
    let telemetry_address = telemetry.advertised(&settings.scheduler.advertise);
    let cluster = EmbeddedCluster::start(settings, options.executors, telemetry_address).await?;
    let _ = engine.set(Arc::clone(cluster.scheduler().engine()));
    // Beside the events, which may be on standard output.
    eprintln!("Flight SQL: grpc://{}", cluster.scheduler().flight_sql_address());
    eprintln!("REST:       http://{}", cluster.scheduler().rest_address());
    super::told_to_end().await?;
    cluster.shutdown().await?;
    Ok(ExitCode::SUCCESS)
}

/// A scheduler and executors in this process, over the embedded store.
pub struct EmbeddedCluster {
    scheduler: Scheduler,
    executors: Vec<Member>,
}

impl EmbeddedCluster {
    /// Starts them. The executors take free ports, and each has the memory and slots that the settings say.
    /// `telemetry_address` is where the process's metrics are, host:port; empty: it has none.
    pub async fn start(settings: Settings, executors: u32, telemetry_address: String) -> Result<Self> {
        let store = super::store::embedded(&settings.cluster)?;
        let scheduler = Scheduler::start(SchedulerOptions {
            id: SchedulerId::generate(),
            cluster: settings.cluster.name.parse()?,
            telemetry_address: telemetry_address.clone(),
            store: Arc::clone(&store),
            object_stores: object_stores::registry(),
            settings: settings.clone(),
        })
        .await?;
        let mut own = settings;
        own.executor.exchange_port = 0;
        let mut members = Vec::new();
        for _ in 0..executors {
            members.push(
                Member::start(ExecutorId::generate(), &own, Arc::clone(&store), telemetry_address.clone()).await?,
            );
        }
        Ok(Self { scheduler, executors: members })
    }

    /// The scheduler.
    pub fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }

    /// Ends all of it.
    pub async fn shutdown(self) -> Result<()> {
        for executor in self.executors {
            executor.shutdown().await?;
        }
        self.scheduler.shutdown(super::SHUTDOWN_DEADLINE).await;
        Ok(())
    }
}
