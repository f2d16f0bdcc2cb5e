//! A store for tests, whose transactions meet with something before they are carried out.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use springald_core::error::Result;

use super::embedded::EmbeddedStore;
use super::{Committed, Entry, LeaseId, StateStore, Transaction, Watch};

type Before = Box<dyn Fn(&Transaction) -> BoxFuture<'static, Result<()>> + Send + Sync>;

/// The store `inner`, with something before each transaction.
pub(crate) struct Disturbed {
    inner: Arc<EmbeddedStore>,
    before: Before,
}

impl Disturbed {
    /// A transaction is carried out when `before` has succeeded; its error is the answer.
    pub(crate) fn new(
        inner: &Arc<EmbeddedStore>,
        before: impl Fn(&Transaction) -> BoxFuture<'static, Result<()>> + Send + Sync + 'static,
    ) -> Self {
        Self { inner: Arc::clone(inner), before: Box::new(before) }
    }
}

impl fmt::Debug for Disturbed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disturbed").field("inner", &self.inner).finish_non_exhaustive()
    }
}

#[async_trait]
impl StateStore for Disturbed {
    async fn get(&self, key: &str) -> Result<Option<Entry>> {
        self.inner.get(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Entry>> {
        self.inner.list(prefix, after, limit).await
    }

    async fn transact(&self, transaction: Transaction) -> Result<Committed> {
        (self.before)(&transaction).await?;
        self.inner.transact(transaction).await
    }

    async fn grant_lease(&self, ttl: Duration) -> Result<LeaseId> {
        self.inner.grant_lease(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<()> {
        self.inner.keep_alive(lease).await
    }

    async fn revoke_lease(&self, lease: LeaseId) -> Result<()> {
        self.inner.revoke_lease(lease).await
    }

    async fn watch(&self, prefix: &str) -> Result<Watch> {
        self.inner.watch(prefix).await
    }
}
