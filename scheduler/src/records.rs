//! The typed records in the state store: their keys, and how they are encoded.
//!
//! ```text
//! schedulers/<id>         SchedulerRecord  lease     jobs/record/<job>          JobRecord
//! executors/<id>          ExecutorRecord   lease     jobs/plan/<job>/<n>        StagePlans, zstd, in chunks
//! jobs/owner/<job>        OwnerRecord      lease     jobs/outcomes/<job>/<seq>  OutcomeBatch
//! jobs/cancel/<job>       reason                     catalog/…, sessions/…      see their modules
//! ```
//!
//! Records of one kind stand together, so that listing jobs does not read their plans.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use prost::Message;
use springald_core::error::{Error, Result};
use springald_core::ids::{ExecutorId, JobId, SchedulerId};
use springald_proto::records::{JobStatus, StagePlans};

use crate::store::Entry;

/// Prefix of all scheduler records.
pub const SCHEDULERS: &str = "schedulers/";
/// Prefix of all executor records.
pub const EXECUTORS: &str = "executors/";
/// Prefix of all job records.
pub const JOB_RECORDS: &str = "jobs/record/";
/// Prefix of the requests to cancel a job.
pub const CANCELS: &str = "jobs/cancel/";

/// Key of a scheduler's record.
pub fn scheduler_key(id: &SchedulerId) -> String {
    format!("{SCHEDULERS}{id}")
}

/// Key of an executor's record.
pub fn executor_key(id: &ExecutorId) -> String {
    format!("{EXECUTORS}{id}")
}

/// Key of a job's record.
pub fn job_key(job: &JobId) -> String {
    format!("{JOB_RECORDS}{job}")
}

/// Key of a job's owner: exists as long as the owner lives; its revision is the fencing token.
pub fn owner_key(job: &JobId) -> String {
    format!("jobs/owner/{job}")
}

/// Prefix of the chunks of a job's plans.
pub fn plan_prefix(job: &JobId) -> String {
    format!("jobs/plan/{job}/")
}

/// Prefix of a job's outcomes.
pub fn outcomes_prefix(job: &JobId) -> String {
    format!("jobs/outcomes/{job}/")
}

/// Key of one batch of outcomes; batches sort in the order in which they were written.
pub fn outcomes_key(job: &JobId, sequence: u64) -> String {
    format!("{}{sequence:016x}", outcomes_prefix(job))
}

/// Key of the request to cancel a job.
pub fn cancel_key(job: &JobId) -> String {
    format!("{CANCELS}{job}")
}

/// Decodes a record. Fails with the key in the message.
pub fn decode<M: Message + Default>(entry: &Entry) -> Result<M> {
    M::decode(entry.value.clone())
        .map_err(|error| Error::internal(format!("the record at {} cannot be read", entry.key)).with_source(error))
}

/// Encodes a record.
pub fn encode(record: &impl Message) -> Bytes {
    record.encode_to_vec().into()
}

/// etcd refuses requests of more than 1.5 MiB; a chunk leaves room for the rest of its transaction.
const CHUNK_BYTES: usize = 1 << 20;
const COMPRESSION_LEVEL: i32 = 1;

/// A job's plans as compressed chunks, in order. Fails if they cannot be compressed.
pub fn plan_chunks(plans: &StagePlans) -> Result<Vec<Bytes>> {
    let packed = zstd::bulk::compress(&plans.encode_to_vec(), COMPRESSION_LEVEL)
        .map_err(|error| Error::internal("the job's plans cannot be compressed").with_source(error))?;
    let packed = Bytes::from(packed);
    Ok((0..packed.len()).step_by(CHUNK_BYTES).map(|at| packed.slice(at..packed.len().min(at + CHUNK_BYTES))).collect())
}

/// Microseconds since the Unix epoch: for people and for expiry, never for ordering.
pub fn now_micros() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// True for states that a job does not leave.
pub fn has_ended(status: JobStatus) -> bool {
    matches!(status, JobStatus::Succeeded | JobStatus::Failed | JobStatus::Cancelled)
}
