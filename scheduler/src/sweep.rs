//! Keeps the job records in order: what was kept for long enough goes, and jobs that nobody owns, or whose owner may not
//! know it, are named to [`takeover`](crate::takeover).
//!
//! Every scheduler sweeps. All changes are conditioned on what was read, so that sweeps of several schedulers, and a
//! sweep and a job's owner, cannot get in each other's way.

use std::sync::Arc;
use std::time::Duration;

use springald_core::error::{ErrorCode, Result};
use springald_core::ids::{JobId, SchedulerId};
use springald_core::telemetry::events::names;
use springald_proto::records::{JobRecord, JobStatus, OwnerRecord};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock;
use crate::metrics::springald_scheduler as metrics;
use crate::records;
use crate::store::{Change, Committed, Condition, Entry, StateStore, Transaction};
use crate::takeover::Suspects;

/// Sweeps are this far apart, or a tenth of the retention if that is shorter, but never less than the shortest.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// A sweep that the store has broken off begins again so soon: nobody else may have named what it would have found.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// What a scheduler was to run itself, and which is gone now, is run by another one if a client asks within this time.
const LOCAL_GRACE: Duration = Duration::from_secs(60);
/// Records read at a time.
const PAGE: usize = 200;

/// Who sweeps, and what goes.
pub(crate) struct Sweep {
    /// This scheduler.
    pub(crate) scheduler: SchedulerId,
    /// Records of ended jobs are kept for so long.
    pub(crate) retention: Duration,
    /// A job that this scheduler owns and was submitted so long ago is looked at: if the store's answer to the submission was
    /// lost, nobody runs it.
    pub(crate) doubtful_after: Duration,
}

impl Sweep {
    fn owns(&self, owner: &Entry) -> bool {
        records::decode::<OwnerRecord>(owner).is_ok_and(|owner| owner.scheduler_id == self.scheduler.as_str())
    }

    /// Does what is due with one record.
    async fn look_at(
        &self,
        store: &dyn StateStore,
        entry: &Entry,
        now: i64,
        orphan: &(impl Fn(JobId) + Sync),
    ) -> Result<()> {
        let before = |time: Duration| now.saturating_sub(i64::try_from(time.as_micros()).unwrap_or(i64::MAX));
        let record: JobRecord = records::decode(entry)?;
        let Ok(job) = record.job_id.parse::<JobId>() else { return Ok(()) };
        if !records::needs_owner(&record) {
            let old = record.ended_micros < before(self.retention);
            return if old { expire(store, entry, &job).await } else { Ok(()) };
        }
        match store.get(&records::owner_key(&job)).await? {
            None if record.local => return fail_local(store, entry, &job, record, now).await,
            None => orphan(job),
            Some(owner) if record.submitted_micros < before(self.doubtful_after) && self.owns(&owner) => orphan(job),
            Some(_) => {}
        }
        Ok(())
    }
}

/// Sweeps on `tracker` until `shutdown`, the first time at once.
pub(crate) fn start(
    store: Arc<dyn StateStore>,
    options: Sweep,
    suspects: Suspects,
    tracker: &TaskTracker,
    shutdown: CancellationToken,
) {
    let pause = (options.retention / 10).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
    tracker.spawn(shutdown.run_until_cancelled_owned(async move {
        loop {
            sweep_through(store.as_ref(), &options, &|job| suspects.name(job)).await;
            tokio::select! {
                biased;
                () = clock::sleep(pause) => {}
                () = suspects.missed() => {}
            }
        }
    }));
}

/// Sweeps until the store has answered to the last record.
async fn sweep_through(store: &dyn StateStore, options: &Sweep, orphan: &(impl Fn(JobId) + Sync)) {
    while let Err(error) = sweep(store, options, records::now_micros(), orphan).await {
        tracing::warn!(event = names::SWEEP_FAILED, %error, "the job records could not all be looked at; trying again");
        clock::sleep(PAUSE_AFTER_FAILURE).await;
    }
}

/// One sweep, at `now` (microseconds since the epoch). Calls `orphan` for jobs that somebody must take over. Fails if
/// the store does not answer; a single record that something is wrong with is left out.
async fn sweep(store: &dyn StateStore, options: &Sweep, now: i64, orphan: &(impl Fn(JobId) + Sync)) -> Result<()> {
    let mut after = None;
    loop {
        let entries = store.list(records::JOB_RECORDS, after.as_deref(), PAGE).await?;
        for entry in &entries {
            match options.look_at(store, entry, now, orphan).await {
                Err(error) if error.code() == ErrorCode::Unavailable => return Err(error),
                Err(error) => {
                    let job_id = entry.key.strip_prefix(records::JOB_RECORDS);
                    tracing::warn!(event = names::SWEEP_RECORD_SKIPPED, job_id, %error, "a job's record is left as it is");
                }
                Ok(()) => {}
            }
        }
        if entries.len() < PAGE {
            return Ok(());
        }
        after = entries.last().map(|entry| entry.key.clone());
    }
}

/// A query that its scheduler was to run itself, and nobody asked for since that scheduler was lost.
async fn fail_local(store: &dyn StateStore, entry: &Entry, job: &JobId, mut record: JobRecord, now: i64) -> Result<()> {
    if now.saturating_sub(record.submitted_micros) < LOCAL_GRACE.as_micros() as i64 {
        return Ok(());
    }
    let scheduler = std::mem::take(&mut record.scheduler_id);
    record.set_status(JobStatus::Failed);
    record.ended_micros = now;
    record.error_code = ErrorCode::Unavailable.as_str().to_owned();
    record.error = format!("the scheduler that ran this job, {scheduler}, is gone; run the query again");
    record.scheduler_id = scheduler;
    let mut changes = leftovers(job);
    changes.push(Change::Put { key: entry.key.clone(), value: records::encode(&record), lease: None });
    let mut conditions = vec![unchanged(entry)];
    conditions.push(Condition::Absent { key: records::owner_key(job) });
    if let Committed::Yes { .. } = store.transact(Transaction { conditions, changes }).await? {
        tracing::warn!(event = names::JOB_ORPHANED, job_id = %job, "a job whose scheduler is gone has failed");
        crate::job_events::finished(&record, None, false);
    }
    Ok(())
}

async fn expire(store: &dyn StateStore, entry: &Entry, job: &JobId) -> Result<()> {
    // A result that is still there belongs to its owner, which ends it after its own time.
    if store.get(&records::owner_key(job)).await?.is_some() {
        return Ok(());
    }
    let mut changes = leftovers(job);
    changes.push(Change::Delete { key: entry.key.clone() });
    let transaction = Transaction { conditions: vec![unchanged(entry)], changes };
    if let Committed::Yes { .. } = store.transact(transaction).await? {
        metrics::job_records_expired_total().inc();
    }
    Ok(())
}

fn unchanged(entry: &Entry) -> Condition {
    Condition::Unchanged { key: entry.key.clone(), mod_revision: entry.mod_revision }
}

fn leftovers(job: &JobId) -> Vec<Change> {
    vec![
        Change::DeletePrefix { prefix: records::plan_prefix(job) },
        Change::DeletePrefix { prefix: records::outcomes_prefix(job) },
        Change::Delete { key: records::cancel_key(job) },
    ]
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures::FutureExt;
    use springald_core::error::Error;

    use super::*;
    use crate::store::disturbed::Disturbed;
    use crate::store::embedded::EmbeddedStore;

    const HOUR: Duration = Duration::from_secs(3600);

    fn options() -> Sweep {
        Sweep { scheduler: "s-1".parse().expect("valid"), retention: HOUR, doubtful_after: HOUR }
    }

    async fn put(store: &EmbeddedStore, status: JobStatus, ended_micros: i64, owned: bool) -> JobId {
        let job = JobId::generate();
        let mut record = JobRecord { job_id: job.to_string(), ended_micros, ..JobRecord::default() };
        record.set_status(status);
        record.scheduler_id = "s-1".to_owned();
        let put = |key, value| Change::Put { key, value, lease: None };
        let mut changes = vec![put(records::job_key(&job), records::encode(&record))];
        changes.push(put(format!("{}0000", records::plan_prefix(&job)), "plan".into()));
        if owned {
            let owner = OwnerRecord { scheduler_id: "s-1".to_owned() };
            changes.push(put(records::owner_key(&job), records::encode(&owner)));
        }
        store.transact(Transaction { conditions: vec![], changes }).await.expect("written");
        job
    }

    async fn record(store: &EmbeddedStore, job: &JobId) -> Option<JobRecord> {
        let entry = store.get(&records::job_key(job)).await.expect("read")?;
        Some(records::decode(&entry).expect("a record"))
    }

    #[tokio::test]
    async fn given_ended_jobs_when_swept_then_only_those_kept_for_long_enough_go() {
        let store = EmbeddedStore::in_memory().expect("opened");
        let now = records::now_micros();
        let two_hours = 2 * HOUR.as_micros() as i64;
        let old = put(&store, JobStatus::Succeeded, now - two_hours, false).await;
        let held = put(&store, JobStatus::Succeeded, now - two_hours, true).await;
        let young = put(&store, JobStatus::Failed, now - 1, false).await;
        sweep(&store, &options(), now, &|_| ()).await.expect("swept");
        assert_eq!(record(&store, &old).await, None);
        assert!(store.list(&records::plan_prefix(&old), None, 1).await.expect("listed").is_empty());
        assert!(record(&store, &held).await.is_some() && record(&store, &young).await.is_some());
    }

    #[tokio::test]
    async fn given_a_store_that_does_not_answer_when_swept_then_the_sweep_begins_again_a_moment_later() {
        let store = Arc::new(EmbeddedStore::in_memory().expect("opened"));
        let old = put(&store, JobStatus::Succeeded, 0, false).await;
        let lost = put(&store, JobStatus::Running, 0, false).await;
        let was_away = AtomicBool::new(false);
        let disturbed = Disturbed::new(&store, move |_| {
            let answer = if was_away.swap(true, Ordering::Relaxed) { Ok(()) } else { Err(Error::unavailable("away")) };
            ready(answer).boxed()
        });
        let named = parking_lot::Mutex::new(vec![]);
        sweep_through(&disturbed, &options(), &|job| named.lock().push(job)).await;
        assert_eq!(record(&store, &old).await, None);
        assert_eq!(named.into_inner().last(), Some(&lost));
    }

    #[tokio::test]
    async fn given_a_record_that_cannot_go_when_swept_then_all_others_go() {
        let store = Arc::new(EmbeddedStore::in_memory().expect("opened"));
        let mut old = vec![];
        for _ in 0..3 {
            old.push(put(&store, JobStatus::Succeeded, 0, false).await);
        }
        old.sort();
        let kept = records::job_key(&old[0]);
        let disturbed = Disturbed::new(&store, move |transaction| {
            let is_it = |condition: &Condition| matches!(condition, Condition::Unchanged { key, .. } if *key == kept);
            let refused = transaction.conditions.iter().any(is_it);
            let answer = if refused { Err(Error::internal("not this one")) } else { Ok(()) };
            ready(answer).boxed()
        });
        sweep(&disturbed, &options(), records::now_micros(), &|_| ()).await.expect("swept");
        assert!(record(&store, &old[0]).await.is_some());
        assert_eq!((record(&store, &old[1]).await, record(&store, &old[2]).await), (None, None));
    }

    #[tokio::test]
    async fn given_jobs_that_nobody_owns_or_knows_of_when_swept_then_they_are_named() {
        let store = EmbeddedStore::in_memory().expect("opened");
        let lost = put(&store, JobStatus::Running, 0, false).await;
        let forgotten = put(&store, JobStatus::Queued, 0, true).await;
        put(&store, JobStatus::Succeeded, records::now_micros(), false).await;
        let named = parking_lot::Mutex::new(vec![]);
        sweep(&store, &options(), records::now_micros(), &|job| named.lock().push(job)).await.expect("swept");
        named.lock().sort();
        let mut expected = [lost, forgotten];
        expected.sort();
        assert_eq!(*named.lock(), expected);
        let another = Sweep { scheduler: "s-2".parse().expect("valid"), ..options() };
        let mut named = parking_lot::Mutex::new(vec![]);
        sweep(&store, &another, records::now_micros(), &|job| named.lock().push(job)).await.expect("swept");
        assert_eq!(named.get_mut().len(), 1, "what another one owns is its own matter");
    }

    #[tokio::test]
    async fn given_a_query_that_its_scheduler_was_to_run_itself_when_nobody_asks_then_it_has_failed_after_a_while() {
        let store = EmbeddedStore::in_memory().expect("opened");
        let job = put(&store, JobStatus::Running, 0, false).await;
        let mut local = record(&store, &job).await.expect("there");
        local.local = true;
        local.submitted_micros = records::now_micros();
        let write = Change::Put { key: records::job_key(&job), value: records::encode(&local), lease: None };
        store.transact(Transaction { conditions: vec![], changes: vec![write] }).await.expect("written");
        let nobody = |job: JobId| panic!("{job} was named");
        sweep(&store, &options(), local.submitted_micros, &nobody).await.expect("swept");
        assert_eq!(record(&store, &job).await.expect("kept").status(), JobStatus::Running);
        let later = local.submitted_micros + 2 * LOCAL_GRACE.as_micros() as i64;
        sweep(&store, &options(), later, &nobody).await.expect("swept");
        let failed = record(&store, &job).await.expect("kept");
        assert_eq!((failed.status(), failed.scheduler_id.as_str()), (JobStatus::Failed, "s-1"));
        assert!(failed.error.contains("s-1") && failed.ended_micros > 0, "{failed:?}");
    }
}
