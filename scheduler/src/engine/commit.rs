//! Making a job durable: one transaction, which is tried until the store has answered or the client has waited for long
//! enough.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use springald_core::error::{Error, ErrorCode, Result};
use springald_core::ids::JobId;
use springald_proto::records::{JobRecord, OwnerRecord, StagePlans};

use super::{Engine, stored};
use crate::clock;
use crate::dispatch::stopping;
use crate::planner::PlannedStage;
use crate::records;
use crate::store::{Change, Committed, Condition, MAX_TRANSACTION_BYTES, Transaction};

/// Largest plan of a stage: with it goes what is around it in one message, of 64 MiB at most.
const MAX_STAGE_PLAN_BYTES: usize = 32 << 20;
const PAUSE: Duration = Duration::from_millis(100);
/// A job that was refused and is in the store all the same is ended when it is found; those of so long ago are not there.
const REFUSED_REMEMBERED: Duration = Duration::from_secs(600);
const MOST_REFUSED: usize = 4096;

/// Jobs whose clients were told that the store did not take them. Whether it did was not known.
#[derive(Default)]
pub(super) struct Refused(Mutex<HashMap<JobId, Instant>>);

impl Refused {
    fn add(&self, job: JobId) {
        let (mut jobs, now) = (self.0.lock(), clock::now());
        jobs.retain(|_, at| now.saturating_duration_since(*at) < REFUSED_REMEMBERED);
        if jobs.len() < MOST_REFUSED {
            jobs.insert(job, now);
        }
    }

    /// True if the job was refused.
    pub(super) fn contains(&self, job: &JobId) -> bool {
        self.0.lock().contains_key(job)
    }
}

impl Engine {
    /// Makes a job durable and this scheduler its owner, in one transaction. Gives the fencing token; `None` if somebody
    /// has claimed the job while this scheduler did not know yet that it had happened.
    ///
    /// # Errors
    /// [`ErrorCode::Unavailable`] if the store did not answer in time, [`ErrorCode::ResourcesExhausted`] if it has no
    /// room, or the plans are too large for it.
    pub(super) async fn commit(&self, id: &JobId, record: &JobRecord, stages: &[PlannedStage]) -> Result<Option<u64>> {
        check_stages(stages)?;
        let plans = plan_chunks(stages)?;
        check_size(record, &plans)?;
        let begin = clock::now();
        let mut may_have_happened = false;
        loop {
            let mut changes: Vec<Change> = self.ownership(id, record).into();
            let chunks = plans.iter().enumerate();
            changes.extend(chunks.map(|(number, value)| Change::Put {
                key: format!("{}{number:04}", records::plan_prefix(id)),
                value: value.clone(),
                lease: None,
            }));
            let conditions = vec![Condition::Absent { key: records::job_key(id) }];
            let error = match self.parts.store.transact(Transaction { conditions, changes }).await {
                Ok(Committed::Yes { revision }) => return Ok(Some(revision)),
                Ok(Committed::Refused) => return self.committed_before(id).await,
                Err(error) => error,
            };
            match error.code() {
                ErrorCode::Unavailable => may_have_happened = true,
                // The lease has ended: nothing was written, and there will be a new one.
                ErrorCode::Fenced => self.parts.membership.doubt(),
                _ => return Err(error.context("the query was not accepted")),
            }
            // Its lease was given back, and there will be none: another scheduler takes the query at once.
            if self.parts.dispatcher.is_stopping() {
                return Err(stopping().with_source(error));
            }
            if clock::now().saturating_duration_since(begin) + PAUSE >= self.parts.commit_timeout {
                if may_have_happened {
                    self.refused.add(id.clone());
                }
                let message = format!(
                    "the query was not accepted: the state store could not be reached for {} s (scheduler.commit_timeout); \
                     try again later. The last error was: {error}",
                    self.parts.commit_timeout.as_secs_f64()
                );
                return Err(Error::unavailable(message).with_source(error));
            }
            clock::sleep(PAUSE).await;
        }
    }

    /// Ids are never used twice: the job was written by an earlier try, whose answer was lost.
    async fn committed_before(&self, id: &JobId) -> Result<Option<u64>> {
        let Some(entry) = self.parts.store.get(&records::job_key(id)).await? else { return Ok(None) };
        let record: JobRecord = records::decode(&entry)?;
        Ok(match self.owner(id).await? {
            Some((owner, revision)) if record.takeovers == 0 && owner.scheduler_id == self.parts.scheduler.as_str() => {
                Some(revision)
            }
            _ => None,
        })
    }

    /// The changes that write a job's record and make this scheduler its owner.
    pub(super) fn ownership(&self, id: &JobId, record: &JobRecord) -> [Change; 2] {
        let owner = OwnerRecord { scheduler_id: self.parts.scheduler.to_string() };
        let lease = Some(self.parts.membership.lease());
        [
            Change::Put { key: records::job_key(id), value: records::encode(record), lease: None },
            Change::Put { key: records::owner_key(id), value: records::encode(&owner), lease },
        ]
    }

    /// Keeps the record of a statement that was carried out at once.
    pub(super) async fn commit_ended(&self, id: &JobId, record: &JobRecord) -> Result<()> {
        let put = Change::Put { key: records::job_key(id), value: records::encode(record), lease: None };
        self.parts.store.transact(Transaction { conditions: vec![], changes: vec![put] }).await?;
        Ok(())
    }
}

/// The plans as the store takes them.
fn plan_chunks(stages: &[PlannedStage]) -> Result<Vec<Bytes>> {
    if stages.is_empty() {
        return Ok(vec![]);
    }
    records::plan_chunks(&StagePlans { stages: stages.iter().map(stored::to_record).collect() })
}

/// Refuses plans that do not fit into a message to an executor, however well they can be compressed.
fn check_stages(stages: &[PlannedStage]) -> Result<()> {
    let largest = stages.iter().map(|stage| stage.plan.encoded_len()).max().unwrap_or_default();
    if largest <= MAX_STAGE_PLAN_BYTES {
        return Ok(());
    }
    Err(Error::new(
        ErrorCode::ResourcesExhausted,
        format!(
            "the plan of one stage has {largest} bytes, and may have {MAX_STAGE_PLAN_BYTES}: write large constants into a \
             table and join it, or cut the query up"
        ),
    ))
}

/// Refuses what one transaction does not hold, in words that say what to change.
fn check_size(record: &JobRecord, plans: &[Bytes]) -> Result<()> {
    /// For the owner and all the keys.
    const RESERVE_BYTES: usize = 64 << 10;
    let plan: usize = plans.iter().map(Bytes::len).sum();
    let (text, most) = (record.sql.len(), MAX_TRANSACTION_BYTES - RESERVE_BYTES);
    if record.encoded_len() + plan <= most {
        return Ok(());
    }
    Err(Error::new(
        ErrorCode::ResourcesExhausted,
        format!(
            "the query is too large for the state store: its text has {text} bytes and its plan {plan}, compressed, and \
             together with its schema they may have {most}. Write constants into a table and join it, or cut the query up"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_text_and_plans_then_what_one_transaction_does_not_hold_is_refused_with_its_sizes() {
        let record = |bytes: usize| JobRecord { sql: "x".repeat(bytes), ..JobRecord::default() };
        let plans = [Bytes::from(vec![0; 1 << 20])];
        check_size(&record(100_000), &plans).expect("fits");
        let error = check_size(&record(400_000), &plans).expect_err("too large");
        assert_eq!(error.code(), ErrorCode::ResourcesExhausted);
        assert!(error.message().contains("400000") && error.message().contains("1048576"), "{error}");
    }

    #[test]
    fn given_more_refused_jobs_than_are_remembered_then_there_is_a_bound() {
        let refused = Refused::default();
        let first = JobId::generate();
        refused.add(first.clone());
        (0..2 * MOST_REFUSED).for_each(|_| refused.add(JobId::generate()));
        assert!(refused.contains(&first));
        assert_eq!(refused.0.lock().len(), MOST_REFUSED);
    }
}
