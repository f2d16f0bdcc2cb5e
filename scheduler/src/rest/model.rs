//! What REST shows: plain data with its own names, apart from the stored records.

use chrono::{DateTime, SecondsFormat};
use serde::Serialize;
use springald_core::error::{Error, Result};
use springald_core::secrets;
use springald_proto::records::{ExecutorRecord, ExecutorState, JobRecord, JobStatus, SchedulerRecord, StageSummary};
use utoipa::ToSchema;

/// The states of a job, by their names here.
const STATES: [(&str, JobStatus); 5] = [
    ("queued", JobStatus::Queued),
    ("running", JobStatus::Running),
    ("succeeded", JobStatus::Succeeded),
    ("failed", JobStatus::Failed),
    ("cancelled", JobStatus::Cancelled),
];

/// The state with this name.
///
/// # Errors
/// Names those there are.
pub(super) fn state_from_name(name: &str) -> Result<JobStatus> {
    STATES.into_iter().find(|(known, _)| *known == name).map(|(_, status)| status).ok_or_else(|| {
        let shown: String = name.chars().take(40).collect();
        let names: Vec<&str> = STATES.iter().map(|(name, _)| *name).collect();
        Error::invalid(format!("there is no job state {shown:?}: use one of {}", names.join(", ")))
    })
}

fn state_name(status: JobStatus) -> String {
    let known = STATES.into_iter().find(|(_, known)| *known == status);
    known.map_or("unknown", |(name, _)| name).to_owned()
}

/// A query, from submission until its record expires.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobJson {
    /// Its id.
    pub id: String,
    /// The statement.
    pub sql: String,
    /// Who submitted it.
    pub user: String,
    /// `queued`, `running`, `succeeded`, `failed` or `cancelled`.
    pub state: String,
    /// When it was submitted (RFC 3339).
    pub submitted: Option<String>,
    /// When its first task started.
    pub started: Option<String>,
    /// When it ended.
    pub ended: Option<String>,
    /// Milliseconds from submission to the end, or to now.
    pub millis: u64,
    /// Why it failed or was cancelled.
    pub error: Option<ErrorJson>,
    /// What a queued job waits for.
    pub waiting_for: Option<String>,
    /// Rows of the result.
    pub result_rows: u64,
    /// True if the scheduler ran it itself, without stages.
    pub local: bool,
    /// The scheduler that took it, or took it over.
    pub scheduler: String,
    /// How often another scheduler has taken it over.
    pub takeovers: u32,
    /// Follows it through the events of all processes.
    pub trace_id: String,
    /// Its stages, in the order in which they were cut: inputs before readers.
    pub stages: Vec<StageJson>,
}

impl JobJson {
    /// The job of a record, as of `now_micros` (since the Unix epoch).
    pub(super) fn new(record: JobRecord, now_micros: i64) -> Self {
        let state = state_name(record.status());
        let until = if record.ended_micros > 0 { record.ended_micros } else { now_micros };
        let message = non_empty(record.error);
        let code = record.error_code;
        Self {
            id: record.job_id,
            sql: secrets::sql(&record.sql),
            user: record.user,
            state,
            submitted: time(record.submitted_micros),
            started: time(record.started_micros),
            ended: time(record.ended_micros),
            millis: u64::try_from((until - record.submitted_micros) / 1000).unwrap_or(0),
            error: message.map(|message| ErrorJson { code, message }),
            waiting_for: non_empty(record.waiting_for),
            result_rows: record.result_rows,
            local: record.local,
            scheduler: record.scheduler_id,
            takeovers: record.takeovers,
            trace_id: record.trace_id,
            stages: record.stages.into_iter().map(StageJson::from).collect(),
        }
    }
}

/// A part of a job that runs between two exchanges.
#[derive(Debug, Serialize, ToSchema)]
pub struct StageJson {
    /// Its number in the job, from 1.
    pub stage: u32,
    /// `waiting`, `ready`, `running` or `done`.
    pub state: String,
    /// Number of its tasks.
    pub tasks: u32,
    /// Tasks that have succeeded.
    pub tasks_done: u32,
    /// Tasks that run now.
    pub tasks_running: u32,
    /// Tries at tasks that failed.
    pub task_failures: u32,
    /// Rows it wrote.
    pub output_rows: u64,
    /// Bytes it wrote, in memory.
    pub output_bytes: u64,
    /// Bytes that its operators spilled to disk.
    pub spilled_bytes: u64,
    /// The stages that it reads.
    pub inputs: Vec<u32>,
    /// Its physical plan; empty in lists. Of a long one, the beginning is kept when the job has ended.
    pub plan: String,
}

impl From<StageSummary> for StageJson {
    fn from(stage: StageSummary) -> Self {
        Self {
            stage: stage.stage,
            state: stage.status,
            tasks: stage.tasks,
            tasks_done: stage.tasks_done,
            tasks_running: stage.tasks_running,
            task_failures: stage.task_failures,
            output_rows: stage.output_rows,
            output_bytes: stage.output_bytes,
            spilled_bytes: stage.spilled_bytes,
            inputs: stage.inputs,
            plan: secrets::owned(stage.plan),
        }
    }
}

/// Jobs, the oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobsJson {
    /// The jobs of this page.
    pub jobs: Vec<JobJson>,
    /// What to give as `after` for the next page; absent on the last.
    pub next: Option<String>,
}

/// An error.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorJson {
    /// Stable name of the kind of error.
    pub code: String,
    /// What went wrong, and what can be changed.
    pub message: String,
}

/// An executor.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExecutorJson {
    /// Its id; a restarted executor has a new one.
    pub id: String,
    /// Its version.
    pub version: String,
    /// `active` or `draining`.
    pub state: String,
    /// Where peers fetch its partitions.
    pub exchange_address: String,
    /// Where its metrics are; absent if it has none.
    pub telemetry_address: Option<String>,
    /// Tasks it runs at one time.
    pub slots: u32,
    /// Its memory for operators and the exchange.
    pub memory_bytes: u64,
    /// When it started.
    pub started: Option<String>,
}

impl From<ExecutorRecord> for ExecutorJson {
    fn from(record: ExecutorRecord) -> Self {
        let state = match record.state() {
            ExecutorState::Active => "active",
            ExecutorState::Draining => "draining",
        };
        Self {
            state: state.to_owned(),
            id: record.executor_id,
            version: record.version,
            exchange_address: record.exchange_address,
            telemetry_address: non_empty(record.telemetry_address),
            slots: record.slots,
            memory_bytes: record.memory_bytes,
            started: time(record.started_micros),
        }
    }
}

/// A scheduler.
#[derive(Debug, Serialize, ToSchema)]
pub struct SchedulerJson {
    /// Its id; a restarted scheduler has a new one.
    pub id: String,
    /// Its version.
    pub version: String,
    /// Where clients connect.
    pub flight_sql_address: String,
    /// Where executors connect.
    pub control_address: String,
    /// Where this interface is.
    pub rest_address: String,
    /// Where its metrics are; absent if it has none.
    pub telemetry_address: Option<String>,
    /// When it started.
    pub started: Option<String>,
}

impl From<SchedulerRecord> for SchedulerJson {
    fn from(record: SchedulerRecord) -> Self {
        Self {
            id: record.scheduler_id,
            version: record.version,
            flight_sql_address: record.flight_sql_address,
            control_address: record.control_address,
            rest_address: record.rest_address,
            telemetry_address: non_empty(record.telemetry_address),
            started: time(record.started_micros),
        }
    }
}

/// Whether the process works.
#[derive(Debug, Serialize, ToSchema)]
pub struct StatusJson {
    /// `ok`.
    pub status: String,
}

/// Microseconds since the Unix epoch as RFC 3339; `None` for 0, which means "not yet".
fn time(micros: i64) -> Option<String> {
    let time = if micros == 0 { None } else { DateTime::from_timestamp_micros(micros) };
    time.map(|time| time.to_rfc3339_opts(SecondsFormat::Micros, true))
}

fn non_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_failed_job_its_times_error_and_stages_are_shown() {
        let record = JobRecord {
            job_id: "j".to_owned(),
            sql: "SELECT 1".to_owned(),
            session_id: "secret".to_owned(),
            status: JobStatus::Failed.into(),
            submitted_micros: 1_000_000,
            ended_micros: 3_500_000,
            error_code: "SPRINGALD_QUERY".to_owned(),
            error: "division by zero".to_owned(),
            stages: vec![StageSummary { stage: 1, status: "done".to_owned(), tasks: 4, ..StageSummary::default() }],
            ..JobRecord::default()
        };
        let json = serde_json::to_value(JobJson::new(record, 9_000_000)).expect("JSON");
        assert_eq!(json["state"], "failed");
        assert_eq!(json["submitted"], "1970-01-01T00:00:01.000000Z");
        assert_eq!(json["started"], serde_json::Value::Null);
        assert_eq!(json["millis"], 2500);
        assert_eq!(json["error"]["code"], "SPRINGALD_QUERY");
        assert_eq!(json["stages"][0]["tasks"], 4);
        assert!(!json.to_string().contains("secret"), "the session's id is a token and must not be shown");
    }

    #[test]
    fn given_a_running_job_its_time_so_far_is_counted() {
        let record =
            JobRecord { status: JobStatus::Running.into(), submitted_micros: 1_000_000, ..JobRecord::default() };
        let json = JobJson::new(record, 1_250_000);
        assert_eq!((json.millis, json.ended, json.error.is_none()), (250, None, true));
    }

    #[test]
    fn given_a_state_that_is_not_known_the_error_names_those_that_are() {
        assert_eq!(state_from_name("running").expect("known"), JobStatus::Running);
        let error = state_from_name("RUNNING").expect_err("unknown");
        assert!(error.message().contains("queued, running, succeeded, failed, cancelled"), "{error}");
    }
}
