//! Who asks.

use std::sync::Arc;

use springald_core::telemetry::trace::SpanContext;

use crate::sessions::Session;

/// Who asks, and in which session.
#[derive(Clone, Debug)]
pub struct QueryContext {
    /// The session, whose settings apply.
    pub session: Arc<Session>,
    /// The user, for the record.
    pub user: String,
    /// The query's span, which is in the client's trace if it has one.
    pub span: SpanContext,
    /// The client's span.
    pub client_span: Option<SpanContext>,
}

impl QueryContext {
    /// A request of `user` in `session`, as part of the client's span if it has one.
    pub fn new(session: Arc<Session>, user: String, client_span: Option<SpanContext>) -> Self {
        let span = client_span.map_or_else(SpanContext::root, |client| client.child());
        Self { session, user, span, client_span }
    }
}
