//! Counts the calls of the Flight SQL service, by method and by the gRPC code that they end with.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use http_body::{Frame, SizeHint};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Bytes, Service, http};
use tonic::server::NamedService;
use tonic::{Code, Status};

use crate::metrics::springald_scheduler as metrics;

const STATUS_HEADER: &str = "grpc-status";

/// The methods of Flight: any other name is `other`, so that clients cannot make series.
const METHODS: [&str; 10] = [
    "Handshake",
    "ListFlights",
    "GetFlightInfo",
    "PollFlightInfo",
    "GetSchema",
    "DoGet",
    "DoPut",
    "DoExchange",
    "DoAction",
    "ListActions",
];

/// The service `S`, counted.
#[derive(Clone, Debug)]
pub struct CountedCalls<S>(pub S);

impl<S: NamedService> NamedService for CountedCalls<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for CountedCalls<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let method = method_of(request.uri().path());
        let started = Instant::now();
        // Counted even when the client goes away before there is an answer.
        let call = Call { method, told: false };
        let answer = self.0.call(request);
        Box::pin(async move {
            let response = answer.await?;
            metrics::flight_sql_call_seconds(method).observe(started.elapsed().as_secs_f64());
            Ok(call.follow(response))
        })
    }
}

fn method_of(path: &str) -> &'static str {
    let name = path.rsplit('/').next().unwrap_or_default();
    METHODS.into_iter().find(|known| *known == name).unwrap_or("other")
}

/// A call, counted once: with the code in its answer, or as cancelled when it is dropped before that.
struct Call {
    method: &'static str,
    told: bool,
}

impl Call {
    fn ended(&mut self, code: Code) {
        if !std::mem::replace(&mut self.told, true) {
            metrics::flight_sql_calls_total(self.method, code_name(code)).inc();
        }
    }

    /// An error stands in the headers; else the code comes behind the messages.
    fn follow(mut self, response: http::Response<Body>) -> http::Response<Body> {
        if response.headers().contains_key(STATUS_HEADER) {
            self.ended(code_of(response.headers()));
            return response;
        }
        response.map(|body| Body::new(Followed { body, call: self }))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.ended(Code::Cancelled);
    }
}

fn code_of(headers: &http::HeaderMap) -> Code {
    headers.get(STATUS_HEADER).map_or(Code::Unknown, |code| Code::from_bytes(code.as_bytes()))
}

fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// The body of an answer, which ends with the code.
struct Followed {
    body: Body,
    call: Call,
}

impl http_body::Body for Followed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    self.call.ended(code_of(trailers));
                }
            }
            Some(Err(status)) => self.call.ended(status.code()),
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_path_then_only_methods_of_flight_have_a_name() {
        assert_eq!(method_of("/arrow.flight.protocol.FlightService/DoGet"), "DoGet");
        assert_eq!(method_of("/arrow.flight.protocol.FlightService/Other"), "other");
        assert_eq!(method_of(""), "other");
    }
}
