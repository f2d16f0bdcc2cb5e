//! Errors as HTTP answers: a status that fits, and `{"code", "message"}`.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use springald_core::error::{Error, ErrorCode};
use springald_core::telemetry::events::names;

use super::model::ErrorJson;

/// An error on its way to the client.
#[derive(Debug)]
pub(super) struct Failure(Error);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self(error) = self;
        if error.code() == ErrorCode::Internal {
            tracing::error!(event = names::REST_FAILED, %error, "a REST request failed");
        }
        let body = ErrorJson { code: error.code().to_string(), message: error.message().to_owned() };
        (status_of(error.code()), Json(body)).into_response()
    }
}

fn status_of(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::Invalid => StatusCode::BAD_REQUEST,
        ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::AlreadyExists | ErrorCode::Cancelled => StatusCode::CONFLICT,
        ErrorCode::Unsupported => StatusCode::NOT_IMPLEMENTED,
        ErrorCode::Query => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorCode::ResourcesExhausted => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::Unavailable | ErrorCode::Fenced => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
