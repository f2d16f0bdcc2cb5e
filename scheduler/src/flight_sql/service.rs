//! Flight SQL's commands, each handed to the part that answers it.

use std::pin::Pin;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::server::{FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionCancelQueryRequest, ActionCancelQueryResult, ActionClosePreparedStatementRequest,
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, CommandGetCatalogs,
    CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys,
    CommandGetPrimaryKeys, CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables, CommandGetXdbcTypeInfo,
    CommandPreparedStatementQuery, CommandPreparedStatementUpdate, CommandStatementQuery, CommandStatementUpdate,
    DoPutPreparedStatementResult, SqlInfo, TicketStatementQuery,
};
use arrow_flight::{
    Action, ActionType, CancelStatus, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse,
    Result as ActionResult, Ticket,
};
use futures::{Stream, StreamExt, stream};
use prost::Message;
use springald_core::error::Error;
use tonic::{Request, Response, Status, Streaming};

use super::actions::{self, CANCELLED_BY_CLIENT};
use super::encode::{self, Messages};
use super::handles::{job_of_info, sql_of_prepared};
use super::{info, metadata, parameters, requests};
use crate::engine::Engine;

type Answer<T> = Result<Response<T>, Status>;

/// The Flight SQL service of a scheduler.
#[derive(Clone)]
pub struct FlightSql {
    engine: Arc<Engine>,
}

impl FlightSql {
    /// The service of this engine.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }
}

fn batch(batch: RecordBatch) -> Answer<Messages> {
    Ok(Response::new(encode::single(batch)))
}

/// Transactions are refused before anything runs in a wrong belief.
fn check_no_transaction(transaction: Option<&[u8]>) -> Result<(), Status> {
    match transaction {
        Some(id) if !id.is_empty() => Err(Status::from(Error::unsupported("transactions are not supported"))),
        _ => Ok(()),
    }
}

#[tonic::async_trait]
impl FlightSqlService for FlightSql {
    type FlightService = FlightSql;

    // === Sessions ===

    async fn do_handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Answer<Pin<Box<dyn Stream<Item = Result<HandshakeResponse, Status>> + Send>>> {
        let (headers, answer, _) = requests::handshake(&self.engine, request.metadata()).await?.into_parts();
        let mut response = Response::new(stream::iter([Ok(answer)]).boxed() as _);
        *response.metadata_mut() = headers;
        Ok(response)
    }

    // === Statements ===

    async fn get_flight_info_statement(
        &self,
        query: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        check_no_transaction(query.transaction_id.as_deref())?;
        let (headers, _, descriptor) = request.into_parts();
        Ok(Response::new(requests::submit(&self.engine, &query.query, &headers, descriptor).await?))
    }

    async fn do_get_statement(&self, ticket: TicketStatementQuery, request: Request<Ticket>) -> Answer<Messages> {
        let job = self.engine.tickets().job_of(&ticket.statement_handle)?;
        requests::fetch(&self.engine, &job, request.metadata()).await
    }

    async fn do_put_statement_update(
        &self,
        command: CommandStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        check_no_transaction(command.transaction_id.as_deref())?;
        requests::update(&self.engine, &command.query, request.metadata()).await
    }

    // === Prepared statements ===

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        check_no_transaction(query.transaction_id.as_deref())?;
        requests::prepare(&self.engine, &query.query, request.metadata()).await
    }

    /// The handle is the whole statement: there is nothing to close.
    async fn do_action_close_prepared_statement(
        &self,
        _query: ActionClosePreparedStatementRequest,
        _request: Request<Action>,
    ) -> Result<(), Status> {
        Ok(())
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        let sql = sql_of_prepared(&query.prepared_statement_handle)?;
        let (headers, _, descriptor) = request.into_parts();
        Ok(Response::new(requests::submit(&self.engine, &sql, &headers, descriptor).await?))
    }

    async fn do_put_prepared_statement_query(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        sql_of_prepared(&query.prepared_statement_handle)?;
        parameters::refuse(request.into_inner()).await?;
        Ok(DoPutPreparedStatementResult { prepared_statement_handle: Some(query.prepared_statement_handle) })
    }

    async fn do_put_prepared_statement_update(
        &self,
        query: CommandPreparedStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let sql = sql_of_prepared(&query.prepared_statement_handle)?;
        let (headers, _, stream) = request.into_parts();
        parameters::refuse(stream).await?;
        requests::update(&self.engine, &sql, &headers).await
    }

    // === Actions ===

    async fn do_action_cancel_query(
        &self,
        query: ActionCancelQueryRequest,
        _request: Request<Action>,
    ) -> Result<ActionCancelQueryResult, Status> {
        let info = FlightInfo::decode(query.info)
            .map_err(|error| Error::invalid("the request to cancel names no query").with_source(error))?;
        self.engine.cancel(&job_of_info(self.engine.tickets(), &info)?, CANCELLED_BY_CLIENT).await?;
        // The two enums of the protocol have the same values.
        Ok(ActionCancelQueryResult { result: CancelStatus::Cancelled.into() })
    }

    async fn do_action_fallback(&self, request: Request<Action>) -> Answer<<Self as FlightService>::DoActionStream> {
        let (headers, _, action) = request.into_parts();
        let body = actions::act(&self.engine, &headers, &action).await?;
        Ok(Response::new(stream::iter([Ok(ActionResult { body })]).boxed()))
    }

    async fn list_custom_actions(&self) -> Option<Vec<Result<ActionType, Status>>> {
        Some(actions::listed().into_iter().map(Ok).collect())
    }

    // === The catalog ===

    async fn get_flight_info_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        requests::info_of_command(&query, &query.into_builder().schema(), request.into_inner())
    }

    async fn do_get_catalogs(&self, _query: CommandGetCatalogs, _request: Request<Ticket>) -> Answer<Messages> {
        batch(metadata::catalogs()?)
    }

    async fn get_flight_info_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        requests::info_of_command(&query, &query.clone().into_builder().schema(), request.into_inner())
    }

    async fn do_get_schemas(&self, query: CommandGetDbSchemas, _request: Request<Ticket>) -> Answer<Messages> {
        batch(metadata::schemas(query, self.engine.catalog())?)
    }

    async fn get_flight_info_tables(
        &self,
        query: CommandGetTables,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        requests::info_of_command(&query, &query.clone().into_builder().schema(), request.into_inner())
    }

    async fn do_get_tables(&self, query: CommandGetTables, _request: Request<Ticket>) -> Answer<Messages> {
        batch(metadata::tables(query, self.engine.catalog()).await?)
    }

    async fn get_flight_info_table_types(
        &self,
        query: CommandGetTableTypes,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        requests::info_of_command(&query, &query.into_builder().schema(), request.into_inner())
    }

    async fn do_get_table_types(&self, _query: CommandGetTableTypes, _request: Request<Ticket>) -> Answer<Messages> {
        batch(metadata::table_types()?)
    }

    async fn get_flight_info_primary_keys(
        &self,
        query: CommandGetPrimaryKeys,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        requests::info_of_command(&query, &metadata::primary_keys().schema(), request.into_inner())
    }

    async fn do_get_primary_keys(&self, _query: CommandGetPrimaryKeys, _request: Request<Ticket>) -> Answer<Messages> {
        batch(metadata::primary_keys())
    }

    async fn get_flight_info_exported_keys(
        &self,
        query: CommandGetExportedKeys,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        requests::info_of_command(&query, &metadata::foreign_keys().schema(), request.into_inner())
    }

    async fn do_get_exported_keys(
        &self,
        _query: CommandGetExportedKeys,
        _request: Request<Ticket>,
    ) -> Answer<Messages> {
        batch(metadata::foreign_keys())
    }

    async fn get_flight_info_imported_keys(
        &self,
        query: CommandGetImportedKeys,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        requests::info_of_command(&query, &metadata::foreign_keys().schema(), request.into_inner())
    }

    async fn do_get_imported_keys(
        &self,
        _query: CommandGetImportedKeys,
        _request: Request<Ticket>,
    ) -> Answer<Messages> {
        batch(metadata::foreign_keys())
    }

    async fn get_flight_info_cross_reference(
        &self,
        query: CommandGetCrossReference,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        requests::info_of_command(&query, &metadata::foreign_keys().schema(), request.into_inner())
    }

    async fn do_get_cross_reference(
        &self,
        _query: CommandGetCrossReference,
        _request: Request<Ticket>,
    ) -> Answer<Messages> {
        batch(metadata::foreign_keys())
    }

    // === The server ===

    async fn get_flight_info_sql_info(
        &self,
        query: CommandGetSqlInfo,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        requests::info_of_command(&query, &info::sql_info()?.schema(), request.into_inner())
    }

    async fn do_get_sql_info(&self, query: CommandGetSqlInfo, _request: Request<Ticket>) -> Answer<Messages> {
        batch(query.into_builder(info::sql_info()?).build().map_err(metadata::failed)?)
    }

    async fn get_flight_info_xdbc_type_info(
        &self,
        query: CommandGetXdbcTypeInfo,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        requests::info_of_command(&query, &info::type_info()?.schema(), request.into_inner())
    }

    async fn do_get_xdbc_type_info(
        &self,
        query: CommandGetXdbcTypeInfo,
        _request: Request<Ticket>,
    ) -> Answer<Messages> {
        batch(query.into_builder(info::type_info()?).build().map_err(metadata::failed)?)
    }

    /// What the server can do is fixed.
    async fn register_sql_info(&self, _id: i32, _result: &SqlInfo) {}
}
