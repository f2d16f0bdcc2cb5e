//! The opaque bytes that clients hand back: tickets and prepared statements. Self-contained, so any scheduler can
//! serve them, and checked like all input.

use arrow_flight::sql::{Any, Command, ProstMessageExt, TicketStatementQuery};
use arrow_flight::{FlightEndpoint, FlightInfo, Ticket};
use bytes::Bytes;
use prost::Message;
use springald_core::error::{Error, ErrorCode, Result};
use springald_core::ids::JobId;
use springald_proto::records::{PreparedStatementRecord, ResultTicket};

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
pub(super) fn result_endpoint(job: &JobId) -> FlightEndpoint {
    let handle = ResultTicket { job_id: job.to_string() }.encode_to_vec().into();
    let ticket = TicketStatementQuery { statement_handle: handle }.as_any().encode_to_vec();
    FlightEndpoint::new().with_ticket(Ticket::new(ticket))
}

/// The job of a ticket.
pub(super) fn job_of_ticket(ticket: &TicketStatementQuery) -> Result<JobId> {
    let ticket = ResultTicket::decode(ticket.statement_handle.as_ref())
        .map_err(|error| Error::invalid("the ticket is not one of ours").with_source(error))?;
    ticket.job_id.parse()
}

/// The job of a query's `FlightInfo`, whole or stripped down to its endpoint.
pub(super) fn job_of_info(info: &FlightInfo) -> Result<JobId> {
    if let Ok(id) = std::str::from_utf8(&info.app_metadata)
        && !id.is_empty()
    {
        return id.parse();
    }
    let ticket = info.endpoint.first().and_then(|endpoint| endpoint.ticket.as_ref());
    let ticket = ticket.ok_or_else(|| Error::invalid("the FlightInfo has no ticket"))?;
    let command = Any::decode(ticket.ticket.as_ref()).ok().and_then(|any| Command::try_from(any).ok());
    match command {
        Some(Command::TicketStatementQuery(ticket)) => job_of_ticket(&ticket),
        _ => Err(Error::invalid("the FlightInfo is not one of a query")),
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
    use super::*;

    #[test]
    fn given_a_query_its_info_and_ticket_lead_back_to_the_job() {
        let job = JobId::generate();
        let bare = FlightInfo::new().with_endpoint(result_endpoint(&job));
        assert_eq!(job_of_info(&bare).expect("by ticket"), job);
        let whole = bare.with_app_metadata(job.to_string());
        assert_eq!(job_of_info(&whole).expect("by metadata"), job);
    }

    #[test]
    fn given_handles_that_are_not_ours_they_are_refused() {
        let hostile = TicketStatementQuery {
            statement_handle: ResultTicket { job_id: "../../x".to_owned() }.encode_to_vec().into(),
        };
        assert!(job_of_ticket(&hostile).is_err());
        assert!(job_of_info(&FlightInfo::new()).is_err());
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
