//! Reads one endpoint of a result, across lost servers.
//!
//! ```text
//! DoGet(ticket, "I have <rows> of <version>") ──▶ any server ──▶ the version of what it sends, and the rows
//!        ▲── connection lost: next server ◀───────────────────────┘
//! all rows have arrived ──▶ ResultReceived(ticket): the server need not keep them any more
//! ```

use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::{FlightEndpoint, Ticket};
use futures::{Stream, StreamExt, TryStreamExt};
use tonic::metadata::AsciiMetadataValue;

use crate::client::Client;
use crate::connection::Flight;
use crate::error::{ClientError, Result};
use crate::patience::Patience;

/// The location that means "the connection that you have": Flight's own, and older servers' empty text.
const REUSE_CONNECTION: &str = "arrow-flight-reuse-connection://";
const RESUME_HEADER: &str = "springald-resume";
const VERSION_HEADER: &str = "springald-result-version";
const RESULT_RECEIVED: &str = "springald.ResultReceived";
/// How long the end of a result waits for the server to hear of it: whoever reads must not wait for what only helps the
/// server.
const RECEIVED_TIMEOUT: Duration = Duration::from_secs(1);

/// The rows behind an endpoint, all of `expected`.
pub(crate) fn fetch(
    client: Client,
    endpoint: FlightEndpoint,
    expected: SchemaRef,
) -> impl Stream<Item = Result<RecordBatch>> {
    let start = async move {
        let ticket = endpoint.ticket.ok_or_else(|| ClientError::Protocol("an endpoint without a ticket".to_owned()))?;
        let mut servers: Vec<String> = endpoint.location.into_iter().map(|location| location.uri).collect();
        if servers.is_empty() {
            servers.push(REUSE_CONNECTION.to_owned());
        }
        servers.extend(client.locations());
        let patience = client.patience();
        Ok::<_, ClientError>(Fetch {
            client,
            ticket,
            servers,
            server: 0,
            expected,
            version: None,
            rows: 0,
            open: None,
            patience,
        })
    };
    futures::stream::once(start)
        .map_ok(|fetch| {
            futures::stream::try_unfold(fetch, |mut fetch| async move {
                let batch = fetch.next().await?;
                Ok(batch.map(|batch| (batch, fetch)))
            })
        })
        .try_flatten()
}

struct Fetch {
    client: Client,
    ticket: Ticket,
    /// Where it can be had: as the endpoint says, and as the user has said.
    servers: Vec<String>,
    /// Which of them is asked next.
    server: usize,
    expected: SchemaRef,
    /// Which version the rows are of; `None`: the server does not say, as others than Springald.
    version: Option<String>,
    /// Rows that have arrived.
    rows: u64,
    open: Option<FlightRecordBatchStream>,
    patience: Patience,
}

impl Fetch {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            let step = match &mut self.open {
                None => self.reopen().await,
                Some(stream) => match stream.next().await {
                    Some(Ok(batch)) => return self.arrived(batch).map(Some),
                    Some(Err(error)) => Err(ClientError::from(error)),
                    None => {
                        // The server finds out by itself, later.
                        let _ = tokio::time::timeout(RECEIVED_TIMEOUT, self.complete()).await;
                        return Ok(None);
                    }
                },
            };
            if let Err(error) = step {
                self.open = None;
                // Of a server that names no version nobody knows how it would go on.
                let can_go_on = self.rows == 0 || self.version.as_ref().is_some_and(|version| !version.is_empty());
                if !can_go_on || !error.may_resume() {
                    return Err(error);
                }
                self.patience.wait_after(error).await?;
                self.server = (self.server + 1) % self.servers.len();
            }
        }
    }

    async fn reopen(&mut self) -> Result<()> {
        let location = self.servers.get(self.server).map_or(REUSE_CONNECTION, String::as_str);
        let mut flight = flight_at(&self.client, location).await?;
        let mut request = self.client.request(self.ticket.clone());
        let resume = format!("{}:{}", self.version.as_deref().unwrap_or_default(), self.rows);
        let resume: AsciiMetadataValue =
            resume.parse().map_err(|_| ClientError::Protocol("a version that fits into no header".to_owned()))?;
        request.metadata_mut().insert(RESUME_HEADER, resume);
        let answer = flight.do_get(request).await?;
        let version = answer.metadata().get(VERSION_HEADER).and_then(|value| value.to_str().ok()).map(str::to_owned);
        if self.rows > 0 && version != self.version {
            return Err(ClientError::ResultChanged);
        }
        self.version = version;
        let data = answer.into_inner().map_err(FlightError::from);
        self.open = Some(FlightRecordBatchStream::new_from_flight_data(data));
        Ok(())
    }

    /// Checks the schema: whoever reads the stream relies on the one that was promised.
    fn arrived(&mut self, batch: RecordBatch) -> Result<RecordBatch> {
        if batch.schema_ref() != &self.expected {
            let (expected, found) = (&self.expected, batch.schema());
            return Err(ClientError::Protocol(format!("the schema promised is {expected}, the one sent is {found}")));
        }
        self.rows += batch.num_rows() as u64;
        self.patience.renew();
        Ok(batch)
    }

    /// Everything has arrived. That the server hears of it helps it to free memory early, and is not needed otherwise.
    async fn complete(&mut self) {
        if self.version.as_ref().is_some_and(|version| !version.is_empty()) {
            let location = self.servers.get(self.server).map_or(REUSE_CONNECTION, String::as_str);
            if let Ok(mut flight) = flight_at(&self.client, location).await {
                let action = arrow_flight::Action::new(RESULT_RECEIVED, self.ticket.ticket.clone());
                if let Ok(answers) = flight.do_action(self.client.request(action)).await {
                    let _ = answers.into_inner().message().await;
                }
            }
        }
    }
}

async fn flight_at(client: &Client, location: &str) -> Result<Flight> {
    match location {
        uri if uri.is_empty() || uri.starts_with(REUSE_CONNECTION) => Ok(client.flight()),
        uri => client.flight_to(uri).await,
    }
}
