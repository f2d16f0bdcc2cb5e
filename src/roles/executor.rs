//! `springald executor`.

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use springald_core::error::{Error, Result};
use springald_core::ids::ExecutorId;
use springald_core::object_stores;
use springald_core::settings::Settings;
use springald_core::telemetry::TelemetryServer;
use springald_executor::{Executor, ExecutorOptions};
use springald_proto::records::ExecutorRecord;
use springald_scheduler::membership::{Membership, watch_schedulers};
use springald_scheduler::records;
use springald_scheduler::store::StateStore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::cli;
use crate::config::Overrides;

pub async fn run(options: cli::Executor) -> Result<ExitCode> {
    let id = ExecutorId::generate();
    let mut overrides = Overrides::default();
    overrides.common(&options.common);
    overrides.resources(&options.resources);
    overrides.store(&options.store);
    overrides.add("executor", "exchange_port", options.exchange_port);
    let Some(settings) = super::settings(&options.common, &overrides, "executor", id.as_str())? else {
        return Ok(ExitCode::SUCCESS);
    };

    let joined: Arc<OnceLock<Readiness>> = Arc::default();
    let asked = Arc::clone(&joined);
    let ready = move || asked.get().ok_or_else(not_joined).and_then(Readiness::check);
    let telemetry = TelemetryServer::start(&settings.telemetry, Arc::new(ready)).await?;
    let store = super::store::etcd(&settings.cluster).await?;
    let member = Member::start(id, &settings, store, telemetry.advertised(&settings.executor.advertise)).await?;
    let _ = joined.set(member.readiness());
    tokio::select! {
        told = super::told_to_end() => told?,
        () = member.executor.asked_to_drain() => {}
    }
    tokio::select! {
        () = member.executor.drain(settings.executor.drain_deadline.0) => {}
        // Told twice: now.
        told = super::told_to_end() => told?,
    }
    member.shutdown().await?;
    Ok(ExitCode::SUCCESS)
}

fn not_joined() -> Error {
    Error::unavailable("not in the cluster yet: waiting for etcd")
}

/// Tells whether an executor is in the cluster and takes tasks.
struct Readiness {
    executor: springald_executor::Readiness,
    membership: Membership,
}

impl Readiness {
    fn check(&self) -> Result<()> {
        self.executor.check()?;
        if self.membership.was_away() {
            return Err(Error::unavailable("etcd was out of reach for longer than a lease lives (cluster.lease_ttl)"));
        }
        Ok(())
    }
}

/// An executor with its place in the cluster.
pub struct Member {
    executor: Executor,
    membership: Membership,
    tracker: TaskTracker,
    leave: CancellationToken,
    _schedulers: AbortOnDropHandle<()>,
}

impl Member {
    /// Starts an executor that follows the schedulers in the store and keeps its own record there.
    pub async fn start(
        id: ExecutorId,
        settings: &Settings,
        store: Arc<dyn StateStore>,
        telemetry_address: String,
    ) -> Result<Self> {
        let (schedulers, watching) = watch_schedulers(Arc::clone(&store)).await?;
        let executor = Executor::start(ExecutorOptions {
            cluster: settings.cluster.name.parse()?,
            id: id.clone(),
            settings: settings.executor.clone(),
            schedulers,
            object_stores: object_stores::registry(),
            lease_ttl: settings.cluster.lease_ttl.0,
        })
        .await?;
        let record = ExecutorRecord {
            executor_id: id.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            exchange_address: executor.advertised_address().to_owned(),
            telemetry_address,
            slots: executor.slots(),
            memory_bytes: executor.memory().0,
            started_micros: records::now_micros(),
            ..ExecutorRecord::default()
        };
        let (tracker, leave) = (TaskTracker::new(), CancellationToken::new());
        let membership = Membership::join(
            store,
            records::executor_key(&id),
            records::encode(&record),
            settings.cluster.lease_ttl.0,
            &tracker,
            leave.clone(),
        )
        .await?;
        Ok(Self { executor, membership, tracker, leave, _schedulers: watching })
    }

    /// Tells whether it takes tasks, now and whenever it is asked later.
    fn readiness(&self) -> Readiness {
        Readiness { executor: self.executor.readiness(), membership: self.membership.clone() }
    }

    /// Leaves the cluster and ends the executor.
    pub async fn shutdown(self) -> Result<()> {
        self.executor.shutdown(super::SHUTDOWN_DEADLINE).await;
        self.leave.cancel();
        self.tracker.close();
        self.tracker.wait().await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn given_a_member_of_a_cluster_without_schedulers_when_asked_then_not_ready_and_it_says_what_is_missing() {
        let mut settings = Settings::default();
        settings.executor.exchange_port = 0;
        let store = crate::roles::store::embedded(&settings.cluster).expect("a store in memory");
        let member = Member::start(ExecutorId::generate(), &settings, store, String::new()).await.expect("it starts");
        let error = member.readiness().check().expect_err("there is nobody to take tasks from");
        assert!(error.to_string().contains("no control stream to a scheduler"), "{error}");
        member.shutdown().await.expect("it ends");
    }
}
