//! Events, traces, metrics and health of a process.
//!
//! ```text
//!   tracing (ours, libraries', `log`) ──▶ EventLayer ──▶ writer thread ──▶ one JSON line per event
//!                                         or text, on a terminal
//!   trace::Finished ──▶ bounded queue ──▶ OTLP/gRPC collector
//!   metrics ──▶ TelemetryServer
//! ```
//!
//! What the lines say is the contract of [`events`].

pub mod events;
mod layer;
mod line;
mod metrics;
mod process;
mod rotation;
mod server;
mod text;
pub mod trace;
mod writer;

use std::io::{IsTerminal, Write};

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

pub use layer::{EventLayer, Flush, Identity};
pub use process::{shown_sql, shutdown};
pub use server::{Health, TelemetryServer, collect_metrics};

use crate::error::{Error, ErrorCode, Result};
use crate::settings::TelemetrySettings;
use process::{Process, SqlShown};
use rotation::RotatingFile;
use text::TextLayer;
use trace::Exporter;

/// Most memory for events that wait to be written.
const MAX_BUFFER: u64 = 1 << 30;

/// Starts events and traces as the settings say; once per process, within a tokio runtime. [`shutdown`] ends them. Fails
/// on settings that make no sense, a file that cannot be opened, or when called again.
pub fn init(settings: &TelemetrySettings, identity: &Identity) -> Result<()> {
    let filter = EnvFilter::try_new(&settings.log)
        .map_err(|error| Error::invalid(format!("telemetry.log: {:?} is not a filter: {error}", settings.log)))?;
    let to_file = !settings.log_file.as_os_str().is_empty();
    let on_terminal = !to_file && std::io::stdout().is_terminal();
    let json = match settings.log_format.as_str() {
        "json" => true,
        "text" => false,
        "auto" => !on_terminal,
        other => return Err(Error::invalid(format!("telemetry.log_format: {other:?} is not json, text or auto"))),
    };
    let buffer = usize::try_from(settings.event_buffer.0.clamp(1 << 16, MAX_BUFFER)).unwrap_or(usize::MAX);
    if settings.trace_sample_percent > 100 {
        return Err(Error::invalid("telemetry.trace_sample_percent is more than 100"));
    }
    let spans = match settings.otlp_endpoint.as_str() {
        "" => None,
        endpoint => Some(Exporter::start(endpoint, identity)?),
    };
    let no_thread = |error| Error::internal("no thread for writing events").with_source(error);
    let sink = sink(settings)?;
    let (layer, events) = if json {
        let (layer, events) = EventLayer::new(sink, identity, buffer).map_err(no_thread)?;
        (layer.boxed(), events)
    } else {
        let (layer, events) = TextLayer::start(sink, on_terminal, buffer).map_err(no_thread)?;
        (layer, events)
    };
    let process = Process {
        events,
        spans,
        sql: SqlShown::of(settings)?,
        sql_bytes: settings.sql_bytes.as_usize(),
        trace_sample_percent: settings.trace_sample_percent,
    };
    process.keep()?;
    tracing_subscriber::registry()
        .with(layer)
        .with(filter)
        .try_init()
        .map_err(|error| Error::internal(format!("events are written already: {error}")))?;
    process::tell_of_panics();
    metrics::springald::build_info(env!("CARGO_PKG_VERSION"), identity.service).set(1);
    for reason in ["buffer_full", "write_failed"] {
        metrics::springald_telemetry::events_dropped_total(reason).inc_by(0);
    }
    metrics::springald_telemetry::event_files_not_set_aside_total().inc_by(0);
    for reason in ["queue_full", "export_failed", "rejected"] {
        metrics::springald_telemetry::spans_dropped_total(reason).inc_by(0);
    }
    Ok(())
}

/// Makes the metrics known, so that they are listed before anything happens.
pub fn register_metrics() {
    drop(metrics::springald::build_info(env!("CARGO_PKG_VERSION"), ""));
    drop(metrics::springald_telemetry::events_written_total());
}

fn sink(settings: &TelemetrySettings) -> Result<Box<dyn Write + Send>> {
    if settings.log_file.as_os_str().is_empty() {
        return Ok(Box::new(std::io::stdout()));
    }
    let path = &settings.log_file;
    let file = RotatingFile::open(path, settings.log_file_bytes.0, settings.log_files).map_err(|error| {
        Error::new(ErrorCode::Invalid, format!("telemetry.log_file: cannot open {}", path.display())).with_source(error)
    })?;
    Ok(Box::new(file))
}
