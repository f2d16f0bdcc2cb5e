//! Results that are elsewhere: at executors, and at other schedulers.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{ProstMessageExt, TicketStatementQuery};
use arrow_flight::{FlightData, Ticket};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{Stream, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use prost::Message;
use springald_core::error::{ERROR_CODE_HEADER, Error, ErrorCode, Result};
use springald_core::ids::JobId;
use springald_proto::exchange::{ExchangeTicket, PieceSelection};
use springald_proto::records::{OwnerRecord, ResultTicket, SchedulerRecord};
use tonic::transport::{Channel, Endpoint};

use super::Engine;
use crate::dispatch::ResultPart;
use crate::records;
use crate::store::{Change, Condition, Transaction};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const MESSAGE_LIMIT: usize = 64 << 20;
const WINDOW: u32 = 8 << 20;
/// Peers come and go; past this many addresses the pool starts anew.
const CHANNELS: usize = 1024;

/// Connections to peers, one for each address.
#[derive(Clone, Default)]
pub(super) struct Channels {
    channels: Arc<Mutex<HashMap<String, Channel>>>,
}

impl Channels {
    fn client(&self, address: &str) -> Result<FlightServiceClient<Channel>> {
        let mut channels = self.channels.lock();
        if channels.len() >= CHANNELS {
            channels.clear();
        }
        let channel = match channels.get(address) {
            Some(channel) => channel.clone(),
            None => {
                let endpoint = Endpoint::from_shared(format!("http://{address}"))
                    .map_err(|error| Error::invalid(format!("{address:?} is not an address")).with_source(error))?
                    .connect_timeout(CONNECT_TIMEOUT)
                    .http2_keep_alive_interval(KEEP_ALIVE)
                    .initial_stream_window_size(WINDOW)
                    .initial_connection_window_size(WINDOW)
                    .tcp_nodelay(true);
                let channel = endpoint.connect_lazy();
                channels.insert(address.to_owned(), channel.clone());
                channel
            }
        };
        Ok(FlightServiceClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT))
    }

    /// Opens a part of a result at its executor; the schema has arrived when this returns.
    pub(super) async fn open(&self, job: &JobId, part: &ResultPart) -> Result<PartStream> {
        if part.address.is_empty() {
            return Err(Error::unavailable(format!("executor {} is gone", part.executor)));
        }
        let selection =
            PieceSelection { task: part.task.task, attempt: part.task.attempt, partitions: part.partitions.clone() };
        let ticket = ExchangeTicket { job_id: job.to_string(), stage: part.task.stage.0, pieces: vec![selection] };
        let ticket = Ticket { ticket: ticket.encode_to_vec().into() };
        let answer = self.client(&part.address)?.do_get(ticket).await.map_err(error_of)?;
        PartStream::open(answer.into_inner()).await
    }
}

/// The error that a peer's status carries.
fn error_of(status: tonic::Status) -> Error {
    let code = status.metadata().get(ERROR_CODE_HEADER).and_then(|code| code.to_str().ok()).map(ErrorCode::from_name);
    let code = code.unwrap_or(match status.code() {
        tonic::Code::NotFound => ErrorCode::NotFound,
        _ => ErrorCode::Unavailable,
    });
    let prefix = format!("[{code}] ");
    let message = status.message().strip_prefix(&prefix).unwrap_or(status.message()).to_owned();
    Error::new(code, message)
}

fn flight_error(error: FlightError) -> Error {
    match error {
        FlightError::Tonic(status) => error_of(*status),
        other => Error::internal(format!("a peer's answer cannot be read: {other}")),
    }
}

/// Batches from a peer.
pub(super) struct PartStream {
    schema: SchemaRef,
    batches: Pin<Box<dyn Stream<Item = Result<RecordBatch>> + Send>>,
}

impl PartStream {
    async fn open(answer: tonic::Streaming<FlightData>) -> Result<Self> {
        let mut batches = FlightRecordBatchStream::new_from_flight_data(answer.map_err(FlightError::from));
        let first = batches.next().await.transpose().map_err(flight_error)?;
        let schema = batches.schema().cloned().ok_or_else(|| Error::unavailable("a peer's answer has no schema"))?;
        let batches = futures::stream::iter(first.map(Ok)).chain(batches.map_err(flight_error)).boxed();
        Ok(Self { schema, batches })
    }

    pub(super) fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

impl Stream for PartStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.batches.poll_next_unpin(context)
    }
}

impl Engine {
    /// The scheduler that owns a job; `None` if nobody does.
    pub(super) async fn owner(&self, job: &JobId) -> Result<Option<OwnerRecord>> {
        self.parts.store.get(&records::owner_key(job)).await?.map(|entry| records::decode(&entry)).transpose()
    }

    /// Redeems the ticket at the job's owner.
    pub(super) async fn results_elsewhere(&self, job: &JobId) -> Result<SendableRecordBatchStream> {
        let gone = || Error::unavailable(format!("the scheduler that ran job {job} is gone; run the query again"));
        let owner = self.owner(job).await?.ok_or_else(gone)?;
        let key = records::scheduler_key(&owner.scheduler_id.parse()?);
        let scheduler: SchedulerRecord = match self.parts.store.get(&key).await? {
            Some(entry) if owner.scheduler_id != self.parts.scheduler.as_str() => records::decode(&entry)?,
            _ => return Err(gone()),
        };
        let handle = ResultTicket { job_id: job.to_string() }.encode_to_vec();
        let ticket = TicketStatementQuery { statement_handle: handle.into() };
        let ticket = Ticket { ticket: ticket.as_any().encode_to_vec().into() };
        let answer = self.channels.client(&scheduler.flight_sql_address)?.do_get(ticket).await.map_err(error_of)?;
        let part = PartStream::open(answer.into_inner()).await?;
        let schema = part.schema();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, part.map_err(Into::into))))
    }

    /// Leaves word for the job's owner that it is to be cancelled.
    pub(super) async fn cancel_elsewhere(&self, job: &JobId, why: &str) -> Result<()> {
        let Some(entry) = self.parts.store.get(&records::job_key(job)).await? else {
            return Err(Error::not_found(format!("there is no job {job}, or its record has expired")));
        };
        let record: springald_proto::records::JobRecord = records::decode(&entry)?;
        if records::has_ended(record.status()) {
            return Ok(());
        }
        let put = Change::Put { key: records::cancel_key(job), value: why.to_owned().into(), lease: None };
        let conditions = vec![Condition::Present { key: records::owner_key(job) }];
        self.parts.store.transact(Transaction { conditions, changes: vec![put] }).await?;
        Ok(())
    }
}
