//! Ids in paths.

use std::str::FromStr;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use springald_core::error::Error;

use super::answer::Failure;

/// The id in a path. What is none, or not even text, is answered like any other error.
#[derive(Debug)]
pub(super) struct Id<T>(pub(super) T);

impl<S, T> FromRequestParts<S> for Id<T>
where
    S: Send + Sync,
    T: FromStr<Err = Error> + Send,
{
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let Path(id) = path.map_err(|rejection| Error::invalid(rejection.body_text()))?;
        Ok(Self(id.parse()?))
    }
}
