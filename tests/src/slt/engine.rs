//! DataFusion in this process: the reference.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::{Result, TableReference};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::collect;
use datafusion::prelude::{SessionConfig, SessionContext};
use tokio::time::timeout;

use super::rows::{Answer, Order};
use super::shape;

/// The server's one catalog; here, too, so that names mean the same.
pub const CATALOG: &str = "springald";

/// The server's default schema.
pub const SCHEMA: &str = "public";

/// Partitions of the reference, as in DataFusion's own runs of these files.
const PARTITIONS: usize = 4;

/// Longest time for one statement.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(60);

/// Code of errors of DataFusion.
const DATAFUSION: &str = "DATAFUSION";

/// What became of a query.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It has an answer.
    Answer(Answer),
    /// It failed.
    Error {
        /// Stable name of the kind of error.
        code: String,
        /// What went wrong.
        message: String,
    },
    /// It took longer than [`STATEMENT_TIMEOUT`].
    Timeout,
    /// The server has ended.
    Crash,
}

impl Outcome {
    /// One line for reports.
    pub fn shown(&self) -> String {
        match self {
            Self::Answer(answer) => format!("{} rows", answer.rows.len()),
            Self::Error { code, message } => {
                format!("{code}: {}", message.split_whitespace().collect::<Vec<_>>().join(" "))
            }
            Self::Timeout => format!("no answer within {STATEMENT_TIMEOUT:?}"),
            Self::Crash => "the server has ended".to_owned(),
        }
    }
}

/// A query's outcome in process, with what its plan says about its rows.
pub struct Run {
    /// What became of it.
    pub outcome: Outcome,
    /// Order of its rows.
    pub order: Order,
    /// The plan without its top-level `LIMIT`, if it has one.
    pub unlimited: Option<LogicalPlan>,
}

/// A DataFusion session.
#[derive(Clone)]
pub struct Engine {
    /// The session.
    pub context: SessionContext,
}

impl Engine {
    /// A session as DataFusion's own runner makes it, with the server's names for catalog and schema.
    pub fn new() -> Self {
        let config = SessionConfig::new()
            .with_target_partitions(PARTITIONS)
            .with_default_catalog_and_schema(CATALOG, SCHEMA)
            .with_create_default_catalog_and_schema(true);
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(Arc::new(RuntimeEnv::default()))
            .with_default_features()
            .build();
        Self { context: SessionContext::new_with_state(state) }
    }

    /// SQL dialect of the session.
    pub fn dialect(&self) -> String {
        self.context.state().config_options().sql_parser.dialect.to_string()
    }

    /// Runs a statement whose result does not matter.
    ///
    /// # Errors
    /// Its outcome, if it fails or takes too long.
    pub async fn execute(&self, sql: &str) -> Result<(), Outcome> {
        let (context, sql) = (self.context.clone(), sql.to_owned());
        isolated(async move { context.sql(&sql).await?.collect().await.map(drop) }).await
    }

    /// Runs a query.
    pub async fn query(&self, sql: &str) -> Run {
        let (context, text) = (self.context.clone(), sql.to_owned());
        let planned = isolated(async move { context.state().create_logical_plan(&text).await }).await;
        match planned {
            Ok(plan) => Run {
                outcome: self.answer(plan.clone()).await,
                order: shape::order(&plan),
                unlimited: shape::without_limit(&plan).ok().flatten(),
            },
            Err(outcome) => Run { outcome, order: Order::default(), unlimited: None },
        }
    }

    /// Runs a plan.
    pub async fn answer(&self, plan: LogicalPlan) -> Outcome {
        let context = self.context.clone();
        let run = isolated(async move {
            let frame = context.execute_logical_plan(plan).await?;
            let tasks = Arc::new(frame.task_ctx());
            let physical = frame.create_physical_plan().await?;
            let schema = physical.schema();
            Ok(Answer::new(&schema, &collect(physical, tasks).await?))
        });
        run.await.map_or_else(|outcome| outcome, Outcome::Answer)
    }

    /// Columns and rows of a table.
    ///
    /// # Errors
    /// It does not exist, or cannot be read.
    pub async fn table(&self, name: &TableReference) -> Result<(SchemaRef, Vec<RecordBatch>), Outcome> {
        let (context, name) = (self.context.clone(), name.clone());
        isolated(async move {
            let schema = context.table_provider(name.clone()).await?.schema();
            Ok((schema, context.table(name).await?.collect().await?))
        })
        .await
    }
}

impl Default for Engine {
    fn default() -> Self {
        Self::new()
    }
}

/// Runs work that may panic or take too long.
async fn isolated<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T, Outcome> {
    let error = |message: String| Outcome::Error { code: DATAFUSION.to_owned(), message };
    let mut task = tokio::spawn(work);
    match timeout(STATEMENT_TIMEOUT, &mut task).await {
        Ok(Ok(Ok(value))) => Ok(value),
        Ok(Ok(Err(failure))) => Err(error(failure.strip_backtrace())),
        Ok(Err(ended)) if ended.is_panic() => {
            let payload = ended.into_panic();
            let text = payload.downcast_ref::<String>().cloned();
            match text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned())) {
                Some(text) => Err(error(format!("panic: {text}"))),
                None => resume_unwind(payload),
            }
        }
        Ok(Err(ended)) => Err(error(ended.to_string())),
        Err(_) => {
            task.abort();
            Err(Outcome::Timeout)
        }
    }
}
