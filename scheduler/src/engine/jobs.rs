//! What is told of jobs and processes.

#[cfg(doc)]
use springald_core::error::ErrorCode;
use springald_core::error::{Error, Result};
use springald_core::ids::{ExecutorId, JobId};
use springald_proto::records::{ExecutorRecord, ExecutorState, JobRecord, JobStatus, SchedulerRecord};

use super::Engine;
use crate::records;
use crate::store::Entry;

/// Which jobs to list.
#[derive(Clone, Debug)]
pub struct JobFilter {
    /// Only jobs in this state.
    pub state: Option<JobStatus>,
    /// Only jobs that sort after this one: the last one of the page before.
    pub after: Option<JobId>,
    /// Jobs on a page, at most.
    pub limit: usize,
}

/// A page of jobs, oldest first.
#[derive(Clone, Debug, Default)]
pub struct JobPage {
    /// The jobs, without the plans of their stages.
    pub jobs: Vec<JobRecord>,
    /// What to ask for the next page with; `None`: this was the last.
    pub next: Option<JobId>,
}

/// Entries read from the store at a time.
const READ_AHEAD: usize = 500;
/// Processes that are listed, at most.
const PROCESSES: usize = 10_000;

impl Engine {
    /// Lists jobs of all schedulers.
    pub async fn jobs(&self, filter: JobFilter) -> Result<JobPage> {
        let mut page = JobPage::default();
        let mut after = filter.after.as_ref().map(records::job_key);
        loop {
            let entries = self.parts.store.list(records::JOB_RECORDS, after.as_deref(), READ_AHEAD).await?;
            let last = entries.len() < READ_AHEAD;
            after = entries.last().map(|entry| entry.key.clone());
            for entry in &entries {
                let record = self.fresh(records::decode(entry)?).await?;
                if filter.state.is_some_and(|state| state != record.status()) {
                    continue;
                }
                if page.jobs.len() == filter.limit {
                    page.next = page.jobs.last().and_then(|job| job.job_id.parse().ok());
                    return Ok(page);
                }
                page.jobs.push(record);
            }
            if last {
                return Ok(page);
            }
        }
    }

    /// One job, with its stages as they stand if it runs here.
    pub async fn job(&self, id: &JobId) -> Result<JobRecord> {
        match self.parts.store.get(&records::job_key(id)).await? {
            Some(entry) => self.fresh(records::decode(&entry)?).await,
            None => Err(Error::not_found(format!("there is no job {id}, or its record has expired"))),
        }
    }

    /// What dispatch knows is newer than the record.
    async fn fresh(&self, record: JobRecord) -> Result<JobRecord> {
        if records::has_ended(record.status()) || record.scheduler_id != self.parts.scheduler.as_str() {
            return Ok(record);
        }
        let live = self.parts.dispatcher.describe(record.job_id.parse()?).await?;
        Ok(live.map_or(record, |(live, _)| live))
    }

    /// All live executors.
    pub async fn executors(&self) -> Result<Vec<ExecutorRecord>> {
        let mut executors: Vec<ExecutorRecord> =
            decode_all(self.parts.store.list(records::EXECUTORS, None, PROCESSES).await?)?;
        for draining in self.parts.dispatcher.draining().await? {
            let record = executors.iter_mut().find(|record| record.executor_id == draining.as_str());
            record.into_iter().for_each(|record| record.set_state(ExecutorState::Draining));
        }
        Ok(executors)
    }

    /// Tells an executor to drain: to take no more tasks, to hand over what it holds, and to leave.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`] if there is none with this id, [`ErrorCode::Unavailable`] if it is not connected here.
    pub async fn drain_executor(&self, executor: &ExecutorId) -> Result<()> {
        if self.parts.dispatcher.drain(executor.clone()).await? {
            return Ok(());
        }
        match self.parts.store.get(&records::executor_key(executor)).await? {
            Some(_) => Err(Error::unavailable(format!("executor {executor} is not connected to this scheduler now"))),
            None => Err(Error::not_found(format!("there is no executor {executor}"))),
        }
    }

    /// All live schedulers.
    pub async fn schedulers(&self) -> Result<Vec<SchedulerRecord>> {
        decode_all(self.parts.store.list(records::SCHEDULERS, None, PROCESSES).await?)
    }
}

fn decode_all<M: prost::Message + Default>(entries: Vec<Entry>) -> Result<Vec<M>> {
    entries.iter().map(records::decode).collect()
}
