//! Actions beside Flight SQL's own: cancelling a query, and ending a session.

use arrow_flight::{Action, ActionType, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, Ticket};
use bytes::Bytes;
use prost::Message;
use springald_core::error::{Error, Result};
use tonic::metadata::MetadataMap;

use super::caller::Caller;
use super::handles::{job_of_info, job_of_ticket};
use crate::engine::Engine;
use crate::engine::remote::RESULT_RECEIVED;

const CANCEL_FLIGHT_INFO: &str = "CancelFlightInfo";
const CLOSE_SESSION: &str = "CloseSession";

/// `CloseSessionResult` of Flight's protocol, which arrow-flight does not have.
#[derive(Clone, Copy, PartialEq, Message)]
struct CloseSessionResult {
    /// 0: unspecified, 1: closed, 2: closing, 3: not closeable.
    #[prost(int32, tag = "1")]
    status: i32,
}

const CLOSED: i32 = 1;
const NOT_CLOSEABLE: i32 = 3;

/// The actions, for `ListActions`.
pub(super) fn listed() -> Vec<ActionType> {
    let action =
        |name: &str, description: &str| ActionType { r#type: name.to_owned(), description: description.to_owned() };
    vec![
        action(
            CANCEL_FLIGHT_INFO,
            "Cancels a query. Request: CancelFlightInfoRequest; answer: CancelFlightInfoResult.",
        ),
        action(
            RESULT_RECEIVED,
            "Says that a result has arrived, after a DoGet with the header springald-resume. Request: the ticket; answer: empty.",
        ),
        action(CLOSE_SESSION, "Ends the session of the request. Request: empty; answer: CloseSessionResult."),
    ]
}

/// Carries out an action and gives the body of its answer.
///
/// # Errors
/// [`Unsupported`](springald_core::error::ErrorCode::Unsupported) for an action that is not known.
pub(super) async fn act(engine: &Engine, headers: &MetadataMap, action: &Action) -> Result<Bytes> {
    match action.r#type.as_str() {
        CANCEL_FLIGHT_INFO => {
            let request = CancelFlightInfoRequest::decode(action.body.as_ref())
                .map_err(|error| Error::invalid("the request to cancel cannot be read").with_source(error))?;
            let info = request.info.ok_or_else(|| Error::invalid("the request to cancel names no query"))?;
            engine.cancel(&job_of_info(engine.tickets(), &info)?, CANCELLED_BY_CLIENT).await?;
            Ok(CancelFlightInfoResult { status: CancelStatus::Cancelled.into() }.encode_to_vec().into())
        }
        CLOSE_SESSION => {
            let status = match Caller::read(headers)? {
                Caller::Session(id) => {
                    engine.sessions().close(&id).await?;
                    CLOSED
                }
                Caller::User(_) | Caller::Anonymous => NOT_CLOSEABLE,
            };
            Ok(CloseSessionResult { status }.encode_to_vec().into())
        }
        RESULT_RECEIVED => {
            engine.received(&job_of_ticket(engine.tickets(), &Ticket::new(action.body.clone()))?).await?;
            Ok(Bytes::new())
        }
        other => {
            let shown: String = other.chars().take(80).collect();
            Err(Error::unsupported(format!("the action {shown:?} is not supported")))
        }
    }
}

/// Why a job was cancelled that its client cancelled.
pub(super) const CANCELLED_BY_CLIENT: &str = "the client cancelled it";
