//! What is said of a job as a whole: its events, metrics and span. Every way in which a job can begin and end comes by here.

use springald_core::error::Error;
use springald_core::ids::fingerprint;
use springald_core::telemetry::events::names;
use springald_core::telemetry::shown_sql;
use springald_core::telemetry::trace::{Finished, SpanContext};
use springald_proto::records::{JobRecord, JobStatus};

use crate::metrics::springald_scheduler as metrics;

/// What kind of statement a job is, in its record and events.
pub(crate) mod kinds {
    pub(crate) const QUERY: &str = "query";
    pub(crate) const EXPLAIN: &str = "explain";
    pub(crate) const ANALYZE: &str = "analyze";
    pub(crate) const STATEMENT: &str = "statement";
}

/// The job's span; a new one for records of versions that had none.
pub(crate) fn span_of(record: &JobRecord) -> SpanContext {
    record.traceparent.parse().unwrap_or_else(|_| SpanContext::root())
}

/// The job's state, as events and metrics name it.
pub(crate) fn state_name(status: JobStatus) -> &'static str {
    match status {
        JobStatus::Queued | JobStatus::Unspecified => "queued",
        JobStatus::Running => "running",
        JobStatus::Succeeded => "succeeded",
        JobStatus::Failed => "failed",
        JobStatus::Cancelled => "cancelled",
    }
}

/// Notes in its record how long it took to plan a statement.
pub(crate) fn planned(record: &mut JobRecord, query: SpanContext) {
    let now = crate::records::now_micros();
    record.planning_micros = (now - record.submitted_micros).max(0);
    Finished::new("planning", query.child(), Some(query), (record.submitted_micros, now)).export();
}

/// A statement was planned and is durable.
pub(crate) fn submitted(record: &JobRecord, stages: usize) {
    metrics::query_planning_seconds().observe(seconds(record.planning_micros));
    tracing::info!(
        event = names::JOB_SUBMITTED,
        job_id = record.job_id,
        trace_id = record.trace_id,
        span_id = span_of(record).span_id(),
        user = record.user,
        session = fingerprint(&record.session_id),
        sql = shown_sql(&record.sql),
        kind = record.kind,
        local = record.local,
        stages,
        planning_micros = record.planning_micros,
        "job submitted"
    );
}

/// A statement was not taken: there is no job.
pub(crate) fn refused(record: &JobRecord, error: &Error) {
    metrics::queries_total("refused").inc();
    let span = span_of(record);
    tracing::info!(
        event = names::JOB_REFUSED,
        trace_id = record.trace_id,
        span_id = span.span_id(),
        user = record.user,
        session = fingerprint(&record.session_id),
        sql = shown_sql(&record.sql),
        error_code = error.code().as_str(),
        %error,
        "statement refused"
    );
    export_span(record, crate::records::now_micros(), Some(error.message()));
}

/// The first task of a job starts.
pub(crate) fn started(record: &JobRecord) {
    let queued_micros = queued(record);
    metrics::query_queue_seconds().observe(seconds(queued_micros));
    let span_id = span_of(record).span_id();
    tracing::info!(
        event = names::JOB_STARTED,
        job_id = record.job_id,
        trace_id = record.trace_id,
        span_id,
        user = record.user,
        queued_micros,
        "job started"
    );
}

/// A job has ended, or has its result. `again` if that was said before. `profile`: what its tasks measured, as JSON.
pub(crate) fn finished(record: &JobRecord, profile: Option<&str>, again: bool) {
    let state = state_name(record.status());
    let total_micros = record.ended_micros - record.submitted_micros;
    let execution_micros = (record.started_micros > 0).then(|| (record.ended_micros - record.started_micros).max(0));
    if !again {
        metrics::queries_total(state).inc();
        metrics::query_duration_seconds().observe(seconds(total_micros));
        if let Some(micros) = execution_micros {
            metrics::query_execution_seconds().observe(seconds(micros));
        }
        let failed = record.status() != JobStatus::Succeeded;
        export_span(record, record.ended_micros, failed.then_some(record.error.as_str()));
    }
    let sum = |value: fn(&springald_proto::records::StageSummary) -> u64| record.stages.iter().map(value).sum::<u64>();
    let failed = !record.error_code.is_empty();
    tracing::info!(
        event = names::JOB_FINISHED,
        job_id = record.job_id,
        trace_id = record.trace_id,
        span_id = span_of(record).span_id(),
        user = record.user,
        session = fingerprint(&record.session_id),
        state,
        error_code = failed.then_some(record.error_code.as_str()),
        error = failed.then_some(record.error.as_str()),
        sql = shown_sql(&record.sql),
        kind = record.kind,
        local = record.local,
        submitted_micros = record.submitted_micros,
        planning_micros = record.planning_micros,
        queued_micros = (record.started_micros > 0).then(|| queued(record)),
        execution_micros,
        total_micros,
        result_rows = record.result_rows,
        stages = record.stages.len(),
        tasks = sum(|stage| stage.tasks.into()),
        task_failures = sum(|stage| stage.task_failures.into()),
        spilled_bytes = sum(|stage| stage.spilled_bytes),
        takeovers = record.takeovers,
        profile,
        "job {}",
        if state == "succeeded" { "finished" } else { state }
    );
}

fn export_span(record: &JobRecord, ended_micros: i64, error: Option<&str>) {
    let sql = shown_sql(&record.sql).unwrap_or_default();
    let parent = record.parent_traceparent.parse().ok();
    Finished::new("query", span_of(record), parent, (record.submitted_micros, ended_micros))
        .server()
        .with("db.system.name", "springald")
        .with("db.query.text", sql)
        .with("job_id", record.job_id.clone())
        .with("user", record.user.clone())
        .with("kind", record.kind.clone())
        .with("state", state_name(record.status()))
        .failed(error)
        .export();
}

/// From the plan to the first task.
fn queued(record: &JobRecord) -> i64 {
    (record.started_micros - record.submitted_micros - record.planning_micros).max(0)
}

fn seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}
