//! Who is there: every process keeps a record alive in the store through a lease, and watches those of others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use springald_core::error::{ErrorCode, Result};
use springald_core::ids::SchedulerId;
use springald_core::telemetry::events::names;
use springald_proto::records::SchedulerRecord;
use tokio::sync::{Notify, watch};
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
/// After a lease was lost, the leases of others are likely to have ended with it for so long.
const AFTERMATH: Duration = Duration::from_secs(4);

/// A process's place in the cluster: its record, and the lease that keeps it there.
#[derive(Clone)]
pub struct Membership {
    shared: Arc<Shared>,
}

struct Shared {
    ttl: Duration,
    held: Mutex<Held>,
    /// Somebody has heard that the lease has ended.
    doubted: Notify,
}

struct Held {
    lease: LeaseId,
    /// When it was renewed last.
    renewed: Instant,
    /// When it was renewed, or took the place of one that was lost, after the store had been out of reach for too long.
    regained: Option<Instant>,
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
        let renewed = clock::now();
        let lease = enter(store.as_ref(), &key, &record, ttl).await?;
        let held = Mutex::new(Held { lease, renewed, regained: None });
        let membership = Self { shared: Arc::new(Shared { ttl, held, doubted: Notify::new() }) };
        let kept = membership.clone();
        tracker.spawn(async move {
            shutdown.run_until_cancelled(kept.keep(store.as_ref(), &key, &record)).await;
            if let Err(error) = store.revoke_lease(kept.lease()).await {
                tracing::warn!(event = names::LEASE_REVOKE_FAILED, %error, "the lease could not be given back; it ends by itself");
            }
        });
        Ok(membership)
    }

    /// The lease that this process holds now.
    pub fn lease(&self) -> LeaseId {
        self.shared.held.lock().lease
    }

    /// The store has said that the lease has ended: it is looked at now, and not only when it is to be renewed.
    pub fn doubt(&self) {
        self.shared.doubted.notify_one();
    }

    /// True if the store was out of reach for longer than a lease lives, until a moment ago: then the leases of others
    /// have ended too, though they are there.
    pub fn was_away(&self) -> bool {
        let (held, now) = (self.shared.held.lock(), clock::now());
        now.saturating_duration_since(held.renewed) > self.shared.ttl
            || held.regained.is_some_and(|at| now.saturating_duration_since(at) < AFTERMATH)
    }

    async fn keep(&self, store: &dyn StateStore, key: &str, record: &Bytes) {
        loop {
            tokio::select! {
                () = clock::sleep(self.shared.ttl / RENEWALS_PER_TTL) => {}
                () = self.shared.doubted.notified() => {}
            }
            while let Err(error) = self.renew(store, key, record).await {
                tracing::warn!(event = names::LEASE_RENEWAL_FAILED, %error, "the lease could not be renewed");
                clock::sleep(PAUSE_AFTER_FAILURE).await;
            }
        }
    }

    /// Renews the lease, or takes a new one in place of one that has ended.
    async fn renew(&self, store: &dyn StateStore, key: &str, record: &Bytes) -> Result<()> {
        let renewed = clock::now();
        match store.keep_alive(self.lease()).await {
            Ok(()) => {
                let mut held = self.shared.held.lock();
                if renewed.saturating_duration_since(held.renewed) > self.shared.ttl {
                    held.regained = Some(renewed);
                }
                held.renewed = renewed;
            }
            Err(error) if error.code() == ErrorCode::Fenced => {
                metrics::leases_lost_total().inc();
                tracing::warn!(event = names::LEASE_LOST, "the lease was lost; joining again");
                let lease = enter(store, key, record, self.shared.ttl).await?;
                *self.shared.held.lock() = Held { lease, renewed, regained: Some(clock::now()) };
                tracing::info!(event = names::LEASE_REJOINED, "joined again");
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

async fn enter(store: &dyn StateStore, key: &str, record: &Bytes, ttl: Duration) -> Result<LeaseId> {
    let lease = store.grant_lease(ttl).await?;
    let put = Change::Put { key: key.to_owned(), value: record.clone(), lease: Some(lease) };
    store.transact(Transaction { conditions: vec![], changes: vec![put] }).await?;
    Ok(lease)
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
        Update::Snapshot { entries, .. } => {
            sender.send_replace(entries.iter().filter_map(read).collect());
        }
        Update::Event(WatchEvent::Put(entry)) => {
            if let Some((id, address)) = read(&entry) {
                sender.send_modify(|all| {
                    all.insert(id, address);
                });
            }
        }
        Update::Event(WatchEvent::Deleted { key, .. }) => {
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
