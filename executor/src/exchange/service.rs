//! The exchange as a Flight service: `DoGet` streams pieces to other executors, and results to schedulers.

use std::sync::Arc;

use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, SchemaResult, Ticket as FlightTicket,
};
use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use springald_core::error::{Error, ErrorCode};
use springald_core::ids::{JobId, TaskId};
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};

use super::encode::{EncodeError, FlightEncoder, message_bytes};
use super::store::{ExchangeStore, ReadError};
use super::ticket::Ticket;
use crate::metrics;

/// Metadata of a `NOT_FOUND`: the task attempt whose piece is missing or damaged, as `stage.task.attempt`.
pub(crate) const LOST_TASK_HEADER: &str = "springald-lost-task";

/// Serves the pieces of one store.
pub(crate) struct ExchangeService {
    store: ExchangeStore,
}

impl ExchangeService {
    pub(crate) fn new(store: ExchangeStore) -> Self {
        Self { store }
    }

    /// The schema of the ticket's pieces; fails with `NOT_FOUND` if one of them is not here.
    fn check(&self, ticket: &Ticket) -> Result<SchemaRef, Status> {
        let mut schema = None;
        for (task, partition) in &ticket.pieces {
            let found = self.store.schema(&ticket.job, *task, *partition);
            schema = Some(found.ok_or_else(|| missing(&ticket.job, *task, *partition))?);
        }
        schema.ok_or_else(|| Status::invalid_argument("the ticket names no piece"))
    }
}

fn missing(job: &JobId, task: TaskId, partition: u32) -> Status {
    lost(task, format!("partition {partition} of task {task} of job {job} is not at this executor (any more)"))
}

fn unreadable(job: &JobId, task: TaskId, error: ReadError) -> Status {
    match error {
        ReadError::Lost(reason) => lost(task, format!("the output of task {task} of job {job}: {reason}")),
        ReadError::Failed(error) => Error::from(error).into(),
    }
}

fn lost(task: TaskId, message: String) -> Status {
    let mut status = Status::from(Error::not_found(message));
    if let Ok(value) = MetadataValue::try_from(task.to_string()) {
        status.metadata_mut().insert(LOST_TASK_HEADER, value);
    }
    status
}

/// A message that is too large is refused here as the peer would refuse it: the same for all that read.
fn not_sent(error: EncodeError) -> Status {
    match error {
        EncodeError::TooLarge(_) => Status::out_of_range(error.to_string()),
        EncodeError::Arrow(_) => Error::new(ErrorCode::Internal, error.to_string()).into(),
    }
}

/// The ticket's pieces as messages. A piece is opened when its turn comes, so that waiting ones can still be spilled.
fn stream_pieces(
    store: ExchangeStore,
    ticket: Ticket,
    schema: &SchemaRef,
) -> BoxStream<'static, Result<FlightData, Status>> {
    let (mut encoder, first) = FlightEncoder::new(schema);
    let job = Arc::new(ticket.job);
    let batches = futures::stream::iter(ticket.pieces).flat_map(move |(task, partition)| {
        match store.open(&job, task, partition) {
            Some(piece) => {
                let job = Arc::clone(&job);
                piece.into_stream().map_err(move |error| unreadable(&job, task, error)).boxed()
            }
            // Freed since the start of the stream.
            None => futures::stream::iter([Err(missing(&job, task, partition))]).boxed(),
        }
    });
    let messages = batches.map(move |batch| {
        let encoded = encoder.encode(&batch?).map_err(not_sent)?;
        Ok::<_, Status>(futures::stream::iter(encoded.into_iter().map(Ok)))
    });
    let sent = metrics::springald_executor::exchange_sent_bytes_total();
    futures::stream::iter([Ok(first)])
        .chain(messages.try_flatten())
        .inspect_ok(move |message| {
            sent.inc_by(message_bytes(message) as u64);
        })
        .boxed()
}

fn not_served<T>() -> Result<Response<T>, Status> {
    Err(Error::unsupported("an exchange service only answers DoGet with an exchange ticket").into())
}

#[async_trait]
impl FlightService for ExchangeService {
    type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoActionStream = BoxStream<'static, Result<arrow_flight::Result, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;
    type DoExchangeStream = BoxStream<'static, Result<FlightData, Status>>;

    async fn do_get(&self, request: Request<FlightTicket>) -> Result<Response<Self::DoGetStream>, Status> {
        let ticket = Ticket::decode(&request.into_inner().ticket)?;
        let schema = self.check(&ticket)?;
        Ok(Response::new(stream_pieces(self.store.clone(), ticket, &schema)))
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        not_served()
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        not_served()
    }

    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        not_served()
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        not_served()
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        not_served()
    }

    async fn do_put(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        not_served()
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoExchangeStream>, Status> {
        not_served()
    }

    async fn do_action(&self, _: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        not_served()
    }

    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        not_served()
    }
}
