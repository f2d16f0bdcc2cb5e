//! The opaque bytes that clients hand back: tickets and prepared statements. Self-contained, so any scheduler can
//! serve them, and checked like all input.

use arrow_flight::sql::{Any, Command};
use arrow_flight::{FlightEndpoint, FlightInfo, Ticket};
use bytes::Bytes;
use prost::Message;
use springald_core::error::{Error, ErrorCode, Result};
use springald_core::ids::JobId;
use springald_proto::records::PreparedStatementRecord;

use crate::engine::Engine;
use crate::tickets::Tickets;

/// Longest SQL text, in bytes.
const MAX_SQL_BYTES: usize = 1024 * 1024;

/// Checks the length of a statement.
pub(super) fn check_sql(sql: &str) -> Result<()> {
    if sql.len() > MAX_SQL_BYTES {
        let message = format!("the statement has {} bytes; the limit is {MAX_SQL_BYTES}", sql.len());
        return Err(Error::new(ErrorCode::ResourcesExhausted, message));
    }
    Ok(())
}

/// Where a job's result is fetched: at any scheduler.
pub(super) fn result_endpoint(engine: &Engine, job: &JobId) -> FlightEndpoint {
    let endpoint = FlightEndpoint::new().with_ticket(engine.tickets().ticket(job));
    let locations = engine.advertised();
    locations.into_iter().fold(endpoint, |endpoint, address| endpoint.with_location(format!("grpc+tcp://{address}")))
}

/// The job of a query's `FlightInfo`, whole or stripped down to its endpoint. Its ticket is what counts: whoever has it may
/// read the result, and may cancel it.
pub(super) fn job_of_info(tickets: &Tickets, info: &FlightInfo) -> Result<JobId> {
    let ticket = info.endpoint.first().and_then(|endpoint| endpoint.ticket.as_ref());
    let ticket = ticket.ok_or_else(|| Error::invalid("the FlightInfo has no ticket"))?;
    job_of_ticket(tickets, ticket)
}

/// The job of a ticket as a client has it.
pub(super) fn job_of_ticket(tickets: &Tickets, ticket: &Ticket) -> Result<JobId> {
    let command = Any::decode(ticket.ticket.as_ref()).ok().and_then(|any| Command::try_from(any).ok());
    match command {
        Some(Command::TicketStatementQuery(ticket)) => tickets.job_of(&ticket.statement_handle),
        _ => Err(Error::invalid("the ticket is not one of a query")),
    }
}

/// A prepared statement: its own text.
pub(super) fn prepared(sql: &str) -> Result<Bytes> {
    check_sql(sql)?;
    Ok(PreparedStatementRecord { sql: sql.to_owned() }.encode_to_vec().into())
}

/// The SQL of a prepared statement.
pub(super) fn sql_of_prepared(handle: &[u8]) -> Result<String> {
    let record = PreparedStatementRecord::decode(handle)
        .map_err(|error| Error::invalid("the prepared statement's handle is not one of ours").with_source(error))?;
    check_sql(&record.sql)?;
    Ok(record.sql)
}

#[cfg(test)]
mod tests {
    use arrow_flight::sql::ProstMessageExt;

    use super::*;
    use crate::store::embedded::EmbeddedStore;

    #[tokio::test]
    async fn given_a_query_its_ticket_leads_back_to_the_job_and_others_are_refused() {
        let store = EmbeddedStore::in_memory().expect("store");
        let tickets = Tickets::open(&store, std::time::Duration::from_secs(60)).await.expect("key");
        let job = JobId::generate();
        let info = FlightInfo::new().with_endpoint(FlightEndpoint::new().with_ticket(tickets.ticket(&job)));
        assert_eq!(job_of_info(&tickets, &info).expect("by ticket"), job);
        let named_only = FlightInfo::new().with_app_metadata(job.to_string());
        assert!(job_of_info(&tickets, &named_only).is_err(), "a job's name is not a ticket");
        let command = arrow_flight::sql::CommandGetCatalogs {}.as_any().encode_to_vec();
        assert!(job_of_ticket(&tickets, &Ticket::new(command)).is_err());
        assert!(sql_of_prepared(&[0xff, 0xff]).is_err());
    }

    #[test]
    fn given_a_prepared_statement_its_handle_is_enough_to_run_it_and_its_size_has_a_limit() {
        let handle = prepared("SELECT 1").expect("handle");
        assert_eq!(sql_of_prepared(&handle).expect("sql"), "SELECT 1");
        let long = prepared(&"x".repeat(MAX_SQL_BYTES + 1)).expect_err("too long");
        assert_eq!(long.code(), ErrorCode::ResourcesExhausted);
    }
}
