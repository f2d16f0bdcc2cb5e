//! What the simulated store holds: keys with revisions, and leases. A plain value; time comes in with each call.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use springald_core::error::{Error, ErrorCode, Result};

use crate::store::{Change, Committed, Condition, Entry, LeaseId, Transaction, WatchEvent};

/// Keys and leases.
#[derive(Debug, Default)]
pub(super) struct Kv {
    revision: u64,
    keys: BTreeMap<String, Value>,
    leases: BTreeMap<i64, Lease>,
    next_lease: i64,
}

#[derive(Debug)]
struct Value {
    bytes: Bytes,
    revision: u64,
    lease: Option<i64>,
}

/// Times in microseconds.
#[derive(Debug)]
struct Lease {
    ttl: u64,
    end: u64,
}

impl Kv {
    /// The revision of the last change.
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn get(&self, key: &str) -> Option<Entry> {
        self.keys.get(key).map(|value| entry(key, value))
    }

    pub(super) fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<Entry> {
        let start = after.filter(|after| *after >= prefix).unwrap_or(prefix);
        let start = (Bound::Included(start), Bound::Unbounded);
        let below = self.keys.range::<str, _>(start).take_while(|(key, _)| key.starts_with(prefix));
        let wanted = below.filter(|(key, _)| after.is_none_or(|after| key.as_str() > after));
        wanted.take(limit).map(|(key, value)| entry(key, value)).collect()
    }

    /// Carries out a transaction; also gives what watches see of it.
    pub(super) fn transact(&mut self, transaction: &Transaction, now: u64) -> Result<(Committed, Vec<WatchEvent>)> {
        if !transaction.conditions.iter().all(|condition| self.holds(condition)) {
            return Ok((Committed::Refused, vec![]));
        }
        for change in &transaction.changes {
            if let Change::Put { lease: Some(lease), .. } = change {
                self.live(*lease, now)?;
            }
        }
        self.revision += 1;
        let events: Vec<WatchEvent> = transaction.changes.iter().flat_map(|change| self.change(change)).collect();
        if events.is_empty() {
            // As in etcd, what changes nothing has no revision of its own.
            self.revision -= 1;
        }
        Ok((Committed::Yes { revision: self.revision }, events))
    }

    fn holds(&self, condition: &Condition) -> bool {
        match condition {
            Condition::Unchanged { key, mod_revision } => {
                self.keys.get(key).is_some_and(|value| value.revision == *mod_revision)
            }
            Condition::Absent { key } => !self.keys.contains_key(key),
            Condition::Present { key } => self.keys.contains_key(key),
        }
    }

    fn change(&mut self, change: &Change) -> Vec<WatchEvent> {
        match change {
            Change::Put { key, value, lease } => {
                let value = Value { bytes: value.clone(), revision: self.revision, lease: lease.map(|lease| lease.0) };
                let event = WatchEvent::Put(entry(key, &value));
                self.keys.insert(key.clone(), value);
                vec![event]
            }
            Change::Delete { key } => self.remove(std::slice::from_ref(key)),
            Change::DeletePrefix { prefix } => {
                let start = (Bound::Included(prefix.as_str()), Bound::Unbounded);
                let below = self.keys.range::<str, _>(start).map(|(key, _)| key);
                let below: Vec<String> = below.take_while(|key| key.starts_with(prefix)).cloned().collect();
                self.remove(&below)
            }
        }
    }

    fn remove(&mut self, keys: &[String]) -> Vec<WatchEvent> {
        let revision = self.revision;
        let there = keys.iter().filter(|key| self.keys.remove(*key).is_some());
        there.map(|key| WatchEvent::Deleted { key: key.clone(), revision }).collect()
    }

    /// A new lease, and when it ends if nobody renews it.
    pub(super) fn grant(&mut self, ttl: u64, now: u64) -> (LeaseId, u64) {
        self.next_lease += 1;
        self.leases.insert(self.next_lease, Lease { ttl, end: now + ttl });
        (LeaseId(self.next_lease), now + ttl)
    }

    /// Renews a lease; gives when it ends now.
    pub(super) fn renew(&mut self, lease: LeaseId, now: u64) -> Result<u64> {
        self.live(lease, now)?;
        let lease = self.leases.get_mut(&lease.0).ok_or_else(|| ended(lease))?;
        lease.end = now + lease.ttl;
        Ok(lease.end)
    }

    /// All leases begin anew, as they do after the loss of etcd's leader.
    pub(super) fn renew_all(&mut self, now: u64) -> Vec<u64> {
        self.leases.values_mut().for_each(|lease| lease.end = now + lease.ttl);
        self.leases.values().map(|lease| lease.end).collect()
    }

    /// Ends a lease; gives what watches see of it.
    pub(super) fn revoke(&mut self, lease: LeaseId) -> Vec<WatchEvent> {
        if self.leases.remove(&lease.0).is_none() {
            return vec![];
        }
        let keys = self.keys.iter().filter(|(_, value)| value.lease == Some(lease.0));
        let keys: Vec<String> = keys.map(|(key, _)| key.clone()).collect();
        self.revision += 1;
        self.remove(&keys)
    }

    /// Ends the lease of a key, whoever keeps it alive.
    pub(super) fn end_lease_of(&mut self, key: &str) -> Vec<WatchEvent> {
        let lease = self.keys.get(key).and_then(|value| value.lease);
        lease.map(|lease| self.revoke(LeaseId(lease))).unwrap_or_default()
    }

    /// Ends all leases whose time is over.
    pub(super) fn expire(&mut self, now: u64) -> Vec<WatchEvent> {
        let over: Vec<i64> = self.leases.iter().filter(|(_, lease)| lease.end <= now).map(|(id, _)| *id).collect();
        over.into_iter().flat_map(|lease| self.revoke(LeaseId(lease))).collect()
    }

    fn live(&self, lease: LeaseId, now: u64) -> Result<()> {
        match self.leases.get(&lease.0) {
            Some(granted) if granted.end > now => Ok(()),
            _ => Err(ended(lease)),
        }
    }
}

fn entry(key: &str, value: &Value) -> Entry {
    Entry { key: key.to_owned(), value: value.bytes.clone(), mod_revision: value.revision }
}

fn ended(lease: LeaseId) -> Error {
    Error::new(ErrorCode::Fenced, format!("the lease {} has ended", lease.0))
}

/// The conformance suite on the same keys and leases, by the machine's time.
mod conformance {
    use std::sync::{Arc, Weak};
    use std::time::{Duration, Instant};

    use async_trait::async_trait;
    use futures::StreamExt;
    use parking_lot::Mutex;
    use tokio::sync::mpsc;

    use super::*;
    use crate::store::conformance::{Fixture, conformance_tests};
    use crate::store::{StateStore, Watch, limits};

    #[derive(Debug)]
    struct RealTime {
        start: Instant,
        shared: Arc<Mutex<Shared>>,
    }

    #[derive(Debug, Default)]
    struct Shared {
        kv: Kv,
        watches: Vec<(String, mpsc::UnboundedSender<Result<WatchEvent>>)>,
    }

    impl Shared {
        fn publish(&mut self, events: &[WatchEvent]) {
            for event in events {
                let key = super::super::store::key_of(event);
                let watches = self.watches.iter().filter(|(prefix, _)| key.starts_with(prefix));
                watches.for_each(|(_, watch)| drop(watch.send(Ok(event.clone()))));
            }
        }
    }

    async fn expire(shared: Weak<Mutex<Shared>>, start: Instant) {
        while let Some(shared) = shared.upgrade() {
            {
                let mut shared = shared.lock();
                let ended = shared.kv.expire(start.elapsed().as_micros() as u64);
                shared.publish(&ended);
            }
            drop(shared);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn open() -> Option<Fixture> {
        let (start, shared) = (Instant::now(), Arc::<Mutex<Shared>>::default());
        tokio::spawn(expire(Arc::downgrade(&shared), start));
        Some(Fixture::new(RealTime { start, shared }, ()))
    }

    impl RealTime {
        fn now(&self) -> u64 {
            self.start.elapsed().as_micros() as u64
        }
    }

    #[async_trait]
    impl StateStore for RealTime {
        async fn get(&self, key: &str) -> Result<Option<Entry>> {
            Ok(self.shared.lock().kv.get(key))
        }

        async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Entry>> {
            Ok(self.shared.lock().kv.list(prefix, after, limit))
        }

        async fn transact(&self, transaction: Transaction) -> Result<Committed> {
            limits::check(&transaction)?;
            let mut shared = self.shared.lock();
            let (committed, events) = shared.kv.transact(&transaction, self.now())?;
            shared.publish(&events);
            Ok(committed)
        }

        async fn grant_lease(&self, ttl: Duration) -> Result<LeaseId> {
            let ttl = limits::lease_seconds(ttl) * 1_000_000;
            Ok(self.shared.lock().kv.grant(ttl, self.now()).0)
        }

        async fn keep_alive(&self, lease: LeaseId) -> Result<()> {
            self.shared.lock().kv.renew(lease, self.now()).map(drop)
        }

        async fn revoke_lease(&self, lease: LeaseId) -> Result<()> {
            let mut shared = self.shared.lock();
            let ended = shared.kv.revoke(lease);
            shared.publish(&ended);
            Ok(())
        }

        async fn watch(&self, prefix: &str) -> Result<Watch> {
            let mut shared = self.shared.lock();
            let (sender, mut events) = mpsc::unbounded_channel();
            shared.watches.push((prefix.to_owned(), sender));
            let changes = futures::stream::poll_fn(move |context| events.poll_recv(context)).boxed();
            Ok(Watch { snapshot: shared.kv.list(prefix, None, usize::MAX), revision: shared.kv.revision(), changes })
        }
    }

    conformance_tests!(open);
}
