//! The engine: what the outside doors (Flight SQL, REST) call.
//!
//! ```text
//! submit(sql) ─▶ parse ─▶ DDL, SET: done at once
//!                  └────▶ plan ─▶ commit (record + plans + ownership, one transaction) ─▶ dispatch
//! results(job) ─▶ here: wait, then stream the parts from the executors
//!                 at another scheduler: the same ticket, redeemed there
//!                 nowhere any more: what its record says
//! ```

mod commit;
mod context;
mod jobs;
mod local;
mod local_jobs;
pub(crate) mod peers;
pub(crate) mod remote;
mod results;
mod starting;
mod statement;
mod stored;
mod takeover;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use springald_core::compute::Compute;
use springald_core::error::{Error, ErrorCode, Result};
use springald_core::ids::{ClusterName, JobId, SchedulerId};
use springald_core::settings::QuerySettings;
use springald_core::telemetry::events::names;
use springald_core::text;
use springald_proto::records::{JobRecord, JobStatus};
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

pub use context::QueryContext;
pub use jobs::{JobFilter, JobPage};
pub use results::{Opened, Resume};

use crate::catalog::Catalog;
use crate::clock;
use crate::dispatch::{Dispatcher, JobView, Watched, stopping};
use crate::job_events::{self, kinds};
use crate::membership::{Membership, Schedulers};
use crate::planner::{self, Planned, QueryOptions};
use crate::records;
use crate::sessions::Sessions;
use crate::store::{Condition, StateStore};
use crate::tickets::Tickets;
use commit::Refused;
use local_jobs::LocalJobs;
use peers::Peers;
use remote::Channels;
use statement::Prepared;

/// A client waits this long for a job that passes from one scheduler to another.
const TAKEOVER_DEADLINE: Duration = Duration::from_secs(30);
const TAKEOVER_PAUSE: Duration = Duration::from_millis(50);

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
    /// The cluster.
    pub cluster: ClusterName,
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
    /// How long such a result waits for a client that went away.
    pub client_gone_grace: Duration,
    /// Results of that kind at one time.
    pub max_local_jobs: usize,
    /// How long a new query waits for a store that does not answer.
    pub commit_timeout: Duration,
}

/// What becomes of a statement.
enum Taken {
    /// It is carried out already.
    Done,
    /// Its result is here.
    Rows(RecordBatch),
    /// It runs; `analyze`: its result is what its operators measured. A deadline of zero is none.
    Planned { planned: Planned, analyze: bool, deadline: Duration },
}

/// The engine.
pub struct Engine {
    parts: EngineParts,
    local: Arc<LocalJobs>,
    /// Where the scheduler runs queries itself; started with the first one.
    compute: OnceLock<Compute>,
    /// Where statements are planned; started with the first one.
    planning: OnceLock<Compute>,
    peers: Arc<dyn Peers>,
    refused: Refused,
}

impl Engine {
    /// An engine of these parts.
    pub fn new(parts: EngineParts) -> Self {
        Self::with_peers(parts, Arc::new(Channels::default()))
    }

    /// An engine that reaches others in its own way.
    pub(crate) fn with_peers(parts: EngineParts, peers: Arc<dyn Peers>) -> Self {
        let local = LocalJobs::new(parts.max_local_jobs, parts.result_retention, parts.client_gone_grace);
        Self {
            parts,
            local: Arc::new(local),
            compute: OnceLock::new(),
            planning: OnceLock::new(),
            peers,
            refused: Refused::default(),
        }
    }

    /// The cluster's name.
    pub fn cluster(&self) -> &ClusterName {
        &self.parts.cluster
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

    /// Takes a statement: plans it and makes it durable, or, for statements without a result, carries it out. Given up
    /// while it is planned, nothing is left of it; given up later, it is cancelled.
    pub async fn submit(self: &Arc<Self>, sql: &str, context: &QueryContext) -> Result<Submitted> {
        let id = JobId::generate();
        let mut record = self.new_record(&id, sql, context);
        let (engine, sql, context) = (Arc::clone(self), sql.to_owned(), context.clone());
        let (record, taken) = self
            .on_planning_threads(async move {
                let taken = engine.take_statement(&sql, &mut record, &context).await;
                (record, taken)
            })
            .await?;
        let taken = taken.inspect_err(|error| job_events::refused(&record, error))?;
        let (engine, (reply, answer)) = (Arc::clone(self), oneshot::channel());
        // A job that is in the store must come to dispatch, whether or not its client still waits.
        tokio::spawn(async move {
            let submitted = engine.begin(id.clone(), record, taken).await;
            if let Err(Ok(_)) = reply.send(submitted)
                && let Err(error) = engine.cancel(&id, "the client went away").await
            {
                tracing::warn!(event = names::JOB_CANCEL_FAILED, job_id = %id, %error, "a job could not be cancelled");
            }
        });
        answer.await.map_err(|_| stopping())?
    }

    /// Plans a statement, or carries it out if it has no result.
    async fn take_statement(&self, sql: &str, record: &mut JobRecord, context: &QueryContext) -> Result<Taken> {
        let options = QueryOptions::new(&self.parts.query, &context.session.settings)?;
        let cluster = self.parts.dispatcher.cluster_shape();
        let state = options.whole(&self.parts.base, cluster);
        let sample_seed = statement::sample_seed(&record.job_id.parse()?);
        let (logical, kind) = match self.prepare(sql, &state, context, sample_seed).await? {
            Prepared::Done => return Ok(Taken::Done),
            Prepared::Query(logical) => (logical, kinds::QUERY),
            Prepared::Explain(logical) => (logical, kinds::EXPLAIN),
            Prepared::Analyze(logical) => (logical, kinds::ANALYZE),
        };
        record.kind = kind.to_owned();
        let planned = planner::plan(&logical, &state, &options, cluster).await?;
        job_events::planned(record, context.span);
        if kind == kinds::EXPLAIN {
            return Ok(Taken::Rows(statement::explain_batch(planner::explained(&logical, &planned))?));
        }
        Ok(Taken::Planned { planned, analyze: kind == kinds::ANALYZE, deadline: options.deadline })
    }

    /// What a statement would answer, without running it.
    pub async fn describe(&self, sql: &str, context: &QueryContext) -> Result<Described> {
        let options = QueryOptions::new(&self.parts.query, &context.session.settings)?;
        let state = options.whole(&self.parts.base, self.parts.dispatcher.cluster_shape());
        let sql = sql.to_owned();
        self.on_planning_threads(async move { statement::describe(&sql, &state).await }).await?
    }

    /// Plans where nobody is kept from anything but planning: a plan may take long, without giving its thread back, while
    /// leases are to be renewed and control streams give signs of life. Dropped, it ends at the next chance.
    async fn on_planning_threads<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        let threads = started(&self.planning, "springald-plan")?;
        let planned = AbortOnDropHandle::new(threads.handle().spawn(work)).await;
        planned.map_err(|error| Error::internal(format!("planning the statement failed: {error}")).with_source(error))
    }

    /// The result of a job, once it is there. Dropping the stream early means that the client went away. While the job
    /// passes from a scheduler that is gone to another one, this waits.
    pub async fn results(&self, job: &JobId, resume: &Resume) -> Result<Opened> {
        let mut passing_since = None;
        loop {
            let asked = clock::now();
            let opened = self.open_results(job, resume).await;
            if clock::now().duration_since(asked) >= TAKEOVER_DEADLINE {
                // It was in good hands, for a while at least.
                passing_since = None;
            }
            match opened {
                // Not here any more: the client is not kept from asking another scheduler.
                Err(error) if self.parts.dispatcher.is_stopping() => return Err(error),
                Err(error) if error.code() == ErrorCode::Fenced => {
                    let since = *passing_since.get_or_insert_with(clock::now);
                    if clock::now().duration_since(since) >= TAKEOVER_DEADLINE {
                        return Err(error);
                    }
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
        match statement::parse(&record.sql, &self.parts.base, 0).await {
            Ok(plan) => {
                let tables = Catalog::tables_of(&plan);
                self.parts.catalog.explain_failure(error, &tables, &self.parts.base).await
            }
            Err(_) => error,
        }
    }

    async fn open_results(&self, job: &JobId, resume: &Resume) -> Result<Opened> {
        if let Some(opened) = self.open_local(job).await? {
            return Ok(opened);
        }
        if let Some(Watched { view, analyze }) = self.parts.dispatcher.watch(job.clone()).await? {
            if analyze {
                return results::measured(&self.parts.dispatcher, job.clone(), view, resume).await;
            }
            let source = (&self.parts.dispatcher, Arc::clone(&self.peers));
            return results::stream(source, job.clone(), view, resume).await;
        }
        let entry = self.parts.store.get(&records::job_key(job)).await.map_err(|error| unreadable(job, error))?;
        let entry =
            entry.ok_or_else(|| Error::not_found(format!("there is no job {job}, or its record has expired")))?;
        let record: JobRecord = records::decode(&entry)?;
        if matches!(record.status(), JobStatus::Failed | JobStatus::Cancelled) {
            return Err(Error::new(ErrorCode::from_name(&record.error_code), record.error));
        }
        if record.status() == JobStatus::Succeeded && record.schema.is_empty() {
            return Ok(Opened::once(statement::no_rows()));
        }
        match self.owner(job).await.map_err(|error| unreadable(job, error))? {
            Some((owner, revision)) if owner.scheduler_id != self.parts.scheduler.as_str() => {
                self.results_elsewhere(job, &owner, revision, resume).await
            }
            // Its last rows may be lost on their way.
            None if record.local && self.has_just_ended(&record) => {
                self.open_claimed(job, &record).await?.ok_or_else(|| passing(job))
            }
            None if !records::needs_owner(&record) => {
                Err(Error::not_found(format!("the result of job {job} was fetched already, or has expired")))
            }
            None if record.local => match self.claim_local(job, &entry, record).await? {
                Some(record) => self.open_claimed(job, &record).await?.ok_or_else(|| passing(job)),
                None => Err(passing(job)),
            },
            // If it is fetched just now: by a client whose connection is broken, as this scheduler will find out.
            Some(_) if record.local => self.open_claimed(job, &record).await?.ok_or_else(|| passing(job)),
            // Nobody's, on its way from one scheduler to another, or ours and about to be here.
            _ => Err(passing(job)),
        }
    }

    /// True if a job has succeeded so lately that its client may not have all of the result.
    fn has_just_ended(&self, record: &JobRecord) -> bool {
        let grace = i64::try_from(self.parts.client_gone_grace.as_micros()).unwrap_or(i64::MAX);
        record.status() == JobStatus::Succeeded && records::now_micros() < record.ended_micros.saturating_add(grace)
    }

    /// Ends a job, wherever it runs. No error if it has ended.
    pub async fn cancel(&self, job: &JobId, why: &str) -> Result<()> {
        if self.stop_local(job, Error::new(ErrorCode::Cancelled, why)).await? {
            return Ok(());
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
            tracing::warn!(event = names::JOB_CANCEL_FAILED, job_id = %job, %error, "a job could not be cancelled");
        }
    }

    async fn write_failure(&self, id: &JobId, mut record: JobRecord, owner_revision: u64, error: &Error) {
        record.set_status(JobStatus::Failed);
        record.result_held = false;
        record.ended_micros = records::now_micros();
        record.error_code = error.code().as_str().to_owned();
        record.error = text::head(error.message().to_owned(), text::ERROR_BYTES);
        job_events::finished(&record, None, false);
        let owner = Condition::Unchanged { key: records::owner_key(id), mod_revision: owner_revision };
        let written = crate::dispatch::end_job(self.parts.store.as_ref(), id, vec![owner], &record).await;
        if let Err(error) = written {
            tracing::warn!(event = names::JOB_END_UNWRITTEN, job_id = %id, %error, "the end of a job could not be written");
        }
    }

    async fn prepare(
        &self,
        sql: &str,
        state: &SessionState,
        context: &QueryContext,
        sample_seed: u64,
    ) -> Result<Prepared> {
        match statement::parse(sql, state, sample_seed).await? {
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

/// Threads of this name, one for each core, that are started when they are needed.
fn started<'a>(threads: &'a OnceLock<Compute>, name: &str) -> Result<&'a Compute> {
    if let Some(threads) = threads.get() {
        return Ok(threads);
    }
    let started = Compute::start(std::thread::available_parallelism().map_or(1, usize::from), name)?;
    Ok(threads.get_or_init(|| started))
}

/// The store does not tell what becomes of the job at the moment: it may go on all the same.
fn unreadable(job: &JobId, error: Error) -> Error {
    if error.code() != ErrorCode::Unavailable {
        return error;
    }
    let message = format!(
        "the record of job {job} cannot be read at the moment; redeem the ticket again, at any scheduler: {}",
        error.message()
    );
    Error::new(ErrorCode::Fenced, message).with_source(error)
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
