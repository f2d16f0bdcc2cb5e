//! Whom the engine asks for results that are elsewhere. Behind this is Flight, but in simulations.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow_flight::Ticket;
use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use springald_core::error::{Error, Result};
use springald_core::ids::JobId;

use super::Resume;
use crate::dispatch::ResultPart;

/// The executors that hold results, and the other schedulers.
#[async_trait]
pub(crate) trait Peers: Send + Sync + 'static {
    /// Opens a part of a result at its executor; the schema has arrived when this returns.
    async fn open(&self, job: &JobId, part: &ResultPart) -> Result<PartStream>;

    /// Redeems a ticket at the scheduler with this address. Gives the version of the rows, and the rows.
    async fn redeem(&self, address: &str, ticket: Ticket, resume: &Resume) -> Result<(String, PartStream), Refusal>;

    /// Tells the scheduler with this address that the result which the ticket is for has arrived.
    async fn received(&self, address: &str, ticket: Ticket) -> Result<()>;
}

/// Why another scheduler gives no result.
pub(crate) enum Refusal {
    /// It says so itself.
    Said(Error),
    /// It could not be asked.
    Lost,
}

/// Batches from a peer.
pub(crate) struct PartStream {
    schema: SchemaRef,
    batches: BoxStream<'static, Result<RecordBatch>>,
}

impl PartStream {
    pub(crate) fn new(schema: SchemaRef, batches: BoxStream<'static, Result<RecordBatch>>) -> Self {
        Self { schema, batches }
    }

    pub(super) fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    pub(super) fn into_batches(self) -> BoxStream<'static, Result<RecordBatch>> {
        self.batches
    }
}

impl Stream for PartStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.batches.poll_next_unpin(context)
    }
}
