//! One fetch: pieces of a stage from one other executor, over one Flight stream.
//!
//! ```text
//!   peer ══HTTP/2 window══▶ fetch task: decode ──queue, bounded by bytes──▶ the reading operator
//!          half of fetch_bytes_in_flight            the other half, reserved in the pool
//! ```
//!
//! The fetch starts before anybody reads, so that the network works while the operator does something else, and stops
//! when its stream is dropped.

use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use arrow_flight::Ticket as FlightTicket;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::utils::memory::get_record_batch_memory_size;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryReservation;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use springald_core::error::{Error, ErrorCode, InputLost};
use springald_core::ids::{ExecutorId, JobId, StageId, TaskId};
use springald_core::telemetry::events::names;
use springald_core::telemetry::trace::{self, Finished, SpanContext};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tonic::{Code, Status};

use super::encode::MAX_MESSAGE_BYTES;
use super::peers::Peers;
use super::service::LOST_TASK_HEADER;
use super::ticket::Ticket;
use crate::metrics;

/// Waits before a fetch that got nothing yet is tried again.
const RETRY_WAITS: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(250)];
/// Longest wait for the first answer of a peer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Most batches that wait to be read, however small they are.
const QUEUED_BATCHES: usize = 64;
/// The queue is bounded in units of this many bytes.
const UNIT: usize = 1 << 10;

/// What to fetch, and from whom.
pub(super) struct Fetch {
    pub(super) executor: ExecutorId,
    /// `host:port` of its exchange service.
    pub(super) address: String,
    pub(super) job: JobId,
    pub(super) stage: StageId,
    /// For each task attempt, some of its output partitions. Not empty.
    pub(super) pieces: Vec<(TaskId, Vec<u32>)>,
    /// The span of the task that reads it.
    pub(super) reader: Option<SpanContext>,
}

/// How far a fetch is.
#[derive(Default)]
struct Progress {
    delivered: bool,
    bytes: u64,
}

/// What a fetch needs from its process.
#[derive(Clone)]
pub(super) struct FetchContext {
    pub(super) peers: Arc<Peers>,
    pub(super) reservation: Arc<MemoryReservation>,
    /// Bytes that may wait to be read.
    pub(super) queue_bytes: usize,
}

/// A batch that waits to be read, and what it holds until then.
struct Queued {
    batch: RecordBatch,
    bytes: usize,
    reservation: Arc<MemoryReservation>,
    _room: OwnedSemaphorePermit,
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.reservation.shrink(self.bytes);
    }
}

impl Fetch {
    /// Starts fetching; the stream ends with an error that holds [`InputLost`] where a piece cannot be had.
    pub(super) fn start(self, context: FetchContext) -> BoxStream<'static, Result<RecordBatch>> {
        let (sender, receiver) = mpsc::channel(QUEUED_BATCHES);
        let task = SpawnedTask::spawn(self.run(context, sender));
        futures::stream::try_unfold((receiver, Some(task)), |(mut receiver, mut task)| async move {
            match receiver.recv().await {
                Some(queued) => {
                    let queued: Queued = queued;
                    Ok(Some((queued.batch.clone(), (receiver, task))))
                }
                None => match task.take() {
                    Some(ended) => ended.join_unwind().await.map_err(broken_off)?.map(|()| None),
                    None => Ok(None),
                },
            }
        })
        .boxed()
    }

    async fn run(self, context: FetchContext, sender: mpsc::Sender<Queued>) -> Result<()> {
        let begun = trace::now_micros();
        let mut progress = Progress::default();
        let fetched = self.try_all(&context, &sender, &mut progress).await;
        if let Some(reader) = self.reader {
            Finished::new("fetch", reader.child(), Some(reader), (begun, trace::now_micros()))
                .client()
                .with("server.address", self.address.clone())
                .with("executor_id", self.executor.to_string())
                .with("stage_id", i64::from(self.stage.0))
                .with("bytes", progress.bytes as i64)
                .failed(fetched.as_ref().err().map(DataFusionError::strip_backtrace))
                .export();
        }
        fetched
    }

    async fn try_all(
        &self,
        context: &FetchContext,
        sender: &mpsc::Sender<Queued>,
        progress: &mut Progress,
    ) -> Result<()> {
        let units = u32::try_from(context.queue_bytes / UNIT).unwrap_or(u32::MAX).max(1);
        let room = Arc::new(Semaphore::new(units as usize));
        let mut waits = RETRY_WAITS.iter();
        loop {
            let failure = match self.attempt(context, sender, (&room, units), progress).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            let may_pass = matches!(&failure, FlightError::Tonic(status) if is_connections(status));
            match waits.next() {
                Some(wait) if may_pass && !progress.delivered => {
                    metrics::springald_executor::fetches_retried_total().inc();
                    tracing::debug!(event = names::FETCH_RETRIED, peer = self.address, error = %failure, "fetching again");
                    tokio::time::sleep(*wait).await;
                }
                _ => return Err(self.failed(failure)),
            }
        }
    }

    async fn attempt(
        &self,
        context: &FetchContext,
        sender: &mpsc::Sender<Queued>,
        (room, units): (&Arc<Semaphore>, u32),
        progress: &mut Progress,
    ) -> Result<(), FlightError> {
        let mut client = context.peers.client(&self.address).map_err(Status::from)?;
        let ticket = FlightTicket { ticket: Ticket::encode(&self.job, self.stage, &self.pieces).into() };
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, client.do_get(ticket));
        let response = answer.await.map_err(|_| Status::deadline_exceeded("the peer did not answer"))??;
        let messages = response.into_inner().map_err(FlightError::from);
        let mut batches = FlightRecordBatchStream::new_from_flight_data(messages);
        let received = metrics::springald_executor::exchange_received_bytes_total();
        while let Some(batch) = batches.try_next().await? {
            progress.delivered = true;
            let bytes = get_record_batch_memory_size(&batch);
            received.inc_by(bytes as u64);
            progress.bytes += bytes as u64;
            let wanted = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX).clamp(1, units);
            let Ok(permit) = Arc::clone(room).acquire_many_owned(wanted).await else { return Ok(()) };
            // Bounded by the queue, and must not fail: other fetches would wait for this one's bytes.
            context.reservation.grow(bytes);
            let reservation = Arc::clone(&context.reservation);
            let queued = Queued { batch, bytes, reservation, _room: permit };
            if sender.send(queued).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The error for the reading operator: lost input, unless the data itself cannot be read.
    fn failed(&self, failure: FlightError) -> DataFusionError {
        let status = match failure {
            FlightError::Tonic(status) if status.code() != Code::OutOfRange => status,
            FlightError::Tonic(_) => {
                let message = format!(
                    "a row (or a dictionary) of stage {} is larger than a message of the exchange may be \
                     ({MAX_MESSAGE_BYTES} bytes)",
                    self.stage
                );
                return Error::new(ErrorCode::ResourcesExhausted, message).into();
            }
            other => {
                let message = format!("reading what executor {} sent: {other}", self.executor);
                return Error::internal(message).into();
            }
        };
        let named = status.metadata().get(LOST_TASK_HEADER).and_then(|value| value.to_str().ok());
        let lost = named.and_then(|name| self.pieces.iter().find(|(task, _)| task.to_string() == name));
        let Some((task, _)) = lost.or_else(|| self.pieces.first()) else {
            return Error::internal("a fetch of nothing failed").into();
        };
        let reason = format!("{} ({:?})", status.message(), status.code());
        DataFusionError::External(Box::new(InputLost { task: *task, executor: self.executor.clone(), reason }))
    }
}

/// True if there was no connection, or it broke: what a peer says of itself has no cause on this side.
fn is_connections(status: &Status) -> bool {
    status.code() == Code::Unavailable || std::error::Error::source(status).is_some()
}

fn broken_off(error: tokio::task::JoinError) -> DataFusionError {
    DataFusionError::Execution(format!("a fetch from a peer was broken off: {error}"))
}
