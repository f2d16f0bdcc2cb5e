//! Queries that the scheduler answers itself: those over no stored data, and EXPLAIN.
//!
//! ```text
//! submit ─▶ waiting ──DoGet──▶ running ──read to its end, failed, stopped──▶ its end is written
//!              │                  └──the client went away──▶ left ──DoGet──▶ planned and run again
//!              └──────────────── nobody asks in time ───────────┴──────────▶ its end is written
//! ```
//!
//! Whether the last rows have reached the client is not known. One that asks again within `scheduler.client_gone_grace` after
//! the end has the query run once more, at whichever scheduler it asks.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::{FutureExt, StreamExt};
use springald_core::compute::panicked;
use springald_core::error::{Error, ErrorCode, Result};
use springald_core::ids::{JobId, SchedulerId};
use springald_core::telemetry::events::names;
use springald_proto::records::{JobRecord, JobStatus, OwnerRecord};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::local_jobs::{LocalJobs, Run};
use super::{Engine, Opened, started, statement};
use crate::clock;
use crate::records;
use crate::store::{Condition, StateStore};

/// Batches that may wait for the client.
const BATCHES_AHEAD: usize = 2;
/// What nobody asked for is looked for this often.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(500);
/// The end of a job that could not be written is tried again so often, at these intervals.
const END_TRIES: u32 = 600;
const END_PAUSE: std::time::Duration = std::time::Duration::from_secs(1);

/// What the scheduler has to do for a job when its result is asked for.
pub(super) enum LocalJob {
    /// Nothing: this is the result.
    Batches(RecordBatch),
    /// Run the plan.
    Plan { plan: Arc<dyn ExecutionPlan>, context: Arc<TaskContext>, analyze: bool },
}

impl LocalJob {
    pub(super) fn schema(&self) -> SchemaRef {
        match self {
            Self::Batches(batch) => batch.schema(),
            Self::Plan { plan, analyze: false, .. } => plan.schema(),
            Self::Plan { analyze: true, .. } => statement::explain_schema(),
        }
    }
}

impl Engine {
    /// The result of a local job that waits here for somebody to ask; `None` if it does not.
    pub(super) async fn open_local(&self, id: &JobId) -> Result<Option<Opened>> {
        let Some((job, run)) = self.local.take(id) else { return Ok(None) };
        let end = self.end_of(id.clone(), run);
        match job {
            Some(job) => self.run_local(end, job).map(Some),
            // Somebody has asked before, and went away.
            None => self.run_again(end).await.map(Some),
        }
    }

    /// Runs a job that is ours and not here: its client went away, or it was claimed from a scheduler that is gone.
    /// `None` if it is here after all.
    pub(super) async fn open_claimed(&self, id: &JobId, record: &JobRecord) -> Result<Option<Opened>> {
        let Some(run) = self.local.claim(id, records::deadline_of(record)) else { return Ok(None) };
        self.run_again(self.end_of(id.clone(), run)).await.map(Some)
    }

    /// Ends local jobs whose result nobody asks for in time, as long as it is polled.
    pub(crate) async fn end_unwanted(&self) {
        loop {
            self.local.some().await;
            clock::sleep(LOOK_EVERY).await;
            for (id, why, run) in self.local.expired(clock::now()) {
                drop(self.end_of(id, run).with(Err(why)));
            }
        }
    }

    /// Ends a local job; false if it is not here.
    pub(super) async fn stop_local(&self, id: &JobId, why: Error) -> Result<bool> {
        match self.local.stop(id, &why) {
            None => Ok(false),
            // What runs writes its end itself, as soon as it has seen it.
            Some(None) => Ok(true),
            Some(Some(run)) => self.end_of(id.clone(), run).write(Err(why)).await.map(|()| true),
        }
    }

    fn end_of(&self, id: JobId, run: Run) -> LocalEnd {
        LocalEnd {
            store: Arc::clone(&self.parts.store),
            scheduler: self.parts.scheduler.clone(),
            jobs: Arc::clone(&self.local),
            runtime: Handle::current(),
            id,
            run,
            outcome: None,
        }
    }

    async fn run_again(&self, end: LocalEnd) -> Result<Opened> {
        let planned = async {
            let entry = self.parts.store.get(&records::job_key(&end.id)).await?;
            let entry = entry.ok_or_else(|| Error::not_found(format!("the record of job {} has expired", end.id)))?;
            self.plan_again(records::decode(&entry)?).await
        };
        match planned.await {
            Ok(job) => self.run_local(end, job),
            // The store may answer later.
            Err(error) if error.code() == ErrorCode::Unavailable => Err(error),
            Err(error) => Err(end.failed(error).await),
        }
    }

    /// Gives the result of a local job; its end is written when that was read.
    fn run_local(&self, end: LocalEnd, job: LocalJob) -> Result<Opened> {
        let compute = started(&self.compute, "springald-local")?.handle();
        let mut builder = RecordBatchReceiverStreamBuilder::new(job.schema(), BATCHES_AHEAD);
        let sender = builder.tx();
        // All of it moves in there, so that it is dropped when this ends, and not before.
        let run = async move {
            // A panic would break the connection off, and the client would ask again and again.
            let sending = AssertUnwindSafe(send(job, &sender)).catch_unwind();
            let sent = end.unless_stopped(sending).await;
            let sent = sent.and_then(|sent| sent.unwrap_or_else(|panic| Err(panicked(panic.as_ref()))));
            match sent {
                Ok(Some(rows)) => drop(end.with(Ok(rows))),
                // The client has gone.
                Ok(None) => {}
                Err(error) => {
                    drop(end.with(Err(error.clone())));
                    let _ = sender.send(Err(error.into())).await;
                }
            }
            Ok(())
        };
        builder.spawn_on(run, &compute);
        Ok(Opened::once(builder.build()))
    }
}

type Sender = mpsc::Sender<datafusion::error::Result<RecordBatch>>;

/// Sends a job's result. Gives its number of rows; `None` if the client has gone.
async fn send(job: LocalJob, sender: &Sender) -> Result<Option<u64>> {
    let batch = match job {
        LocalJob::Batches(batch) => batch,
        LocalJob::Plan { plan, context, analyze: false } => {
            let mut stream = execute_stream(plan, context)?;
            let mut rows = 0;
            while let Some(batch) = stream.next().await.transpose()? {
                rows += batch.num_rows() as u64;
                if sender.send(Ok(batch)).await.is_err() {
                    return Ok(None);
                }
            }
            return Ok(Some(rows));
        }
        LocalJob::Plan { plan, context, analyze: true } => tokio::select! {
            measured = measured(plan, context) => measured?,
            () = sender.closed() => return Ok(None),
        },
    };
    let rows = batch.num_rows() as u64;
    Ok(sender.send(Ok(batch)).await.is_ok().then_some(rows))
}

/// Runs a plan, and says what its operators measured.
async fn measured(plan: Arc<dyn ExecutionPlan>, context: Arc<TaskContext>) -> Result<RecordBatch> {
    let mut stream: SendableRecordBatchStream = execute_stream(Arc::clone(&plan), context)?;
    // Nobody wants the rows: none is kept.
    while stream.next().await.transpose()?.is_some() {}
    let text = DisplayableExecutionPlan::with_metrics(plan.as_ref()).indent(false).to_string();
    statement::explain_batch(vec![("plan_with_metrics".to_owned(), text)])
}

/// Writes the end of a local job when it is dropped: read to its end, or failed. Without an outcome, the client went away:
/// the job waits for a while for it to come back.
struct LocalEnd {
    store: Arc<dyn StateStore>,
    scheduler: SchedulerId,
    jobs: Arc<LocalJobs>,
    /// Where the store is at home.
    runtime: Handle,
    id: JobId,
    run: Run,
    /// Rows of the result, or why there is none.
    outcome: Option<Result<u64>>,
}

impl LocalEnd {
    fn with(mut self, outcome: Result<u64>) -> Self {
        self.outcome = Some(outcome);
        self
    }

    /// Writes the end now.
    async fn write(self, outcome: Result<u64>) -> Result<()> {
        let written = write_end(self.store.as_ref(), &self.scheduler, &self.id, &outcome).await;
        if written.is_err() {
            // Tried again.
            drop(self.with(outcome));
        } else {
            self.jobs.remove(&self.id);
        }
        written
    }

    async fn failed(self, error: Error) -> Error {
        let id = self.id.clone();
        if let Err(unwritten) = self.write(Err(error.clone())).await {
            tell_unwritten(&id, &unwritten);
        }
        error
    }

    /// Does the work, unless the job is stopped or its deadline passes before it is done.
    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        tokio::select! {
            biased;
            why = self.run.stopped() => Err(why),
            done = work => Ok(done),
        }
    }
}

impl Drop for LocalEnd {
    fn drop(&mut self) {
        let Some(outcome) = self.outcome.take() else { return self.jobs.left(&self.id) };
        let (store, scheduler, id) = (Arc::clone(&self.store), self.scheduler.clone(), self.id.clone());
        let jobs = Arc::clone(&self.jobs);
        // The answer does not wait for it.
        self.runtime.spawn(async move {
            for _ in 0..END_TRIES {
                match write_end(store.as_ref(), &scheduler, &id, &outcome).await {
                    Ok(()) => break,
                    Err(unwritten) => tell_unwritten(&id, &unwritten),
                }
                clock::sleep(END_PAUSE).await;
            }
            jobs.remove(&id);
        });
    }
}

fn tell_unwritten(id: &JobId, error: &Error) {
    tracing::warn!(event = names::JOB_END_UNWRITTEN, job_id = %id, %error, "the end of a job could not be written");
}

/// Writes the end of a job that this scheduler ran itself, if it is still its own.
async fn write_end(store: &dyn StateStore, own: &SchedulerId, id: &JobId, outcome: &Result<u64>) -> Result<()> {
    let Some(entry) = store.get(&records::job_key(id)).await? else { return Ok(()) };
    let mut record: JobRecord = records::decode(&entry)?;
    if records::has_ended(record.status()) {
        return Ok(());
    }
    let owner = match store.get(&records::owner_key(id)).await? {
        Some(owner) if records::decode::<OwnerRecord>(&owner)?.scheduler_id != own.as_str() => return Ok(()),
        Some(owner) => Condition::Unchanged { key: owner.key, mod_revision: owner.mod_revision },
        // Nobody's: the lease was lost meanwhile.
        None => Condition::Absent { key: records::owner_key(id) },
    };
    record.ended_micros = records::now_micros();
    record.set_status(match outcome {
        Ok(_) => JobStatus::Succeeded,
        Err(error) if error.code() == ErrorCode::Cancelled => JobStatus::Cancelled,
        Err(_) => JobStatus::Failed,
    });
    match outcome {
        Ok(rows) => record.result_rows = *rows,
        Err(error) => {
            record.error_code = error.code().as_str().to_owned();
            record.error = error.message().to_owned();
        }
    }
    let unchanged = Condition::Unchanged { key: entry.key, mod_revision: entry.mod_revision };
    crate::dispatch::end_job(store, id, vec![owner, unchanged], &record).await?;
    crate::job_events::finished(&record, None, false);
    Ok(())
}
