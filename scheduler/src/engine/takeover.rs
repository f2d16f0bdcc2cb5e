//! Claiming jobs whose scheduler is gone.
//!
//! A claim is one transaction: nobody owns the job, its record is as it was read, and from now on it is ours. Of several
//! schedulers that try, one succeeds; what it reads afterwards nobody else can change.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use datafusion::execution::session_state::SessionState;
use springald_core::error::{Error, ErrorCode, Result};
use springald_core::ids::{ExecutorId, JobId};
use springald_core::settings::QuerySettings;
use springald_core::telemetry::events::names;
use springald_proto::records::{ExecutorRecord, JobRecord, OutcomeBatch, OwnerRecord, RecordedOutcome};

use super::local::LocalJob;
use super::statement::{self, Prepared};
use super::{Engine, stored};
use crate::clock;
use crate::dispatch::{AdoptedJob, NewJob};
use crate::planner::{self, ClusterShape, PlannedStage, QueryOptions, Run};
use crate::records;
use crate::store::{Committed, Condition, Entry, Transaction};

/// Schedulers that see the same loss try at different times, each job another one first, so that they share the jobs.
const SPREAD_MILLIS: u64 = 64;
/// When the store was away, the owners of jobs have lost them without being lost themselves. They know best how to go on,
/// and may have ended some: others give them so much time.
const OWNERS_TURN: Duration = Duration::from_secs(2);
/// Entries read from the store at a time.
const PAGE: usize = 500;

impl Engine {
    /// Makes sure that a job which should have an owner has one, and that this scheduler does not believe wrongly to be
    /// it.
    pub(crate) async fn check_owner(&self, job: &JobId) -> Result<()> {
        if self.parts.dispatcher.is_ending(job.clone()).await? {
            // It has ended here, and the journal is about to write so.
            return Ok(());
        }
        match self.parts.store.get(&records::owner_key(job)).await? {
            Some(owner) => {
                self.parts.dispatcher.fenced(job.clone(), owner.mod_revision.saturating_sub(1)).await?;
                let record: OwnerRecord = records::decode(&owner)?;
                let here = self.parts.dispatcher.watch(job.clone()).await?.is_some();
                if record.scheduler_id != self.parts.scheduler.as_str() || here || self.ended_since(job, &owner).await?
                {
                    return Ok(());
                }
                self.go_on(job, owner.mod_revision).await
            }
            None => {
                self.parts.dispatcher.fenced(job.clone(), u64::MAX).await?;
                self.claim(job).await
            }
        }
    }

    /// True if a job that is not here (any more) has ended since its owner was read.
    async fn ended_since(&self, job: &JobId, owner: &Entry) -> Result<bool> {
        if self.parts.dispatcher.is_ending(job.clone()).await? {
            return Ok(true);
        }
        // Its end, if there was one, is in the store by now.
        let now = self.parts.store.get(&records::owner_key(job)).await?;
        Ok(now.is_none_or(|now| now.mod_revision != owner.mod_revision))
    }

    /// The jobs that this scheduler believes to own.
    pub(crate) async fn jobs_held(&self) -> Result<Vec<JobId>> {
        self.parts.dispatcher.jobs_held().await
    }

    async fn claim(&self, job: &JobId) -> Result<()> {
        let store = &self.parts.store;
        let Some(entry) = store.get(&records::job_key(job)).await? else { return Ok(()) };
        let record: JobRecord = records::decode(&entry)?;
        // What a scheduler ran itself is run again when somebody asks for it.
        if record.local || !records::needs_owner(&record) {
            return Ok(());
        }
        clock::sleep(self.turn(job, &record)).await;
        match self.own(job, &entry, record).await? {
            Some((record, owner_revision)) => self.take_in(job, record, owner_revision).await,
            None => Ok(()),
        }
    }

    /// The job was submitted or claimed, and nobody heard of it: the store's answer was lost.
    async fn go_on(&self, job: &JobId, owner_revision: u64) -> Result<()> {
        let Some(entry) = self.parts.store.get(&records::job_key(job)).await? else { return Ok(()) };
        let record: JobRecord = records::decode(&entry)?;
        if self.refused.contains(job) {
            let error = Error::unavailable("the client was told that the state store did not take this query");
            self.write_failure(job, record, owner_revision, &error).await;
            return Ok(());
        }
        if record.local || !records::needs_owner(&record) {
            return Ok(());
        }
        self.take_in(job, record, owner_revision).await
    }

    async fn take_in(&self, job: &JobId, record: JobRecord, owner_revision: u64) -> Result<()> {
        let chunks = self.read_all(&records::plan_prefix(job)).await?;
        let adopted = match self.read_job(job, record.clone(), owner_revision, &chunks).await {
            Ok(adopted) => self.parts.dispatcher.adopt(adopted).await,
            // Tried again: the store will tell later.
            Err(error) if error.code() == ErrorCode::Unavailable => return Err(error),
            Err(error) => Err(error),
        };
        if let Err(error) = adopted {
            // This scheduler is stopping: others go on with the job.
            if error.code() == ErrorCode::Fenced {
                return Err(error);
            }
            let error = error.context("taking the job over from a scheduler that is gone");
            self.write_failure(job, record, owner_revision, &error).await;
            return Ok(());
        }
        // It may have been lost, or word to cancel it may have come, before it was here to be given up or cancelled.
        let owner = self.parts.store.get(&records::owner_key(job)).await?;
        if owner.is_none_or(|owner| owner.mod_revision != owner_revision) {
            return self.parts.dispatcher.fenced(job.clone(), owner_revision).await;
        }
        if let Some(entry) = self.parts.store.get(&records::cancel_key(job)).await? {
            self.cancel_here(job, &String::from_utf8_lossy(&entry.value)).await;
        }
        Ok(())
    }

    fn turn(&self, job: &JobId, record: &JobRecord) -> Duration {
        let mut hasher = DefaultHasher::new();
        (job, &self.parts.scheduler).hash(&mut hasher);
        let turn = Duration::from_millis(hasher.finish() % SPREAD_MILLIS);
        match record.scheduler_id == self.parts.scheduler.as_str() {
            true => Duration::ZERO,
            false if self.parts.membership.was_away() => OWNERS_TURN + turn,
            false => turn,
        }
    }

    /// Becomes the owner; `None` if somebody else was faster. Gives the record as it is now, and the fencing token.
    async fn own(&self, job: &JobId, entry: &Entry, mut record: JobRecord) -> Result<Option<(JobRecord, u64)>> {
        let earlier = std::mem::replace(&mut record.scheduler_id, self.parts.scheduler.to_string());
        record.takeovers += 1;
        let conditions = vec![
            Condition::Unchanged { key: entry.key.clone(), mod_revision: entry.mod_revision },
            Condition::Absent { key: records::owner_key(job) },
        ];
        let transaction = Transaction { conditions, changes: self.ownership(job, &record).into() };
        let committed = self.parts.store.transact(transaction).await.inspect_err(|error| {
            if error.code() == ErrorCode::Fenced {
                self.parts.membership.doubt();
            }
        })?;
        match committed {
            Committed::Refused => Ok(None),
            Committed::Yes { revision } => {
                tracing::info!(event = names::TAKEOVER_CLAIMED, job_id = %job, from = earlier, owner_revision = revision, "job claimed from a scheduler that is gone");
                Ok(Some((record, revision)))
            }
        }
    }

    async fn read_job(
        &self,
        job: &JobId,
        record: JobRecord,
        owner_revision: u64,
        chunks: &[Entry],
    ) -> Result<AdoptedJob> {
        let plans = records::plans_of_chunks(chunks)?;
        let stages = plans.stages.into_iter().map(stored::from_record).collect::<Result<Vec<PlannedStage>>>()?;
        let mut outcomes: Vec<RecordedOutcome> = vec![];
        for entry in self.read_all(&records::outcomes_prefix(job)).await? {
            outcomes.extend(records::decode::<OutcomeBatch>(&entry)?.outcomes);
        }
        let cancel = self.parts.store.get(&records::cancel_key(job)).await?;
        let deadline = records::deadline_of(&record);
        Ok(AdoptedJob {
            job: NewJob { id: job.clone(), record, stages, owner_revision, deadline },
            outcomes,
            executors: self.live_executors().await?,
            cancelled: cancel.map(|entry| String::from_utf8_lossy(&entry.value).into_owned()),
        })
    }

    async fn live_executors(&self) -> Result<BTreeSet<ExecutorId>> {
        let entries = self.read_all(records::EXECUTORS).await?;
        entries.iter().map(|entry| records::decode::<ExecutorRecord>(entry)?.executor_id.parse()).collect()
    }

    async fn read_all(&self, prefix: &str) -> Result<Vec<Entry>> {
        let mut all: Vec<Entry> = vec![];
        loop {
            let page = self.parts.store.list(prefix, all.last().map(|entry| entry.key.as_str()), PAGE).await?;
            let over = page.len() < PAGE;
            all.extend(page);
            if over {
                return Ok(all);
            }
        }
    }

    // === what a scheduler runs itself ===

    /// Claims a job that the scheduler which took it would have run itself. `None` if it belongs to somebody by now.
    pub(super) async fn claim_local(&self, job: &JobId, entry: &Entry, record: JobRecord) -> Result<Option<JobRecord>> {
        Ok(self.own(job, entry, record).await?.map(|(record, _)| record))
    }

    /// Plans a job that a scheduler runs itself, again.
    pub(super) async fn plan_again(&self, record: JobRecord) -> Result<LocalJob> {
        let (query, base) = (self.parts.query.clone(), self.parts.base.clone());
        let cluster = self.parts.dispatcher.cluster_shape();
        self.on_planning_threads(async move { plan_again(&record, (&query, &base), cluster).await }).await?
    }
}

async fn plan_again(
    record: &JobRecord,
    (query, base): (&QuerySettings, &SessionState),
    cluster: ClusterShape,
) -> Result<LocalJob> {
    let settings = record.settings.clone().into_iter().collect();
    let options = QueryOptions::new(query, &settings)?;
    let state = options.whole(base, cluster);
    let sample_seed = statement::sample_seed(&record.job_id.parse()?);
    let changed = || Error::unavailable("the tables have changed since the query was planned; run it again");
    let (logical, analyze) = match statement::classify(statement::parse(&record.sql, &state, sample_seed).await?)? {
        Prepared::Query(logical) => (logical, false),
        Prepared::Analyze(logical) => (logical, true),
        Prepared::Explain(logical) => {
            let planned = planner::plan(&logical, &state, &options, cluster).await?;
            let rows = planner::explained(&logical, &planned);
            return Ok(LocalJob::Batches(statement::explain_batch(rows)?));
        }
        Prepared::Done => return Err(changed()),
    };
    match planner::plan(&logical, &state, &options, cluster).await?.run {
        Run::Local { plan, context } => Ok(LocalJob::Plan { plan, context, analyze }),
        Run::Stages(_) => Err(changed()),
    }
}
