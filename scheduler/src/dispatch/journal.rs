//! The journal: writes what happens to jobs into the store, in order, off the critical path.
//!
//! Outcomes are gathered for as long as the last write takes and go out as one transaction per job, those of several
//! jobs side by side. An executor's report is acknowledged after that; what was never acknowledged is reported again on
//! its next stream. A write that is refused means that the job does not belong to this scheduler any more: it is
//! dropped here, and whoever claims it goes on. Only a job that has ended here meanwhile, and that nobody has claimed,
//! is ended in the store all the same.
//!
//! A store that does not answer, or has no room, is asked until it takes what there is, and all else waits behind it.
//! What is too large would be so for ever, and stop all jobs: `batch` sees to it that nothing is.

use std::collections::VecDeque;
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{StreamExt, stream};
use springald_core::error::{Error, ErrorCode, Result};
use springald_core::ids::JobId;
use springald_core::telemetry::events::names;
use springald_proto::records::{JobRecord, RecordedOutcome};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::batch::{self, Pending, Tokens};
use super::{Command, stored};
use crate::clock;
use crate::records;
use crate::store::{Committed, Condition, StateStore, Transaction, limits};

const ENTRIES_IN_FLIGHT: usize = 4096;
const ENTRIES_PER_BATCH: usize = 256;
/// Jobs that are written at one time.
const JOBS_AT_ONCE: usize = 16;
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Something to be written for a job.
pub(super) enum Entry {
    /// Outcomes that were applied, numbered in order by job and fencing token.
    Outcomes { job: JobId, owner_revision: u64, number: u64, outcomes: Vec<RecordedOutcome> },
    /// The record has changed.
    Record { job: JobId, owner_revision: u64, record: Box<JobRecord> },
    /// The job needs nothing but its record any more.
    End { job: JobId, owner_revision: u64, record: Box<JobRecord> },
    /// The actor is told this once all entries before it are durable.
    Notice(Command),
}

/// The queue into the journal.
pub(super) struct Journal {
    entries: mpsc::Sender<Entry>,
    /// Entries that did not fit, in order. While the store takes nothing, these are what jobs write as they begin and
    /// end, and what executors report: they take no more tasks when so many of their outcomes were not acknowledged.
    backlog: VecDeque<Entry>,
}

impl Journal {
    pub(super) fn start(
        store: Arc<dyn StateStore>,
        actor: mpsc::WeakSender<Command>,
        tracker: &TaskTracker,
        shutdown: CancellationToken,
    ) -> Self {
        let (entries, inbox) = mpsc::channel(ENTRIES_IN_FLIGHT);
        tracker.spawn(Writer::new(store, actor, shutdown).run(inbox));
        Self { entries, backlog: VecDeque::new() }
    }

    /// Writes an entry, sooner or later.
    pub(super) fn write(&mut self, entry: Entry) {
        self.flush();
        if self.backlog.is_empty() {
            match self.entries.try_send(entry) {
                Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
                Err(mpsc::error::TrySendError::Full(entry)) => self.backlog.push_back(entry),
            }
        } else {
            self.backlog.push_back(entry);
        }
    }

    /// Moves the backlog on.
    pub(super) fn flush(&mut self) {
        while let Some(entry) = self.backlog.pop_front() {
            if let Err(mpsc::error::TrySendError::Full(entry)) = self.entries.try_send(entry) {
                self.backlog.push_front(entry);
                return;
            }
        }
    }
}

struct Writer {
    store: Arc<dyn StateStore>,
    actor: mpsc::WeakSender<Command>,
    shutdown: CancellationToken,
    /// This process ends, and the store did not take something: nothing more is tried.
    over: AtomicBool,
}

impl Writer {
    fn new(store: Arc<dyn StateStore>, actor: mpsc::WeakSender<Command>, shutdown: CancellationToken) -> Self {
        Self { store, actor, shutdown, over: AtomicBool::new(false) }
    }

    async fn run(self, mut inbox: mpsc::Receiver<Entry>) {
        let mut entries = Vec::with_capacity(ENTRIES_PER_BATCH);
        while inbox.recv_many(&mut entries, ENTRIES_PER_BATCH).await > 0 {
            let (jobs, notices) = batch::gather(entries.drain(..));
            let writes: Vec<_> = jobs.into_iter().map(|(job, tokens)| self.write_all(job, tokens)).collect();
            stream::iter(writes).buffer_unordered(JOBS_AT_ONCE).for_each(|()| ready(())).await;
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            for notice in notices {
                self.tell(notice).await;
            }
        }
    }

    /// Writes what there is of one job, in order.
    async fn write_all(&self, job: JobId, tokens: Tokens) {
        for pending in tokens.values() {
            self.write(&job, pending).await;
        }
    }

    /// Writes what there is of one job under one token.
    async fn write(&self, job: &JobId, pending: &Pending) {
        let mut written = false;
        for transaction in batch::transactions(job, pending) {
            if let Err(error) = limits::check(&transaction) {
                tracing::error!(event = names::STORE_WRITE_GIVEN_UP, job_id = %job, %error, "changes of a job are too large for the store and are left out");
                continue;
            }
            match self.commit(job, pending, transaction).await {
                Some(committed) => written = committed,
                None => return,
            }
            if !written {
                break;
            }
        }
        if pending.ends {
            // Under which token everything is freed.
            let freed = written.then_some(pending.owner_revision);
            self.tell(Command::Ended { job: job.clone(), freed }).await;
        }
    }

    /// Tries until the store has answered. True: it is written; false: the job is not this scheduler's any more.
    /// `None`: this process ends first.
    async fn commit(&self, job: &JobId, pending: &Pending, mut transaction: Transaction) -> Option<bool> {
        let mut pause = PAUSE_AFTER_FAILURE;
        while !self.over.load(Ordering::Relaxed) {
            let error = match self.store.transact(transaction.clone()).await {
                Ok(Committed::Yes { .. }) => return Some(true),
                Ok(Committed::Refused) if pending.ends => match self.unowned_end(job, pending).await {
                    Ok(Some(end)) => {
                        transaction = end;
                        continue;
                    }
                    // Or the answer was lost: executors hear of it when they say what they hold.
                    Ok(None) => return Some(false),
                    Err(error) => error,
                },
                Ok(Committed::Refused) => {
                    self.tell(Command::Fenced { job: job.clone(), owner_revision: pending.owner_revision }).await;
                    return Some(false);
                }
                Err(error) => error,
            };
            tracing::warn!(event = names::STORE_WRITE_RETRIED, job_id = %job, %error, "the store did not take a job's changes; trying again");
            if self.shutdown.run_until_cancelled(clock::sleep(pause)).await.is_none() {
                self.over.store(true, Ordering::Relaxed);
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        None
    }

    /// What ends a job whose owner key was lost, with its lease, before the end was written: a claim and the end in one.
    /// `None` if that has happened (the answer may have been lost), or another scheduler has claimed the job.
    async fn unowned_end(&self, job: &JobId, pending: &Pending) -> Result<Option<Transaction>> {
        let (Some(ended), Some(entry)) = (&pending.record, self.store.get(&records::job_key(job)).await?) else {
            return Ok(None);
        };
        // One that cannot be read now cannot be read later.
        let Ok(stored) = records::decode::<JobRecord>(&entry) else { return Ok(None) };
        let ours = stored.scheduler_id == ended.scheduler_id && stored.takeovers == ended.takeovers;
        if !ours || !records::needs_owner(&stored) || self.store.get(&records::owner_key(job)).await?.is_some() {
            return Ok(None);
        }
        let conditions = vec![
            Condition::Absent { key: records::owner_key(job) },
            Condition::Unchanged { key: entry.key, mod_revision: entry.mod_revision },
        ];
        Ok(Some(batch::end(job, conditions, ended)))
    }

    async fn tell(&self, command: Command) {
        if let Some(actor) = self.actor.upgrade() {
            // The actor never waits for the journal, so that this cannot wait for itself.
            let _ = actor.send(command).await;
        }
    }
}

/// Writes the end of a job that dispatch never held, if these conditions hold.
pub(crate) async fn end_job(
    store: &dyn StateStore,
    job: &JobId,
    conditions: Vec<Condition>,
    record: &JobRecord,
) -> Result<()> {
    let mut kept = record.clone();
    stored::shorten(&mut kept);
    match store.transact(batch::end(job, conditions, &kept)).await? {
        Committed::Yes { .. } => Ok(()),
        Committed::Refused => Err(Error::new(ErrorCode::Fenced, format!("job {job} belongs to another scheduler now"))),
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use springald_core::text;
    use springald_proto::control::{Failed, Outcome, outcome};
    use springald_proto::records::{JobStatus, OutcomeBatch, OwnerRecord, StageSummary};
    use tokio::sync::Barrier;
    use tokio::time::timeout;

    use super::*;
    use crate::store::Change;
    use crate::store::disturbed::Disturbed;
    use crate::store::embedded::EmbeddedStore;

    /// Whatever is written is written long before.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// Of no key.
    const TOKEN: u64 = 1_000_000;

    /// A job that runs at scheduler `s-1`, as the store knows it, with `takeovers` behind it and this owner.
    async fn running(store: &EmbeddedStore, takeovers: u32, owner: Option<&str>) -> (JobId, Box<JobRecord>) {
        let job = JobId::generate();
        let mut record = JobRecord { job_id: job.to_string(), takeovers, ..JobRecord::default() };
        record.scheduler_id = "s-1".to_owned();
        record.set_status(JobStatus::Running);
        let put = |key, value| Change::Put { key, value, lease: None };
        let mut changes = vec![put(records::job_key(&job), records::encode(&record))];
        changes.push(put(format!("{}0000", records::plan_prefix(&job)), "plan".into()));
        if let Some(owner) = owner {
            let owner = OwnerRecord { scheduler_id: owner.to_owned() };
            changes.push(put(records::owner_key(&job), records::encode(&owner)));
        }
        store.transact(Transaction { conditions: vec![], changes }).await.expect("written");
        (job, Box::new(record))
    }

    fn start(store: Arc<dyn StateStore>, actor: &mpsc::Sender<Command>) -> Journal {
        Journal::start(store, actor.downgrade(), &TaskTracker::new(), CancellationToken::new())
    }

    /// The fencing token of a job's owner.
    async fn token(store: &EmbeddedStore, job: &JobId) -> u64 {
        store.get(&records::owner_key(job)).await.expect("read").expect("owned").mod_revision
    }

    /// A failure with a message of so many bytes.
    fn failure(job: &JobId, owner_revision: u64, number: u64, bytes: usize) -> Entry {
        let result = Some(outcome::Result::Failed(Failed { message: "m".repeat(bytes), ..Failed::default() }));
        let outcome = Some(Outcome { result, ..Outcome::default() });
        let outcomes = vec![RecordedOutcome { outcome, ..RecordedOutcome::default() }];
        Entry::Outcomes { job: job.clone(), owner_revision, number, outcomes }
    }

    fn acknowledgement(sequence: u64) -> Entry {
        let executor = "e".parse().expect("valid");
        Entry::Notice(Command::Journaled { executor, stream: 1, sequence })
    }

    /// The lengths of the messages of a job's outcomes in the store, in order.
    async fn lengths(store: &EmbeddedStore, job: &JobId) -> Vec<usize> {
        let entries = store.list(&records::outcomes_prefix(job), None, 99).await.expect("listed");
        let batches = entries.iter().map(|entry| records::decode::<OutcomeBatch>(entry).expect("a batch"));
        let outcomes = batches.flat_map(|batch| batch.outcomes).filter_map(|outcome| outcome.outcome?.result);
        let length = |result| match result {
            outcome::Result::Failed(failed) => failed.message.len(),
            outcome::Result::Succeeded(_) => 0,
        };
        outcomes.map(length).collect()
    }

    /// What the store says of a job after its owner, whose token is void, has written its end.
    async fn after_the_end(store: Arc<EmbeddedStore>, job: &JobId, mut record: Box<JobRecord>) -> (JobStatus, usize) {
        record.set_status(JobStatus::Succeeded);
        let (actor, mut told) = mpsc::channel(4);
        let writer = Writer::new(Arc::clone(&store) as _, actor.downgrade(), CancellationToken::new());
        let pending = Pending { owner_revision: TOKEN, record: Some(record), ends: true, ..Pending::default() };
        writer.write(job, &pending).await;
        assert!(matches!(told.recv().await, Some(Command::Ended { job: ended, .. }) if ended == *job));
        let entry = store.get(&records::job_key(job)).await.expect("read").expect("kept");
        let plans = store.list(&records::plan_prefix(job), None, 9).await.expect("listed").len();
        (records::decode::<JobRecord>(&entry).expect("a record").status(), plans)
    }

    #[tokio::test]
    async fn given_a_job_that_has_ended_when_its_owner_key_is_gone_then_its_end_is_written_all_the_same() {
        let store = Arc::new(EmbeddedStore::in_memory().expect("opened"));
        let (job, record) = running(&store, 0, None).await;
        assert_eq!(after_the_end(store, &job, record).await, (JobStatus::Succeeded, 0));
    }

    #[tokio::test]
    async fn given_a_job_that_has_ended_when_another_scheduler_has_claimed_it_then_nothing_is_changed() {
        let store = Arc::new(EmbeddedStore::in_memory().expect("opened"));
        let (owned, record) = running(&store, 0, Some("s-2")).await;
        assert_eq!(after_the_end(Arc::clone(&store), &owned, record).await, (JobStatus::Running, 1));
        // Claimed, and lost again since.
        let (passed_on, mut record) = running(&store, 1, None).await;
        record.takeovers = 0;
        assert_eq!(after_the_end(store, &passed_on, record).await, (JobStatus::Running, 1));
    }

    #[tokio::test]
    async fn given_more_of_a_job_than_the_store_takes_at_once_when_written_then_it_holds_nothing_up() {
        let store = Arc::new(EmbeddedStore::in_memory().expect("opened"));
        let (large, mut record) = running(&store, 0, Some("s-1")).await;
        let (small, _) = running(&store, 0, Some("s-1")).await;
        let (actor, mut told) = mpsc::channel(4);
        let mut journal = start(Arc::clone(&store) as _, &actor);
        let owner_revision = token(&store, &large).await;
        // One of them is too large by itself.
        for (number, bytes) in (0..).zip([1, 800_000, 2 << 20, 800_000]) {
            journal.write(failure(&large, owner_revision, number, bytes));
        }
        record.stages = vec![StageSummary { plan: "p".repeat(3 << 20), ..StageSummary::default() }];
        journal.write(Entry::Record { job: large.clone(), owner_revision, record });
        journal.write(failure(&small, token(&store, &small).await, 0, 7));
        journal.write(acknowledgement(1));
        let answer = timeout(PATIENCE, told.recv()).await.expect("not held up");
        assert!(matches!(answer, Some(Command::Journaled { sequence: 1, .. })));
        assert_eq!(lengths(&store, &large).await, [1, 800_000, 800_000]);
        assert_eq!(lengths(&store, &small).await, [7]);
        let entry = store.get(&records::job_key(&large)).await.expect("read").expect("kept");
        let record = records::decode::<JobRecord>(&entry).expect("a record");
        assert!(record.stages.len() == 1 && record.stages[0].plan.len() < 100, "{record:?}");
    }

    #[tokio::test]
    async fn given_several_jobs_when_written_then_none_waits_for_the_others() {
        let store = Arc::new(EmbeddedStore::in_memory().expect("opened"));
        let (actor, mut told) = mpsc::channel(4);
        let both = Arc::new(Barrier::new(2));
        let disturbed = Disturbed::new(&store, move |_| {
            let both = Arc::clone(&both);
            async move {
                both.wait().await;
                Ok(())
            }
            .boxed()
        });
        let mut entries = vec![];
        for _ in 0..2 {
            let (job, _) = running(&store, 0, Some("s-1")).await;
            entries.push(failure(&job, token(&store, &job).await, 0, 1));
        }
        let mut journal = start(Arc::new(disturbed), &actor);
        entries.into_iter().for_each(|entry| journal.write(entry));
        journal.write(acknowledgement(1));
        let answer = timeout(PATIENCE, told.recv()).await.expect("none waits");
        assert!(matches!(answer, Some(Command::Journaled { sequence: 1, .. })));
    }

    #[tokio::test]
    async fn given_a_job_that_dispatch_does_not_hold_when_it_ends_then_nothing_is_left_but_its_record() {
        let store = EmbeddedStore::in_memory().expect("opened");
        let (job, mut record) = running(&store, 0, Some("s-1")).await;
        let put = |key| Change::Put { key, value: "x".into(), lease: None };
        let changes = vec![put(records::outcomes_key(&job, 1, 0)), put(records::cancel_key(&job))];
        store.transact(Transaction { conditions: vec![], changes }).await.expect("written");
        record.set_status(JobStatus::Failed);
        record.error = "e".repeat(2 << 20);
        let owned = Condition::Present { key: records::owner_key(&job) };
        end_job(&store, &job, vec![owned], &record).await.expect("ended");
        let left = [
            records::plan_prefix(&job),
            records::outcomes_prefix(&job),
            records::cancel_key(&job),
            records::owner_key(&job),
        ];
        for prefix in left {
            assert!(store.list(&prefix, None, 1).await.expect("listed").is_empty(), "{prefix}");
        }
        let entry = store.get(&records::job_key(&job)).await.expect("read").expect("kept");
        let record = records::decode::<JobRecord>(&entry).expect("a record");
        assert!(record.status() == JobStatus::Failed && record.error.len() <= text::ERROR_BYTES);
    }
}
