//! Queries that the scheduler answers itself: those over no stored data, EXPLAIN, and the text of EXPLAIN ANALYZE.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::{RecordBatchReceiverStreamBuilder, RecordBatchStreamAdapter};
use datafusion::physical_plan::{ExecutionPlan, collect, execute_stream};
use futures::StreamExt;
use parking_lot::Mutex;
use springald_core::error::{Error, ErrorCode, Result};
use springald_core::ids::JobId;
use springald_core::telemetry::events::names;
use springald_proto::records::{JobRecord, JobStatus};

use super::{Engine, ended, statement};
use crate::clock;
use crate::planner::{PlannedStage, analyzed};
use crate::records;
use crate::store::Condition;

/// What the scheduler has to do for a job when its result is asked for.
pub(super) enum LocalJob {
    /// Nothing: this is the result.
    Batches(RecordBatch),
    /// Run the plan.
    Plan { plan: Arc<dyn ExecutionPlan>, context: Arc<TaskContext>, analyze: bool },
    /// Wait for the stages, and tell what they measured.
    Analyze { stages: Vec<PlannedStage> },
}

impl LocalJob {
    pub(super) fn schema(&self) -> SchemaRef {
        match self {
            Self::Batches(batch) => batch.schema(),
            Self::Plan { plan, analyze: false, .. } => plan.schema(),
            Self::Plan { .. } | Self::Analyze { .. } => statement::explain_schema(),
        }
    }
}

/// Local jobs whose result was not asked for yet. Bounded; those that nobody asks for expire.
pub(super) struct LocalJobs {
    jobs: Mutex<HashMap<JobId, (Instant, LocalJob)>>,
    limit: usize,
    retention: Duration,
}

impl LocalJobs {
    pub(super) fn new(limit: usize, retention: Duration) -> Self {
        Self { jobs: Mutex::default(), limit, retention }
    }

    pub(super) fn put(&self, id: JobId, job: LocalJob) -> Result<()> {
        let now = clock::now();
        let mut jobs = self.jobs.lock();
        if jobs.len() >= self.limit {
            jobs.retain(|_, (since, _)| now.duration_since(*since) < self.retention);
        }
        if jobs.len() >= self.limit {
            return Err(Error::new(
                ErrorCode::ResourcesExhausted,
                format!("{} results wait to be fetched, the most that scheduler.max_jobs allows", jobs.len()),
            ));
        }
        jobs.insert(id, (now, job));
        Ok(())
    }

    pub(super) fn contains(&self, id: &JobId) -> bool {
        self.jobs.lock().contains_key(id)
    }

    pub(super) fn take(&self, id: &JobId) -> Option<LocalJob> {
        self.jobs.lock().remove(id).map(|(_, job)| job)
    }
}

impl Engine {
    /// Gives the result of a local job, and writes its end when that was read.
    pub(super) async fn run_local(&self, id: JobId, job: LocalJob) -> Result<SendableRecordBatchStream> {
        match job {
            LocalJob::Batches(batch) => Ok(self.one_batch(&id, batch)),
            LocalJob::Plan { plan, context, analyze: false } => match execute_stream(plan, context) {
                Ok(stream) => Ok(self.with_end(id, stream)),
                Err(error) => Err(self.failed(&id, error.into()).await),
            },
            LocalJob::Plan { plan, context, analyze: true } => match collect(Arc::clone(&plan), context).await {
                Ok(_) => {
                    let text =
                        datafusion::physical_plan::display::DisplayableExecutionPlan::with_metrics(plan.as_ref())
                            .indent(false)
                            .to_string();
                    let batch = statement::explain_batch(vec![("plan_with_metrics".to_owned(), text)])?;
                    Ok(self.one_batch(&id, batch))
                }
                Err(error) => Err(self.failed(&id, error.into()).await),
            },
            LocalJob::Analyze { stages } => self.analyzed(&id, &stages).await,
        }
    }

    /// Waits for the stages; their result is given up, and what they measured is the answer.
    async fn analyzed(&self, id: &JobId, stages: &[PlannedStage]) -> Result<SendableRecordBatchStream> {
        let Some(mut view) = self.parts.dispatcher.watch(id.clone()).await? else {
            return Err(Error::not_found(format!("job {id} has ended")));
        };
        let guard = super::results::Reader::new(&self.parts.dispatcher, id.clone()).await?;
        ended(&mut view).await?;
        let described = self.parts.dispatcher.describe(id.clone()).await?;
        let (_, metrics) = described.ok_or_else(|| Error::not_found(format!("job {id} has ended")))?;
        guard.finished().await?;
        let rows = vec![("plan_with_metrics".to_owned(), analyzed(stages, &metrics))];
        let batch = statement::explain_batch(rows)?;
        let schema = batch.schema();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter([Ok(batch)]))))
    }

    fn one_batch(&self, id: &JobId, batch: RecordBatch) -> SendableRecordBatchStream {
        let stream = RecordBatchStreamAdapter::new(batch.schema(), futures::stream::iter([Ok(batch)]));
        self.with_end(id.clone(), Box::pin(stream))
    }

    /// Passes a stream on; writes the job's end when it ends or is dropped.
    fn with_end(&self, id: JobId, mut stream: SendableRecordBatchStream) -> SendableRecordBatchStream {
        const BATCHES_AHEAD: usize = 2;
        let mut builder = RecordBatchReceiverStreamBuilder::new(stream.schema(), BATCHES_AHEAD);
        let sender = builder.tx();
        let end = LocalEnd { store: Arc::clone(&self.parts.store), id, outcome: None };
        builder.spawn(async move {
            // All of it moves in here, so that it is dropped when this ends, and not before.
            let mut end = end;
            while let Some(batch) = stream.next().await {
                let failure = batch.as_ref().err().map(|error| Error::new(ErrorCode::Query, error.strip_backtrace()));
                let over = failure.is_some();
                if sender.send(batch).await.is_err() {
                    return Ok(());
                }
                if over {
                    end.outcome = failure.map(Err);
                    return Ok(());
                }
            }
            end.outcome = Some(Ok(()));
            Ok(())
        });
        builder.build()
    }

    async fn failed(&self, id: &JobId, error: Error) -> Error {
        if let Err(unwritten) = self.end_local(id, Some(error.clone())).await {
            tracing::warn!(event = names::JOB_END_UNWRITTEN, job_id = %id, error = %unwritten, "the end of a job could not be written");
        }
        error
    }

    /// Writes the end of a local job.
    pub(super) async fn end_local(&self, id: &JobId, error: Option<Error>) -> Result<()> {
        write_end(self.parts.store.as_ref(), id, error).await
    }
}

/// Writes the end of a local job when it is dropped: read to its end, failed, or given up by the client.
struct LocalEnd {
    store: Arc<dyn crate::store::StateStore>,
    id: JobId,
    outcome: Option<Result<()>>,
}

impl Drop for LocalEnd {
    fn drop(&mut self) {
        let (store, id) = (Arc::clone(&self.store), self.id.clone());
        let error = match self.outcome.take() {
            Some(Ok(())) => None,
            Some(Err(error)) => Some(error),
            None => Some(Error::new(ErrorCode::Cancelled, "the client went away")),
        };
        // Bounded by the store's own deadline; the answer does not wait for it.
        tokio::spawn(async move {
            if let Err(unwritten) = write_end(store.as_ref(), &id, error).await {
                tracing::warn!(event = names::JOB_END_UNWRITTEN, job_id = %id, error = %unwritten, "the end of a job could not be written");
            }
        });
    }
}

async fn write_end(store: &dyn crate::store::StateStore, id: &JobId, error: Option<Error>) -> Result<()> {
    let Some(entry) = store.get(&records::job_key(id)).await? else { return Ok(()) };
    let mut record: JobRecord = records::decode(&entry)?;
    if records::has_ended(record.status()) {
        return Ok(());
    }
    // Nobody's, if the lease was lost meanwhile.
    let owner = store.get(&records::owner_key(id)).await?;
    record.ended_micros = records::now_micros();
    record.set_status(match &error {
        None => JobStatus::Succeeded,
        Some(error) if error.code() == ErrorCode::Cancelled => JobStatus::Cancelled,
        Some(_) => JobStatus::Failed,
    });
    if let Some(error) = error {
        record.error_code = error.code().as_str().to_owned();
        record.error = error.message().to_owned();
    }
    let owner = match owner {
        Some(owner) => Condition::Unchanged { key: owner.key, mod_revision: owner.mod_revision },
        None => Condition::Absent { key: records::owner_key(id) },
    };
    let unchanged = Condition::Unchanged { key: entry.key, mod_revision: entry.mod_revision };
    crate::dispatch::end_job(store, id, vec![owner, unchanged], &record).await?;
    crate::job_events::finished(&record, None, false);
    Ok(())
}
