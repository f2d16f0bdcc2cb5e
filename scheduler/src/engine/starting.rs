//! From a planned statement to a job that runs: its record, its commit, and where it runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use springald_core::error::Result;
use springald_core::ids::JobId;
use springald_core::secrets;
use springald_proto::records::{JobRecord, JobStatus};

use super::local::LocalJob;
use super::{Engine, QueryContext, Submitted, Taken, statement};
use crate::clock;
use crate::dispatch::NewJob;
use crate::job_events::{self, kinds};
use crate::planner::{Planned, Run};
use crate::records;

impl Engine {
    /// The record of a statement that has just come.
    pub(super) fn new_record(&self, id: &JobId, sql: &str, context: &QueryContext) -> JobRecord {
        let mut record = JobRecord {
            job_id: id.to_string(),
            sql: sql.to_owned(),
            user: context.user.clone(),
            session_id: context.session.id.to_string(),
            submitted_micros: records::now_micros(),
            trace_id: context.span.trace_id(),
            traceparent: context.span.to_string(),
            parent_traceparent: context.client_span.map(|span| span.to_string()).unwrap_or_default(),
            scheduler_id: self.parts.scheduler.to_string(),
            settings: context.session.settings.clone().into_iter().collect(),
            ..JobRecord::default()
        };
        record.set_status(JobStatus::Queued);
        record
    }

    /// Begins what follows from a statement.
    pub(super) async fn begin(&self, id: JobId, record: JobRecord, taken: Taken) -> Result<Submitted> {
        match taken {
            Taken::Done => self.done_at_once(id, record).await,
            Taken::Rows(batch) => self.start_local(id, record, LocalJob::Batches(batch), None).await,
            Taken::Planned { planned, analyze, deadline } => self.start(id, record, planned, analyze, deadline).await,
        }
    }

    /// Keeps the record of a statement that was carried out already.
    async fn done_at_once(&self, id: JobId, mut record: JobRecord) -> Result<Submitted> {
        record.kind = kinds::STATEMENT.to_owned();
        // It is never planned again: nobody needs the secrets that its options may have.
        record.sql = secrets::sql(&record.sql);
        record.set_status(JobStatus::Succeeded);
        record.ended_micros = records::now_micros();
        self.commit_ended(&id, &record).await?;
        job_events::finished(&record, None, false);
        Ok(Submitted { job_id: id, schema: statement::no_schema() })
    }

    /// Makes a planned query durable, and runs it.
    pub(crate) async fn start(
        &self,
        id: JobId,
        mut record: JobRecord,
        planned: Planned,
        analyze: bool,
        deadline: Duration,
    ) -> Result<Submitted> {
        if !deadline.is_zero() {
            let micros = i64::try_from(deadline.as_micros()).unwrap_or(i64::MAX);
            record.deadline_micros = record.submitted_micros.saturating_add(micros);
        }
        let deadline = if deadline.is_zero() { None } else { clock::now().checked_add(deadline) };
        let schema = if analyze { statement::explain_schema() } else { Arc::clone(&planned.schema) };
        match planned.run {
            Run::Local { plan, context } => {
                let job = LocalJob::Plan { plan, context, analyze };
                self.start_local(id, record, job, deadline).await
            }
            Run::Stages(stages) => {
                record.schema = statement::encode_schema(&schema);
                record.analyze = analyze;
                let committed = self.commit(&id, &record, &stages).await;
                let committed = committed.inspect_err(|error| job_events::refused(&record, error))?;
                job_events::submitted(&record, stages.len());
                let Some(owner_revision) = committed else { return Ok(Submitted { job_id: id, schema }) };
                let job = NewJob { id: id.clone(), record: record.clone(), stages, owner_revision, deadline };
                if let Err(error) = self.parts.dispatcher.submit(job).await {
                    self.write_failure(&id, record, owner_revision, &error).await;
                    return Err(error);
                }
                Ok(Submitted { job_id: id, schema })
            }
        }
    }

    async fn start_local(
        &self,
        id: JobId,
        mut record: JobRecord,
        job: LocalJob,
        deadline: Option<Instant>,
    ) -> Result<Submitted> {
        let schema = job.schema();
        record.local = true;
        record.schema = statement::encode_schema(&schema);
        record.set_status(JobStatus::Running);
        record.started_micros = records::now_micros();
        let kept = self.local.put(id.clone(), job, deadline);
        kept.inspect_err(|error| job_events::refused(&record, error))?;
        if let Err(error) = self.commit(&id, &record, &[]).await {
            self.local.remove(&id);
            job_events::refused(&record, &error);
            return Err(error);
        }
        job_events::submitted(&record, 0);
        Ok(Submitted { job_id: id, schema })
    }
}
