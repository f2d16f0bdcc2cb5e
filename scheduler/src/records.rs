//! The typed records in the state store: their keys, and how they are encoded.
//!
//! ```text
//! schedulers/<id>         SchedulerRecord  lease     jobs/record/<job>          JobRecord
//! executors/<id>          ExecutorRecord   lease     jobs/plan/<job>/<n>        StagePlans, zstd, in chunks
//! jobs/owner/<job>        OwnerRecord      lease     jobs/outcomes/<job>/<n>    OutcomeBatch
//! jobs/cancel/<job>       reason                     cluster/ticket-key         random bytes
//! catalog/…, sessions/…   see their modules
//! ```
//!
//! Records of one kind stand together, so that listing jobs does not read their plans.

use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;
use springald_core::error::{Error, Result};
use springald_core::ids::{ExecutorId, JobId, SchedulerId};
use springald_proto::records::{JobRecord, JobStatus, StagePlans};

use crate::clock;
use crate::store::Entry;

/// Key of the key with which the cluster's tickets are signed.
pub const TICKET_KEY: &str = "cluster/ticket-key";
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

/// Prefix of the owners of all jobs.
pub const OWNERS: &str = "jobs/owner/";

/// Key of a job's owner: exists as long as the owner lives; its revision is the fencing token.
pub fn owner_key(job: &JobId) -> String {
    format!("{OWNERS}{job}")
}

/// Prefix of the chunks of a job's plans.
pub fn plan_prefix(job: &JobId) -> String {
    format!("jobs/plan/{job}/")
}

/// Prefix of a job's outcomes.
pub fn outcomes_prefix(job: &JobId) -> String {
    format!("jobs/outcomes/{job}/")
}

/// Key of one batch of outcomes; batches sort in the order in which they were written: those of a later owner, whose
/// fencing token is higher, after those of an earlier one.
pub fn outcomes_key(job: &JobId, owner_revision: u64, sequence: u64) -> String {
    format!("{}{owner_revision:016x}-{sequence:08x}", outcomes_prefix(job))
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

/// The plans in these chunks. Fails if they are not what [`plan_chunks`] made.
pub fn plans_of_chunks(chunks: &[Entry]) -> Result<StagePlans> {
    let unreadable = || Error::internal("the job's stored plans cannot be read");
    let packed: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.value.iter().copied()).collect();
    let plain = zstd::stream::decode_all(packed.as_slice()).map_err(|error| unreadable().with_source(error))?;
    StagePlans::decode(plain.as_slice()).map_err(|error| unreadable().with_source(error))
}

/// Microseconds since the Unix epoch: for people and for expiry, never for ordering.
pub fn now_micros() -> i64 {
    clock::micros_since_epoch()
}

/// When a job must have ended, as its record says; `None`: no limit.
pub fn deadline_of(record: &JobRecord) -> Option<Instant> {
    let left = record.deadline_micros.saturating_sub(now_micros());
    let left = Duration::from_micros(u64::try_from(left).unwrap_or_default());
    if record.deadline_micros == 0 { None } else { clock::now().checked_add(left) }
}

/// True if somebody must own the job: it has not ended, or its result waits to be fetched.
pub fn needs_owner(record: &JobRecord) -> bool {
    record.result_held || !has_ended(record.status())
}

/// True for states that a job does not leave.
pub fn has_ended(status: JobStatus) -> bool {
    matches!(status, JobStatus::Succeeded | JobStatus::Failed | JobStatus::Cancelled)
}
