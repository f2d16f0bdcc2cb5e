//! What a client can meet, with the stable code of the server where it comes from there.

use std::error::Error;

use arrow::error::ArrowError;
use arrow_flight::error::FlightError;
use tonic::{Code, Status};

/// Result with [`ClientError`].
pub type Result<T, E = ClientError> = std::result::Result<T, E>;

/// gRPC trailer in which the server names its error code.
const ERROR_CODE_HEADER: &str = "springald-error-code";

/// The server's code for a job that passes from one server to another.
const FENCED: &str = "SPRINGALD_FENCED";

/// Code for a connection that was lost.
const LOST: &str = "SPRINGALD_CONNECTION_LOST";

/// Code for what only the client can know to be wrong.
const INTERNAL: &str = "SPRINGALD_INTERNAL";

/// An error of the client, the connection or the server.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address of the server cannot be used.
    #[error("{url:?} is not an address of a server: {reason}; use host:port, grpc://host:port or http://host:port")]
    Address {
        /// The address as given, without what may be a password.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// None of the servers could be reached.
    #[error("cannot connect: {attempts}")]
    Connect {
        /// Each address tried, with the cause.
        attempts: String,
    },
    /// The server answered with an error, or the connection was lost.
    #[error("{message}")]
    Server {
        /// Stable name of the kind of error, `SPRINGALD_…`; the documentation explains each.
        code: String,
        /// The gRPC status.
        status: Code,
        /// What the server says: what was being done, what went wrong, what to change.
        message: String,
    },
    /// The result was lost in the middle and made again, perhaps with its rows in another order: those that were read
    /// already do not go together with the others.
    #[error("the result was made again while it was read; read it again from its start")]
    ResultChanged,
    /// The server answered something that the protocol does not allow.
    #[error("unexpected answer: {0}")]
    Protocol(String),
    /// The data received is not what its schema says.
    #[error("decoding the result: {0}")]
    Decode(#[source] ArrowError),
}

impl ClientError {
    /// Stable name of the kind of error, `SPRINGALD_…`.
    pub fn code(&self) -> &str {
        match self {
            ClientError::Address { .. } => "SPRINGALD_INVALID",
            ClientError::Connect { .. } | ClientError::ResultChanged => "SPRINGALD_UNAVAILABLE",
            ClientError::Server { code, .. } => code,
            ClientError::Protocol(_) | ClientError::Decode(_) => INTERNAL,
        }
    }

    /// True if the server, or the way to it, is not there now; the same request may succeed later or elsewhere.
    pub fn is_unavailable(&self) -> bool {
        match self {
            ClientError::Connect { .. } => true,
            ClientError::Server { status, .. } => *status == Code::Unavailable,
            _ => false,
        }
    }

    /// True if the connection was lost, or the job is between two servers: the same request is to be sent again, to any
    /// server.
    pub fn may_resume(&self) -> bool {
        match self {
            ClientError::Connect { .. } => true,
            ClientError::Server { code, .. } => code == FENCED || code == LOST,
            _ => false,
        }
    }

    /// A deadline that passed on the client's side.
    pub(crate) fn deadline(doing: &str) -> Self {
        ClientError::Server {
            code: "SPRINGALD_DEADLINE_EXCEEDED".to_owned(),
            status: Code::DeadlineExceeded,
            message: format!("{doing}: no answer in time"),
        }
    }
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        let (prefix, message) = split_code(status.message());
        let trailer = status.metadata().get(ERROR_CODE_HEADER).and_then(|value| value.to_str().ok());
        let known = trailer.or(prefix);
        // The server names the reasons it knows of. Without: it, or the way to it, was lost.
        let lost = known.is_none() && (Error::source(&status).is_some() || status.code() == Code::Unavailable);
        let code = if lost { LOST } else { known.unwrap_or_else(|| code_of(status.code())) }.to_owned();
        let message = match Error::source(&status) {
            // The transport's own message says nothing; its causes do.
            Some(source) => format!("connection to the server: {}", chain(source)),
            None if message.is_empty() => status.code().description().to_owned(),
            None => message.to_owned(),
        };
        let status = if lost { Code::Unavailable } else { status.code() };
        ClientError::Server { code, status, message }
    }
}

impl From<FlightError> for ClientError {
    fn from(error: FlightError) -> Self {
        match error {
            FlightError::Tonic(status) => (*status).into(),
            FlightError::Arrow(error) => ClientError::Decode(error),
            other => ClientError::Protocol(other.to_string()),
        }
    }
}

impl From<prost::DecodeError> for ClientError {
    fn from(error: prost::DecodeError) -> Self {
        ClientError::Protocol(error.to_string())
    }
}

/// Splits `[SPRINGALD_X] text`, the form of messages for clients that cannot see trailers.
fn split_code(message: &str) -> (Option<&str>, &str) {
    let parts = message.strip_prefix('[').and_then(|rest| rest.split_once("] "));
    match parts {
        Some((code, text)) if code.starts_with("SPRINGALD_") => (Some(code), text),
        _ => (None, message),
    }
}

/// The code that stands for a status of a server, or a proxy before it, that names none.
fn code_of(status: Code) -> &'static str {
    match status {
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => "SPRINGALD_INVALID",
        Code::NotFound => "SPRINGALD_NOT_FOUND",
        Code::AlreadyExists => "SPRINGALD_ALREADY_EXISTS",
        Code::Unimplemented => "SPRINGALD_UNSUPPORTED",
        Code::ResourceExhausted => "SPRINGALD_RESOURCES_EXHAUSTED",
        Code::Unavailable => "SPRINGALD_UNAVAILABLE",
        Code::DeadlineExceeded => "SPRINGALD_DEADLINE_EXCEEDED",
        Code::Cancelled => "SPRINGALD_CANCELLED",
        _ => INTERNAL,
    }
}

/// An error and its causes, in one line; causes that only repeat are left out.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_status_with_the_trailer_then_code_and_bare_message_are_kept() {
        let mut status = Status::invalid_argument("[SPRINGALD_QUERY] division by zero");
        status.metadata_mut().insert(ERROR_CODE_HEADER, "SPRINGALD_QUERY".parse().expect("ASCII"));
        let error = ClientError::from(status);
        assert_eq!(error.code(), "SPRINGALD_QUERY");
        assert_eq!(error.to_string(), "division by zero");
    }

    #[test]
    fn given_a_status_without_trailer_then_prefix_or_status_give_the_code() {
        let prefixed = ClientError::from(Status::unknown("[SPRINGALD_FENCED] not mine"));
        assert_eq!((prefixed.code(), prefixed.to_string()), ("SPRINGALD_FENCED", "not mine".to_owned()));
        let foreign = ClientError::from(Status::not_found("[1] no such thing"));
        assert_eq!((foreign.code(), foreign.to_string()), ("SPRINGALD_NOT_FOUND", "[1] no such thing".to_owned()));
        assert!(ClientError::from(Status::unavailable("draining")).is_unavailable());
    }
}
