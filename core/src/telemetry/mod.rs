//! Events, metrics and health of a process.
//!
//! Everything that happens goes through `tracing` and comes out as one line per event: JSON with the fields of the event
//! at top level (`job_id`, `stage_id`, `task_id`, `attempt`, `trace_id`, …), or text on a terminal.

mod server;

use std::fs::OpenOptions;
use std::io::{IsTerminal, Write};
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

pub use server::{Health, TelemetryServer};

use crate::error::{Error, ErrorCode, Result};
use crate::settings::TelemetrySettings;

/// Starts writing events as the settings say; once per process. Fails on settings that make no sense, a file that cannot
/// be opened, or when called again.
pub fn init(settings: &TelemetrySettings) -> Result<()> {
    let filter = EnvFilter::try_new(&settings.log)
        .map_err(|error| Error::invalid(format!("telemetry.log: {:?} is not a filter: {error}", settings.log)))?;
    let to_file = !settings.log_file.as_os_str().is_empty();
    let json = match settings.log_format.as_str() {
        "json" => true,
        "text" => false,
        "auto" => to_file || !std::io::stdout().is_terminal(),
        other => return Err(Error::invalid(format!("telemetry.log_format: {other:?} is not json, text or auto"))),
    };
    let writer = writer(settings)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let started = if json {
        let format = builder.json().flatten_event(true).with_current_span(false).with_span_list(false);
        format.try_init()
    } else {
        builder.with_ansi(!to_file && std::io::stdout().is_terminal()).try_init()
    };
    started.map_err(|error| Error::internal(format!("events are written already: {error}")))
}

fn writer(settings: &TelemetrySettings) -> Result<BoxMakeWriter> {
    if settings.log_file.as_os_str().is_empty() {
        return Ok(BoxMakeWriter::new(|| -> Box<dyn Write> { Box::new(std::io::stdout()) }));
    }
    let path = &settings.log_file;
    let file = OpenOptions::new().create(true).append(true).open(path).map_err(|error| {
        Error::new(ErrorCode::Invalid, format!("telemetry.log_file: cannot open {}", path.display())).with_source(error)
    })?;
    Ok(BoxMakeWriter::new(Mutex::new(file)))
}
