//! The requests that run something: queries, updates, prepared statements, handshakes.

use std::sync::Arc;

use arrow::datatypes::Schema;
use arrow_flight::sql::{ActionCreatePreparedStatementResult, ProstMessageExt};
use arrow_flight::{FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeResponse, IpcMessage, SchemaAsIpc, Ticket};
use bytes::Bytes;
use futures::StreamExt;
use prost::Message;
use springald_core::error::{Error, Result};
use springald_core::ids::{JobId, fingerprint};
use springald_core::telemetry::events::names;
use tonic::metadata::MetadataMap;
use tonic::{Response, Status};

use super::caller::{Caller, context, cookie};
use super::encode::{self, Messages};
use super::handles::{check_sql, prepared, result_endpoint};
use super::wire::wire_schema;
use crate::engine::remote::{RESUME_HEADER, VERSION_HEADER};
use crate::engine::{Engine, Resume};

/// Runs a statement and says where its result is.
pub(super) async fn submit(
    engine: &Arc<Engine>,
    sql: &str,
    headers: &MetadataMap,
    descriptor: FlightDescriptor,
) -> std::result::Result<FlightInfo, Status> {
    check_sql(sql)?;
    let context = context(engine.sessions(), headers).await?;
    let submitted = engine.submit(sql, &context).await?;
    let info = FlightInfo::new()
        .try_with_schema(&wire_schema(&submitted.schema))
        .map_err(|error| Error::internal("the result's schema cannot be encoded").with_source(error))?;
    Ok(info
        .with_descriptor(descriptor)
        .with_endpoint(result_endpoint(engine, &submitted.job_id))
        .with_app_metadata(submitted.job_id.to_string()))
}

/// A job's result. A client that sends which rows it has, gets the others.
pub(super) async fn fetch(
    engine: &Engine,
    job: &JobId,
    headers: &MetadataMap,
) -> std::result::Result<Response<Messages>, Status> {
    let resume = match headers.get(RESUME_HEADER) {
        Some(value) => Resume::from_header(value.to_str().unwrap_or_default())?,
        None => Resume::default(),
    };
    let opened = engine.results(job, &resume).await?;
    let version = opened.version.parse().map_err(|_| Error::internal("a result's version does not fit a header"))?;
    let mut response = Response::new(encode::results(opened.stream));
    response.metadata_mut().insert(VERSION_HEADER, version);
    Ok(response)
}

/// Runs a statement to its end. Gives the number of changed rows: 0 for statements without a result, such as DDL;
/// −1, for "not known", for a query.
pub(super) async fn update(engine: &Arc<Engine>, sql: &str, headers: &MetadataMap) -> std::result::Result<i64, Status> {
    check_sql(sql)?;
    let context = context(engine.sessions(), headers).await?;
    let submitted = engine.submit(sql, &context).await?;
    let has_result = !submitted.schema.fields().is_empty();
    let mut batches = engine.results(&submitted.job_id, &Resume::default()).await?.stream;
    while let Some(batch) = batches.next().await {
        batch.map_err(Error::from)?;
    }
    Ok(if has_result { -1 } else { 0 })
}

/// Plans a statement, for a client that will run it later.
pub(super) async fn prepare(
    engine: &Engine,
    sql: &str,
    headers: &MetadataMap,
) -> std::result::Result<ActionCreatePreparedStatementResult, Status> {
    let handle = prepared(sql)?;
    let context = context(engine.sessions(), headers).await?;
    let described = engine.describe(sql, &context).await?;
    // Drivers take a statement without a result schema for an update.
    let dataset_schema = match described.is_query {
        true => encoded(&wire_schema(&described.schema))?,
        false => Bytes::new(),
    };
    let parameter_schema = match described.parameters.is_empty() {
        true => Bytes::new(),
        false => encoded(&Schema::new(described.parameters))?,
    };
    Ok(ActionCreatePreparedStatementResult { prepared_statement_handle: handle, dataset_schema, parameter_schema })
}

fn encoded(schema: &Schema) -> Result<Bytes> {
    let options = arrow::ipc::writer::IpcWriteOptions::default();
    let message = IpcMessage::try_from(SchemaAsIpc::new(schema, &options));
    Ok(message.map_err(|error| Error::internal("a schema cannot be encoded").with_source(error))?.0)
}

/// Accepts anybody, and begins a session.
pub(super) async fn handshake(
    engine: &Engine,
    headers: &MetadataMap,
) -> std::result::Result<Response<HandshakeResponse>, Status> {
    let caller = Caller::read(headers)?;
    let session = engine.sessions().create(caller.user()).await?;
    tracing::warn!(
        event = names::CLIENT_CONNECTED,
        user = caller.user(),
        session = fingerprint(session.id.as_str()),
        "authentication is off: a client was let in without a check"
    );
    let payload = Bytes::from(session.id.to_string());
    let mut response = Response::new(HandshakeResponse { protocol_version: 0, payload });
    let not_a_header = |_| Error::internal("a session's id does not fit a header");
    let token = format!("Bearer {}", session.id).parse().map_err(not_a_header)?;
    response.metadata_mut().insert("authorization", token);
    response.metadata_mut().insert("set-cookie", cookie(&session.id).parse().map_err(not_a_header)?);
    Ok(response)
}

/// A `FlightInfo` whose ticket is the command itself: the answer is small, and made when it is fetched.
pub(super) fn info_of_command(
    command: &impl ProstMessageExt,
    schema: &Arc<Schema>,
    descriptor: FlightDescriptor,
) -> std::result::Result<Response<FlightInfo>, Status> {
    let ticket = Ticket::new(command.as_any().encode_to_vec());
    let info = FlightInfo::new()
        .try_with_schema(&wire_schema(schema))
        .map_err(|error| Error::internal("a schema cannot be encoded").with_source(error))?;
    let info = info.with_endpoint(FlightEndpoint::new().with_ticket(ticket)).with_descriptor(descriptor);
    Ok(Response::new(info))
}
