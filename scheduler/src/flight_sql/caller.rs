//! Who is calling: reads a request's headers.
//!
//! - `authorization: Bearer <token>`: the session that a handshake began. `Basic …`: a user name, without a session.
//! - `cookie: springald_session=<id>`: the same session, for clients that keep cookies.
//! - `traceparent`: the client's trace, so that its spans and our events meet.

use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use springald_core::error::{Error, ErrorCode, Result};
use springald_core::ids::SessionId;
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::engine::QueryContext;
use crate::sessions::{ANONYMOUS, Session, Sessions, check_user};

/// Base64, also without the padding at its end: ADBC's driver for Flight SQL leaves it out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Name of the cookie with the session's id.
const COOKIE: &str = "springald_session";

/// Longest header that is looked at.
const MAX_HEADER_BYTES: usize = 4096;

/// What the headers say of the caller.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// One with a session.
    Session(SessionId),
    /// One with a user name only.
    User(String),
    /// Anybody.
    Anonymous,
}

impl Caller {
    /// Reads the headers.
    ///
    /// # Errors
    /// A header that is there and makes no sense.
    pub(super) fn read(headers: &MetadataMap) -> Result<Self> {
        if let Some(authorization) = text(headers, "authorization")? {
            return Self::authorized(authorization);
        }
        for cookies in headers.get_all("cookie") {
            let cookies = cookies.to_str().map_err(|_| Error::invalid("the cookie header is not text"))?;
            if let Some(id) = session_cookie(cookies) {
                return Ok(Self::Session(id.parse()?));
            }
        }
        Ok(Self::Anonymous)
    }

    fn authorized(header: &str) -> Result<Self> {
        let (scheme, value) = header.split_once(' ').unwrap_or((header, ""));
        match scheme.to_ascii_lowercase().as_str() {
            // What was sent may be a secret of another server: the error does not repeat it.
            "bearer" => {
                let id =
                    value.trim().parse().map_err(|_| Error::invalid("the bearer token is not one of this cluster"))?;
                Ok(Self::Session(id))
            }
            "basic" => Ok(Self::User(basic_user(value.trim())?)),
            _ => Err(Error::invalid("the authorization header must be Basic or Bearer")),
        }
    }

    /// The name for a session's owner.
    pub(super) fn user(&self) -> &str {
        match self {
            Self::User(user) => user,
            Self::Session(_) | Self::Anonymous => ANONYMOUS,
        }
    }
}

/// The caller's session and user for one request.
///
/// # Errors
/// `Unauthenticated` if the session has ended: clients then connect anew.
pub(super) async fn context(sessions: &Sessions, headers: &MetadataMap) -> std::result::Result<QueryContext, Status> {
    let session = match Caller::read(headers)? {
        Caller::Session(id) => found(sessions, &id).await?,
        caller => sessions.anonymous(caller.user()),
    };
    let user = session.user.clone();
    let client_span = headers.get("traceparent").and_then(|header| header.to_str().ok()?.parse().ok());
    Ok(QueryContext::new(session, user, client_span))
}

async fn found(sessions: &Sessions, id: &SessionId) -> std::result::Result<Arc<Session>, Status> {
    sessions.find(id).await.map_err(|error| match error.code() {
        ErrorCode::NotFound => Status::unauthenticated(error.message()),
        _ => Status::from(error),
    })
}

/// `set-cookie` for clients that keep cookies.
pub(super) fn cookie(id: &SessionId) -> String {
    format!("{COOKIE}={id}; Path=/; HttpOnly; SameSite=Strict")
}

fn text<'a>(headers: &'a MetadataMap, name: &str) -> Result<Option<&'a str>> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    match value.to_str() {
        Ok(text) if text.len() <= MAX_HEADER_BYTES => Ok(Some(text)),
        _ => Err(Error::invalid(format!("the {name} header is not text, or longer than {MAX_HEADER_BYTES} bytes"))),
    }
}

fn session_cookie(cookies: &str) -> Option<&str> {
    cookies.split(';').find_map(|cookie| {
        let (name, value) = cookie.trim().split_once('=')?;
        (name == COOKIE).then_some(value.trim_matches('"'))
    })
}

fn basic_user(value: &str) -> Result<String> {
    let invalid = || Error::invalid("the authorization header is not a user name and password in base64");
    let bytes = BASE64.decode(value).map_err(|_| invalid())?;
    let pair = String::from_utf8(bytes).map_err(|_| invalid())?;
    let user = pair.split_once(':').ok_or_else(invalid)?.0;
    if user.is_empty() {
        return Ok(ANONYMOUS.to_owned());
    }
    check_user(user)?;
    Ok(user.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> MetadataMap {
        let mut headers = MetadataMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().expect("header"));
        }
        headers
    }

    #[test]
    fn given_a_token_or_a_cookie_the_session_is_found() {
        let id: SessionId = "0192-abc".parse().expect("id");
        for pair in [
            ("authorization", "Bearer 0192-abc"),
            ("authorization", "bearer 0192-abc"),
            ("cookie", "other=1; springald_session=0192-abc; more=2"),
            ("cookie", "springald_session=\"0192-abc\""),
        ] {
            assert_eq!(Caller::read(&headers(&[pair])).expect("caller"), Caller::Session(id.clone()), "{pair:?}");
        }
    }

    #[test]
    fn given_a_user_name_or_nothing_the_caller_has_no_session() {
        let basic = format!("Basic {}", BASE64.encode("ann:se:cret"));
        let ann = Caller::read(&headers(&[("authorization", &basic)])).expect("basic");
        assert_eq!(ann, Caller::User("ann".to_owned()));
        assert_eq!(Caller::read(&headers(&[("cookie", "a=b")])).expect("none").user(), ANONYMOUS);
    }

    #[test]
    fn user_name_in_base64_without_padding_is_read() {
        for pair in ["admin:admin", "ann:secret", "a:b", "a:bc"] {
            let padded = BASE64.encode(pair);
            for value in [padded.as_str(), padded.trim_end_matches('=')] {
                let caller = Caller::read(&headers(&[("authorization", &format!("Basic {value}"))])).expect(pair);
                assert_eq!(
                    Some(caller),
                    pair.split_once(':').map(|(user, _)| Caller::User(user.to_owned())),
                    "{value}"
                );
            }
        }
    }

    #[test]
    fn given_headers_that_make_no_sense_they_are_refused() {
        let control = format!("Basic {}", BASE64.encode("a\nb:x"));
        for bad in ["Bearer ../../etc", "Bearer", "Basic !!", "Digest x", control.as_str()] {
            assert!(Caller::read(&headers(&[("authorization", bad)])).is_err(), "{bad}");
        }
    }
}
