//! Runs queries through a client, one after another, and compares each result with the committed answer.

use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use futures::TryStreamExt;
use springald_client::{Client, ClientError, QueryStream};
use tokio::time::{timeout, timeout_at};

use super::report::{DemoReport, QueryReport};
use crate::rest::{self, JobFigures};
use crate::tpch::{Query, Scale, verify};

/// Most rows read of a result: far above every answer, so that a wrong plan cannot fill the memory.
const MAX_RESULT_ROWS: usize = 1_000_000;

/// Time for the server to answer that it cancels a query.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Scale of the data behind the tables.
    pub scale: Scale,
    /// Queries, in order.
    pub queries: Vec<&'static Query>,
    /// How often each runs, at least once.
    pub runs: u16,
    /// Longest time for one run.
    pub query_timeout: Duration,
    /// The scheduler's REST interface, `http://host:port`, for the figures of jobs.
    pub rest_url: Option<String>,
}

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A run of this query begins.
    Begin {
        /// Number of the query.
        query: u8,
    },
    /// A run ended, or will not be tried after an earlier failure of its query.
    End,
}

/// One run's outcome.
pub(crate) struct Run {
    pub rows: usize,
    /// From sending the statement to the last batch.
    pub millis: f64,
    pub job_id: Option<String>,
    pub batches: Vec<RecordBatch>,
}

/// Runs `plan` and reports. A query that fails is a line of the report, and the others still run. `progress` hears of
/// each begin and end; there are queries × runs ends.
pub async fn run_queries(client: &Client, plan: &Plan, progress: &(dyn Fn(Step) + Sync)) -> DemoReport {
    let mut reports = Vec::with_capacity(plan.queries.len());
    for query in &plan.queries {
        reports.push(run_query(client, plan, query, progress).await);
    }
    DemoReport::new(plan.scale, reports)
}

async fn run_query(client: &Client, plan: &Plan, query: &Query, progress: &(dyn Fn(Step) + Sync)) -> QueryReport {
    let mut report = QueryReport {
        query: query.number,
        rows: None,
        millis: Vec::new(),
        verified: false,
        error: None,
        figures: None,
    };
    let sql = query.sql(plan.scale);
    for _ in 0..plan.runs.max(1) {
        progress(Step::Begin { query: query.number });
        if report.error.is_none() {
            match run_once(client, &sql, plan.query_timeout).await {
                Ok(run) => {
                    report.rows = Some(run.rows as u64);
                    report.millis.push(run.millis);
                    report.error = verify(query, plan.scale, &run.batches).err().map(|mismatch| mismatch.to_string());
                    report.figures = figures(plan, run.job_id).await;
                }
                Err(error) => report.error = Some(error),
            }
        }
        progress(Step::End);
    }
    report.verified = report.error.is_none();
    report
}

/// Runs a statement and collects its result; the error is for people.
pub(crate) async fn run_once(client: &Client, sql: &str, limit: Duration) -> Result<Run, String> {
    let begin = Instant::now();
    let deadline = tokio::time::Instant::now() + limit;
    let too_late = || format!("no result within {} s", limit.as_secs());
    let stream = timeout_at(deadline, client.query(sql)).await.map_err(|_| too_late())?.map_err(describe)?;
    let job_id = stream.job_id().map(str::to_owned);
    let cancel = stream.cancel_handle();
    match timeout_at(deadline, collect(stream)).await {
        Ok(Ok((rows, batches))) => Ok(Run { rows, millis: begin.elapsed().as_secs_f64() * 1e3, job_id, batches }),
        Ok(Err(error)) => Err(error),
        Err(_) => {
            // Dropping the stream told the server already; this also waits until it has heard.
            let cancelled = timeout(CANCEL_TIMEOUT, cancel.cancel()).await;
            let heard = matches!(cancelled, Ok(Ok(_)));
            Err(format!(
                "{}; {}",
                too_late(),
                if heard { "cancelled" } else { "the server did not confirm the cancellation" }
            ))
        }
    }
}

async fn collect(mut stream: QueryStream) -> Result<(usize, Vec<RecordBatch>), String> {
    let (mut rows, mut batches) = (0, Vec::new());
    while let Some(batch) = stream.try_next().await.map_err(describe)? {
        rows += batch.num_rows();
        if rows > MAX_RESULT_ROWS {
            return Err(format!("the result has more than {MAX_RESULT_ROWS} rows"));
        }
        batches.push(batch);
    }
    Ok((rows, batches))
}

fn describe(error: ClientError) -> String {
    format!("{}: {error}", error.code())
}

/// The figures of a job. They are an extra: without them, the report shows dashes.
async fn figures(plan: &Plan, job_id: Option<String>) -> Option<JobFigures> {
    let (base, job_id) = (plan.rest_url.as_ref()?, job_id?);
    match rest::job_figures(base, &job_id).await {
        Ok(figures) => Some(figures),
        Err(error) => {
            tracing::warn!(job_id, %error, "no figures of the job");
            None
        }
    }
}
