//! The state store of a cluster: etcd 3.4 or newer, below one prefix per cluster.
//!
//! Every call has a deadline within which it is tried again, so that a member that hangs is made up for by another. A
//! transaction whose answer was lost is tried again too: refused then, it has happened if what it would have written is
//! there.

mod connection;
mod failure;
mod keys;
mod members;
mod options;
#[cfg(test)]
mod tests;
mod watch;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use etcd_client::{Compare, CompareOp, DeleteOptions, GetOptions, PutOptions, Txn, TxnOp};
use springald_core::error::{Error, ErrorCode, Result};
use tokio::time::{Instant, sleep};

use self::connection::{Backoff, Connection, Repeat, header_revision};
use self::keys::{Keys, revision};
pub use self::options::{EtcdIdentity, EtcdOptions, EtcdTls};
use self::watch::Changes;
use super::{Change, Committed, Condition, Entry, LeaseId, StateStore, Transaction, Watch, limits};

/// A [`StateStore`] in etcd.
pub struct EtcdStore {
    connection: Arc<Connection>,
}

impl EtcdStore {
    /// Connects to etcd; waits for it until `options.connect_deadline`.
    ///
    /// # Errors
    /// [`ErrorCode::Unavailable`], naming the URLs, when etcd did not answer in time; [`ErrorCode::Invalid`] at once
    /// when the options, the TLS files or the user are wrong.
    pub async fn connect(options: EtcdOptions) -> Result<Self> {
        Ok(Self { connection: Arc::new(Connection::establish(&options).await?) })
    }
}

impl fmt::Debug for EtcdStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdStore")
            .field("endpoints", &self.connection.endpoints)
            .field("keys", &self.connection.keys)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl StateStore for EtcdStore {
    async fn get(&self, key: &str) -> Result<Option<Entry>> {
        let connection = &self.connection;
        let key = connection.keys.full(key).into_bytes();
        let mut answer = connection.range("reading", &key, &GetOptions::new(), connection.deadline()).await?;
        answer.take_kvs().into_iter().next().map(|found| connection.keys.entry(found)).transpose()
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Entry>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let (entries, _) = self.connection.list(prefix, after, limit).await?;
        Ok(entries)
    }

    /// Tried again also when it is not known whether it has happened: if it is refused then, what it would have written
    /// tells.
    async fn transact(&self, transaction: Transaction) -> Result<Committed> {
        limits::check(&transaction)?;
        let connection = &self.connection;
        let deadline = connection.deadline();
        let (mut may_have_happened, mut backoff) = (false, Backoff::new());
        loop {
            let until = deadline.min(Instant::now() + connection.attempt_timeout());
            let attempt = || {
                let (mut kv, txn) = (connection.kv(), to_txn(&connection.keys, &transaction));
                async move { kv.txn(txn).await }
            };
            match connection.call("writing", Repeat::IfNeverSent, until, attempt).await {
                Ok(answer) if answer.succeeded() => {
                    return Ok(Committed::Yes { revision: revision(header_revision(answer.header())?)? });
                }
                Ok(_) if may_have_happened => return self.happened(&transaction).await,
                Ok(_) => return Ok(Committed::Refused),
                Err(error) if !failure::may_pass(&error) || Instant::now() >= deadline => return Err(error),
                Err(_) => may_have_happened = true,
            }
            // A member without a leader answers at once: it is not asked as fast as it can answer.
            sleep(backoff.next()).await;
        }
    }

    async fn grant_lease(&self, ttl: Duration) -> Result<LeaseId> {
        let seconds = i64::try_from(limits::lease_seconds(ttl)).unwrap_or(i64::MAX);
        let attempt = || {
            let mut leases = self.connection.client.lease_client();
            async move { leases.grant(seconds, None).await }
        };
        // A lease that was granted twice and used once just runs out.
        let answer =
            self.connection.call("granting a lease on", Repeat::Always, self.connection.deadline(), attempt).await?;
        Ok(LeaseId(answer.id()))
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<()> {
        let attempt = || {
            let mut leases = self.connection.client.lease_client();
            async move { leases.keep_alive(lease.0).await }
        };
        self.connection.call("renewing a lease on", Repeat::Always, self.connection.deadline(), attempt).await?;
        Ok(())
    }

    async fn revoke_lease(&self, lease: LeaseId) -> Result<()> {
        let attempt = || {
            let mut leases = self.connection.client.lease_client();
            async move { leases.revoke(lease.0).await }
        };
        match self.connection.call("ending a lease on", Repeat::Always, self.connection.deadline(), attempt).await {
            Err(error) if error.code() != ErrorCode::Fenced => Err(error),
            _ => Ok(()),
        }
    }

    async fn watch(&self, prefix: &str) -> Result<Watch> {
        let (snapshot, at_revision) = self.connection.list(prefix, None, usize::MAX).await?;
        let next = i64::try_from(at_revision + 1).map_err(|_| Error::internal("etcd ran out of revisions"))?;
        let changes = Changes::open(Arc::clone(&self.connection), prefix, next).await?;
        Ok(Watch { snapshot, revision: at_revision, changes: changes.into_stream() })
    }
}

impl EtcdStore {
    /// Whether a transaction has happened whose answer was lost, and that is refused now.
    async fn happened(&self, transaction: &Transaction) -> Result<Committed> {
        let first = transaction.changes.iter().find_map(|change| match change {
            Change::Put { key, value, .. } => Some((key, value)),
            _ => None,
        });
        let Some((key, value)) = first else { return Ok(Committed::Refused) };
        Ok(match self.get(key).await? {
            Some(entry) if entry.value == *value => Committed::Yes { revision: entry.mod_revision },
            _ => Committed::Refused,
        })
    }
}

fn to_txn(keys: &Keys, transaction: &Transaction) -> Txn {
    let conditions: Vec<_> = transaction.conditions.iter().map(|condition| to_compare(keys, condition)).collect();
    let changes: Vec<_> = transaction.changes.iter().map(|change| to_operation(keys, change)).collect();
    Txn::new().when(conditions).and_then(changes)
}

fn to_compare(keys: &Keys, condition: &Condition) -> Compare {
    match condition {
        Condition::Unchanged { key, mod_revision } => {
            Compare::mod_revision(keys.full(key), CompareOp::Equal, comparable(*mod_revision))
        }
        Condition::Absent { key } => Compare::create_revision(keys.full(key), CompareOp::Equal, 0),
        Condition::Present { key } => Compare::create_revision(keys.full(key), CompareOp::Greater, 0),
    }
}

/// etcd gives an absent key revision 0; ours is a condition that no key meets, like one past etcd's numbers.
fn comparable(mod_revision: u64) -> i64 {
    match i64::try_from(mod_revision) {
        Ok(0) | Err(_) => i64::MAX,
        Ok(revision) => revision,
    }
}

fn to_operation(keys: &Keys, change: &Change) -> TxnOp {
    match change {
        Change::Put { key, value, lease } => {
            let options = lease.map(|lease| PutOptions::new().with_lease(lease.0));
            TxnOp::put(keys.full(key), value.as_ref(), options)
        }
        Change::Delete { key } => TxnOp::delete(keys.full(key), None),
        Change::DeletePrefix { prefix } => TxnOp::delete(keys.full(prefix), Some(DeleteOptions::new().with_prefix())),
    }
}
