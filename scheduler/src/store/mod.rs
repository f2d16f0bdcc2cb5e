//! The state store: everything that must outlive a process.
//!
//! One trait, [`StateStore`], with the few operations that fencing needs: ordered keys, transactions conditioned on
//! modification revisions, leases, and watches. Two implementations pass the same conformance suite:
//! [`EmbeddedStore`](embedded::EmbeddedStore) (one process, no server) and [`EtcdStore`](etcd::EtcdStore) (clusters).
//!
//! The store knows nothing of jobs: the typed records on top of it are in `records`.

#[cfg(test)]
pub(crate) mod conformance;
#[cfg(test)]
pub(crate) mod disturbed;
pub mod embedded;
pub mod etcd;
pub(crate) mod limits;
pub mod metered;
#[cfg(test)]
mod test_etcd;

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use springald_core::error::Result;

pub use self::limits::{MAX_OPERATIONS, MAX_TRANSACTION_BYTES};

/// A key with its value and the revision of its last change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Full key, below the store's own prefix: `jobs/0192…/record`.
    pub key: String,
    /// Opaque bytes.
    pub value: Bytes,
    /// Revision of the transaction that wrote it last. Revisions only grow, over the whole store.
    pub mod_revision: u64,
}

/// A lease: keys attached to it vanish when it is not kept alive for its time to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseId(pub i64);

/// What must hold for a transaction to be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The key exists and was last changed by exactly this revision.
    Unchanged {
        /// The key.
        key: String,
        /// The revision it must have.
        mod_revision: u64,
    },
    /// The key does not exist.
    Absent {
        /// The key.
        key: String,
    },
    /// The key exists, whatever its value.
    Present {
        /// The key.
        key: String,
    },
}

/// A change made by a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Writes a key, and attaches it to the lease if there is one (detaches it otherwise).
    Put {
        /// The key.
        key: String,
        /// Its new value.
        value: Bytes,
        /// The lease whose end removes the key.
        lease: Option<LeaseId>,
    },
    /// Removes a key; no error if it does not exist.
    Delete {
        /// The key.
        key: String,
    },
    /// Removes all keys that start with the prefix.
    DeletePrefix {
        /// The prefix; never empty.
        prefix: String,
    },
}

/// All conditions hold and all changes happen, or nothing does.
///
/// At most [`MAX_OPERATIONS`] conditions and as many changes, with [`MAX_TRANSACTION_BYTES`] of keys and values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// Checked first, all of them.
    pub conditions: Vec<Condition>,
    /// Applied together, under one revision. No key may be changed twice.
    pub changes: Vec<Change>,
}

/// The outcome of a [`Transaction`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// The changes are durable, under this revision.
    Yes {
        /// The new modification revision of every key that was put.
        revision: u64,
    },
    /// A condition did not hold; nothing was changed.
    Refused,
}

/// A change seen by a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// A key was written.
    Put(Entry),
    /// A key was removed, by a transaction or because its lease ended.
    Deleted {
        /// The key.
        key: String,
        /// The revision of the removal.
        revision: u64,
    },
}

/// What a watch starts from, and what comes after it, without a gap between the two.
pub struct Watch {
    /// All keys below the prefix when the watch began, in key order.
    pub snapshot: Vec<Entry>,
    /// The store's revision when the watch began: `snapshot` holds all changes up to it, and `changes` all later ones.
    pub revision: u64,
    /// Every later change, in order. Ends with an error item when the watch cannot go on (compaction, a lost
    /// connection that did not come back, a reader that is too slow): the caller watches anew.
    pub changes: BoxStream<'static, Result<WatchEvent>>,
}

/// Durable, ordered key-value state with transactions, leases and watches.
///
/// Every call has a deadline of its own (a setting) and answers with [`ErrorCode::Unavailable`] past it; callers need
/// no time-out around it. Keys are plain text below the prefix the store was opened with.
///
/// [`ErrorCode::Unavailable`]: springald_core::error::ErrorCode::Unavailable
#[async_trait]
pub trait StateStore: Debug + Send + Sync + 'static {
    /// The entry at `key`, or `None`. Linearizable: it sees every transaction that was acknowledged before.
    async fn get(&self, key: &str) -> Result<Option<Entry>>;

    /// Entries whose keys start with `prefix` and sort after `after`, in key order, at most `limit`.
    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Entry>>;

    /// Carries out a transaction. An error means that it is *unknown* whether it happened; `Refused` means it did not.
    async fn transact(&self, transaction: Transaction) -> Result<Committed>;

    /// A new lease. It ends `ttl` after the last [`keep_alive`](Self::keep_alive). Whole seconds, rounded up.
    async fn grant_lease(&self, ttl: Duration) -> Result<LeaseId>;

    /// Renews a lease. [`ErrorCode::Fenced`](springald_core::error::ErrorCode::Fenced) when it has ended.
    async fn keep_alive(&self, lease: LeaseId) -> Result<()>;

    /// Ends a lease now; its keys are removed. No error if it has ended already.
    async fn revoke_lease(&self, lease: LeaseId) -> Result<()>;

    /// Watches all keys below `prefix`.
    async fn watch(&self, prefix: &str) -> Result<Watch>;
}
