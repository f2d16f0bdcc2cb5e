//! The journal: writes what happens to jobs into the store, in order, off the critical path.
//!
//! Outcomes are gathered for as long as the last write takes and go out as one transaction per job. An executor's
//! report is acknowledged after that; what was never acknowledged is reported again. A write that is refused means that
//! the job does not belong to this scheduler any more: it is dropped here, and whoever claims it goes on. Only a job that
//! has ended here meanwhile, and that nobody has claimed, is ended in the store all the same.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use springald_core::error::{ErrorCode, Result};
use springald_core::ids::JobId;
use springald_core::telemetry::events::names;
use springald_proto::records::{JobRecord, OutcomeBatch, RecordedOutcome};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Command;
use crate::clock;
use crate::defect::{self, Defect};
use crate::records;
use crate::store::{Change, Committed, Condition, StateStore, Transaction};

const ENTRIES_IN_FLIGHT: usize = 4096;
/// etcd's default limit is 128 changes and 1.5 MiB; a batch stays far below.
const ENTRIES_PER_BATCH: usize = 256;
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
    /// Entries that must not be lost and did not fit; bounded by the number of jobs.
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
        tracker.spawn(Writer { store, actor }.run(inbox, shutdown));
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

    /// True if a report's outcomes can be written now. When not, they are applied without: they are not acknowledged
    /// then, and come again.
    pub(super) fn has_room(&self, entries: usize) -> bool {
        self.backlog.is_empty() && self.entries.capacity() > entries
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

/// What is to be written for one job in one transaction.
#[derive(Default)]
struct Pending {
    owner_revision: u64,
    /// Number of the first of the outcomes.
    number: u64,
    outcomes: Vec<RecordedOutcome>,
    record: Option<Box<JobRecord>>,
    ends: bool,
}

struct Writer {
    store: Arc<dyn StateStore>,
    actor: mpsc::WeakSender<Command>,
}

impl Writer {
    async fn run(self, mut inbox: mpsc::Receiver<Entry>, shutdown: CancellationToken) {
        let mut batch = Vec::with_capacity(ENTRIES_PER_BATCH);
        while inbox.recv_many(&mut batch, ENTRIES_PER_BATCH).await > 0 {
            let (jobs, notices) = gather(batch.drain(..));
            for ((job, _), pending) in jobs {
                if !self.write(&job, pending, &shutdown).await {
                    return;
                }
            }
            for notice in notices {
                self.tell(notice).await;
            }
        }
    }

    /// Tries until the store has answered. False: this process ends first.
    async fn write(&self, job: &JobId, pending: Pending, shutdown: &CancellationToken) -> bool {
        let mut transaction = transaction(job, &pending);
        let mut pause = PAUSE_AFTER_FAILURE;
        // Under which token everything is freed.
        let mut freed = None;
        loop {
            let error = match self.store.transact(transaction.clone()).await {
                Ok(Committed::Yes { .. }) => {
                    freed = Some(pending.owner_revision);
                    break;
                }
                Ok(Committed::Refused) if pending.ends => match self.unowned_end(job, &pending).await {
                    Ok(Some(end)) => {
                        transaction = end;
                        continue;
                    }
                    // Or the answer was lost: executors hear of it when they say what they hold.
                    Ok(None) => break,
                    Err(error) => error,
                },
                Ok(Committed::Refused) => {
                    self.tell(Command::Fenced { job: job.clone(), owner_revision: pending.owner_revision }).await;
                    break;
                }
                Err(error) => error,
            };
            tracing::warn!(event = names::STORE_WRITE_RETRIED, job_id = %job, %error, "the store did not take a job's changes; trying again");
            if shutdown.run_until_cancelled(clock::sleep(pause)).await.is_none() {
                return false;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        if pending.ends {
            self.tell(Command::Ended { job: job.clone(), freed }).await;
        }
        true
    }

    /// What ends a job whose owner key was lost, with its lease, before the end was written: a claim and the end in one.
    /// `None` if that has happened (the answer may have been lost), or another scheduler has claimed the job.
    async fn unowned_end(&self, job: &JobId, pending: &Pending) -> Result<Option<Transaction>> {
        let (Some(ended), Some(entry)) = (&pending.record, self.store.get(&records::job_key(job)).await?) else {
            return Ok(None);
        };
        let stored: JobRecord = records::decode(&entry)?;
        let ours = stored.scheduler_id == ended.scheduler_id && stored.takeovers == ended.takeovers;
        if !ours || !records::needs_owner(&stored) || self.store.get(&records::owner_key(job)).await?.is_some() {
            return Ok(None);
        }
        let mut transaction = transaction(job, pending);
        transaction.conditions = vec![
            Condition::Absent { key: records::owner_key(job) },
            Condition::Unchanged { key: entry.key, mod_revision: entry.mod_revision },
        ];
        Ok(Some(transaction))
    }

    async fn tell(&self, command: Command) {
        if let Some(actor) = self.actor.upgrade() {
            // The actor never waits for the journal, so that this cannot wait for itself.
            let _ = actor.send(command).await;
        }
    }
}

fn transaction(job: &JobId, pending: &Pending) -> Transaction {
    let owner = records::owner_key(job);
    let mut changes = Vec::new();
    let put = |key, value| Change::Put { key, value, lease: None };
    if let Some(record) = &pending.record {
        changes.push(put(records::job_key(job), records::encode(record.as_ref())));
    }
    if pending.ends {
        changes.push(Change::DeletePrefix { prefix: records::plan_prefix(job) });
        if !defect::has(Defect::ForgottenCleanup) {
            changes.push(Change::DeletePrefix { prefix: records::outcomes_prefix(job) });
        }
        changes.push(Change::Delete { key: records::cancel_key(job) });
        changes.push(Change::Delete { key: owner.clone() });
    } else if !pending.outcomes.is_empty() {
        let batch = OutcomeBatch { outcomes: pending.outcomes.clone() };
        let key = records::outcomes_key(job, pending.owner_revision, pending.number);
        changes.push(put(key, records::encode(&batch)));
    }
    let condition = Condition::Unchanged { key: owner, mod_revision: pending.owner_revision };
    let conditions = if defect::has(Defect::MissingFence) { vec![] } else { vec![condition] };
    Transaction { conditions, changes }
}

/// By job and fencing token: what was written under an earlier token of the same job stays apart, and is refused.
fn gather(batch: impl Iterator<Item = Entry>) -> (BTreeMap<(JobId, u64), Pending>, Vec<Command>) {
    let mut jobs: BTreeMap<(JobId, u64), Pending> = BTreeMap::new();
    let mut notices = Vec::new();
    for entry in batch {
        match entry {
            Entry::Notice(notice) => notices.push(notice),
            Entry::Outcomes { job, owner_revision, number, outcomes } => {
                let pending = jobs.entry((job, owner_revision)).or_default();
                pending.owner_revision = owner_revision;
                if pending.outcomes.is_empty() {
                    pending.number = number;
                }
                pending.outcomes.extend(outcomes);
            }
            Entry::Record { job, owner_revision, record } => {
                let pending = jobs.entry((job, owner_revision)).or_default();
                pending.owner_revision = owner_revision;
                pending.record = Some(record);
            }
            Entry::End { job, owner_revision, record } => {
                let pending = jobs.entry((job, owner_revision)).or_default();
                *pending = Pending { owner_revision, record: Some(record), ends: true, ..Pending::default() };
            }
        }
    }
    (jobs, notices)
}

/// Writes the end of a job that dispatch never held, if these conditions hold.
pub(crate) async fn end_job(
    store: &dyn StateStore,
    job: &JobId,
    conditions: Vec<Condition>,
    record: &JobRecord,
) -> Result<()> {
    let transaction = Transaction {
        conditions,
        changes: vec![
            Change::Put { key: records::job_key(job), value: records::encode(record), lease: None },
            Change::DeletePrefix { prefix: records::plan_prefix(job) },
            Change::Delete { key: records::owner_key(job) },
        ],
    };
    match store.transact(transaction).await? {
        Committed::Yes { .. } => Ok(()),
        Committed::Refused => Err(springald_core::error::Error::new(
            ErrorCode::Fenced,
            format!("job {job} belongs to another scheduler now"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use springald_proto::records::{JobStatus, OwnerRecord};

    use super::*;
    use crate::store::embedded::EmbeddedStore;

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

    /// What the store says of a job after its owner, whose token is void, has written its end.
    async fn after_the_end(store: Arc<EmbeddedStore>, job: &JobId, mut record: Box<JobRecord>) -> (JobStatus, usize) {
        record.set_status(JobStatus::Succeeded);
        let (actor, mut told) = mpsc::channel(4);
        let writer = Writer { store: Arc::clone(&store) as Arc<dyn StateStore>, actor: actor.downgrade() };
        let pending = Pending { owner_revision: TOKEN, record: Some(record), ends: true, ..Pending::default() };
        assert!(writer.write(job, pending, &CancellationToken::new()).await);
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
}
