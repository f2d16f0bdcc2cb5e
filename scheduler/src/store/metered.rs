//! A store that tells of another one: how long it takes, what fails, and when it is away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use springald_core::error::{Error, ErrorCode, Result};
use springald_core::telemetry::events::names;

use super::{Committed, Entry, LeaseId, StateStore, Transaction, Watch};
use crate::metrics::springald_store as metrics;

/// The store `inner`, observed.
#[derive(Debug)]
pub struct Metered {
    inner: Arc<dyn StateStore>,
    /// Since when it does not answer.
    away: Mutex<Option<Instant>>,
}

impl Metered {
    /// Observes a store.
    pub fn new(inner: Arc<dyn StateStore>) -> Self {
        metrics::available().set(1);
        Self { inner, away: Mutex::new(None) }
    }

    async fn observe<T>(&self, operation: &'static str, call: impl Future<Output = Result<T>>) -> Result<T> {
        let started = Instant::now();
        let answer = call.await;
        match &answer {
            Ok(_) => {
                metrics::call_seconds(operation).observe(started.elapsed().as_secs_f64());
                self.answered(operation);
            }
            Err(error) => {
                metrics::call_errors_total(operation, error.code().as_str()).inc();
                match error.code() {
                    ErrorCode::Unavailable | ErrorCode::DeadlineExceeded => self.did_not_answer(operation, error),
                    // Refused, but it was there.
                    _ => self.answered(operation),
                }
            }
        }
        answer
    }

    fn answered(&self, operation: &'static str) {
        let Some(since) = self.away.lock().take() else { return };
        metrics::available().set(1);
        let millis = since.elapsed().as_millis() as u64;
        tracing::info!(event = names::STORE_RECOVERED, operation, millis, "the state store answers again");
    }

    fn did_not_answer(&self, operation: &'static str, error: &Error) {
        {
            let mut away = self.away.lock();
            if away.is_some() {
                return;
            }
            *away = Some(Instant::now());
        }
        metrics::available().set(0);
        tracing::warn!(event = names::STORE_UNAVAILABLE, operation, %error, "the state store does not answer");
    }
}

#[async_trait]
impl StateStore for Metered {
    async fn get(&self, key: &str) -> Result<Option<Entry>> {
        self.observe("get", self.inner.get(key)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Entry>> {
        self.observe("list", self.inner.list(prefix, after, limit)).await
    }

    async fn transact(&self, transaction: Transaction) -> Result<Committed> {
        self.observe("transact", self.inner.transact(transaction)).await
    }

    async fn grant_lease(&self, ttl: Duration) -> Result<LeaseId> {
        let granted = self.observe("grant_lease", self.inner.grant_lease(ttl)).await;
        if granted.is_ok() {
            metrics::leases_granted_total().inc();
        }
        granted
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<()> {
        self.observe("keep_alive", self.inner.keep_alive(lease)).await
    }

    async fn revoke_lease(&self, lease: LeaseId) -> Result<()> {
        self.observe("revoke_lease", self.inner.revoke_lease(lease)).await
    }

    async fn watch(&self, prefix: &str) -> Result<Watch> {
        self.observe("watch", self.inner.watch(prefix)).await
    }
}
