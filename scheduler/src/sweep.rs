//! Keeps the job records in order: what was kept for long enough goes, and jobs that nobody owns are named to
//! [`takeover`](crate::takeover).
//!
//! Every scheduler sweeps. All changes are conditioned on what was read, so that sweeps of several schedulers, and a
//! sweep and a job's owner, cannot get in each other's way.

use std::sync::Arc;
use std::time::Duration;

use springald_core::error::{ErrorCode, Result};
use springald_core::ids::{JobId, SchedulerId};
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
/// What a scheduler was to run itself, and which is gone now, is run by another one if a client asks within this time.
const LOCAL_GRACE: Duration = Duration::from_secs(60);
/// Records read at a time.
const PAGE: usize = 200;

/// Sweeps on `tracker` until `shutdown`, the first time at once. Records of ended jobs are kept for `retention`.
pub(crate) fn start(
    store: Arc<dyn StateStore>,
    scheduler: SchedulerId,
    retention: Duration,
    suspects: Suspects,
    tracker: &TaskTracker,
    shutdown: CancellationToken,
) {
    let pause = (retention / 10).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
    tracker.spawn(shutdown.run_until_cancelled_owned(async move {
        loop {
            let orphans = |job| suspects.name(job);
            if let Err(error) = sweep(store.as_ref(), (&scheduler, retention), records::now_micros(), &orphans).await {
                tracing::warn!(%error, "the job records could not all be looked at");
            }
            tokio::select! {
                biased;
                () = clock::sleep(pause) => {}
                () = suspects.missed() => {}
            }
        }
    }));
}

/// One sweep, at `now` (microseconds since the epoch). Calls `orphan` for jobs that somebody must take over, or that
/// `scheduler` may own without knowing.
async fn sweep(
    store: &dyn StateStore,
    (scheduler, retention): (&SchedulerId, Duration),
    now: i64,
    orphan: &(impl Fn(JobId) + Sync),
) -> Result<()> {
    let oldest = now.saturating_sub(i64::try_from(retention.as_micros()).unwrap_or(i64::MAX));
    let mut after = None;
    loop {
        let entries = store.list(records::JOB_RECORDS, after.as_deref(), PAGE).await?;
        for entry in &entries {
            let record: JobRecord = match records::decode(entry) {
                Ok(record) => record,
                Err(error) => {
                    tracing::warn!(%error, "a job's record is left as it is");
                    continue;
                }
            };
            let Ok(job) = record.job_id.parse::<JobId>() else { continue };
            if records::needs_owner(&record) {
                match store.get(&records::owner_key(&job)).await? {
                    None if record.local => fail_local(store, entry, &job, record, now).await?,
                    None => orphan(job),
                    Some(owner) if is_unheard_of(&record, &owner, scheduler) => orphan(job),
                    Some(_) => {}
                }
            } else if record.ended_micros < oldest {
                expire(store, entry, &job).await?;
            }
        }
        if entries.len() < PAGE {
            return Ok(());
        }
        after = entries.last().map(|entry| entry.key.clone());
    }
}

/// True for a job that was submitted at this scheduler, and of which it may not know: the store's answer was lost.
fn is_unheard_of(record: &JobRecord, owner: &Entry, scheduler: &SchedulerId) -> bool {
    let owner = records::decode::<OwnerRecord>(owner).map(|owner| owner.scheduler_id);
    let here = owner.is_ok_and(|owner| owner == scheduler.as_str());
    here && !record.local && record.status() == JobStatus::Queued
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
        tracing::warn!(job_id = %job, "a job whose scheduler is gone has failed");
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
    use super::*;
    use crate::store::embedded::EmbeddedStore;

    const HOUR: Duration = Duration::from_secs(3600);

    fn this() -> SchedulerId {
        "s-1".parse().expect("a valid id")
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
            let owner = OwnerRecord { scheduler_id: record.scheduler_id };
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
        sweep(&store, (&this(), HOUR), now, &|_| ()).await.expect("swept");
        assert_eq!(record(&store, &old).await, None);
        assert!(store.list(&records::plan_prefix(&old), None, 1).await.expect("listed").is_empty());
        assert!(record(&store, &held).await.is_some() && record(&store, &young).await.is_some());
    }

    #[tokio::test]
    async fn given_jobs_that_nobody_owns_or_knows_of_when_swept_then_they_are_named() {
        let store = EmbeddedStore::in_memory().expect("opened");
        let lost = put(&store, JobStatus::Running, 0, false).await;
        put(&store, JobStatus::Running, 0, true).await;
        let unheard_of = put(&store, JobStatus::Queued, 0, true).await;
        put(&store, JobStatus::Succeeded, records::now_micros(), false).await;
        let named = parking_lot::Mutex::new(vec![]);
        sweep(&store, (&this(), HOUR), records::now_micros(), &|job| named.lock().push(job)).await.expect("swept");
        assert_eq!(*named.lock(), [lost, unheard_of]);
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
        sweep(&store, (&this(), HOUR), local.submitted_micros, &nobody).await.expect("swept");
        assert_eq!(record(&store, &job).await.expect("kept").status(), JobStatus::Running);
        let later = local.submitted_micros + 2 * LOCAL_GRACE.as_micros() as i64;
        sweep(&store, (&this(), HOUR), later, &nobody).await.expect("swept");
        let failed = record(&store, &job).await.expect("kept");
        assert_eq!((failed.status(), failed.scheduler_id.as_str()), (JobStatus::Failed, "s-1"));
        assert!(failed.error.contains("s-1") && failed.ended_micros > 0, "{failed:?}");
    }
}
