//! The state store of a single process: redb, in memory or in one file.
//!
//! ```text
//! transact ─┐                         ┌─▶ Database   (redb; durable when the call returns)
//! grant    ─┼─▶ writer lock ──▶ Writer┼─▶ Leases     (which leases live; monotonic clock)
//! expiry   ─┘                         └─▶ Watchers   (committed changes, in the order of revisions)
//! get, list ─────────────────────────────▶ Database  (snapshot reads, beside the writer)
//! ```
//!
//! Everything that changes goes through the writer lock, one at a time: that is what makes a watch's snapshot and its
//! changes meet without a gap, and what keeps a lease from ending in the middle of a transaction that uses it.
//! In memory the calls are short and run where they are made; with a file they run on blocking threads.

mod database;
mod leases;
#[cfg(test)]
mod tests;
mod watchers;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use springald_core::error::{Error, ErrorCode, Result};
use springald_core::telemetry::events::names;
use tokio::sync::{Mutex, Notify, OwnedMutexGuard};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::task::AbortOnDropHandle;

use self::database::{Database, Outcome};
use self::leases::Leases;
use self::watchers::Watchers;
use super::{Committed, Entry, LeaseId, StateStore, Transaction, Watch, limits};

/// Name of the state store's file in a data directory.
pub const FILE_NAME: &str = "state.redb";

/// How long a call may wait for the writers before it and for the disk.
const CALL_DEADLINE: Duration = Duration::from_secs(30);

/// Pause after the keys of an ended lease could not be removed.
const EXPIRY_RETRY: Duration = Duration::from_secs(1);

/// A [`StateStore`] inside this process. Must be opened within a tokio runtime; closes when it is dropped and the work
/// that it is in the middle of has ended.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    /// Removes the keys of ended leases, for as long as the store is open.
    _expiry: AbortOnDropHandle<()>,
}

struct Shared {
    database: Database,
    writer: Arc<Mutex<Writer>>,
    /// Wakes the expiry task: a new lease may end before those it knows.
    granted: Arc<Notify>,
}

/// What may be touched only by the one who holds the writer lock.
#[derive(Default)]
struct Writer {
    leases: Leases,
    watchers: Watchers,
}

impl EmbeddedStore {
    /// An empty store that is gone when it is dropped.
    pub fn in_memory() -> Result<Self> {
        Ok(Self::over(Database::in_memory()?))
    }

    /// The store in `path`, a file (see [`FILE_NAME`]) that is created if it is missing, with its directory. Keys that
    /// were attached to leases are removed: the process that held them is gone.
    ///
    /// # Errors
    /// Name the file; [`ErrorCode::Unavailable`] when another process has it open.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self::over(Database::open(path)?))
    }

    fn over(database: Database) -> Self {
        let granted = Arc::new(Notify::new());
        let shared = Arc::new(Shared { database, writer: Arc::default(), granted: Arc::clone(&granted) });
        let expiry = tokio::spawn(expire_leases(Arc::downgrade(&shared), granted));
        Self { shared, _expiry: AbortOnDropHandle::new(expiry) }
    }
}

impl fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedStore").field("file", &self.shared.database.file()).finish_non_exhaustive()
    }
}

#[async_trait]
impl StateStore for EmbeddedStore {
    async fn get(&self, key: &str) -> Result<Option<Entry>> {
        let key = key.to_owned();
        self.shared.read(move |database| database.get(&key)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Entry>> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        self.shared.read(move |database| database.list(&prefix, after.as_deref(), limit)).await
    }

    async fn transact(&self, transaction: Transaction) -> Result<Committed> {
        limits::check(&transaction)?;
        let write = move |database: &Database, writer: &mut Writer| {
            let now = Instant::now();
            match database.transact(&transaction, |lease| writer.leases.is_live(lease, now))? {
                Outcome::Refused => Ok(Committed::Refused),
                Outcome::LeaseEnded(lease) => Err(lease_ended(lease)),
                Outcome::Committed { revision, events } => {
                    writer.watchers.publish(&events);
                    Ok(Committed::Yes { revision })
                }
            }
        };
        self.shared.write(write).await
    }

    async fn grant_lease(&self, ttl: Duration) -> Result<LeaseId> {
        let ttl = Duration::from_secs(limits::lease_seconds(ttl));
        let lease = new_lease();
        self.shared.lock().await?.leases.grant(lease, ttl, Instant::now());
        self.shared.granted.notify_one();
        Ok(lease)
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<()> {
        let renewed = self.shared.lock().await?.leases.renew(lease, Instant::now());
        if renewed { Ok(()) } else { Err(lease_ended(lease)) }
    }

    async fn revoke_lease(&self, lease: LeaseId) -> Result<()> {
        self.shared.write(move |database, writer| writer.end(database, lease)).await
    }

    async fn watch(&self, prefix: &str) -> Result<Watch> {
        let prefix = prefix.to_owned();
        let begin = move |database: &Database, writer: &mut Writer| {
            let snapshot = database.list(&prefix, None, usize::MAX)?;
            let revision = database.revision()?;
            Ok(Watch { snapshot, revision, changes: writer.watchers.open(&prefix) })
        };
        self.shared.write(begin).await
    }
}

// === impl Shared ===

impl Shared {
    /// Runs `work` on the database, beside whoever writes.
    async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Database) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if self.database.file().is_none() {
            return work(&self.database);
        }
        let shared = Arc::clone(self);
        blocking(move || work(&shared.database)).await
    }

    /// Runs `work` as the only writer. It runs to its end even if the caller stops waiting.
    async fn write<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Database, &mut Writer) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let mut writer = self.lock().await?;
        if self.database.file().is_none() {
            return work(&self.database, &mut writer);
        }
        let shared = Arc::clone(self);
        blocking(move || work(&shared.database, &mut writer)).await
    }

    async fn lock(&self) -> Result<OwnedMutexGuard<Writer>> {
        let locked = timeout(CALL_DEADLINE, Arc::clone(&self.writer).lock_owned()).await;
        locked.map_err(|_| too_slow())
    }

    /// Ends all leases whose time is over.
    async fn end_leases(self: &Arc<Self>) -> Result<()> {
        let end = |database: &Database, writer: &mut Writer| {
            let ended = writer.leases.ended(Instant::now());
            ended.into_iter().try_for_each(|lease| writer.end(database, lease))
        };
        self.write(end).await
    }
}

impl Writer {
    /// Removes a lease and its keys. On an error the lease stays, ended, and is tried again.
    fn end(&mut self, database: &Database, lease: LeaseId) -> Result<()> {
        if let Outcome::Committed { events, .. } = database.remove_attached(lease)? {
            self.watchers.publish(&events);
        }
        self.leases.forget(lease);
        Ok(())
    }
}

/// Ends leases when their time is over. Holds the store only while it works, so that dropping the store closes it.
async fn expire_leases(store: Weak<Shared>, granted: Arc<Notify>) {
    loop {
        let Some(writer) = store.upgrade().map(|shared| Arc::clone(&shared.writer)) else { return };
        let next = writer.lock().await.leases.next_end();
        drop(writer);
        match next {
            None => granted.notified().await,
            Some(end) => tokio::select! {
                () = sleep_until(end) => {}
                () = granted.notified() => {}
            },
        }
        let Some(shared) = store.upgrade() else { return };
        let ended = shared.end_leases().await;
        drop(shared);
        if let Err(error) = ended {
            tracing::warn!(event = names::STORE_LEASE_KEYS_KEPT, %error, "the keys of an ended lease could not be removed yet");
            sleep(EXPIRY_RETRY).await;
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match timeout(CALL_DEADLINE, spawn_blocking(work)).await {
        Ok(Ok(result)) => result,
        Ok(Err(stopped)) => Err(Error::internal("a call to the state store did not finish").with_source(stopped)),
        Err(_) => Err(too_slow()),
    }
}

/// A new id. Random, so that a lease of an earlier process is never taken for one of this.
fn new_lease() -> LeaseId {
    let (high, _) = uuid::Uuid::new_v4().as_u64_pair();
    LeaseId((high >> 1).max(1).cast_signed())
}

fn lease_ended(lease: LeaseId) -> Error {
    Error::new(ErrorCode::Fenced, format!("the lease {} has ended", lease.0))
}

fn too_slow() -> Error {
    Error::unavailable(format!("the state store did not answer within {} s", CALL_DEADLINE.as_secs()))
}
