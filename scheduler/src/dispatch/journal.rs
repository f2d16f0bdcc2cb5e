//! The journal: writes what happens to jobs into the store, in order, off the critical path.
//!
//! Outcomes are gathered for as long as the last write takes and go out as one transaction per job. An executor's
//! report is acknowledged after that; what was never acknowledged is reported again. A write that is refused means that
//! the job belongs to another scheduler now: it is dropped here.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use springald_core::error::{ErrorCode, Result};
use springald_core::ids::JobId;
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
        let transaction = transaction(job, &pending);
        loop {
            match self.store.transact(transaction.clone()).await {
                Ok(Committed::Yes { .. }) => {
                    if pending.ends {
                        let owner_revision = pending.owner_revision;
                        self.tell(Command::EndDurable { job: job.clone(), owner_revision }).await;
                    }
                    break;
                }
                // After an answer that was lost, the same write is refused because it has ended the job: executors hear of
                // it when they say what they hold.
                Ok(Committed::Refused) if pending.ends => break,
                Ok(Committed::Refused) => {
                    self.tell(Command::Fenced { job: job.clone(), owner_revision: pending.owner_revision }).await;
                    break;
                }
                Err(error) => {
                    tracing::warn!(job_id = %job, %error, "the store did not take a job's changes; trying again");
                    if shutdown.run_until_cancelled(clock::sleep(PAUSE_AFTER_FAILURE)).await.is_none() {
                        return false;
                    }
                }
            }
        }
        true
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

/// Writes the end of a job that dispatch never held.
pub(crate) async fn end_job(
    store: &dyn StateStore,
    job: &JobId,
    owner_revision: u64,
    record: &JobRecord,
) -> Result<()> {
    let transaction = Transaction {
        conditions: vec![Condition::Unchanged { key: records::owner_key(job), mod_revision: owner_revision }],
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
