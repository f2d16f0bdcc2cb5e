//! What an error of etcd means for the caller, in words that say what to change.

use std::error::Error as StdError;

use etcd_client::Error as EtcdError;
use springald_core::error::{Error, ErrorCode, find_source};
use tonic::{Code, ConnectError, Status};

/// True when the request cannot have reached any etcd: there was no connection.
pub(super) fn never_sent(error: &EtcdError) -> bool {
    matches!(error, EtcdError::GRpcStatus(status) if find_source::<ConnectError>(status).is_some())
}

/// True when the same call may succeed later.
pub(super) fn may_pass(error: &Error) -> bool {
    error.code() == ErrorCode::Unavailable
}

/// The error for the caller of a store call: `doing` is "reading", `endpoints` names the etcd members.
pub(super) fn translate(doing: &str, endpoints: &str, error: EtcdError) -> Error {
    let (code, reason) = match &error {
        EtcdError::GRpcStatus(status) => explain(status),
        EtcdError::LeaseKeepAliveError(reason) => (ErrorCode::Fenced, format!("the lease has ended ({reason})")),
        EtcdError::InvalidArgs(_) | EtcdError::InvalidUri(_) | EtcdError::InvalidMetadataValue(_) => {
            (ErrorCode::Invalid, error.to_string())
        }
        EtcdError::Utf8Error(_) => (ErrorCode::Internal, error.to_string()),
        _ => (ErrorCode::Unavailable, error.to_string()),
    };
    Error::new(code, format!("{doing} state in etcd at {endpoints}: {reason}")).with_source(error)
}

/// etcd gives several causes the same status code; its message texts are what tells them apart.
fn explain(status: &Status) -> (ErrorCode, String) {
    let text = status.message();
    let says = |part: &str| text.contains(part);
    if says("requested lease not found") {
        return (ErrorCode::Fenced, "the lease has ended".to_owned());
    }
    if says("request is too large") || says("received message larger than max") {
        let advice = "the transaction is larger than etcd accepts: raise its --max-request-bytes to at least 1572864";
        return (ErrorCode::ResourcesExhausted, advice.to_owned());
    }
    if says("too many operations in txn request") {
        let advice = "the transaction has more operations than etcd accepts: raise its --max-txn-ops to at least 128";
        return (ErrorCode::ResourcesExhausted, advice.to_owned());
    }
    if says("database space exceeded") {
        let advice = "etcd's database is full (NOSPACE): compact and defragment it and disarm the alarm, or raise its \
                      --quota-backend-bytes";
        return (ErrorCode::ResourcesExhausted, advice.to_owned());
    }
    if says("message length too large") {
        return (ErrorCode::ResourcesExhausted, text.to_owned());
    }
    if is_old_token(status) {
        return (ErrorCode::Unavailable, format!("the etcd user's token is not valid any more: {text}"));
    }
    if is_about_users(status) {
        return (ErrorCode::Invalid, format!("check the etcd user and its roles: {text}"));
    }
    let code = if status.code() == Code::InvalidArgument { ErrorCode::Internal } else { ErrorCode::Unavailable };
    (code, chain(status))
}

/// True if the token with which the user asked is not valid any more: it has expired, or (those that etcd signs instead of
/// keeping them) users or roles have changed since. Nothing was done, and with a new one it goes on.
pub(super) fn has_old_token(error: &EtcdError) -> bool {
    matches!(error, EtcdError::GRpcStatus(status) if is_old_token(status))
}

fn is_old_token(status: &Status) -> bool {
    const TEXTS: [&str; 3] = ["revision of auth store is old", "revision in header is old", "invalid auth token"];
    TEXTS.iter().any(|text| status.message().contains(text))
}

fn is_about_users(status: &Status) -> bool {
    const TEXTS: [&str; 3] = ["authentication failed", "authentication is not enabled", "user name is empty"];
    matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated)
        || TEXTS.iter().any(|text| status.message().contains(text))
}

/// The message with that of the innermost cause, which is where "connection refused" is said.
pub(super) fn chain(error: &(dyn StdError + 'static)) -> String {
    let message = match error.downcast_ref::<Status>() {
        Some(status) => status.message().to_owned(),
        None => error.to_string(),
    };
    let mut innermost = None;
    let mut next = error.source();
    while let Some(source) = next {
        innermost = Some(source.to_string());
        next = source.source();
    }
    match innermost {
        Some(cause) if !message.contains(&cause) => format!("{message}: {cause}"),
        _ => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_what_etcd_says_when_translated_then_the_code_says_what_to_do() {
        for (status, code) in [
            (Status::not_found("etcdserver: requested lease not found"), ErrorCode::Fenced),
            (Status::invalid_argument("etcdserver: request is too large"), ErrorCode::ResourcesExhausted),
            (
                Status::resource_exhausted("grpc: received message larger than max (2 vs. 1)"),
                ErrorCode::ResourcesExhausted,
            ),
            (Status::invalid_argument("etcdserver: too many operations in txn request"), ErrorCode::ResourcesExhausted),
            (Status::resource_exhausted("etcdserver: mvcc: database space exceeded"), ErrorCode::ResourcesExhausted),
            (Status::permission_denied("etcdserver: permission denied"), ErrorCode::Invalid),
            (Status::unauthenticated("etcdserver: invalid auth token"), ErrorCode::Unavailable),
            (Status::invalid_argument("etcdserver: revision of auth store is old"), ErrorCode::Unavailable),
            (Status::invalid_argument("etcdserver: duplicate key given in txn request"), ErrorCode::Internal),
            (Status::unavailable("etcdserver: no leader"), ErrorCode::Unavailable),
            (Status::unknown("transport error"), ErrorCode::Unavailable),
        ] {
            let said = status.message().to_owned();
            let error = translate("writing", "http://a:2379", EtcdError::GRpcStatus(status));
            assert_eq!(error.code(), code, "{said}");
            assert!(error.message().contains("http://a:2379"), "{}", error.message());
        }
    }
}
