//! The engines that are compared: a server, and DataFusion in this process, over the same files.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::Schema;
use datafusion::execution::SessionStateBuilder;
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::scalar_subquery::ScalarSubqueryExec;
use datafusion::physical_plan::{ExecutionPlan, collect_partitioned};
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::{Stream, StreamExt};
use springald_client::Client;
use tempfile::TempDir;
use tokio::sync::Mutex;

use super::answer::{Answer, Failure, FailureKind, MAX_ROWS, Outcome};
use super::case::Settings;
use super::table::Table;
use super::writer;
use crate::standalone::Standalone;

/// Longest time of a query.
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);

/// Settings of sessions whose queries run in stages.
const STAGED: [(&str, &str); 3] =
    [("springald.whole_query_bytes", "0B"), ("springald.broadcast_bytes", "0B"), ("springald.partitions", "5")];

/// The setting of the server whose value DataFusion in this process takes over.
const BATCH_SIZE: &str = "springald.batch_size";

/// How a server runs a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Mode {
    Staged,
    Whole,
}

impl Mode {
    pub(crate) const ALL: [Mode; 2] = [Mode::Staged, Mode::Whole];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Mode::Staged => "staged",
            Mode::Whole => "whole",
        }
    }
}

/// How DataFusion runs a query in this process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalConfig {
    pub partitions: usize,
    /// Rows of a batch; `None`: as in staged sessions.
    pub batch_size: Option<usize>,
    /// True to plan as staged sessions do: nothing depends on other partitions, and no build side is collected.
    pub is_like_staged: bool,
}

/// The engines.
pub(crate) struct Engines {
    server: Standalone,
    admin: Client,
    local: SessionContext,
    directory: TempDir,
    /// False once the server has refused WITH ORDER.
    takes_order: AtomicBool,
    sessions: Mutex<HashMap<(Mode, Settings), Client>>,
}

impl Engines {
    /// Starts a server with several executors.
    ///
    /// # Panics
    /// If it does not start.
    pub(crate) async fn start() -> Self {
        let server = Standalone::start(&["--executors", "2", "--slots", "2", "--log", "warn,springald=info"]).await;
        let admin = server.client().await;
        Self {
            admin,
            server,
            local: SessionContext::new(),
            directory: TempDir::new().expect("a temporary directory"),
            takes_order: AtomicBool::new(true),
            sessions: Mutex::default(),
        }
    }

    /// Writes a table's files and declares it as `name` in all engines.
    ///
    /// # Errors
    /// What an engine says.
    pub(crate) async fn create(&self, table: &Table, name: &str) -> Result<(), String> {
        let directory = self.path_of(name);
        let failed = |error| writer::failed(table, &error);
        std::fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
        writer::write(table, &directory, &self.local).await.map_err(failed)?;
        let location = format!("{}/", directory.display());
        let mut with_order = table.layout.has_declared_order && self.takes_order.load(Ordering::Relaxed);
        let create = table.create_statement(name, &location, with_order);
        match self.admin.collect(&create).await {
            Ok(_) => {}
            Err(error) if with_order && error.code() == "SPRINGALD_UNSUPPORTED" => {
                println!("the server takes no WITH ORDER: {error}");
                self.takes_order.store(false, Ordering::Relaxed);
                with_order = false;
                let create = table.create_statement(name, &location, false);
                self.admin.collect(&create).await.map_err(|error| format!("{create}: {error}"))?;
            }
            Err(error) => return Err(format!("{create}: {error}")),
        }
        let create = table.create_statement(name, &location, with_order);
        self.local.sql(&create).await.map_err(failed)?;
        Ok(())
    }

    /// Removes a table and its files.
    pub(crate) async fn remove(&self, name: &str) {
        let drop = format!("DROP TABLE IF EXISTS {name}");
        // What is not removed stays unused.
        let _ = self.admin.collect(&drop).await;
        let _ = self.local.sql(&drop).await;
        let _ = std::fs::remove_dir_all(self.path_of(name));
    }

    fn path_of(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs a query in this process.
    pub(crate) async fn run_local(&self, sql: &str, settings: &Settings, config: LocalConfig) -> Outcome {
        let context = match self.local_session(settings, config) {
            Ok(context) => context,
            Err(error) => return Outcome::Failed(Failure::of_local(&error)),
        };
        let sql = sql.to_owned();
        // In a task of its own: a panic is an internal error.
        let run = tokio::spawn(async move {
            let frame = context.sql(&sql).await?;
            let stream = frame.execute_stream().await?;
            Ok((stream.schema(), limited(stream).await?))
        });
        let abort = run.abort_handle();
        match tokio::time::timeout(QUERY_TIMEOUT, run).await {
            Ok(Ok(Ok((schema, batches)))) => outcome(&schema, batches),
            Ok(Ok(Err(error))) => Outcome::Failed(Failure::of_local(&error)),
            Ok(Err(panic)) => Outcome::Failed(Failure::new(FailureKind::Internal, panic.to_string())),
            Err(_) => {
                abort.abort();
                Outcome::TooLarge
            }
        }
    }

    /// Evaluates each part of the query's plan to its end, also those whose rows the query does not need; the messages of
    /// those that fail. They are as long as the first line of the error.
    pub(crate) async fn failures_of_parts(&self, sql: &str, settings: &Settings, config: LocalConfig) -> Vec<String> {
        let Ok(context) = self.local_session(settings, config) else { return vec![] };
        let plan = async { context.sql(sql).await?.create_physical_plan().await };
        let Ok(Ok(plan)) = tokio::time::timeout(QUERY_TIMEOUT, plan).await else { return vec![] };
        let mut failures = vec![];
        for part in parts_of(&plan) {
            let Ok(part) = reset_plan_states(part) else { continue };
            let run = tokio::spawn(collect_partitioned(part, context.task_ctx()));
            let abort = run.abort_handle();
            match tokio::time::timeout(QUERY_TIMEOUT, run).await {
                Ok(Ok(Err(error))) => failures.push(error.strip_backtrace()),
                Ok(Err(panic)) => failures.extend(panic_message(panic)),
                Ok(Ok(Ok(_))) => {}
                Err(_) => abort.abort(),
            }
        }
        let first_line = |message: String| message.lines().next().map(str::to_owned);
        failures.into_iter().filter_map(first_line).filter(|message| !message.is_empty()).collect()
    }

    fn local_session(&self, settings: &Settings, config: LocalConfig) -> datafusion::error::Result<SessionContext> {
        // The catalog is that of the session in which tables were created.
        let mut session = SessionConfig::new()
            .with_target_partitions(config.partitions)
            .with_create_default_catalog_and_schema(false);
        let options = session.options_mut();
        for (name, value) in &settings.shared {
            options.set(name, value)?;
        }
        let staged = settings.staged.iter().find(|(name, _)| name == BATCH_SIZE).map(|(_, value)| value.clone());
        if let Some(size) = config.batch_size.map(|size| size.to_string()).or(staged) {
            options.set("datafusion.execution.batch_size", &size)?;
        }
        if config.is_like_staged {
            options.execution.enable_file_stream_work_stealing = false;
            let optimizer = &mut options.optimizer;
            optimizer.enable_round_robin_repartition = false;
            optimizer.enable_dynamic_filter_pushdown = false;
            optimizer.enable_join_dynamic_filter_pushdown = false;
            optimizer.enable_topk_dynamic_filter_pushdown = false;
            optimizer.enable_aggregate_dynamic_filter_pushdown = false;
            optimizer.hash_join_single_partition_threshold = 0;
            optimizer.hash_join_single_partition_threshold_rows = 0;
        }
        let state = SessionStateBuilder::new_from_existing(self.local.state()).with_config(session).build();
        Ok(SessionContext::new_with_state(state))
    }

    /// Runs a query on the server.
    pub(crate) async fn run_server(&self, sql: &str, settings: &Settings, mode: Mode) -> Outcome {
        let client = match self.session(settings, mode).await {
            Ok(client) => client,
            Err(message) => return Outcome::Failed(Failure::new(FailureKind::Other, message)),
        };
        let run = async {
            let stream = client.query(sql).await?;
            let schema = Arc::clone(stream.schema());
            Ok((schema, limited(stream).await?))
        };
        match tokio::time::timeout(QUERY_TIMEOUT, run).await {
            Ok(Ok((schema, batches))) => outcome(&schema, batches),
            Ok(Err(error)) => Outcome::Failed(Failure::of_server(&error)),
            Err(_) => Outcome::Failed(Failure::new(FailureKind::Other, "no end in time")),
        }
    }

    /// A session with these settings; kept for later queries.
    async fn session(&self, settings: &Settings, mode: Mode) -> Result<Client, String> {
        let key = (mode, settings.clone());
        if let Some(client) = self.sessions.lock().await.get(&key) {
            return Ok(client.clone());
        }
        let client = Client::connect(&self.server.flight_sql).await.map_err(|error| error.to_string())?;
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let mut sets = settings.shared.clone();
        if mode == Mode::Staged {
            sets.extend(STAGED.into_iter().map(owned).chain(settings.staged.iter().cloned()));
        }
        for (name, value) in sets {
            let set = format!("SET {name} = '{value}'");
            client.collect(&set).await.map_err(|error| format!("{set}: {error}"))?;
        }
        self.sessions.lock().await.insert(key, client.clone());
        Ok(client)
    }
}

/// Collects a stream; `None` if it has too many rows.
async fn limited<E>(
    mut stream: impl Stream<Item = Result<RecordBatch, E>> + Unpin,
) -> Result<Option<Vec<RecordBatch>>, E> {
    let (mut batches, mut rows) = (Vec::new(), 0);
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        rows += batch.num_rows();
        if rows > MAX_ROWS {
            return Ok(None);
        }
        batches.push(batch);
    }
    Ok(Some(batches))
}

/// All operators of a plan, each below the one that computes the scalar subqueries it may use.
fn parts_of(plan: &Arc<dyn ExecutionPlan>) -> Vec<Arc<dyn ExecutionPlan>> {
    let subqueries = plan.downcast_ref::<ScalarSubqueryExec>();
    let with_subqueries = |part: Arc<dyn ExecutionPlan>| match subqueries {
        Some(operator) => {
            let (links, results) = (operator.subqueries().to_vec(), operator.results().clone());
            Arc::new(ScalarSubqueryExec::new(part, links, results)) as Arc<dyn ExecutionPlan>
        }
        None => part,
    };
    let below = plan.children().into_iter().flat_map(parts_of).map(with_subqueries);
    below.chain([Arc::clone(plan)]).collect()
}

fn panic_message(error: tokio::task::JoinError) -> Option<String> {
    let payload = error.try_into_panic().ok()?;
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
}

fn outcome(schema: &Schema, batches: Option<Vec<RecordBatch>>) -> Outcome {
    batches.map_or(Outcome::TooLarge, |batches| Outcome::Rows(Answer::new(schema, &batches)))
}
