//! The `tracing` layer that writes events as JSON lines.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::events::{SCHEMA_VERSION, names};
use super::line::{Ids, Line, put_text};
use super::writer::{EventWriter, Sink};

/// What a process calls itself in every line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// What kind of process it is: `scheduler`, `executor`, `standalone`, …
    pub service: &'static str,
    /// Never used twice: the scheduler's or executor's id, or a new one.
    pub instance: String,
    /// The cluster that it belongs to.
    pub cluster: String,
}

impl Identity {
    /// A process that is neither a scheduler nor an executor alone, with a new id.
    pub fn of_process(service: &'static str, cluster: &str) -> Self {
        Self { service, instance: uuid::Uuid::now_v7().simple().to_string(), cluster: cluster.to_owned() }
    }

    fn json(&self) -> Vec<u8> {
        let mut json = vec![];
        for (name, value) in [("service", self.service), ("instance", &self.instance), ("cluster", &self.cluster)] {
            json.extend_from_slice(format!(",\"{name}\":").as_bytes());
            put_text(&mut json, value);
        }
        json
    }
}

/// Writes every event as a line; see [`events`](super::events).
pub struct EventLayer {
    writer: Arc<EventWriter>,
    process: Arc<[u8]>,
}

impl EventLayer {
    /// Writes to `sink` from a thread of its own, with at most `buffer` bytes that wait for it.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn new(sink: impl io::Write + Send + 'static, identity: &Identity, buffer: usize) -> io::Result<(Self, Flush)> {
        let process: Arc<[u8]> = identity.json().into();
        let mut head = format!("{{\"v\":{SCHEMA_VERSION},\"event_id\":").into_bytes();
        put_text(&mut head, &format!("{}-", identity.instance));
        // The number and the closing quote come behind it.
        head.pop();
        let own = Arc::clone(&process);
        let dropped = move |count| dropped_line(&own, count);
        let writer = EventWriter::start(Box::new(sink) as Sink, head, buffer, Box::new(dropped))?;
        Ok((Self { writer: Arc::clone(&writer), process }, Flush(writer)))
    }
}

fn dropped_line(process: &[u8], count: u64) -> Vec<u8> {
    let now = chrono::Utc::now().format("%Y-%m-%dT%H:%M:%S%.6fZ");
    let mut line = format!(",\"ts\":\"{now}\",\"level\":\"warn\"").into_bytes();
    line.extend_from_slice(process);
    let (event, target) = (names::EVENTS_DROPPED, module_path!());
    let rest = format!(
        ",\"event\":\"{event}\",\"message\":\"events were dropped\",\"target\":\"{target}\",\"count\":{count}}}\n"
    );
    line.extend_from_slice(rest.as_bytes());
    line
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for EventLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut ids = Ids::default();
        attributes.record(&mut ids);
        if let Some(span) = context.span(id) {
            span.extensions_mut().replace(ids);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(ids) = span.extensions_mut().get_mut::<Ids>() {
            values.record(ids);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        Line::with(|line| {
            line.begin(event.metadata(), &self.process);
            event.record(line);
            for span in context.event_scope(event).into_iter().flatten() {
                if let Some(ids) = span.extensions().get::<Ids>() {
                    line.inherit(ids);
                }
            }
            self.writer.push(line.end(event.metadata()));
        });
    }
}

/// Waits for lines that are not written yet.
#[derive(Clone)]
pub struct Flush(pub(super) Arc<EventWriter>);

impl Flush {
    /// Returns when all events so far are written, or `patience` is over.
    pub fn flush(&self, patience: Duration) {
        self.0.flush(patience);
    }

    /// Writes what there is, and takes nothing more.
    pub fn end(&self, patience: Duration) {
        self.0.end(patience);
    }
}
