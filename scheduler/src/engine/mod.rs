//! The engine: what the outside doors (Flight SQL, REST) call.
//!
//! ```text
//! submit(sql) ─▶ parse ─▶ DDL, SET: done at once
//!                  └────▶ plan ─▶ commit (record + plans + ownership, one transaction) ─▶ dispatch
//! results(job) ─▶ here: wait, then stream the parts from the executors
//!                 at another scheduler: the same ticket, redeemed there
//!                 nowhere any more: what its record says
//! ```

mod jobs;
mod local;
pub(crate) mod peers;
pub(crate) mod remote;
mod results;
mod statement;
mod stored;
mod takeover;

use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use springald_core::error::{Error, ErrorCode, Result};
use springald_core::ids::{JobId, SchedulerId};
use springald_core::settings::QuerySettings;
use springald_proto::records::{JobRecord, JobStatus, OwnerRecord, StagePlans};

pub use jobs::{JobFilter, JobPage};
pub use results::{Opened, Resume};

use crate::catalog::Catalog;
use crate::clock;
use crate::dispatch::{Dispatcher, JobView, NewJob};
use crate::membership::{Membership, Schedulers};
use crate::planner::{self, Planned, PlannedStage, QueryOptions, Run};
use crate::records;
use crate::sessions::{Session, Sessions};
use crate::store::{Change, Committed, Condition, StateStore, Transaction};
use crate::tickets::Tickets;
use local::{LocalJob, LocalJobs};
use peers::Peers;
use remote::Channels;
use statement::Prepared;

/// A client waits this long for a job that passes from one scheduler to another.
const TAKEOVER_DEADLINE: Duration = Duration::from_secs(30);
const TAKEOVER_PAUSE: Duration = Duration::from_millis(50);

/// Who asks, and in which session.
#[derive(Clone, Debug)]
pub struct QueryContext {
    /// The session, whose settings apply.
    pub session: Arc<Session>,
    /// The user, for the record.
    pub user: String,
    /// Follows the query through every process.
    pub trace_id: String,
}

/// A statement that was taken: planned and committed, not run yet.
#[derive(Clone, Debug)]
pub struct Submitted {
    /// What its result is asked for with.
    pub job_id: JobId,
    /// Schema of the result; no fields for statements without one.
    pub schema: SchemaRef,
}

/// What a statement would answer.
#[derive(Clone, Debug)]
pub struct Described {
    /// Schema of the result; no fields for statements without one.
    pub schema: SchemaRef,
    /// Its parameters, in order.
    pub parameters: Vec<FieldRef>,
    /// False for statements that only change something.
    pub is_query: bool,
}

/// What the engine is made of.
pub struct EngineParts {
    /// This scheduler.
    pub scheduler: SchedulerId,
    /// Its place in the cluster.
    pub membership: Membership,
    /// What results are asked for with.
    pub tickets: Tickets,
    /// Where clients may be sent: Flight SQL of the live schedulers whose operator has set an address.
    pub advertised: Schedulers,
    /// The durable state.
    pub store: Arc<dyn StateStore>,
    /// The tables.
    pub catalog: Arc<Catalog>,
    /// The sessions.
    pub sessions: Arc<Sessions>,
    /// Where jobs go.
    pub dispatcher: Dispatcher,
    /// What sessions start from: functions, object stores, caches, defaults.
    pub base: SessionState,
    /// Defaults of what a query is planned with.
    pub query: QuerySettings,
    /// How long a result that the scheduler itself gives waits to be fetched.
    pub result_retention: Duration,
    /// Results of that kind at one time.
    pub max_local_jobs: usize,
}

/// The engine.
pub struct Engine {
    parts: EngineParts,
    local: LocalJobs,
    peers: Arc<dyn Peers>,
}

impl Engine {
    /// An engine of these parts.
    pub fn new(parts: EngineParts) -> Self {
        Self::with_peers(parts, Arc::new(Channels::default()))
    }

    /// An engine that reaches others in its own way.
    pub(crate) fn with_peers(parts: EngineParts, peers: Arc<dyn Peers>) -> Self {
        let local = LocalJobs::new(parts.max_local_jobs, parts.result_retention);
        Self { parts, local, peers }
    }

    /// What results are asked for with.
    pub fn tickets(&self) -> &Tickets {
        &self.parts.tickets
    }

    /// Addresses (host:port) at which clients may redeem tickets, this scheduler's first; empty: at the one they know.
    pub fn advertised(&self) -> Vec<String> {
        let all = self.parts.advertised.borrow();
        let own = all.get(&self.parts.scheduler);
        let others = all.iter().filter(|(id, _)| **id != self.parts.scheduler).map(|(_, address)| address);
        own.into_iter().chain(others).cloned().collect()
    }

    /// The tables.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.parts.catalog
    }

    /// The sessions.
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.parts.sessions
    }

    /// Number of executors that are connected to this scheduler.
    pub fn executors_connected(&self) -> u32 {
        self.parts.dispatcher.cluster_shape().executors
    }

    /// Fails while this scheduler cannot take queries.
    pub fn ready(&self) -> Result<()> {
        if self.parts.dispatcher.cluster_shape().executors == 0 {
            return Err(Error::unavailable("no executor is connected"));
        }
        Ok(())
    }

    /// Takes a statement: plans it and makes it durable, or, for statements without a result, carries it out.
    pub async fn submit(&self, sql: &str, context: &QueryContext) -> Result<Submitted> {
        let options = QueryOptions::new(&self.parts.query, &context.session.settings)?;
        let cluster = self.parts.dispatcher.cluster_shape();
        let state = options.whole(&self.parts.base, cluster);
        let prepared = self.prepare(sql, &state, context).await?;
        let id = JobId::generate();
        let mut record = self.new_record(&id, sql, context);
        match prepared {
            Prepared::Done => {
                record.set_status(JobStatus::Succeeded);
                record.ended_micros = records::now_micros();
                self.commit_ended(&id, &record).await?;
                Ok(Submitted { job_id: id, schema: statement::no_schema() })
            }
            Prepared::Query(logical) => {
                let planned = planner::plan(&logical, &state, &options, cluster).await?;
                self.start(id, record, planned, None, &options).await
            }
            Prepared::Explain(logical) => {
                let planned = planner::plan(&logical, &state, &options, cluster).await?;
                let rows = planner::explained(&logical, &planned);
                self.start_local(id, record, LocalJob::Batches(statement::explain_batch(rows)?)).await
            }
            Prepared::Analyze(logical) => {
                let planned = planner::plan(&logical, &state, &options, cluster).await?;
                let schema = statement::explain_schema();
                self.start(id, record, planned, Some(schema), &options).await
            }
        }
    }

    /// What a statement would answer, without running it.
    pub async fn describe(&self, sql: &str, context: &QueryContext) -> Result<Described> {
        let options = QueryOptions::new(&self.parts.query, &context.session.settings)?;
        let state = options.whole(&self.parts.base, self.parts.dispatcher.cluster_shape());
        statement::describe(sql, &state).await
    }

    /// The result of a job, once it is there. Dropping the stream early means that the client went away. While the job
    /// passes from a scheduler that is gone to another one, this waits.
    pub async fn results(&self, job: &JobId, resume: &Resume) -> Result<Opened> {
        let deadline = clock::now() + TAKEOVER_DEADLINE;
        loop {
            match self.open_results(job, resume).await {
                Err(error) if error.code() == ErrorCode::Fenced && clock::now() < deadline => {
                    clock::sleep(TAKEOVER_PAUSE).await;
                }
                Err(error) if error.code() == ErrorCode::Query => return Err(self.explained(job, error).await),
                opened => return opened,
            }
        }
    }

    /// The client has all of a job's result, and nothing of it must be kept any more.
    pub async fn received(&self, job: &JobId) -> Result<()> {
        if self.parts.dispatcher.watch(job.clone()).await?.is_some() {
            return self.parts.dispatcher.result_fetched(job.clone()).await;
        }
        match self.owner(job).await? {
            Some((owner, _)) if owner.scheduler_id != self.parts.scheduler.as_str() => {
                self.received_elsewhere(job, &owner).await
            }
            _ => Ok(()),
        }
    }

    /// Names the file and the table, if a file is why a job has failed.
    async fn explained(&self, job: &JobId, error: Error) -> Error {
        let Ok(Some(entry)) = self.parts.store.get(&records::job_key(job)).await else { return error };
        let Ok(record) = records::decode::<JobRecord>(&entry) else { return error };
        match statement::parse(&record.sql, &self.parts.base).await {
            Ok(plan) => {
                let tables = Catalog::tables_of(&plan);
                self.parts.catalog.explain_failure(error, &tables, &self.parts.base).await
            }
            Err(_) => error,
        }
    }

    async fn open_results(&self, job: &JobId, resume: &Resume) -> Result<Opened> {
        if let Some(local) = self.local.take(job) {
            return Ok(Opened::once(self.run_local(job.clone(), local).await?));
        }
        if let Some(view) = self.parts.dispatcher.watch(job.clone()).await? {
            let source = (&self.parts.dispatcher, Arc::clone(&self.peers));
            return results::stream(source, job.clone(), view, resume).await;
        }
        let entry = self.parts.store.get(&records::job_key(job)).await?;
        let entry =
            entry.ok_or_else(|| Error::not_found(format!("there is no job {job}, or its record has expired")))?;
        let record: JobRecord = records::decode(&entry)?;
        if matches!(record.status(), JobStatus::Failed | JobStatus::Cancelled) {
            return Err(Error::new(ErrorCode::from_name(&record.error_code), record.error));
        }
        if record.status() == JobStatus::Succeeded && record.schema.is_empty() {
            return Ok(Opened::once(statement::no_rows()));
        }
        match self.owner(job).await? {
            Some((owner, revision)) if owner.scheduler_id != self.parts.scheduler.as_str() => {
                self.results_elsewhere(job, &owner, revision, resume).await
            }
            None if !records::needs_owner(&record) => {
                Err(Error::not_found(format!("the result of job {job} was fetched already, or has expired")))
            }
            None if record.local => match self.claim_local(job, &entry, record).await? {
                Some(local) => Ok(Opened::once(self.run_local(job.clone(), local).await?)),
                None => Err(passing(job)),
            },
            Some(_) if record.local => {
                Err(Error::not_found(format!("the result of job {job} is being fetched already, by another request")))
            }
            // Nobody's, on its way from one scheduler to another, or ours and about to be here.
            _ => Err(passing(job)),
        }
    }

    /// Ends a job, wherever it runs. No error if it has ended.
    pub async fn cancel(&self, job: &JobId, why: &str) -> Result<()> {
        if self.local.take(job).is_some() {
            return self.end_local(job, Some(Error::new(ErrorCode::Cancelled, why))).await;
        }
        if self.parts.dispatcher.watch(job.clone()).await?.is_some() {
            return self.parts.dispatcher.stop(job.clone(), ErrorCode::Cancelled, why.to_owned()).await;
        }
        self.cancel_elsewhere(job, why).await
    }

    /// Cancels a job if it is here.
    pub(crate) async fn cancel_here(&self, job: &JobId, why: &str) {
        let here = self.local.contains(job) || matches!(self.parts.dispatcher.watch(job.clone()).await, Ok(Some(_)));
        if here && let Err(error) = self.cancel(job, why).await {
            tracing::warn!(job_id = %job, %error, "a job could not be cancelled");
        }
    }

    // === starting ===

    pub(crate) async fn start(
        &self,
        id: JobId,
        mut record: JobRecord,
        planned: Planned,
        analyze: Option<SchemaRef>,
        options: &QueryOptions,
    ) -> Result<Submitted> {
        let schema = analyze.clone().unwrap_or_else(|| Arc::clone(&planned.schema));
        match planned.run {
            Run::Local { plan, context } => {
                let job = LocalJob::Plan { plan, context, analyze: analyze.is_some() };
                self.start_local(id, record, job).await
            }
            Run::Stages(stages) => {
                record.schema = statement::encode_schema(&schema);
                record.analyze = analyze.is_some();
                let deadline = (!options.deadline.is_zero()).then(|| clock::now() + options.deadline);
                if deadline.is_some() {
                    let micros = i64::try_from(options.deadline.as_micros()).unwrap_or(i64::MAX);
                    record.deadline_micros = record.submitted_micros.saturating_add(micros);
                }
                let owner_revision = self.commit(&id, &record, &stages).await?;
                if analyze.is_some() {
                    self.local.put(id.clone(), LocalJob::Analyze { stages: stages.clone() })?;
                }
                let job = NewJob { id: id.clone(), record: record.clone(), stages, owner_revision, deadline };
                if let Err(error) = self.parts.dispatcher.submit(job).await {
                    self.write_failure(&id, record, owner_revision, &error).await;
                    return Err(error);
                }
                Ok(Submitted { job_id: id, schema })
            }
        }
    }

    async fn start_local(&self, id: JobId, mut record: JobRecord, job: LocalJob) -> Result<Submitted> {
        let schema = job.schema();
        record.local = true;
        record.schema = statement::encode_schema(&schema);
        record.set_status(JobStatus::Running);
        record.started_micros = record.submitted_micros;
        self.local.put(id.clone(), job)?;
        if let Err(error) = self.commit(&id, &record, &[]).await {
            self.local.take(&id);
            return Err(error);
        }
        Ok(Submitted { job_id: id, schema })
    }

    fn new_record(&self, id: &JobId, sql: &str, context: &QueryContext) -> JobRecord {
        let mut record = JobRecord {
            job_id: id.to_string(),
            sql: sql.to_owned(),
            user: context.user.clone(),
            session_id: context.session.id.to_string(),
            submitted_micros: records::now_micros(),
            trace_id: context.trace_id.clone(),
            scheduler_id: self.parts.scheduler.to_string(),
            settings: context.session.settings.clone().into_iter().collect(),
            ..JobRecord::default()
        };
        record.set_status(JobStatus::Queued);
        record
    }

    /// Makes a job durable and this scheduler its owner, in one transaction. Gives the fencing token.
    async fn commit(&self, id: &JobId, record: &JobRecord, stages: &[PlannedStage]) -> Result<u64> {
        let mut changes: Vec<Change> = self.ownership(id, record).into();
        if !stages.is_empty() {
            let plans = StagePlans { stages: stages.iter().map(stored::to_record).collect() };
            for (number, value) in records::plan_chunks(&plans)?.into_iter().enumerate() {
                let key = format!("{}{number:04}", records::plan_prefix(id));
                changes.push(Change::Put { key, value, lease: None });
            }
        }
        let transaction = Transaction { conditions: vec![Condition::Absent { key: records::job_key(id) }], changes };
        match self.parts.store.transact(transaction).await? {
            Committed::Yes { revision } => Ok(revision),
            // Ids are never used twice: it was written, the answer was lost, and while it was asked for again another
            // scheduler has claimed the job.
            Committed::Refused => {
                Err(Error::new(ErrorCode::Fenced, format!("job {id} belongs to another scheduler already; ask again")))
            }
        }
    }

    /// The changes that write a job's record and make this scheduler its owner.
    fn ownership(&self, id: &JobId, record: &JobRecord) -> [Change; 2] {
        let owner = OwnerRecord { scheduler_id: self.parts.scheduler.to_string() };
        let lease = Some(self.parts.membership.lease());
        [
            Change::Put { key: records::job_key(id), value: records::encode(record), lease: None },
            Change::Put { key: records::owner_key(id), value: records::encode(&owner), lease },
        ]
    }

    /// Keeps the record of a statement that was carried out at once.
    async fn commit_ended(&self, id: &JobId, record: &JobRecord) -> Result<()> {
        let put = Change::Put { key: records::job_key(id), value: records::encode(record), lease: None };
        self.parts.store.transact(Transaction { conditions: vec![], changes: vec![put] }).await?;
        Ok(())
    }

    async fn write_failure(&self, id: &JobId, mut record: JobRecord, owner_revision: u64, error: &Error) {
        record.set_status(JobStatus::Failed);
        record.ended_micros = records::now_micros();
        record.error_code = error.code().as_str().to_owned();
        record.error = error.message().to_owned();
        let written = crate::dispatch::end_job(self.parts.store.as_ref(), id, owner_revision, &record).await;
        if let Err(error) = written {
            tracing::warn!(job_id = %id, %error, "the end of a job could not be written");
        }
    }

    async fn prepare(&self, sql: &str, state: &SessionState, context: &QueryContext) -> Result<Prepared> {
        match statement::parse(sql, state).await? {
            LogicalPlan::Ddl(ddl) => {
                self.parts.catalog.apply(&ddl, state, &context.user, sql).await?;
                Ok(Prepared::Done)
            }
            LogicalPlan::Statement(change) => {
                self.change_session(&change, context).await?;
                Ok(Prepared::Done)
            }
            other => statement::classify(other),
        }
    }
}

impl Engine {
    async fn change_session(&self, change: &datafusion::logical_expr::Statement, context: &QueryContext) -> Result<()> {
        use datafusion::logical_expr::Statement;
        let sessions = &self.parts.sessions;
        match change {
            Statement::SetVariable(set) => sessions.set(&context.session, &set.variable, &set.value).await,
            Statement::ResetVariable(reset) => sessions.reset(&context.session, Some(&reset.variable)).await,
            other => Err(Error::unsupported(format!(
                "{} is not supported: Springald has no transactions, and prepares statements through Flight SQL",
                other.name()
            ))),
        }
    }
}

/// The job is between two schedulers.
fn passing(job: &JobId) -> Error {
    let message = format!("no scheduler runs job {job} at the moment; redeem the ticket again, at any scheduler");
    Error::new(ErrorCode::Fenced, message)
}

/// Waits until a job has ended, one way or the other.
async fn ended(view: &mut tokio::sync::watch::Receiver<JobView>) -> Result<Arc<Vec<crate::dispatch::ResultPart>>> {
    let seen = view.wait_for(|view| !matches!(view, JobView::Pending)).await;
    match seen.as_deref() {
        Ok(JobView::Ready(parts)) => Ok(Arc::clone(parts)),
        Ok(JobView::Failed(error)) => Err(error.clone()),
        Ok(JobView::Pending) | Err(_) => {
            let message = "this scheduler is stopping; redeem the ticket again, at another one";
            Err(Error::new(ErrorCode::Fenced, message))
        }
    }
}
