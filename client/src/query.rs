//! A running query: its schema, its batches, and the way to cancel it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::{CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightInfo, IpcMessage};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use prost::Message;

use crate::client::Client;
use crate::error::{ClientError, Result};
use crate::resume;

/// How often a result is read from its start.
const MAX_READS: usize = 5;

/// The result of a statement: a stream of batches, all of [`QueryStream::schema`], read from the endpoints of the result
/// one after another. Dropping it closes what is open; the server then cancels the query.
pub struct QueryStream {
    schema: SchemaRef,
    handle: CancelHandle,
    batches: BoxStream<'static, Result<RecordBatch>>,
}

impl QueryStream {
    /// The stream for what the server promised in `info`. Nothing is fetched before the stream is polled.
    pub(crate) fn open(client: Client, info: FlightInfo) -> Result<Self> {
        let schema = Arc::new(decode_schema(&info)?);
        let endpoints = info.endpoint.clone();
        let handle = CancelHandle { client: client.clone(), info: Arc::new(info) };
        let expected = schema.clone();
        let batches = futures::stream::iter(endpoints)
            .map(move |endpoint| resume::fetch(client.clone(), endpoint, expected.clone()))
            .flatten()
            .boxed();
        Ok(Self { schema, handle, batches })
    }

    /// Reads all of it into memory; from its start again, where [`ClientError::ResultChanged`] asks for that.
    ///
    /// # Errors
    /// Those of the stream.
    pub async fn collect_all(self) -> Result<Vec<RecordBatch>> {
        let handle = self.handle.clone();
        let mut stream = self;
        for _ in 0..MAX_READS {
            match stream.try_collect().await {
                Err(ClientError::ResultChanged) => {}
                ended => return ended,
            }
            stream = Self::open(handle.client.clone(), handle.info.as_ref().clone())?;
        }
        Err(ClientError::ResultChanged)
    }

    /// Schema of the result.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The job's id, as in the server's REST interface and events. `None` if the server says none: other servers than
    /// Springald do not.
    pub fn job_id(&self) -> Option<&str> {
        self.handle.job_id()
    }

    /// What cancels this query while the stream is being read elsewhere.
    pub fn cancel_handle(&self) -> CancelHandle {
        self.handle.clone()
    }
}

impl Stream for QueryStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.batches.poll_next_unpin(context)
    }
}

impl std::fmt::Debug for QueryStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueryStream")
            .field("schema", &self.schema)
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}

/// What became of a request to cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelOutcome {
    /// The query is cancelled.
    Cancelled,
    /// It will be.
    Cancelling,
    /// It cannot be cancelled (any more).
    NotCancellable,
}

/// Cancels a query from anywhere.
#[derive(Clone)]
pub struct CancelHandle {
    client: Client,
    info: Arc<FlightInfo>,
}

impl CancelHandle {
    /// The job's id, as [`QueryStream::job_id`].
    pub fn job_id(&self) -> Option<&str> {
        std::str::from_utf8(&self.info.app_metadata).ok().filter(|id| !id.is_empty())
    }

    /// Asks the server to cancel the query.
    ///
    /// # Errors
    /// What the server says, as that it does not know the query (any more).
    pub async fn cancel(&self) -> Result<CancelOutcome> {
        let request = CancelFlightInfoRequest { info: Some(self.info.as_ref().clone()) };
        let answer = self.client.action("CancelFlightInfo", request.encode_to_vec()).await?;
        let answer = answer.ok_or_else(|| ClientError::Protocol("no answer to a cancellation".to_owned()))?;
        match CancelFlightInfoResult::decode(answer)?.status() {
            CancelStatus::Cancelled => Ok(CancelOutcome::Cancelled),
            CancelStatus::Cancelling => Ok(CancelOutcome::Cancelling),
            CancelStatus::NotCancellable => Ok(CancelOutcome::NotCancellable),
            CancelStatus::Unspecified => Err(ClientError::Protocol("no outcome of a cancellation".to_owned())),
        }
    }
}

impl std::fmt::Debug for CancelHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CancelHandle").field("job_id", &self.job_id()).finish_non_exhaustive()
    }
}

fn decode_schema(info: &FlightInfo) -> Result<Schema> {
    if info.schema.is_empty() {
        return Ok(Schema::empty());
    }
    Schema::try_from(IpcMessage(info.schema.clone())).map_err(ClientError::Decode)
}
