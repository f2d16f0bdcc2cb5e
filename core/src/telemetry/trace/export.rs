//! Sends spans to a collector, in batches, over OTLP/gRPC.

use std::time::Duration;

use springald_proto::otlp::trace_service_client::TraceServiceClient;
use springald_proto::otlp::{
    ExportTraceServiceRequest, InstrumentationScope, Resource, ResourceSpans, ScopeSpans, Span,
};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use super::super::layer::Identity;
use super::super::metrics::springald_telemetry as metrics;
use super::key_value;
use crate::error::{Error, Result};
use crate::telemetry::events::names;

/// Spans that wait for the collector; past it they are dropped.
const QUEUED_SPANS: usize = 8192;
/// Spans in one message.
const BATCH: usize = 512;
/// So long a batch is gathered.
const GATHER: Duration = Duration::from_millis(500);
/// Longest wait for the collector's answer.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// A batch that was not taken is sent once more after so long, and then given up.
const PAUSE_BEFORE_RETRY: Duration = Duration::from_millis(250);

/// What the exporter's task gets.
enum Message {
    Span(Box<Span>),
    /// Everything before this is to be exported, and then said so.
    Flush(oneshot::Sender<()>),
}

/// The queue to the collector.
#[derive(Debug)]
pub(in crate::telemetry) struct Exporter {
    queue: mpsc::Sender<Message>,
}

impl Exporter {
    /// Exports to the collector at `endpoint`, on a task of the current runtime. The collector need not be there yet.
    ///
    /// # Errors
    /// The endpoint makes no sense.
    pub(in crate::telemetry) fn start(endpoint: &str, identity: &Identity) -> Result<Self> {
        let invalid = |why: String| {
            let example = "give the URL of an OTLP/gRPC collector, for example http://127.0.0.1:4317";
            Error::invalid(format!("telemetry.otlp_endpoint: {endpoint:?}: {why}; {example}"))
        };
        if !endpoint.starts_with("http://") {
            return Err(invalid("only http:// is possible".to_owned()));
        }
        let channel = Endpoint::from_shared(endpoint.to_owned()).map_err(|error| invalid(error.to_string()))?;
        let channel = channel.connect_timeout(EXPORT_TIMEOUT).timeout(EXPORT_TIMEOUT).connect_lazy();
        let exporter = SpanExporter { client: TraceServiceClient::new(channel), resource: resource(identity) };
        let (queue, inbox) = mpsc::channel(QUEUED_SPANS);
        tokio::spawn(run(exporter, inbox));
        Ok(Self { queue })
    }

    /// Takes a span, or drops it if too many wait.
    pub(super) fn take(&self, span: Span) {
        if self.queue.try_send(Message::Span(Box::new(span))).is_err() {
            metrics::spans_dropped_total("queue_full").inc();
        }
    }

    /// Waits until everything taken so far was sent, but no longer than `patience`.
    pub(in crate::telemetry) async fn flush(&self, patience: Duration) {
        let (done, flushed) = oneshot::channel();
        let flushing = async {
            if self.queue.send(Message::Flush(done)).await.is_ok() {
                // An error: the task has ended, and there is nothing to wait for.
                let _ = flushed.await;
            }
        };
        // Whatever is not sent by then is lost with the process.
        let _ = tokio::time::timeout(patience, flushing).await;
    }
}

async fn run(mut exporter: SpanExporter, mut inbox: mpsc::Receiver<Message>) {
    let mut messages = Vec::with_capacity(BATCH);
    let mut works = true;
    while inbox.recv_many(&mut messages, BATCH).await > 0 {
        let asked = messages.iter().any(|message| matches!(message, Message::Flush(_)));
        if !asked && messages.len() < BATCH {
            gather(&mut inbox, &mut messages).await;
        }
        let (mut spans, mut waiting) = (Vec::with_capacity(messages.len()), vec![]);
        for message in messages.drain(..) {
            match message {
                Message::Span(span) => spans.push(*span),
                Message::Flush(done) => waiting.push(done),
            }
        }
        if !spans.is_empty() {
            works = exporter.export(spans, works).await;
        }
        for done in waiting {
            // Whoever asked may have gone.
            let _ = done.send(());
        }
    }
}

/// Adds to a batch what comes within a short time.
async fn gather(inbox: &mut mpsc::Receiver<Message>, messages: &mut Vec<Message>) {
    let more = async {
        while messages.len() < BATCH {
            match inbox.recv().await {
                Some(message) => {
                    let flush = matches!(message, Message::Flush(_));
                    messages.push(message);
                    if flush {
                        return;
                    }
                }
                None => return,
            }
        }
    };
    // Time is up: what is there goes.
    let _ = tokio::time::timeout(GATHER, more).await;
}

/// What every span is of.
fn resource(identity: &Identity) -> Resource {
    let attributes = [
        ("service.name", "springald"),
        ("service.namespace", identity.cluster.as_str()),
        ("service.instance.id", identity.instance.as_str()),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("springald.service", identity.service),
    ];
    Resource { attributes: attributes.into_iter().map(|(name, value)| key_value(name, value.into())).collect() }
}

struct SpanExporter {
    client: TraceServiceClient<Channel>,
    resource: Resource,
}

impl SpanExporter {
    /// Exports a batch; true if that worked. The first failure after a success is said, the others are counted.
    async fn export(&mut self, spans: Vec<Span>, worked: bool) -> bool {
        let count = spans.len() as u64;
        let scope =
            InstrumentationScope { name: "springald".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans }];
        let resource_spans = vec![ResourceSpans { resource: Some(self.resource.clone()), scope_spans }];
        match self.send(ExportTraceServiceRequest { resource_spans }).await {
            Ok(rejected) => {
                let rejected = rejected.min(count);
                metrics::spans_exported_total().inc_by(count - rejected);
                metrics::spans_dropped_total("rejected").inc_by(rejected);
                true
            }
            Err(error) => {
                metrics::spans_dropped_total("export_failed").inc_by(count);
                if worked {
                    tracing::warn!(
                        event = names::TRACES_NOT_EXPORTED,
                        spans = count,
                        error = error.message(),
                        "spans could not be exported (telemetry.otlp_endpoint)"
                    );
                }
                false
            }
        }
    }

    /// Sends a batch, twice if need be. Gives the number of spans that the collector did not want.
    async fn send(&mut self, request: ExportTraceServiceRequest) -> Result<u64, Status> {
        let answer = match self.client.export(request.clone()).await {
            Err(_) => {
                tokio::time::sleep(PAUSE_BEFORE_RETRY).await;
                self.client.export(request).await?
            }
            Ok(answer) => answer,
        };
        let partial = answer.into_inner().partial_success.unwrap_or_default();
        Ok(u64::try_from(partial.rejected_spans).unwrap_or_default())
    }
}
