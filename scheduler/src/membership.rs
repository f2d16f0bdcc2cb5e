//! Who is there: every process keeps a record alive in the store through a lease, and watches those of others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use springald_core::error::{ErrorCode, Result};
use springald_core::ids::SchedulerId;
use springald_core::telemetry::events::names;
use springald_proto::records::SchedulerRecord;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::clock;
use crate::follow::{Update, follow};
use crate::metrics::springald_store as metrics;
use crate::records;
use crate::store::{Change, Entry, LeaseId, StateStore, Transaction, WatchEvent};

/// A lease is renewed this many times within its time to live, so that one lost message does not end it.
const RENEWALS_PER_TTL: u32 = 3;
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(250);

/// A process's place in the cluster: its record, and the lease that keeps it there.
#[derive(Clone)]
pub struct Membership {
    lease: watch::Receiver<LeaseId>,
}

impl Membership {
    /// Writes `record` under `key` and keeps it alive on `tracker` until `shutdown`, when it is removed at once. If
    /// the lease is lost it is taken again with a new one. Fails if the store does not take it the first time.
    pub async fn join(
        store: Arc<dyn StateStore>,
        key: String,
        record: Bytes,
        ttl: Duration,
        tracker: &TaskTracker,
        shutdown: CancellationToken,
    ) -> Result<Self> {
        let first = enter(store.as_ref(), &key, &record, ttl).await?;
        let (sender, lease) = watch::channel(first);
        tracker.spawn(async move {
            shutdown.run_until_cancelled(keep(store.as_ref(), &key, &record, ttl, &sender)).await;
            let last = *sender.borrow();
            if let Err(error) = store.revoke_lease(last).await {
                tracing::warn!(event = names::LEASE_REVOKE_FAILED, %error, "the lease could not be given back; it ends by itself");
            }
        });
        Ok(Self { lease })
    }

    /// The lease that this process holds now.
    pub fn lease(&self) -> LeaseId {
        *self.lease.borrow()
    }
}

async fn enter(store: &dyn StateStore, key: &str, record: &Bytes, ttl: Duration) -> Result<LeaseId> {
    let lease = store.grant_lease(ttl).await?;
    let put = Change::Put { key: key.to_owned(), value: record.clone(), lease: Some(lease) };
    store.transact(Transaction { conditions: vec![], changes: vec![put] }).await?;
    Ok(lease)
}

async fn keep(store: &dyn StateStore, key: &str, record: &Bytes, ttl: Duration, lease: &watch::Sender<LeaseId>) {
    loop {
        clock::sleep(ttl / RENEWALS_PER_TTL).await;
        let current = *lease.borrow();
        match store.keep_alive(current).await {
            Ok(()) => {}
            Err(error) if error.code() == ErrorCode::Fenced => {
                metrics::leases_lost_total().inc();
                tracing::warn!(event = names::LEASE_LOST, "the lease was lost; joining again");
                match enter(store, key, record, ttl).await {
                    Ok(fresh) => {
                        lease.send_replace(fresh);
                        tracing::info!(event = names::LEASE_REJOINED, "joined again");
                    }
                    Err(error) => tracing::warn!(event = names::LEASE_REJOIN_FAILED, %error, "could not join again"),
                }
            }
            Err(error) => {
                tracing::warn!(event = names::LEASE_RENEWAL_FAILED, %error, "the lease could not be renewed");
                clock::sleep(PAUSE_AFTER_FAILURE).await;
            }
        }
    }
}

/// An address (host:port) of every live scheduler, kept up to date while the handle lives.
pub type Schedulers = watch::Receiver<BTreeMap<SchedulerId, String>>;

/// Watches the control services of the schedulers. Fails if the first look does.
pub async fn watch_schedulers(store: Arc<dyn StateStore>) -> Result<(Schedulers, AbortOnDropHandle<()>)> {
    watch_addresses(store, |record| Some(record.control_address)).await
}

/// Watches where clients may be sent: Flight SQL of the schedulers whose operator has set an address. Fails if the first
/// look does.
pub async fn watch_advertised(store: Arc<dyn StateStore>) -> Result<(Schedulers, AbortOnDropHandle<()>)> {
    watch_addresses(store, |record| record.advertised.then_some(record.flight_sql_address)).await
}

async fn watch_addresses(
    store: Arc<dyn StateStore>,
    address: fn(SchedulerRecord) -> Option<String>,
) -> Result<(Schedulers, AbortOnDropHandle<()>)> {
    let (sender, receiver) = watch::channel(BTreeMap::new());
    let read = move |entry: &Entry| {
        let record: SchedulerRecord = records::decode(entry)
            .inspect_err(|error| tracing::warn!(event = names::SCHEDULER_RECORD_DAMAGED, %error, "a scheduler's record is left out"))
            .ok()?;
        Some((record.scheduler_id.parse().ok()?, address(record)?))
    };
    let handle = follow(store, records::SCHEDULERS, move |update| match update {
        Update::Snapshot(entries) => {
            sender.send_replace(entries.iter().filter_map(read).collect());
        }
        Update::Event(WatchEvent::Put(entry)) => {
            if let Some((id, address)) = read(&entry) {
                sender.send_modify(|all| {
                    all.insert(id, address);
                });
            }
        }
        Update::Event(WatchEvent::Deleted { key }) => {
            let id = key.strip_prefix(records::SCHEDULERS).and_then(|id| id.parse::<SchedulerId>().ok());
            if let Some(id) = id {
                sender.send_modify(|all| {
                    all.remove(&id);
                });
            }
        }
        // What was last known is still the best guess: streams that are open stay open.
        Update::Lost => {}
    })
    .await?;
    Ok((receiver, handle))
}
