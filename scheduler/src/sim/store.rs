//! The simulated store, as the processes see it: what [`Kv`](super::kv::Kv) holds, behind a network and members that may
//! not be there. Calls take time, may be lost before they are carried out or after, and watches may lag or break.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use springald_core::error::{Error, ErrorCode, Result};
use tokio::sync::{mpsc, oneshot};

use super::agenda::Agenda;
use super::world::{Place, World};
use crate::store::{Change, Committed, Entry, LeaseId, StateStore, Transaction, Watch, WatchEvent, limits};

/// One member has so long for an answer …
const ATTEMPT: u64 = 1_000_000;
/// … and all of them together, as with `EtcdStore`.
const PATIENCE: u64 = 5_000_000;
/// Pauses between tries: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// Connections to members that are not there are refused at once, some of the time.
const REFUSED_AFTER: u64 = 20_000;

/// The store from one process.
pub(super) struct SimStore {
    agenda: Arc<Agenda>,
    place: Place,
}

impl SimStore {
    pub(super) fn new(agenda: &Arc<Agenda>, place: Place) -> Self {
        Self { agenda: Arc::clone(agenda), place }
    }

    /// Has the store do something, if the call gets there; waits for the answer, if that gets back.
    async fn attempt<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut World) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let call = Call { place: self.place, since: self.agenda.now(), reply };
        let delay = self.agenda.chance(|chance| chance.number(200, 3_000));
        self.agenda.after(delay, move |world| world.store_called(call, work));
        answer.await.unwrap_or_else(|_| Err(unavailable()))
    }

    /// The same again, until there is an answer or the time for it is over.
    async fn call<T: Send + 'static, W>(&self, work: impl Fn() -> W) -> Result<T>
    where
        W: FnOnce(&mut World) -> Result<T> + Send + 'static,
    {
        let until = self.agenda.now() + PATIENCE;
        let mut pause = FIRST_PAUSE;
        loop {
            match self.attempt(work()).await {
                Err(error) if error.code() == ErrorCode::Unavailable && self.agenda.now() < until => {
                    self.agenda.sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                answer => return answer,
            }
        }
    }

    /// Whether a transaction has happened whose answer was lost, and that is refused now: what it would have written
    /// tells.
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

/// A call that waits for its answer.
struct Call<T> {
    place: Place,
    since: u64,
    reply: oneshot::Sender<Result<T>>,
}

fn unavailable() -> Error {
    Error::unavailable("the store does not answer")
}

impl fmt::Debug for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimStore").field("place", &self.place).finish_non_exhaustive()
    }
}

#[async_trait]
impl StateStore for SimStore {
    async fn get(&self, key: &str) -> Result<Option<Entry>> {
        self.call(|| {
            let key = key.to_owned();
            move |world: &mut World| Ok(world.kv.get(&key))
        })
        .await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Entry>> {
        self.call(|| {
            let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
            move |world: &mut World| Ok(world.kv.list(&prefix, after.as_deref(), limit))
        })
        .await
    }

    /// As `EtcdStore` does it: tried again also when it is not known whether it has happened.
    async fn transact(&self, transaction: Transaction) -> Result<Committed> {
        limits::check(&transaction)?;
        let (place, until) = (self.place, self.agenda.now() + PATIENCE);
        let (mut may_have_happened, mut pause) = (false, FIRST_PAUSE);
        loop {
            let attempt = transaction.clone();
            match self.attempt(move |world| world.transact(place, &attempt)).await {
                Ok(Committed::Refused) if may_have_happened => return self.happened(&transaction).await,
                Err(error) if error.code() == ErrorCode::Unavailable && self.agenda.now() < until => {
                    may_have_happened = true;
                    self.agenda.sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                answer => return answer,
            }
        }
    }

    async fn grant_lease(&self, ttl: Duration) -> Result<LeaseId> {
        let ttl = limits::lease_seconds(ttl) * 1_000_000;
        self.call(|| move |world: &mut World| Ok(world.grant(ttl))).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<()> {
        self.call(|| move |world: &mut World| world.renew(lease)).await
    }

    async fn revoke_lease(&self, lease: LeaseId) -> Result<()> {
        self.call(|| {
            move |world: &mut World| {
                let ended = world.kv.revoke(lease);
                world.publish(&ended);
                Ok(())
            }
        })
        .await
    }

    async fn watch(&self, prefix: &str) -> Result<Watch> {
        let Place::Scheduler(scheduler) = self.place else { return Err(unavailable()) };
        self.call(|| {
            let prefix = prefix.to_owned();
            move |world: &mut World| Ok(world.watch(scheduler, prefix))
        })
        .await
    }
}

/// A watch of a scheduler.
pub(super) struct SimWatch {
    pub(super) scheduler: u32,
    prefix: String,
    sender: mpsc::UnboundedSender<Result<WatchEvent>>,
    /// When the last change that is on its way arrives.
    last: u64,
    /// Changes do not arrive any more.
    lost: bool,
}

pub(super) fn key_of(event: &WatchEvent) -> &str {
    match event {
        WatchEvent::Put(entry) => &entry.key,
        WatchEvent::Deleted { key, .. } => key,
    }
}

impl World {
    /// A call has arrived, or nobody is there that it could arrive at.
    fn store_called<T: Send + 'static>(&mut self, call: Call<T>, work: impl FnOnce(&mut World) -> Result<T>) {
        if self.store_outages > 0 || self.is_cut(call.place, Place::Store) {
            return self.store_missed(call);
        }
        let answer = work(self);
        let lost = self.store_forgets > 0 && self.agenda.chance(|chance| chance.percent(40));
        if lost {
            return self.store_missed(call);
        }
        let delay = self.agenda.chance(|chance| chance.number(200, 3_000));
        self.agenda.after(delay, move |world| {
            if world.store_outages == 0 && !world.is_cut(Place::Store, call.place) {
                world.answer(call, answer);
            } else {
                world.store_missed(call);
            }
        });
    }

    /// Whoever waits finds out by itself.
    fn store_missed<T: Send + 'static>(&mut self, call: Call<T>) {
        let refused = self.agenda.chance(|chance| chance.percent(30));
        let until = if refused { self.agenda.now() + REFUSED_AFTER } else { call.since + ATTEMPT };
        self.agenda.at(until, move |world| world.answer(call, Err(unavailable())));
    }

    fn answer<T>(&mut self, call: Call<T>, answer: Result<T>) {
        let _ = call.reply.send(answer);
        if let Place::Scheduler(number) = call.place {
            self.run(number);
        }
    }

    /// True if calls get from there to the store and back.
    pub(super) fn has_store(&self, place: Place) -> bool {
        self.store_outages == 0 && !self.are_apart(place, Place::Store)
    }

    fn watch(&mut self, scheduler: u32, prefix: String) -> Watch {
        let (sender, mut events) = mpsc::unbounded_channel();
        let snapshot = self.kv.list(&prefix, None, usize::MAX);
        self.watches.insert(self.agenda.number(), SimWatch { scheduler, prefix, sender, last: 0, lost: false });
        let changes = futures::stream::poll_fn(move |context| events.poll_recv(context)).boxed();
        Watch { snapshot, revision: self.kv.revision(), changes }
    }

    pub(super) fn transact(&mut self, place: Place, transaction: &Transaction) -> Result<Committed> {
        let before = self.before_transaction(transaction);
        let (committed, events) = self.kv.transact(transaction, self.agenda.now())?;
        if let Committed::Yes { revision } = committed {
            tracing::debug!(target: "sim", "{place} at {revision}: {}", told(transaction));
            self.after_transaction(place, transaction, &before);
        } else {
            tracing::debug!(target: "sim", "{place} is refused: {}", told(transaction));
        }
        self.publish(&events);
        Ok(committed)
    }

    pub(super) fn grant(&mut self, ttl: u64) -> LeaseId {
        let (lease, end) = self.kv.grant(ttl, self.agenda.now());
        self.expire_at(end);
        lease
    }

    pub(super) fn renew(&mut self, lease: LeaseId) -> Result<()> {
        let end = self.kv.renew(lease, self.agenda.now())?;
        self.expire_at(end);
        Ok(())
    }

    fn expire_at(&mut self, end: u64) {
        self.agenda.at(end, |world| {
            // Without a leader no lease ends.
            if world.store_outages == 0 {
                let ended = world.kv.expire(world.agenda.now());
                world.publish(&ended);
            }
        });
    }

    /// Watches, and the executors, hear of changes.
    pub(super) fn publish(&mut self, events: &[WatchEvent]) {
        for event in events {
            let key = key_of(event);
            if let WatchEvent::Deleted { key, .. } = event {
                tracing::debug!(target: "sim", "{key} is gone");
            }
            if key.starts_with(crate::records::SCHEDULERS) {
                self.schedulers_changed();
            }
            let watching = self.watches.iter_mut().filter(|(_, watch)| !watch.lost && key.starts_with(&watch.prefix));
            for (number, watch) in watching {
                let delay = self.agenda.chance(|chance| chance.number(200, 5_000));
                watch.last = (self.agenda.now() + delay).max(watch.last + 1);
                let (number, event) = (*number, event.clone());
                self.agenda.at(watch.last, move |world| world.watch_sees(number, event));
            }
        }
    }

    fn watch_sees(&mut self, number: u64, event: WatchEvent) {
        let Some(watch) = self.watches.get(&number) else { return };
        let scheduler = watch.scheduler;
        if self.store_outages > 0 || self.is_cut(Place::Store, Place::Scheduler(scheduler)) {
            return self.break_watch(number);
        }
        if watch.lost {
            return;
        }
        match watch.sender.send(Ok(event)) {
            Ok(()) => self.run(scheduler),
            Err(_) => drop(self.watches.remove(&number)),
        }
    }

    /// Nothing arrives on a watch any more; who watches finds out after a while.
    pub(super) fn break_watch(&mut self, number: u64) {
        let Some(watch) = self.watches.get_mut(&number).filter(|watch| !watch.lost) else { return };
        watch.lost = true;
        let delay = self.agenda.chance(|chance| chance.number(10_000, 3_000_000));
        self.agenda.after(delay, move |world| {
            if let Some(watch) = world.watches.remove(&number) {
                let _ = watch.sender.send(Err(Error::unavailable("the watch was lost")));
                world.run(watch.scheduler);
            }
        });
    }

    /// Breaks all watches of schedulers without the store.
    pub(super) fn break_watches(&mut self, broken: impl Fn(&World, u32) -> bool) {
        let numbers: Vec<u64> =
            self.watches.iter().filter(|(_, watch)| broken(self, watch.scheduler)).map(|(number, _)| *number).collect();
        numbers.into_iter().for_each(|number| self.break_watch(number));
    }

    /// All members of the store are gone, until [`store_returns`](Self::store_returns).
    pub(super) fn store_goes(&mut self) {
        tracing::info!(target: "sim", "the store is gone");
        self.store_outages += 1;
        self.break_watches(|_, _| true);
    }

    pub(super) fn store_returns(&mut self) {
        tracing::info!(target: "sim", "the store is back");
        self.store_outages -= 1;
        for end in self.kv.renew_all(self.agenda.now()) {
            self.expire_at(end);
        }
    }
}

fn told(transaction: &Transaction) -> String {
    let changes = transaction.changes.iter().map(|change| match change {
        Change::Put { key, .. } => format!("+{key}"),
        Change::Delete { key } => format!("-{key}"),
        Change::DeletePrefix { prefix } => format!("-{prefix}*"),
    });
    changes.collect::<Vec<_>>().join(" ")
}
