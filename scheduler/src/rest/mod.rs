//! REST: jobs, executors and schedulers, for people and scripts.
//!
//! Every scheduler answers for the whole cluster. Answers are JSON; errors are `{"code", "message"}`.
//! `/api/v1/openapi.json` describes it all.

mod answer;
mod discovery;
mod id;
mod model;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use springald_core::error::{Error, Result};
use springald_core::ids::{ExecutorId, JobId};
use springald_proto::records::JobStatus;
use utoipa::{IntoParams, OpenApi};

use self::answer::Failure;
use self::discovery::TargetJson;
use self::id::Id;
use self::model::{ErrorJson, ExecutorJson, JobJson, JobsJson, SchedulerJson, StatusJson, state_from_name};
use crate::engine::{Engine, JobFilter};

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;

/// Why a job was cancelled that somebody cancelled here.
const CANCELLED_BY_REST: &str = "cancelled through the REST interface";

type Answer<T> = std::result::Result<Json<T>, Failure>;

/// The routes of a scheduler's REST port.
pub fn router(engine: Arc<Engine>) -> Router {
    Router::new()
        .route("/api/v1/jobs", get(jobs))
        .route("/api/v1/jobs/{id}", get(job).delete(cancel_job))
        .route("/api/v1/executors", get(executors))
        .route("/api/v1/executors/{id}/drain", post(drain_executor))
        .route("/api/v1/schedulers", get(schedulers))
        .route("/api/v1/discovery/prometheus", get(discovery))
        .route("/ready", get(ready))
        .with_state(engine)
        .merge(fixed_routes())
        .fallback(nothing_here)
        // Last: it is for the routes that are there by now.
        .method_not_allowed_fallback(method_not_allowed)
}

/// The routes that need no engine.
fn fixed_routes() -> Router {
    Router::new().route("/api/v1/openapi.json", get(document)).route("/health", get(health))
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Springald", description = "Jobs, executors and schedulers of a Springald cluster."),
    paths(jobs, job, cancel_job, executors, drain_executor, schedulers, discovery, document, health, ready)
)]
struct Documented;

/// Which jobs to list. Read as text, so that a value that makes no sense is answered like any other error. Names
/// of no parameter are refused: a filter that was mistyped must not list all jobs.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct JobsQuery {
    /// Only jobs in this state: `queued`, `running`, `succeeded`, `failed` or `cancelled`.
    state: Option<String>,
    /// Jobs on a page: 1 to 1000, 100 if not given.
    limit: Option<String>,
    /// Only jobs after this one: the `next` of the page before.
    after: Option<String>,
}

impl JobsQuery {
    fn filter(&self) -> Result<JobFilter> {
        let state: Option<JobStatus> = self.state.as_deref().map(state_from_name).transpose()?;
        let after: Option<JobId> = self.after.as_deref().map(str::parse).transpose()?;
        let limit = match &self.limit {
            None => DEFAULT_LIMIT,
            Some(text) => match text.parse() {
                Ok(limit) if (1..=MAX_LIMIT).contains(&limit) => limit,
                _ => return Err(Error::invalid(format!("limit must be a number from 1 to {MAX_LIMIT}"))),
            },
        };
        Ok(JobFilter { state, after, limit })
    }
}

/// Lists jobs, in the order in which they were submitted.
#[utoipa::path(
    get,
    path = "/api/v1/jobs",
    params(JobsQuery),
    responses(
        (status = 200, description = "A page of jobs, without the plans of their stages", body = JobsJson),
        (status = 400, description = "A parameter makes no sense, or there is none of this name", body = ErrorJson),
        (status = 503, description = "The state store cannot be reached", body = ErrorJson),
    )
)]
async fn jobs(
    State(engine): State<Arc<Engine>>,
    query: std::result::Result<Query<JobsQuery>, QueryRejection>,
) -> Answer<JobsJson> {
    let Query(query) = query.map_err(|rejection| Error::invalid(rejection.body_text()))?;
    let page = engine.jobs(query.filter()?).await?;
    let now = now_micros();
    Ok(Json(JobsJson {
        jobs: page.jobs.into_iter().map(|record| JobJson::new(record, now)).collect(),
        next: page.next.map(String::from),
    }))
}

/// Shows a job with its stages and their plans.
#[utoipa::path(
    get,
    path = "/api/v1/jobs/{id}",
    params(("id" = String, Path, description = "The job's id")),
    responses(
        (status = 200, description = "The job", body = JobJson),
        (status = 400, description = "Not an id", body = ErrorJson),
        (status = 404, description = "There is no such job, or its record has expired", body = ErrorJson),
        (status = 503, description = "The state store cannot be reached", body = ErrorJson),
    )
)]
async fn job(State(engine): State<Arc<Engine>>, Id(id): Id<JobId>) -> Answer<JobJson> {
    let record = engine.job(&id).await?;
    Ok(Json(JobJson::new(record, now_micros())))
}

/// Cancels a job. A job that has ended stays as it is.
#[utoipa::path(
    delete,
    path = "/api/v1/jobs/{id}",
    params(("id" = String, Path, description = "The job's id")),
    responses(
        (status = 204, description = "The job is being cancelled, or has ended"),
        (status = 400, description = "Not an id", body = ErrorJson),
        (status = 404, description = "There is no such job, or its record has expired", body = ErrorJson),
        (status = 503, description = "The state store cannot be reached", body = ErrorJson),
    )
)]
async fn cancel_job(State(engine): State<Arc<Engine>>, Id(id): Id<JobId>) -> std::result::Result<StatusCode, Failure> {
    // Cancelling is silent about jobs that never were; a person who mistyped an id should hear of it.
    engine.job(&id).await?;
    engine.cancel(&id, CANCELLED_BY_REST).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists the live executors.
#[utoipa::path(
    get,
    path = "/api/v1/executors",
    responses(
        (status = 200, description = "All executors", body = Vec<ExecutorJson>),
        (status = 503, description = "The state store cannot be reached", body = ErrorJson),
    )
)]
async fn executors(State(engine): State<Arc<Engine>>) -> Answer<Vec<ExecutorJson>> {
    Ok(Json(engine.executors().await?.into_iter().map(ExecutorJson::from).collect()))
}

/// Tells an executor to drain: it takes no more tasks, finishes those that run, hands over what it holds, and ends.
#[utoipa::path(
    post,
    path = "/api/v1/executors/{id}/drain",
    params(("id" = String, Path, description = "The executor's id")),
    responses(
        (status = 202, description = "It drains"),
        (status = 400, description = "Not an id", body = ErrorJson),
        (status = 404, description = "There is no such executor", body = ErrorJson),
        (status = 503, description = "It is not connected to this scheduler now, or the state store cannot be reached",
            body = ErrorJson),
    )
)]
async fn drain_executor(
    State(engine): State<Arc<Engine>>,
    Id(id): Id<ExecutorId>,
) -> std::result::Result<StatusCode, Failure> {
    engine.drain_executor(&id).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Lists the live schedulers.
#[utoipa::path(
    get,
    path = "/api/v1/schedulers",
    responses(
        (status = 200, description = "All schedulers", body = Vec<SchedulerJson>),
        (status = 503, description = "The state store cannot be reached", body = ErrorJson),
    )
)]
async fn schedulers(State(engine): State<Arc<Engine>>) -> Answer<Vec<SchedulerJson>> {
    Ok(Json(engine.schedulers().await?.into_iter().map(SchedulerJson::from).collect()))
}

/// Lists where the metrics of all live processes are, for `http_sd_configs` of Prometheus.
#[utoipa::path(
    get,
    path = "/api/v1/discovery/prometheus",
    responses(
        (status = 200, description = "All processes with metrics", body = Vec<TargetJson>),
        (status = 503, description = "The state store cannot be reached", body = ErrorJson),
    )
)]
async fn discovery(State(engine): State<Arc<Engine>>) -> Answer<Vec<TargetJson>> {
    let (schedulers, executors) = (engine.schedulers().await?, engine.executors().await?);
    Ok(Json(discovery::targets(engine.cluster().as_str(), schedulers, executors)))
}

/// Describes this interface.
#[utoipa::path(get, path = "/api/v1/openapi.json", responses((status = 200, description = "This document")))]
async fn document() -> Json<utoipa::openapi::OpenApi> {
    Json(Documented::openapi())
}

/// Tells that the process lives.
#[utoipa::path(get, path = "/health", responses((status = 200, description = "It lives", body = StatusJson)))]
async fn health() -> Json<StatusJson> {
    ok()
}

/// Tells whether this scheduler can take queries.
#[utoipa::path(
    get,
    path = "/ready",
    responses(
        (status = 200, description = "It can", body = StatusJson),
        (status = 503, description = "It cannot, and why", body = ErrorJson),
    )
)]
async fn ready(State(engine): State<Arc<Engine>>) -> Answer<StatusJson> {
    engine.ready()?;
    Ok(ok())
}

async fn nothing_here() -> Failure {
    Failure::from(Error::not_found("there is nothing here: /api/v1/openapi.json lists what there is"))
}

/// The router adds `Allow`.
async fn method_not_allowed() -> (StatusCode, Failure) {
    let error = Error::unsupported("not with this method: the header Allow names those that there are");
    (StatusCode::METHOD_NOT_ALLOWED, Failure::from(error))
}

fn ok() -> Json<StatusJson> {
    Json(StatusJson { status: "ok".to_owned() })
}

fn now_micros() -> i64 {
    chrono::Utc::now().timestamp_micros()
}
